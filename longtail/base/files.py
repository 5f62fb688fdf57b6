"""Files that are whole or absent, and their checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

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
