"""benchmarks/equivalence.py in its short form, and the rule of its verdict."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from longtail.base import params
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.runs.workspace import Workspace
from longtail.training.cache import build_cache
from longtail.training.experiment import resolve
from longtail.views.student_views import Views
from tests.helpers.root import ROOT
from tests.helpers.small import Teacher

CPU = torch.device("cpu")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("equivalence")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """What the benchmark reads of data/: the digits, and labels of two epochs by a stand-in teacher."""
    folder, everything = tmp_path_factory.mktemp("data"), params.load_all(ROOT)
    source = params.build(DatasetConfig, everything["datasets"]["digits_if20"], "datasets.digits_if20")
    data = make_longtail("digits_if20", source)
    (folder / "datasets").mkdir()
    data.save(folder / "datasets/digits_if20.npz")
    config, seeds = resolve(everything, "digits-deit_lt")
    facts = {"num_classes": 10, "class_order": data.class_order, "class_names": list(data.class_names)}
    for seed in seeds[:2]:
        views = Views(config.views, data.train_images, seed)
        space = Workspace(folder / f"scratch{seed}", "c", "c" * 64, CPU, quiet=True)
        build_cache(Teacher(side=8), views, data.train_labels, 2, facts, space)
        final = folder / "caches" / config.cache / f"seed{seed}"
        final.parent.mkdir(parents=True, exist_ok=True)
        space.result.rename(final)
    return folder


def test_the_short_form(benchmark, made, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["equivalence", "--short", "--data", str(made), "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    (path,) = tmp_path.glob("*/equivalence.json")
    record, table = json.loads(path.read_text()), path.with_suffix(".md")
    assert ended.value.code == 0 and record["epochs"] == 2 and record["as_committed"] == {}
    assert list(record["entries"]) == ["digits-deit_lt", "ldam_drw_sam-digits_if20"]
    for entry, rows in record["entries"].items():
        assert list(rows) == ["fp32", "bf16"] and list(rows["bf16"]["seeds"]) == ["0", "1"]
        assert rows["fp32"]["compared"]["top1"]["difference"] == 0
        assert [rows[name]["execution"]["precision"] for name in rows] == ["fp32", "bf16"]
        mean = rows["bf16"]["compared"]["tail"]["mean"]
        assert f"| `{entry}` | bf16 | tail | {mean:.2f} ± " in table.read_text()
    first, second = (row["seeds"]["0"]["metrics"]["avg"]["nll"] for row in rows.values())
    assert first != second  # the teacher's; in two epochs a student hardly moves
    assert "after 2 epochs" in table.read_text()


def seeds_of(*values: float) -> dict[int, dict]:
    return {seed: {"metrics": {"avg": {"top1": value, "tail": value}}} for seed, value in enumerate(values)}


@pytest.mark.parametrize(
    ("variant", "within"),
    [
        ((70.0, 72.0, 74.0), True),
        ((71.0, 71.5, 74.5), True),  # +0.33, less than the 2 of the seeds
        ((71.0, 73.1, 74.9), False),  # +1 of each seed: the interval is above 0
        ((70.0, 72.0, 84.0), False),  # the interval holds 0, but +3.3 is more than 2
    ],
)
def test_within_seed_noise(benchmark, variant, within):
    row = benchmark.compare(seeds_of(*variant), seeds_of(70.0, 72.0, 74.0))["top1"]
    assert row["seed_sd"] == 2.0 and row["within"] is within


def test_a_number_that_is_not_the_committed_one_is_noticed(benchmark):
    path = ROOT / "reports/metrics/digits/digits-deit_lt.json"
    seeds = {int(s): {"metrics": of["last"]} for s, of in json.loads(path.read_text())["seeds"].items()}
    assert benchmark.as_committed(seeds, path)
    assert not benchmark.as_committed({s: seeds[s] for s in (0, 1)}, path)
    seeds[1]["metrics"]["dist"]["nll"] += 1e-4
    assert not benchmark.as_committed(seeds, path)


def test_what_a_cpu_leaves_out(benchmark, monkeypatch):
    left_out = {name: benchmark.why_not(e, "students", CPU) for name, e in benchmark.STUDENTS.items()}
    assert left_out["fp32"] is left_out["bf16"] is None and left_out["fp16"] and left_out["bf16, compiled"]
    monkeypatch.setattr(benchmark.shutil, "which", lambda name: None)
    assert benchmark.why_not(benchmark.STUDENTS["fp32, compiled"], "students", CPU) == "no g++"
