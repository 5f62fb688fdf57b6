"""What is committed, apart from the working tree: `make repro` may have rewritten reports/ there with the numbers
of another processor. Pages and README are held against this.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PAGES = {  # what is generated and committed: the command that compares it with what it was made from
    "README.md and its badges": (
        *("readme", "--reports", "reports", "--coverage", "docs/coverage.yaml", "--published", "data/published"),
        *("--words", "docs/words.yaml", "--judgements", "docs/review.yaml", "--readme", "README.md"),
    ),
    "docs/index.md": (
        *("readme", "--reports", "reports", "--coverage", "docs/coverage.yaml", "--published", "data/published"),
        *("--words", "docs/words.yaml", "--judgements", "docs/review.yaml", "--readme", "docs/index.md"),
    ),
    "docs/coverage.md": (
        *("coverage", "--reports", "reports", "--coverage", "docs/coverage.yaml"),
        *("--out", "docs/coverage.md"),
    ),
    "docs/questions.md": (
        *("questions", "--reports", "reports", "--published", "data/published", "--methods", "docs/METHODS.md"),
        *("--judgements", "docs/review.yaml", "--out", "docs/questions.md"),
    ),
    "reports/review": (
        *("review", "--reports", "reports", "--coverage", "docs/coverage.yaml"),
        *("--judgements", "docs/review.yaml", "--out", "reports/review"),
    ),
    "reports/cards": (
        *("cards", "--reports", "reports", "--sources", "docs/data_sources.yaml"),
        *("--words", "docs/words.yaml", "--out", "reports/cards"),
    ),
    "reports/pages": ("run_pages", "--reports", "reports", "--words", "docs/words.yaml", "--out", "reports/pages"),
    "reports/results.csv": ("results", "--reports", "reports", "--out", "reports/results.csv"),
    "reports/compare.html": ("compare_page", "--reports", "reports", "--out", "reports/compare.html"),
    "reports/README.md and reports/studies": ("browse", "--reports", "reports", "--words", "docs/words.yaml"),
    "reports/index.html": (
        *("index", "--reports", "reports", "--coverage", "docs/coverage.yaml", "--claims", "docs/claims.yaml"),
        *("--published", "data/published", "--words", "docs/words.yaml", "--judgements", "docs/review.yaml"),
        *("--out", "reports/index.html"),
    ),
}  # fmt: skip


def export(repository: Path, folder: Path) -> Path:
    """The tree of HEAD, source and all, in a new folder. Skips the test where the repository is no clone (a ZIP)."""
    told = subprocess.run(["git", "rev-parse", "--show-prefix", "HEAD"], cwd=repository, capture_output=True, text=True)
    if told.returncode or told.stdout.splitlines()[0]:
        pytest.skip(f"{repository}: no git repository, so what is committed is not known")
    folder.mkdir(parents=True)
    with subprocess.Popen(["git", "archive", "HEAD"], cwd=repository, stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "--extract", "--directory", str(folder)], stdin=archive.stdout, check=True)
    assert archive.returncode == 0
    return folder


def stale(tree: Path, what: str, python: Path) -> str:
    """What the tree's own stage says is out of date of a page in it; empty where nothing is. python: the folder of the
    `python` that runs it (warm_python.py)."""
    name, *arguments = PAGES[what]
    command = [python / "python", f"stages/{name}.py", *arguments, "--check"]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr or f"{name}: exit code {done.returncode}"
