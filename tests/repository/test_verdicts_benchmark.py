"""benchmarks/verdicts.py: its model of answers by hand, the coverage of the ledger's interval, and what it writes."""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import pytest

from tests.helpers.root import ROOT

FOLDER = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def verdicts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("verdicts")


def test_table_s3_has_the_printed_spread(verdicts):
    """54.8 ± .42 over 3 seeds: a standard deviation of .42 * root 3."""
    side = verdicts.printed()["CIFAR-100-LT", 100, "Average", "all"]
    assert (side.accuracy, side.spread) == (54.8, pytest.approx(0.72746, abs=1e-5))


def test_the_model_has_the_accuracy_and_spread_that_it_was_asked_for(verdicts):
    """Over 300 trials of one method with 2 seeds each, against one that is always wrong: mean 70 %, and 3 points
    between seeds of the same images."""
    rng, side, never = np.random.default_rng(0), verdicts.Side(70.0, 3.0), verdicts.Side(1e-9, 0.0)
    found = np.array([verdicts.answers(rng, (side, never), 2000, 2).mean(axis=1) for _ in range(300)])
    assert 100 * found.mean() == pytest.approx(70.0, abs=0.5)
    assert 100 * (found[:, 0] - found[:, 1]).std() / 2**0.5 == pytest.approx(3.0, rel=0.12)


def test_the_interval_covers_and_either_source_alone_does_not(verdicts):
    """600 images, 2 points between seeds, both methods alike, 300 trials: at least 94 % with both sources."""
    side = verdicts.Side(60.0, 2.0)
    found = verdicts.simulate((side, side), 600, 300, verdicts.RULES[1:4], seed=7)
    assert found["both, 3 seeds"]["covered"] >= 0.94
    assert found["both, 3 seeds"]["verdicts"] == pytest.approx(1 - found["both, 3 seeds"]["covered"])
    assert found["images alone, 3 seeds"]["covered"] < 0.92


def test_it_writes_a_record_and_puts_it_into_a_page(verdicts, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("<!-- verdicts -->\n<!-- end -->\n")
    monkeypatch.setattr(verdicts, "UNPRINTED", ())
    monkeypatch.setattr(verdicts, "TEST", dict.fromkeys(verdicts.TEST, 200))
    monkeypatch.setattr(verdicts, "TAIL", dict.fromkeys(verdicts.TAIL, 100))
    arguments = ["--trials", "2", "--out", tmp_path, "--page", page, "--reports", tmp_path / "none"]
    (tmp_path / "none/metrics").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["verdicts", *map(str, arguments)])
    verdicts.main()
    record = json.loads((tmp_path / "verdicts.json").read_text())
    assert record["trials"] == 2 and len(record["coverage"]) == 16 and len(record["false_verdicts"]) == 4
    assert "| CIFAR-100-LT, ρ = 50 | tail | average − DIST |" in page.read_text()


def test_the_committed_record_is_that_of_the_page_and_covers(verdicts):
    """95 % intervals over both sources hold the truth in at least 94 % of all trials with Table S.3's spread."""
    record = json.loads((FOLDER / "results/verdicts.json").read_text())
    assert verdicts.page(record).rstrip("\n") in (ROOT / "docs/verdicts.md").read_text()
    assert verdicts.page(record) == (FOLDER / "results/verdicts.md").read_text()
    assert np.mean([row["both, 3 seeds"] for row in record["coverage"]]) >= 0.94
    assert all(row["both, 3 seeds"] >= 0.93 for row in record["coverage"])
