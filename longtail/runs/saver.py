"""Checkpoints that are written while training goes on, each with its sha256, and read back as far as they are whole."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from longtail.base import leftovers
from longtail.base.files import atomic_write

CHECKPOINT, BEFORE, DAMAGED = "checkpoint.pt", "checkpoint.before.pt", "checkpoint.damaged.pt"
# A file is what torch.save writes and, after it, these bytes with its sha256. torch.load finds the end of its archive.
_END = b"\nlongtail checkpoint, sha256 of all before this line: "
_LENGTH = len(_END) + 64


class Saver:
    """Writes one file at a time in a thread, whole or not at all (`files.atomic_write`).

    What is to be saved is copied first, so that the next optimizer step cannot reach into it; from a GPU into
    page-locked memory, for which neither the host nor the GPU stops.
    """

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def save(self, value: Any, path: Path) -> None:
        """torch.save of value as it is now, once the file before it is written, which is kept beside it as BEFORE.
        Raises what that write raised."""
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
                atomic_write(path, lambda temporary: _write(copy, temporary, path))
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


class _Summed(io.RawIOBase):
    """A file to write to that knows the sha256 of what was written, and the error that a writer may have wrapped."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self.file, self.sum, self.error = file, hashlib.sha256(), None

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.sum.update(data)
        return len(memoryview(data).cast("B"))


def _write(value: Any, temporary: Path, path: Path) -> None:
    with open(temporary, "wb") as file:
        summed = _Summed(file)
        try:
            torch.save(value, summed)
        except Exception:
            if summed.error is not None:  # torch tells of a full disk in words of its own
                raise summed.error from None
            raise
        file.write(_END + summed.sum.hexdigest().encode())
    if path.exists():
        _keep(path)


def _keep(path: Path) -> None:
    """Give the checkpoint that is there its second name; its first one stays until the new file takes it."""
    before = path.with_name(BEFORE)
    link = leftovers.place(before, path.parent)
    try:
        os.link(path, link)
        os.replace(link, before)
    except OSError:  # a file system without hard links
        os.replace(path, before)


def last_saved(folder: Path, label: str) -> Any:
    """The content of the newest checkpoint in a scratch folder that is whole; None where there is none. One that is
    damaged is set aside, and a line says so."""
    for name in (CHECKPOINT, BEFORE):
        path = folder / name
        if not path.is_file():
            continue
        data = path.read_bytes()
        if (fault := _fault(data)) is None:
            try:
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
            except Exception as error:  # of an earlier version, without a sum: torch has many ways to fail
                fault = f"cannot be read ({' '.join(str(error).split())[:80]})"
        path.replace(folder / DAMAGED)
        then = "the one before it is taken" if name == CHECKPOINT and (folder / BEFORE).is_file() else "begun anew"
        print(f"{label}: {path}: {fault}; set aside as {DAMAGED}, {then}", flush=True)
    return None


def _fault(data: bytes) -> str | None:
    """What is wrong with the bytes of a checkpoint; None also for one of an earlier version, which has no sum."""
    if data[-_LENGTH:].startswith(_END):
        whole = hashlib.sha256(memoryview(data)[:-_LENGTH]).hexdigest().encode() == data[-64:]
        return None if whole else "is damaged (its sha256 is another)"
    if not data:
        return "is empty"
    return None if data[-22:].startswith(b"PK\x05\x06") else f"is cut short at {len(data)} bytes"  # the archive's end


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
