"""Checkpoints that are written while training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from longtail.base.files import atomic_write


class Saver:
    """Writes one file at a time in a thread, whole or not at all (`files.atomic_write`).

    What is to be saved is copied first, so that the next optimizer step cannot reach into it; from a GPU into
    page-locked memory, for which neither the host nor the GPU stops.
    """

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def save(self, value: Any, path: Path) -> None:
        """torch.save of value as it is now, once the file before it is written. Raises what that write raised."""
        self.wait()
        copy = copied(value)
        done = None
        if torch.cuda.is_initialized():
            done = torch.cuda.Event()
            done.record()

        def work() -> None:
            try:
                if done is not None:
                    done.synchronize()  # of the copies
                atomic_write(path, lambda temporary: torch.save(copy, temporary))
            except BaseException as error:  # told to whoever waits
                self._error = error

        self._thread = Thread(target=work)
        self._thread.start()

    def wait(self) -> None:
        """Until the file is there. Raises what its write raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def copied(value: Any) -> Any:
    """Mappings, lists and tuples with the tensors in them copied to the host; one that occurs twice is copied once."""
    return _copied(value, {})


def _copied(value: Any, known: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if id(value) not in known:
            known[id(value)] = _host(value)
        return known[id(value)]
    if isinstance(value, Mapping):
        return type(value)((key, _copied(item, known)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_copied(item, known) for item in value)
    return value


def _host(tensor: Tensor) -> Tensor:
    if tensor.device.type == "cpu":
        return tensor.detach().clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor.detach(), non_blocking=True)
