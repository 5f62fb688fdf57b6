"""Metrics files that are read, and those that are refused: one line with the file, the place in it, and the remedy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import yaml

from longtail.base.errors import UserError
from longtail.base.files import write_json
from longtail.report.results import load, read
from tests.helpers.reporting import PUBLISHED, metrics_file, run_stage, study, study_dict, write_metrics
from tests.helpers.root import ROOT

COMMITTED = sorted((ROOT / "reports/metrics").rglob("*.json"))


def put(*keys, value) -> Callable[[dict], None]:
    def change(metrics: dict) -> None:
        for key in keys[:-1]:
            metrics = metrics[key]
        metrics[keys[-1]] = value

    return change


def lose(*keys) -> Callable[[dict], None]:
    def change(metrics: dict) -> None:
        for key in keys[:-1]:
            metrics = metrics[key]
        del metrics[keys[-1]]

    return change


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_files_are_read(path):
    about = json.loads(path.read_text())
    assert read(path, path.stem, about["kind"], about["study"]) == about


WRONG = [
    (put("schema", value=2), "schema is 2, expected 1; run stages/evaluate.py s-deit_lt again"),
    (put("study", value="t"), "study is 't', expected 's'"),
    (lose("kind"), "no metrics file ('kind')"),
    (lose("summary"), "not of schema 1: summary: missing; Metrics needs it; run stages/evaluate.py s-deit_lt again"),
    (lose("summary", "best", "cls"), "summary.best.cls: missing"),
    (lose("summary", "last", "dist", "tail"), "summary.last.dist.tail: missing"),
    (lose("summary", "last", "avg", "top1", "n"), "summary.last.avg.top1.n: missing"),
    (put("summary", "last", "avg", "top1", value=88.0), "summary.last.avg.top1: expected a block of keys, found 88.0"),
    (put("summary", "last", "avg", "top1", "mean", value="88"), "top1.mean: expected float, found '88' (str)"),
    (put("summary", "last", "avg", "ece", "mean", value=math.inf), "ece.mean: expected a finite number, found inf"),
    (put("summary", "last", "avg", "ece", "n", value=True), "ece.n: expected int, found True"),
    (put("seeds", value={}), "seeds: expected at least 1 values, found 0"),
    (put("seeds", value=[]), "seeds: expected a block of keys, found []"),
    (lose("seeds", "1", "best"), "seeds.1.best: missing"),
    (put("seeds", "2", "best", "avg", "per_class", value={}), "seeds.2.best.avg.per_class: expected a list"),
    (
        put("seeds", "2", "best", "avg", "per_class", 1, value="x"),
        "seeds.2.best.avg.per_class[1]: expected float, found 'x' (str)",
    ),
    (put("config_hash", value=None), "config_hash: expected str, found None"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_a_file_of_another_shape_is_refused_by_name(change, message, tmp_path):
    metrics = metrics_file("s-deit_lt", "experiment", [86.0, 88.0, 90.0], ("avg", "cls", "dist"))
    change(metrics)
    path = tmp_path / "s-deit_lt.json"
    path.write_text(json.dumps(metrics))  # inf as a damaged file may hold it
    with pytest.raises(UserError) as told:
        load(tmp_path, "s", study())
    assert str(told.value).startswith(f"{path}: ") and message in str(told.value)
    assert str(told.value).endswith("; run stages/evaluate.py s-deit_lt again") and "\n" not in str(told.value)


def test_what_may_be_empty_is(tmp_path):
    """An empty group has no mean, one seed no standard error, a plain ViT no DIST head."""
    made = metrics_file("x", "experiment", [80.0], tail=None)
    write_json(tmp_path / "x.json", made)
    assert read(tmp_path / "x.json", "x", "experiment", "s") == made


def test_a_file_that_is_no_block_is_refused(tmp_path):
    for text in ("[1]", "null", '"x"', "", "{"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match="cut short or no metrics file"):
            read(tmp_path / "x.json", "x", "experiment", "s")


@pytest.mark.parametrize("value", [None, {"mean": 50.0, "stderr": None}])
def test_accuracy_on_views_is_checked_too(value, tmp_path):
    made = {"schema": 1, "entry": "c", "kind": "cache", "study": "s", "teacher": "t"}
    made |= {"seeds": {"0": {"teacher_top1_on_views": 50}}, "summary": {"teacher_top1_on_views": value}}
    write_json(tmp_path / "caches/c.json", made)
    with pytest.raises(UserError, match=r"c\.json: .*teacher_top1_on_views.*run stages/evaluate_labels\.py c again"):
        load(tmp_path, "s", study())


READERS = {
    "tables": ("published",),
    "scores": (),
    "figures": ("analysis", "runs", "published", "print"),
    "report": ("tables", "figures", "analysis", "print"),
}


@pytest.mark.parametrize("stage", READERS)
def test_every_stage_that_reads_it_says_so_in_one_line(stage, tmp_path, capsys):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"studies": {"s": study_dict()}}))
    metrics = json.loads((write_metrics(tmp_path / "metrics") / "s-deit_lt.json").read_text())
    del metrics["summary"]["last"]["avg"]
    write_json(tmp_path / "metrics/s-deit_lt.json", metrics)
    command = ["s", "--params", tmp_path / "params.yaml", "--metrics", tmp_path / "metrics", "--out", tmp_path / "out"]
    for name in READERS[stage]:
        command += [f"--{name}", PUBLISHED if name == "published" else tmp_path]
    assert run_stage(stage, *command) == 2
    said = capsys.readouterr().err
    assert "s-deit_lt.json: not of schema 1: summary.last.avg: missing" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
