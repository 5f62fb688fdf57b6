"""Files that are whole or absent, their checksums, and archives of arrays that may be damaged."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from longtail.base.errors import UserError


def file_digest(path: str | Path) -> str:
    """sha256 (hex) of a file's bytes. Raises UserError where there is no such file."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; run the stage that makes it first")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write(path: Path, write: Callable[[Path], None]) -> None:
    """write(temporary path), then rename: a kill leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def npz(path: Path, wrong: str, again: str) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays of an .npz file, each read when it is asked for in the block, where any error means a damaged file.

    Raises UserError "<path>: <wrong> (<what NumPy says>); <again>". Nothing in it is unpickled.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except UserError:
        raise
    except Exception as error:  # a damaged file makes zipfile, zlib and NumPy raise many kinds
        raise UserError(f"{path}: {wrong} ({error}); {again}") from None
