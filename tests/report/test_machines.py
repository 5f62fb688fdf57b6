"""reports/machines: written by its own command, of runs that are still those; what is told where it is absent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from longtail.base import params
from longtail.base.errors import UserError
from longtail.base.files import write_json
from longtail.report import machines
from longtail.report.machines import Machines, cost, place, places, same_place
from longtail.report.results import load
from tests.helpers.reporting import metrics_file, run_stage, study, study_dict, write_metrics
from tests.helpers.run_files import machines as record

FACTS = dict.fromkeys(machines.FACTS) | {"seconds": 10.0, "device": "cpu x1", "processor": "P", "instructions": "AVX2"}
CONFIG = {"lr": 0.1}


def put_run(folder: Path, seed: int, **environment) -> None:
    """A finished run as far as it is read here, and beside it how it was made."""
    run = folder / f"seed{seed}"
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"seed": seed}))
    (run / "identity.json").write_text(json.dumps({"identity": "1" * 64, "dataset_digest": "d" * 64}))
    (run / "history.csv").write_text("epoch,loss\n0,1\n")
    write_json(folder.with_name(f"{folder.name}.environment") / f"seed{seed}.json", environment)


@pytest.fixture
def root(tmp_path) -> Path:
    """Of the study s the teacher t and two seeds of s-deit_lt were made here, with a host and a code digest told."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"studies": {"s": study_dict()}}))
    of = {"config_hash": params.digest(CONFIG)}
    write_json(tmp_path / "reports/metrics/s/teachers/t.json", metrics_file("t", "teacher", [80.0]) | of)
    write_json(
        tmp_path / "reports/metrics/s/s-deit_lt.json", metrics_file("s-deit_lt", "experiment", [21.0, 22.0]) | of
    )
    put_run(tmp_path / "data/teachers/t", 0, **FACTS, code="c" * 64, host="somewhere")
    for seed in (0, 1):
        put_run(tmp_path / "data/students/s-deit_lt", seed, **FACTS | {"seconds": 20.0 + seed})
    return tmp_path


def write(root: Path, *more: str) -> int:
    given = ("--data", root / "data", "--reports", root / "reports", "--params", root / "params.yaml")
    return run_stage("machines", "s", *given, *more)


def written(root: Path) -> dict:
    return json.loads((root / "reports/machines/s.json").read_text())


def test_it_tells_of_the_runs_that_were_made_here(root, capsys):
    assert write(root) == 0
    assert capsys.readouterr().out == f"{root / 'reports/machines/s.json'}: 3 runs made here\n"
    found = written(root)
    assert found["teachers"] == {"t": {"config_hash": params.digest(CONFIG), "seeds": {"0": FACTS}}}
    assert found["experiments"]["s-deit_lt"]["seeds"]["1"] == FACTS | {"seconds": 21.0}
    read = machines.load(root / "reports", "s")
    assert read.of("teacher", "t", params.digest(CONFIG)) == {"0": FACTS}
    assert read.of("teacher", "t", "0" * 64) == read.of("experiment", "t", params.digest(CONFIG)) == {}


def test_what_was_not_made_here_keeps_its_facts_while_it_is_the_same_run(root, capsys):
    """As after `dvc pull` of the students: their facts stay, until their settings change."""
    assert write(root) == 0
    before = written(root)
    shutil.rmtree(root / "data/students")
    put_run(root / "data/teachers/t", 0, **FACTS | {"processor": "Q"})
    assert write(root) == 0
    assert written(root)["experiments"] == before["experiments"]
    assert written(root)["teachers"]["t"]["seeds"]["0"]["processor"] == "Q"
    student = root / "reports/metrics/s/s-deit_lt.json"
    write_json(student, json.loads(student.read_text()) | {"config_hash": "0" * 64})
    capsys.readouterr()
    assert write(root) == 0
    assert written(root)["experiments"] == {} and "1 runs made here; not recorded: 2" in capsys.readouterr().out


def test_what_is_wrong_is_told(root, capsys):
    (root / "data/teachers/t.environment/seed0.json").write_text("{")
    assert write(root) == 2 and "t.environment/seed0.json: damaged" in capsys.readouterr().err
    (root / "data/teachers/t/seed0/config.yaml").write_text("{lr: 0.2, seed: 0}")
    assert write(root) == 2 and "seed0: of other settings than its metrics" in capsys.readouterr().err
    shutil.rmtree(root / "data")
    assert write(root) == 2 and "no run of it was made here; train it first" in capsys.readouterr().err
    assert not (root / "reports/machines").exists()


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"schema": 2, "study": "s"}', json.dumps(record(study="t"))),
        json.dumps(record(("teachers", "t", "", 1), seconds=None)),
    ],
)
def test_a_damaged_record_is_named(text, root):
    path = root / "reports/machines/s.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(
        UserError, match=r"machines/s\.json: no record of where s was made: .*; run make machines STUDY=s"
    ):
        machines.load(root / "reports", "s")


def test_the_same_place_is_told_from_another(root):
    assert write(root, "--same") == 1  # nothing recorded
    assert write(root) == 0 and write(root, "--same") == 0
    for key in ("processor", "torch"):
        put_run(root / "data/teachers/t", 0, **FACTS | {key: "other"})
        assert write(root, "--same") == 1
    put_run(root / "data/teachers/t", 0, **FACTS | {"seconds": 99.0, "git_commit": "f" * 40})
    assert write(root, "--same") == 0
    (root / "data/teachers/t.environment/seed0.json").unlink()
    assert write(root, "--same") == 1
    assert not same_place(FACTS | {"processor": None}, FACTS | {"processor": None})  # nobody knows


def test_places():
    assert place({"device": "cpu x1", "processor": None}) == "cpu x1" and place(FACTS) == "cpu x1, P"
    assert (
        places([FACTS, FACTS, {"device": "A GPU"}]) == "A GPU; cpu x1, P" and place({}) == places([]) == "not recorded"
    )


def test_cost_is_the_mean_of_the_seeds_that_are_recorded(tmp_path):
    """Of the teacher 10 s, of DeiT-LT 11 s each of two seeds of three: 32 s in all; ViT was not run."""
    results = load(write_metrics(tmp_path), "s", study())
    of = results.teachers["t"]["config_hash"]
    made = {**record(("experiments", "s-deit_lt", of, 2), seconds=11.0), "teachers": {}}
    made["teachers"] = record(("teachers", "t", of, 1), seconds=10.0, processor="P")["teachers"]
    lines = cost(study(), results, Machines(made)).splitlines()
    assert lines[2:5] == [
        "| Teacher (`t`) | 1 | 10 | cpu x1, P |",
        "| ViT (`s-vit`) | 0 | *not run* |  |",
        "| DeiT-LT (`s-deit_lt`) | 3 | 11 | cpu x1 |",
    ]
    assert lines[-1] == "Training in all: 1 minutes of one process. Of 1 run the time is not recorded."
    lines = cost(study(), results, Machines({})).splitlines()
    assert lines[2] == "| Teacher (`t`) | 1 | not recorded |  |" and lines[-1].endswith(
        "Of 4 runs the time is not recorded."
    )
