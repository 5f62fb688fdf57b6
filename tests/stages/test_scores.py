"""stages/scores.py on made-up metrics files."""

from __future__ import annotations

import json

import yaml

from longtail.base.files import write_json
from tests.helpers.reporting import metrics_file, run_stage, study_dict, write_metrics


def make(root) -> int:
    (root / "params.yaml").write_text(yaml.safe_dump({"studies": {"s": study_dict()}}))
    inputs = ["--metrics", root / "metrics", "--params", root / "params.yaml"]
    return run_stage("scores", "s", *inputs, "--out", root / "scores")


def test_what_was_run_has_a_file_and_nothing_else(tmp_path):
    write_metrics(tmp_path / "metrics")
    old = tmp_path / "scores" / "renamed.json"
    old.parent.mkdir()
    old.write_text("{}")
    assert make(tmp_path) == 0
    written = {str(p.relative_to(tmp_path / "scores")) for p in (tmp_path / "scores").rglob("*.json")}
    assert written == {"s-deit_lt.json", "teachers/t.json"}


def test_means_over_seeds_of_the_last_epoch(tmp_path):
    """Top-1 86, 88 and 90 (the best epoch is 1 higher), CLS and DIST 10 lower; no tail class; class 2 untested once."""
    metrics = metrics_file("s-deit_lt", "experiment", [86.0, 88.0, 90.0], ("avg", "cls", "dist"), tail=None)
    metrics["seeds"]["0"]["last"]["cls"]["per_class"] = [70.0, 76.0, None]
    write_json(tmp_path / "metrics" / "s-deit_lt.json", metrics)
    assert make(tmp_path) == 0
    low = {"top1": 78.0, "head": 78.0, "mid": 78.0, "tail": None}
    assert json.loads((tmp_path / "scores" / "s-deit_lt.json").read_text()) == {
        "avg": {"top1": 88.0, "head": 88.0, "mid": 88.0, "tail": None},
        "cls": low,
        "dist": low,
        "per_class": [
            {"class": 0, "train_images": 3, "avg": 88.0, "cls": 76.0, "dist": 78.0},  # CLS (70 + 78 + 80) / 3
            {"class": 1, "train_images": 2, "avg": 88.0, "cls": 78.0, "dist": 78.0},
            {"class": 2, "train_images": 1, "avg": 88.0, "cls": 79.0, "dist": 78.0},  # CLS (78 + 80) / 2
        ],
    }


def test_no_metrics_no_scores(tmp_path):
    assert make(tmp_path) == 0
    assert not list((tmp_path / "scores").iterdir())


def test_a_metrics_file_of_another_study_is_refused(tmp_path, capsys):
    metrics = metrics_file("s-vit", "experiment", [80.0]) | {"study": "z"}
    write_json(tmp_path / "metrics" / "s-vit.json", metrics)
    assert make(tmp_path) == 2
    assert "study is 'z', expected 's'" in capsys.readouterr().err
