"""The page of what was last verified: commits, their days, machines; what tells none is said to."""

from __future__ import annotations

import re
import subprocess

import pytest

from longtail.base.errors import UserError
from longtail.base.files import write_json
from longtail.report.review.verified import committed_on, page
from tests.helpers.projects import WHO, committed
from tests.helpers.root import ROOT

A, B = "a" * 40, "b" * 40
FACTS = {"git_commit": A, "device": "cpu x1", "processor": "P", "torch": "2.1"}


def test_each_record_tells_its_commit_its_day_and_its_place(tmp_path):
    seeds = {"0": FACTS, "1": FACTS | {"git_commit": B, "device": "cpu x2"}}
    record = {"teachers": {}, "experiments": {"e": {"config_hash": "h", "seeds": seeds}}}
    write_json(tmp_path / "reports/machines/s.json", record)
    write_json(tmp_path / "results/p/views.json", {"environment": FACTS | {"git_commit": f"{A}-dirty"}})
    write_json(tmp_path / "results/q/views.json", {"environment": FACTS | {"processor": "Q", "date": "2026-01-02"}})
    write_json(tmp_path / "results/verdicts.json", {"trials": 3})
    text = page(tmp_path / "reports", tmp_path / "results", lambda path: f"day of {path.stem}")
    study = next(line for line in text.splitlines() if line.startswith("| s, 2 trainings"))
    assert study.endswith("| `make repro STUDY=s` | `aaaaaaaa`, `bbbbbbbb` | day of s | cpu x1, P; cpu x2, P | 2.1 |")
    views = [line for line in text.splitlines() if line.startswith("| `views`")]
    assert "`python benchmarks/views.py` | `aaaaaaaa` edited | day of views | cpu x1, P | 2.1 |" in views[0]
    assert "| `aaaaaaaa` | 2026-01-02 | cpu x1, Q | 2.1 |" in views[1] and len(views) == 2
    assert "verdicts" not in text


def test_the_page_is_of_the_records_that_are_there():
    """But for the days, which most records have only when they are committed."""
    text = (ROOT / "docs/verified.md").read_text(encoding="utf-8")
    made = page(ROOT / "reports", ROOT / "benchmarks/results", lambda path: "DAY")
    again = "out of date; run python stages/verified.py --out docs/verified.md"
    assert days(text) == days(made), again


def days(text: str) -> str:
    return re.sub(r"\b20\d\d-\d\d-\d\d\b", "DAY", text)


def test_a_move_is_not_the_day_of_a_record(tmp_path):
    (tmp_path / "a.json").write_text("1\n" * 50)
    committed(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "a.json").rename(tmp_path / "b/a.json")
    git = ["git", "-C", tmp_path, *WHO]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "move", "--date", "2001-02-03T12:00:00"], check=True)
    was = committed_on(tmp_path / "b/a.json")
    assert was not in ("2001-02-03", "not committed")
    (tmp_path / "b/a.json").write_text("2\n" * 50)
    subprocess.run([*git, "commit", "-a", "--quiet", "--message", "new", "--date", "2001-02-04T12:00:00"], check=True)
    assert committed_on(tmp_path / "b/a.json") == "2001-02-04"
    (tmp_path / "c.json").touch()
    assert committed_on(tmp_path / "c.json") == "not committed"


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "results/p").mkdir(parents=True)
    (tmp_path / "results/p/views.json").write_text("{")
    with pytest.raises(UserError, match=r"views.json: cut short or no record"):
        page(tmp_path, tmp_path / "results", str)
