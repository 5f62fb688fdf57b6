"""Where files and folders lie while they are made: in the scratch folder, under a name that says which process makes
them. What a killed process left there is swept away at the next start of any stage, and by nobody else's process."""

from __future__ import annotations

import os
import re
import shutil
import socket
from contextlib import suppress
from itertools import count
from pathlib import Path

from longtail.base import environment

MARK = ".making-"
_NAME = re.compile(r"\.making-(?P<pid>\d+)-\d+@(?P<host>[^@]*)@")
_numbers = count()


def place(path: Path, beside: Path | None = None) -> Path:
    """A name that is not there yet for what will be renamed to `path`: in the scratch folder, or in `beside`."""
    folder = environment.scratch() if beside is None else beside
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{MARK}{os.getpid()}-{next(_numbers)}@{socket.gethostname()}@{path.name}"


def sweep(folder: Path | None = None) -> None:
    """Remove what processes of this machine that live no more were making in the scratch folder, or in `folder`."""
    with suppress(OSError):  # another process may sweep as well
        for entry in os.scandir(environment.scratch() if folder is None else folder):
            found = _NAME.match(entry.name)
            if found and found["host"] == socket.gethostname() and not alive(int(found["pid"])):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def alive(pid: int) -> bool:
    """Is there a process of this number on this machine?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
