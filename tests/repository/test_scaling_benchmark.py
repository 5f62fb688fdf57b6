"""benchmarks/scaling.py runs in its short form and says what it measured; docs/scaling.md shows its last result."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from longtail.base.errors import UserError
from tests.helpers.root import ROOT

FOLDER = ROOT / "benchmarks"
PAGE = ROOT / "docs/scaling.md"


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return importlib.import_module("scaling")


@pytest.fixture
def newest(scaling) -> Path:
    """The record that docs/scaling.md shows."""
    return importlib.import_module("recording").newest("scaling")


def test_two_processes_against_one(scaling, monkeypatch, tmp_path):
    arguments = ["scaling", "--device", "cpu", "--processes", "2", "--short", "--blocks", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(scaling, "cores", lambda: 2)
    scaling.main()
    (path,) = tmp_path.glob("*/scaling.json")
    record = json.loads(path.read_text())
    rows = record["cases"]["digits"]["contenders"]
    assert set(rows) == {"1 process", "2 processes", scaling.AFTER, scaling.NEVER, scaling.ALONE}
    alone = rows.pop(scaling.ALONE)
    assert alone["ms"] > 0 and alone["buckets"] == [4 * 159_636]  # float32 weights of the digits' student
    for row in rows.values():
        assert row["images_per_second"] > 0 and row["cpu_ms_of_an_image"] > 0 and 0 <= row["waiting"] < 1
        assert row["ms_of_a_step"] == pytest.approx(64e3 / row["images_per_second"], rel=0.01)
    assert rows["1 process"]["efficiency"] == 1
    assert rows["2 processes"]["efficiency"] == pytest.approx(
        rows["2 processes"]["images_per_second"] / rows["1 process"]["images_per_second"] / 2, abs=1e-3
    )
    assert (
        f"| digits | 64 | 2 processes | {rows['2 processes']['images_per_second']:,.1f} |"
        in path.with_suffix(".md").read_text()
    )


def test_contenders_of_a_larger_machine(scaling):
    found = scaling.contenders(scaling.CPU["mini"], 6, torch.device("cpu"))
    cores = {name: of.cores for name, of in found.items()}
    assert cores["1 process"] == 1 and cores["2 processes"] == 2 and cores["4 processes"] == 4
    rest = ("1 process, 6 threads", "6 processes", "6 processes, step 6 times as large", "6 seeds side by side")
    assert {cores[name] for name in rest} == {6}
    assert len(found["6 seeds side by side"].teams) == 6
    assert "1 process, 6 threads" not in scaling.contenders(scaling.CUDA["ViT-B"], 6, torch.device("cuda"))


@pytest.mark.parametrize("count", ["1", "99"])
def test_a_number_of_processes_that_is_not_here_is_refused(scaling, monkeypatch, count, tmp_path):
    monkeypatch.setattr(sys, "argv", ["scaling", "--device", "cpu", "--processes", count, "--out", str(tmp_path)])
    monkeypatch.setattr(scaling, "cores", lambda: 4)
    with pytest.raises(UserError, match=f"{count} processes: from 2 to 4"):
        scaling.main()


def test_the_tables_go_between_the_markers(scaling, newest, tmp_path):
    record = json.loads(newest.read_text())
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nafter\n")
    for _ in range(2):
        scaling.put_into(page, record)
        text = page.read_text()
        assert text == f"before\n<!-- measured -->\n\n{scaling.shown(record)}\n\n<!-- end -->\nafter\n"
    page.write_text("no markers\n")
    with pytest.raises(UserError, match="<!-- measured -->"):
        scaling.put_into(page, record)


def test_the_page_shows_the_last_result(scaling, newest):
    record = json.loads(newest.read_text())
    assert newest.with_suffix(".md").read_text() == scaling.tables(record)
    again = "out of date; run python benchmarks/scaling.py --device cpu --page docs/scaling.md"
    assert f"<!-- measured -->\n\n{scaling.shown(record)}\n\n<!-- end -->" in PAGE.read_text(), again


def test_what_the_page_says_of_the_result_is_so(scaling, newest):
    record = json.loads(newest.read_text())
    assert set(record["cases"]) == set(scaling.CPU)
    count = record["processes"]
    for name, case in record["cases"].items():
        cost = {how: row.get("cpu_ms_of_an_image") for how, row in case["contenders"].items()}
        if scaling.CPU[name].whole:
            beside = cost[f"{count} seeds side by side"]
            assert beside < min(cost[f"1 process, {count} threads"], cost[f"{count} processes"])
        team, after, alone = (case["contenders"][how] for how in (f"{count} processes", scaling.AFTER, scaling.ALONE))
        assert after["ms_ahead"] == 0
        assert (team["ms_ahead"] > 0.1 * team["ms_of_a_step"]) == (len(alone["buckets"]) > 1)
