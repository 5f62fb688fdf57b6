"""What the reporting stages write: text, JSON and folders that appear under their final name only when complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longtail.base.files import atomic_write


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
