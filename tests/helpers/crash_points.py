"""A stop before the k-th file operation of a process: every rename, deletion, new folder and opening to write counts.

`stopping(before)` in this process raises Stopped there, and at every operation after it, as a killed process does none.
`from_environment` in a process of its own (a sitecustomize.py calls it) ends the process by SIGKILL, or lets the
operation fail as on a full disk: LONGTAIL-free variables, since the stages refuse those that they do not know.
"""

from __future__ import annotations

import atexit
import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CALLS = ("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "link", "symlink")
STAGE, BEFORE, HOW = "STOP_STAGE", "STOP_BEFORE", "STOP_HOW"  # variables of the environment


class Stopped(BaseException):
    """Ends what runs as a kill does: nothing catches it, and nothing is done to files on its way."""


class Counter:
    """Counts operations and lets `stop` be called at those from the `before`-th on; 0 = never."""

    def __init__(self, before: int, stop: Callable[[str], None]) -> None:
        self.count, self.before, self.stop = 0, before, stop

    def __call__(self, what: str) -> None:
        self.count += 1
        if self.before and self.count >= self.before:
            self.stop(what)

    def wrapped(self, name: str, call: Callable) -> Callable:
        def counted(*arguments, **options):
            self(f"{name} {arguments[:1]}")
            return call(*arguments, **options)

        return counted

    def opening(self, call: Callable) -> Callable:
        def counted(file, mode="r", *arguments, **options):
            outside = not isinstance(file, str | os.PathLike) or str(file).startswith(("/dev/", "/proc/"))
            if not outside and set("wax+") & set(mode):
                self(f"open {file}")
            return call(file, mode, *arguments, **options)

        return counted


@contextmanager
def stopping(before: int) -> Iterator[Counter]:
    """In the block, Stopped before that operation (from 1) and all later ones; 0 only counts."""

    def stop(what: str) -> None:
        raise Stopped(what)

    from unittest import mock  # a tenth of a second, which processes of an engine do without

    counter = Counter(before, stop)
    with mock.patch.multiple(os, **{name: counter.wrapped(name, getattr(os, name)) for name in CALLS}):
        opened = counter.opening(io.open)
        with mock.patch.object(io, "open", opened), mock.patch.object(builtins, "open", opened):
            yield counter


def from_environment() -> None:
    """In a process whose command line has STOP_STAGE: stop before operation STOP_BEFORE, by STOP_HOW, kill or full;
    once, since the variables go to all that an engine starts: a file, which STOP_HOW names after a colon, says so. With
    `count` it adds a line at its end: its script and how many operations there were."""
    how, _, once = os.environ.get(HOW, "").partition(":")
    if how == "count":
        counter = Counter(0, lambda what: None)
        atexit.register(_told, once, counter)
    elif not how or os.environ[STAGE] not in " ".join(sys.orig_argv) or os.path.exists(once):
        return

    def stop(what: str) -> None:
        if how == "full":
            if counter.count == counter.before:
                os.close(os.open(once, os.O_CREAT | os.O_WRONLY))
            if counter.count < counter.before + 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), what)
            return
        os.close(os.open(once, os.O_CREAT | os.O_WRONLY))
        os.kill(os.getpid(), signal.SIGKILL)

    if how != "count":
        counter = Counter(int(os.environ[BEFORE]), stop)
    for name in CALLS:
        setattr(os, name, counter.wrapped(name, getattr(os, name)))
    io.open = builtins.open = counter.opening(io.open)


def _told(path: str, counter: Counter) -> None:
    if script := next((word for word in sys.orig_argv if word.startswith("stages/")), None):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{script} {counter.count}\n".encode())
        os.close(descriptor)
