"""Locks of the file system's (filelock): one process at a time, and the system frees a lock whose holder dies.

Beside a lock stands who holds it. A file system without locks is told apart from a lock that is held: where flock is
not there at all (ENOSYS), filelock takes a lock by existence in its place; where it fails otherwise, the line says so.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from longtail.base.errors import UserError

POLL_S = 0.2


class Held(Exception):
    """Another process has the lock; the text says which: `process 123 on host since 12:30`."""


@contextmanager
def alone(path: Path, waiting: str | None = None, remedy: str = "") -> Iterator[None]:
    """Hold the lock file `path` in the block; it is taken away at the end.

    waiting: what to print before the holder's name and a wait for it; None: raise Held at once. Raises UserError where
    this file system gives no locks; remedy: what else its reader may do.
    """
    import filelock  # half of a tenth of a second, and most processes need none

    path = path.absolute()  # wherever the process is when it gives the lock back
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, thread_local=False, poll_interval=POLL_S)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if waiting is None:
                raise Held(holder(path)) from None
            print(f"{waiting} ({holder(path)}); waiting", flush=True)
            lock.acquire()
    except OSError as error:
        if isinstance(error, filelock.Timeout) or error.errno is None:
            raise
        raise UserError(
            f"{path.parent}: this file system gives no locks ({error.strerror}), and two processes could work "
            f"on one thing; use a folder of a disk of this machine, or have it mounted with locks{remedy}"
        ) from None
    told = _told(path)
    try:
        with suppress(OSError):  # a full disk is no reason to work without the lock
            told.write_text(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%d %b %H:%M')}")
        yield
    finally:
        try:
            told.unlink(missing_ok=True)
            with suppress(OSError):  # a lock by existence goes when it is released
                path.unlink()  # while it is held: who waits for it sees that the file has gone, and begins anew
        finally:
            lock.release()


def holder(path: Path) -> str:
    """Who holds a lock, as it said itself."""
    with suppress(OSError):
        if said := _told(path).read_text().strip():
            return said
    return "it has not said which"


def _told(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")
