"""The page of what was last verified: commits, their days, machines; what tells none is said to."""

from __future__ import annotations

import re

import pytest

from longtail.base.errors import UserError
from longtail.base.files import write_json
from longtail.report.review.verified import page
from tests.helpers.root import ROOT

A, B = "a" * 40, "b" * 40
FACTS = {"git_commit": A, "device": "cpu x1", "processor": "P", "torch": "2.1"}


def test_each_record_tells_its_commit_its_day_and_its_place(tmp_path):
    seeds = {"0": FACTS, "1": FACTS | {"git_commit": B, "device": "cpu x2"}}
    record = {"teachers": {}, "experiments": {"e": {"config_hash": "h", "seeds": seeds}}}
    write_json(tmp_path / "reports/machines/s.json", record)
    write_json(tmp_path / "results/views_cpu.json", {"environment": FACTS | {"git_commit": f"{A}-dirty"}})
    write_json(tmp_path / "results/verdicts.json", {"trials": 3})
    text = page(tmp_path / "reports", tmp_path / "results", lambda path: f"day of {path.stem}")
    study = next(line for line in text.splitlines() if line.startswith("| s, 2 trainings"))
    assert study.endswith("| `make repro STUDY=s` | `aaaaaaaa`, `bbbbbbbb` | day of s | cpu x1, P; cpu x2, P | 2.1 |")
    views = next(line for line in text.splitlines() if "views_cpu.json" in line)
    assert "`python benchmarks/views.py` | `aaaaaaaa` edited | day of views_cpu | cpu x1, P | 2.1 |" in views
    assert "verdicts" not in text


def test_the_page_is_of_the_records_that_are_there():
    """But for the days, which a record has only when it is committed."""
    text = (ROOT / "docs/verified.md").read_text(encoding="utf-8")
    made = page(ROOT / "reports", ROOT / "benchmarks/results", lambda path: "DAY")
    again = "out of date; run python stages/verified.py --out docs/verified.md"
    assert re.sub(r"\b20\d\d-\d\d-\d\d\b", "DAY", text) == made, again


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/views_cpu.json").write_text("{")
    with pytest.raises(UserError, match=r"views_cpu.json: cut short or no record"):
        page(tmp_path, tmp_path / "results", str)
