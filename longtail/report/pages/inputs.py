"""Which state of the repository a generated page shows: one digest of the files in git that it is made from."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

REPORTS = ("metrics", "tables", "analysis", "runs", "experts", "machines")  # folders of reports/ that are in git
META = re.compile(r'<meta name="inputs" content="([0-9a-f]{64})">')


def digest(reports: Path, files: dict[str, Path]) -> str:
    """sha256 (hex) over names and contents, sorted by name. files: {name: file or folder} beside those of reports/.

    Names are those within the repository, so the place of a clone does not matter. What is missing is left out, as are
    files whose name begins with a dot.
    """
    found = {}
    for name, path in ({f"reports/{folder}": reports / folder for folder in REPORTS} | files).items():
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                found[f"{name}/{file.relative_to(path).as_posix()}"] = file
    total = hashlib.sha256()
    for name in sorted(found):
        total.update(f"{name}\0{hashlib.sha256(found[name].read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def stated(page: str) -> str | None:
    """The digest that a page was made from; None where it states none."""
    found = META.search(page)
    return found[1] if found else None
