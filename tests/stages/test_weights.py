"""Weights in git: they are of the runs whose results are committed, small, and give the accuracy that is recorded."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml

from longtail.base import params
from longtail.base.files import write_json
from tests.helpers.reporting import metrics_file, run_stage, study_dict
from tests.helpers.root import ROOT

CONFIG = {"lr": 0.1}
STORED = sorted((ROOT / "reports/weights").rglob("*.safetensors"))


@pytest.fixture
def root(tmp_path):
    """Of the study s the teacher t, and s-deit_lt with two seeds, of which the first is 4."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"studies": {"s": study_dict()}}))
    config_hash = params.digest(CONFIG)
    for place, kind, seed in (("teachers/t", "teacher", "0"), ("s-deit_lt", "experiment", "4")):
        name, reports = place.rpartition("/")[2], tmp_path / "reports"
        made = metrics_file(name, kind, [80.0]) | {"config_hash": config_hash}
        made["seeds"] = {seed: made["seeds"]["0"]}
        write_json(reports / f"metrics/s/{place}.json", made)
        of = {
            "curves": {"epoch": [0], "loss": [1.0]},
            "identity": {"identity": f"{seed}" * 64, "dataset_digest": "d" * 64},
        }
        about = {"schema": 1, "entry": name, "kind": kind, "study": "s", "dataset": "d", "config": CONFIG}
        write_json(reports / f"runs/s/{place}/run.json", about | {"config_hash": config_hash, "seeds": {seed: of}})
        run = tmp_path / "data" / ("teachers/t" if kind == "teacher" else "students/s-deit_lt") / f"seed{seed}"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"seed": int(seed)}))
        (run / "identity.json").write_text(json.dumps({"identity": f"{seed}" * 64, "dataset_digest": "d" * 64}))
        (run / "history.csv").write_text("epoch,loss\n0,1\n")
        (run / "model.safetensors").write_bytes(f"weights of seed {seed}".encode())
    return tmp_path


def store(root) -> int:
    given = ("--data", root / "data", "--reports", root / "reports", "--params", root / "params.yaml")
    return run_stage("weights", "s", *given)


def test_the_first_seed_of_each_run(root, capsys):
    assert store(root) == 0 and "2 files" in capsys.readouterr().out
    folder = root / "reports/weights/s"
    assert (folder / "s-deit_lt.safetensors").read_bytes() == b"weights of seed 4"
    assert (folder / "teachers/t.safetensors").read_bytes() == b"weights of seed 0"


def test_what_is_too_large_is_named_and_left_out(root, capsys):
    (root / "data/teachers/t/seed0/model.safetensors").write_bytes(b"w" * 1_000_001)
    assert store(root) == 0 and "t: 1,000,001 bytes of weights are left out" in capsys.readouterr().out
    found = [path.name for path in (root / "reports/weights/s").rglob("*.safetensors")]
    assert found == ["s-deit_lt.safetensors"]


def test_weights_of_another_run_are_refused(root, capsys):
    """Trained again with the same settings on other data, as its identity tells; or not here at all."""
    path = root / "data/students/s-deit_lt/seed4/identity.json"
    path.write_text(json.dumps({"identity": "9" * 64, "dataset_digest": "d" * 64}))
    assert store(root) == 2 and "not the run that reports/runs tells of" in capsys.readouterr().err
    (path.parent / "model.safetensors").unlink()
    assert store(root) == 2 and "model.safetensors: not here; run dvc pull" in capsys.readouterr().err
    assert not (root / "reports/weights").exists()


def test_those_in_git_are_small_and_of_runs_with_a_card():
    studies = Counter(path.relative_to(ROOT / "reports/weights").parts[0] for path in STORED)
    assert studies == {"digits": 7, "digits-livt": 8, "digits-dive": 5, "digits-cbd": 15}
    assert all(path.stat().st_size <= 1_000_000 for path in STORED)
    for path in STORED:
        card = ROOT / "reports/cards/models" / path.relative_to(ROOT / "reports/weights").with_suffix(".md")
        assert card.is_file()


@pytest.mark.parametrize(
    ("kind", "stored"), [("student", "digits-deit_lt"), ("teacher", "teachers/ldam_drw_sam-digits_if20")]
)
def test_they_give_the_recorded_accuracy(kind, stored, tmp_path, capsys):
    """Taken in as a card says, on the digits cut anew: top-1 of the first seed at the last epoch, to two decimals."""
    dataset = tmp_path / "digits_if20.npz"
    assert run_stage("subsample", "digits_if20", "--out", dataset) == 0
    given = ("--kind", kind, "--like", stored.rpartition("/")[2], "--dataset", dataset, "--out", tmp_path / "run")
    assert run_stage("import_checkpoint", ROOT / f"reports/weights/digits/{stored}.safetensors", *given) == 0
    seeds = json.loads((ROOT / f"reports/metrics/digits/{stored}.json").read_text())["seeds"]
    recorded = next(iter(seeds.values()))["last"]["avg"]["top1"]
    assert f"top-1 on the test set {recorded:.2f} %" in "".join(capsys.readouterr())
