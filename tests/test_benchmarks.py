"""The benchmarks run in their short form, and say what they measured."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run(name, arguments...): the benchmark's exit code, its record and its table, of a CPU."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def run(name: str, *arguments: str) -> tuple[int, dict, str]:
        module = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [name, "--device", "cpu", "--out", str(tmp_path), *arguments])
        code = 0
        try:
            module.main()
        except SystemExit as exit:
            code = int(exit.code)
        kind = f"{name}_cpu"
        return code, json.loads((tmp_path / f"{kind}.json").read_text()), (tmp_path / f"{kind}.md").read_text()

    return run


def test_parity_counts_every_pixel(run):
    code, record, table = run("parity", "--pixels", "20000")
    assert code == 0 and len(record["operations"]) >= 19
    for name, row in record["operations"].items():
        assert row["pixels"] >= 20000 and row["mismatches"] == row["largest_difference"] == 0, name
        assert f"| {name} | {row['pixels']:,} | 0 | 0 |" in table
    assert f"Pillow {record['environment']['pillow']}" in table


def test_parity_notices_one_pixel(run, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    parity = importlib.import_module("parity")

    def one_off(images: np.ndarray, rng, device):
        ours = images.copy()
        ours[0, 0, 0, 1] ^= 2
        return ours, images

    monkeypatch.setattr(parity, "CASES", {"wrong": one_off})
    monkeypatch.setattr(parity, "SHARES", {24: 1.0})
    code, record, _ = run("parity", "--pixels", "576")
    assert code == 1 and record["operations"]["wrong"] == {"pixels": 576, "mismatches": 1, "largest_difference": 2}


def test_the_speed_of_views(run):
    code, record, table = run("views", "--short")
    assert code == 0 and set(record["sizes"]) == {"24"}
    rows = record["sizes"]["24"]
    assert set(rows) == {"timm", "timm, loader", "pil", "torch"}
    assert all(row["views_per_second"] > 0 for row in rows.values())
    default = record["environment"]["default"]["24"]
    assert f"| 24 | {default} | {rows[default]['views_per_second']:,} |" in table


def test_the_cost_of_a_cache_and_what_it_saves(run):
    code, record, table = run("cache", "--short")
    rows = record["recipes"]["digits-deit_lt"]
    assert code == 0 and set(rows["student"]) == {"cache", "teacher online"} and "1 worker" in rows["build"]
    for name, rate in rows["student"].items():
        assert rate > 0 and f"| student | {name} | {rate:,} |" in table
