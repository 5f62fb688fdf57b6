"""Processes that train one run together, each on its own share of every step: who they are and what they exchange.

`torchrun` or runs/launch.py starts them. Objects and small numbers go over gloo, between the processors; tensors
go over the backend of their device, NCCL between GPUs. One process has the same methods, which then do nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from longtail.base.errors import UserError, explained

PATIENCE = timedelta(days=1)  # one process may check a cache, or wait for another run's lock; a death is seen at once
LOST = 75  # exit code of a process whose partners are gone
TOLD = "longtail told"  # key of the store: how many processes have said what went wrong
_HEAR_S = 5.0  # for another process to say why it ended


class Lost(Exception):
    """Another process of the team has ended."""


@dataclass(frozen=True)
class Team:
    """This process's place among `size`. The first, of rank 0, alone writes files and speaks."""

    rank: int = 0
    size: int = 1
    backend: str | None = None  # of the device's tensors: gloo, nccl; None = a process alone
    devices: Any = None  # process group of tensors on GPUs

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's run of `count` items; empty where there are fewer items than processes."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum over all processes, in place; the same bits in each. On GPUs the host does not wait."""
        self.sum_later(tensor)()
        return tensor

    def sum_later(self, tensor: Tensor):
        """As `sum_`, but it goes on while the processor does other work. Returns what to call before using it."""
        if self.backend is None:
            return lambda: None
        with _exchange():
            work = dist.all_reduce(tensor, group=self._group(tensor), async_op=True)

        def wait() -> None:
            with _exchange():
                work.wait()

        return wait

    def largest(self, numbers: list[int]) -> list[int]:
        """Of each of several whole numbers, the largest that any process has."""
        if self.backend is None:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.int64)
        with _exchange():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def from_first(self, value: Any = None) -> Any:
        """What the first process gives, in all of them."""
        if self.backend is None:
            return value
        box = [value]
        with _exchange():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def copy_first_(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        for tensor in tensors if self.backend is not None else ():
            flat = tensor.detach().contiguous()  # weights of a CNN are in channels_last order
            with _exchange():
                dist.broadcast(flat, src=0, group=self._group(tensor))
            tensor.detach().copy_(flat)

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, in the first; nothing in the others."""
        if self.backend is None:
            return [value]
        box = [None] * self.size if self.leads else None
        with _exchange():
            dist.gather_object(value, box, dst=0)
        return box or []

    def _group(self, tensor: Tensor):
        return self.devices if tensor.device.type == "cuda" else None


ALONE = Team()


@contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise Lost(str(error).partition("\n")[0]) from error


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Team, torch.device]]:
    """The team that torchrun, or launch.py, put this process in, and its own device; ALONE without one.

    Whatever ends one process ends all of them. A mistake is told by the first process that meets it.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE, device
        return
    rank, size, local, here = (int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if device.type == "cuda":
        if local >= (count := torch.cuda.device_count()):
            raise UserError(f"{here} processes on this machine, which has {count} GPUs; start one for each GPU")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("gloo", timeout=PATIENCE)
    devices = dist.new_group(backend="nccl") if device.type == "cuda" else None
    try:
        yield Team(rank, size, "gloo" if devices is None else "nccl", devices), device
    except Lost as lost:
        deadline = time.monotonic() + _HEAR_S
        while not _told() and time.monotonic() < deadline:
            time.sleep(0.1)
        if _first_to_tell():
            print(f"error: process {rank} of {size} lost another one: {lost}", file=sys.stderr)
        sys.exit(LOST)
    except Exception as error:  # a line or a traceback says it, of the first process that meets it
        found = explained(error)
        if not _first_to_tell() and found is not None:
            sys.exit(found[1])
        raise
    dist.destroy_process_group()


def _store() -> dist.TCPStore:
    """The store through which the processes met; torchrun's agent or launch.py keeps it, so it outlives them."""
    return dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=timedelta(seconds=_HEAR_S))


def _first_to_tell() -> bool:
    try:
        return _store().add(TOLD, 1) == 1
    except RuntimeError:  # gone with the process that kept it
        return True


def _told() -> bool:
    try:
        return _store().add(TOLD, 0) > 0
    except RuntimeError:
        return False
