"""Files and folders that are whole or absent, their checksums, and what reporting stages write.

What is made lies in the scratch folder (base/leftovers.py) until it is complete and on the disk; then it is renamed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from longtail.base import leftovers
from longtail.base.errors import UserError


def file_digest(path: str | Path) -> str:
    """sha256 (hex) of a file's bytes. Raises UserError where there is no such file."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; run the stage that makes it first")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An error of the system's that names no file, as of a write to a full disk, or a half-made one, names this one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or leftovers.MARK in str(error.filename)):
            error.filename = str(path)
        raise


def sync(path: Path) -> None:
    """Until a file, or all of a folder, is on the disk: a rename after it outlives a power cut. File systems that
    cannot say so are believed."""
    if path.is_dir() and not path.is_symlink():
        for below in path.iterdir():
            sync(below)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put(made: Path, path: Path, beside: Path | None = None) -> None:
    """Rename what is complete to its name, in place of what is there, and see that the disk has both. A folder replaces
    a folder in two renames: the old one goes aside, and what is complete stays where it is until then. From another
    file system it is copied into `beside` first, or into `path`'s own folder where that is on another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sync(made)
    try:
        _replace(made, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        near = path.parent
        if beside is not None and beside.stat().st_dev == near.stat().st_dev:  # else an entry's folder is a link
            near = beside
        leftovers.sweep(near)
        copy = leftovers.place(path, near)
        try:
            (shutil.copytree if made.is_dir() else shutil.copy2)(made, copy)
            sync(copy)
            _replace(copy, path)
        finally:
            _remove(copy)
        _remove(made)
    with suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _replace(made: Path, path: Path) -> None:
    if not (made.is_dir() and path.exists()):
        os.rename(made, path)
        return
    old = leftovers.place(path, made.parent)
    os.rename(path, old)
    os.rename(made, path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def atomic_write(path: Path, write: Callable[[Path], None]) -> None:
    """write(temporary path), then rename: a kill leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = leftovers.place(path)
    try:
        with named(path):
            write(temporary)
            put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def npz(path: Path, wrong: str, again: str) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays of an .npz file, each read when it is asked for in the block, where any error means a damaged file.

    Raises UserError "<path>: <wrong> (<what NumPy says>); <again>". Nothing in it is unpickled.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:  # NumPy leaves a bad one open
            yield file
    except UserError:
        raise
    except Exception as error:  # a damaged file makes zipfile, zlib and NumPy raise many kinds
        raise UserError(f"{path}: {wrong} ({error}); {again}") from None


def write_text(path: Path, text: str) -> None:
    """UTF-8 with \\n line ends on every system."""
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, value: Any) -> None:
    """Sorted keys, one value a line, a newline at the end: small diffs in git. NaN is refused."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill; it takes out's place when the block ends well, so nothing from an earlier run stays behind."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = leftovers.place(out)
    temporary.mkdir()
    try:
        with named(out):
            yield temporary
            put(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
