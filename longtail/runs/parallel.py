"""Processes that train one run together: who they are, what they exchange, and how one command starts them.

`torchrun` or runs/parallel.py starts them. Objects and small numbers go over gloo, between the processors; tensors
go over the backend of their device, NCCL between GPUs. One process has the same methods, which then do nothing.

One command, several processes on this machine: what LONGTAIL_NPROC in the environment asks for.

The processes are those of `torchrun --standalone --nproc-per-node`, with its variables in their environment. torchrun
itself answers a stop signal, and any failure, with code 1 and a report; the engines need the stage's own code: 143
where the state was saved, 2 and one line on a mistake.
"""

from __future__ import annotations

import os
import signal
import subprocess
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

from longtail.base.errors import UserError
from longtail.runs.workspace import STOPPED

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
            with _exchange():
                dist.broadcast(tensor.detach(), src=0, group=self._group(tensor))

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
    except UserError:
        if not _first_to_tell():
            sys.exit(2)
        raise
    except Lost as lost:
        deadline = time.monotonic() + _HEAR_S
        while not _told() and time.monotonic() < deadline:
            time.sleep(0.1)
        if _first_to_tell():
            print(f"error: process {rank} of {size} lost another one: {lost}", file=sys.stderr)
        sys.exit(LOST)
    except Exception:
        _first_to_tell()  # the traceback says it
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


_GRACE_S = 20.0  # for the others to end by themselves when one has failed


def launch(command: list[str]) -> None:
    """Run `command`, this script and its arguments, in LONGTAIL_NPROC processes and end with their code. Returns where
    none or one is asked for, and in the processes themselves. Raises UserError where it is no number."""
    wanted = os.environ.get("LONGTAIL_NPROC", "1")
    if not wanted.isdecimal() or int(wanted) < 1:
        raise UserError(f"LONGTAIL_NPROC={wanted}: a whole number from 1 is needed, processes on this machine")
    if int(wanted) > 1 and not dist.is_torchelastic_launched():
        sys.exit(_run(command, int(wanted)))


def _run(command: list[str], count: int) -> int:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes: list[subprocess.Popen] = []
    asked: list[int] = []

    def pass_on(signum, frame) -> None:
        asked.append(signum)
        for process in processes:
            process.send_signal(signum)

    for signum in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, pass_on)
    for rank in range(count):
        environment = _environment(rank, count, store.port)
        processes.append(subprocess.Popen([sys.executable, *command], env=environment))
        if asked:  # it came while the process was being made
            processes[-1].send_signal(asked[-1])
    code = _wait(processes, store, asked)
    return STOPPED if code and asked else code


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    """torchrun's variables; the store is already there, kept by this process."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "longtail"}
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    added = {**own, **meeting, "TORCHELASTIC_USE_AGENT_STORE": "True"}
    return loopback | dict(os.environ) | {key: str(value) for key, value in added.items()}


def _wait(processes: list[subprocess.Popen], store: dist.TCPStore, asked: list[int]) -> int:
    """Until all have ended. Where one fails, the others have a while to notice. Returns the code of the one that failed
    first, rather than of those that lost it."""
    first, deadline = 0, None
    while True:
        codes = [process.poll() for process in processes]
        failed = [rank for rank, code in enumerate(codes) if code not in (None, 0, STOPPED, LOST)]
        late = deadline is not None and time.monotonic() > deadline
        if failed and not first and not late:
            first = codes[failed[0]]
            if first < 0 and not asked and store.add(TOLD, 1) == 1:
                killed = f"process {failed[0]} of {len(processes)} was killed by signal {-first}"
                print(f"error: {killed} (out of memory?); start again, it goes on from the last state", file=sys.stderr)
        if None not in codes:
            return abs(first) or (STOPPED if STOPPED in codes else int(LOST in codes))
        if deadline is None and (failed or LOST in codes):
            deadline = time.monotonic() + _GRACE_S
        if late:
            for process in processes:
                process.kill()
        time.sleep(0.1)
