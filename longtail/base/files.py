"""Files and folders that are whole or absent, their checksums, and what reporting stages write.

What the reporting stages write: text, JSON and folders that appear under their final name only when complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        shutil.rmtree(out, ignore_errors=True)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
