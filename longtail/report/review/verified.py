"""When all of it was last verified, where and how: commit, day, machine and command of each record.

Records are reports/machines/<study>.json (trainings) and benchmarks/results/<machine>/*.json (speed, parity, kills).
They tell the commit at which they were made; the day is the one that they tell, else that on which git got the record.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from longtail.base.errors import UserError
from longtail.base.text import pipe_table
from longtail.report.machines import places

HEAD = ("what", "again with", "commit", "recorded on", "machine", "torch")
TOLD = """# Last verified

When, where and how each part was last made or measured. Written by `python stages/verified.py --out docs/verified.md`
from `reports/machines/` and `benchmarks/results/`; do not edit. A record tells the commit at which it was made (edited:
with changes that were not committed); the day is the one that it tells, else that on which git got it. What has no line
here has no record: full recipes, and everything on a GPU. All measurements by machine:
[benchmarks/results](../benchmarks/results/README.md).

CI runs `make repro` and `make test` for every change; `make test` holds every committed number and page against the
files that it was made from.
"""


def page(reports: Path, results: Path, day: Callable[[Path], str]) -> str:
    """The page; ends in a newline. day: on which git got a file, `committed_on`."""
    trained = [_study(path, day) for path in sorted((reports / "machines").glob("*.json"))]
    found = sorted(results.glob("*/*.json"), key=lambda path: (path.name, path.parent.name))
    measured = [row for path in found if (row := _benchmark(path, day)) is not None]
    parts = [TOLD, "## Studies that were trained", "", *pipe_table(HEAD, "llllll", trained), ""]
    return "\n".join([*parts, "## Measurements", "", *pipe_table(HEAD, "llllll", measured)]) + "\n"


def committed_on(path: Path) -> str:
    """The day on which git got the file as it is, by its author's clock, which a rebase keeps. A move counts not."""
    line = ["git", "log", "--follow", "--name-status", "--format=%n%as", "--", path.name]
    done = subprocess.run(line, cwd=path.parent, capture_output=True, text=True)
    commits = re.findall(r"^(\d{4}-\d\d-\d\d)\n\n(\w+)", done.stdout, re.MULTILINE)
    return next((day for day, status in commits if status != "R100"), "not committed")  # R100: a move and no more


def _study(path: Path, day: Callable[[Path], str]) -> tuple[str, ...]:
    """Of all its runs; several commits are told each."""
    record = _read(path)
    runs = [run for part in ("teachers", "experiments") for run in record[part].values()]
    seeds = [facts for run in runs for facts in run["seeds"].values()]
    how = f"`make repro STUDY={path.stem}`"
    return (f"{path.stem}, {len(seeds)} trainings", how, _commits(seeds), day(path), places(seeds), _of(seeds, "torch"))


def _benchmark(path: Path, day: Callable[[Path], str]) -> tuple[str, ...] | None:
    """None where the record tells no commit."""
    about = _read(path).get("environment") or {}
    if not about.get("git_commit"):
        return None
    script = "dag_scale" if path.stem.startswith("dag_") else {"bench": "all"}.get(path.stem, path.stem)
    how = f"`python benchmarks/{script}.py`"
    told = about.get("date") or day(path)
    return (f"`{path.stem}`", how, _commits([about]), told, places([about]), _of([about], "torch"))


def _commits(seeds: list[dict]) -> str:
    found = sorted({facts["git_commit"] for facts in seeds if facts.get("git_commit")})
    told = [f"`{commit[:8]}`{' edited' if commit.endswith('-dirty') else ''}" for commit in found]
    return ", ".join(told) or "not recorded"


def _of(seeds: list[dict], key: str) -> str:
    return ", ".join(sorted({facts[key] for facts in seeds if facts.get(key)})) or "not recorded"


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: cut short or no record ({error}); make it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: no record, a {type(found).__name__}; make it again")
    return found
