"""What is committed is of one piece, and tells no clock, commit or machine but in reports/machines: `make repro` on
another processor writes other numbers into the working tree, and on the same one nothing at all."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.committed import PAGES, export, stale
from tests.helpers.projects import WHO
from tests.helpers.root import ROOT

NAMES = "seconds|time|date|host(name)?|device|processor|instructions|peak_memory_mb|git_commit|commit|versions?"
KEY = re.compile(rf"(python|torch|numpy|pillow|timm|fingerprint|{NAMES})$")
WORDS = {  # in any file's text; a group is what matters of it
    "a moment": re.compile(r"\b20\d\d-[01]\d-[0-3]\d|\b[0-2]\d:[0-5]\d:[0-5]\d\b"),
    "a commit": re.compile(r"\b[0-9a-f]{40}\b"),
    "a machine": re.compile(r"\bcpu x\d+|\b(?:EPYC|Xeon|Ryzen|Core\(TM\)|GeForce|Tesla|NVIDIA|H100|A100)\b"),
    "a version": re.compile(r"\b(?:torch|numpy|pillow|timm|matplotlib|python)\W{1,4}v?(\d+\.\d+)", re.IGNORECASE),
}
TELLS = (
    "reports/cards/models/",
    "reports/compare.html",
    "reports/index.html",
    "reports/pages/",
    "reports/results.csv",
    "reports/review/",
    "reports/runs.csv",
)  # made by `make index`, of reports/machines among all


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    return export(ROOT, tmp_path_factory.mktemp("head") / "tree")


@pytest.mark.parametrize("what", PAGES)
def test_generated_pages_are_of_the_committed_files(what, tree, warm):
    """Of the tree of HEAD, by the stages of HEAD: what a `make repro` has written since is not looked at."""
    assert not stale(tree, what, warm)


def keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys(child)


def recorded(tree: Path) -> set[str]:
    """Every fact of reports/machines, and the GPU that a person assumes for the estimate of cost."""
    return {(tree / "docs/review.yaml").read_text()} | {
        str(fact)
        for path in (tree / "reports/machines").glob("*.json")
        for section in ("experiments", "teachers")
        for run in json.loads(path.read_text())[section].values()
        for facts in run["seeds"].values()
        for fact in facts.values()
    }


def told(path: Path, known: set[str] = frozenset()) -> list[str]:
    """What a file tells that another run of the same would change, but for what stands in one of the known texts."""
    text = path.read_bytes().decode(errors="replace")
    found = [key for key in keys(json.loads(text)) if KEY.match(key)] if path.suffix == ".json" else []
    found += [column for column in text.partition("\n")[0].split(",") if path.suffix == ".csv" and KEY.match(column)]
    if path.suffix == ".npz":
        return [f"a moment: {stamp}" for stamp in stamps(path)]
    for what, pattern in WORDS.items():
        for match in pattern.finditer(text):
            if not any(match[match.lastindex or 0] in fact for fact in known):
                found.append(f"{what}: {match[0]}")
    return found


def stamps(path: Path) -> list[tuple]:
    import zipfile

    with zipfile.ZipFile(path) as file:
        return [entry.date_time for entry in file.infolist() if entry.date_time != (1980, 1, 1, 0, 0, 0)]


def test_no_report_tells_a_clock_a_commit_or_a_machine(tree):
    """Pages tell what reports/machines tells, and nothing else of the kind."""
    known = recorded(tree)
    for path in sorted((tree / "reports").rglob("*")):
        name = path.relative_to(tree).as_posix()
        if path.is_file() and not name.startswith("reports/machines/"):
            found = told(path, known if name.startswith(TELLS) else set())
            if name.startswith("reports/cards/data/"):  # Croissant asks for the version of a data set
                found = [what for what in found if what != "version"]
            assert not found, name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '{"seeds": {"0": {"seconds": 1.5}}}'),
        ("b.json", '{"about": [{"git_commit": null}]}'),
        ("c.md", "made 2026-11-29"),
        ("d.html", "<td>cpu x2</td>"),
        ("times.csv", "entry,seconds\na,1\n"),
        ("e.csv", f"a\n{'0f' * 20}\n"),
        ("f.svg", "<!-- Created with matplotlib (version 3.9) at 12:30:01 -->"),
        ("g.tex", "torch 2.15"),
    ],
)
def test_what_would_change_is_noticed(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    assert told(tmp_path / name)


def test_other_numbers_in_the_working_tree_change_nothing(tmp_path, warm):
    """As `make repro` on another processor leaves it: metrics and tables rewritten, a run's folder gone. Committed, the
    same is noticed by everything that shows those numbers."""
    clone = tmp_path / "clone"
    export(ROOT, clone)
    for command in (["init", "--quiet"], ["add", "--all"], [*WHO, "commit", "--quiet", "--message", "results"]):
        subprocess.run(["git", *command], cwd=clone, check=True)
    metrics = next((clone / "reports/metrics").rglob("*.json"))
    metrics.write_text(re.sub(r'"top1": \d+\.\d+', '"top1": 12.5', metrics.read_text()))
    marked = re.search(r"<!-- table:(\S+) -->", (clone / "README.md").read_text())[1]
    table = clone / f"reports/tables/{marked}.md"
    table.write_text(table.read_text().replace("|", "| 1", 3))
    shutil.rmtree(next((clone / "reports/runs").rglob("run.json")).parent)
    shown = "README.md and its badges"
    assert not stale(export(clone, tmp_path / "head"), shown, warm)
    subprocess.run(["git", *WHO, "commit", "--quiet", "--all", "--message", "other numbers"], cwd=clone, check=True)
    new = export(clone, tmp_path / "new")
    assert "out of date" in stale(new, shown, warm) and "out of date" in stale(new, "reports/index.html", warm)
