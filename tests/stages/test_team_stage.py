"""stages/train_student.py in several processes: stopped, killed, refused; started by torchrun and by LONGTAIL_NPROC.

stages/train_teacher.py likewise, whose steps tests/training/test_shared_batch.py looks at."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from longtail.base import yaml_file
from longtail.runs.launch import _environment
from longtail.runs.parallel import LOST
from tests.helpers.root import ROOT
from tests.helpers.stage_processes import CACHE, STUDENT, TEACHER, finish, start, tiny_params, until
from tests.helpers.teams import meeting, start_team

RESULT = Path(STUDENT[-1]) / "seed0"


def longer(params: dict) -> None:
    params["caches"]["ldam_drw_sam-tiny"]["epochs"] = 12
    params["recipes"]["tiny"]["train"] |= {"epochs": 12, "eval_every": 4}


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory) -> Path:
    """One process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny_params(folder, longer)
    for part in ("datasets", "teachers"):
        shutil.copytree(tiny / "data" / part, folder / "data" / part)
    finish(folder, *CACHE)
    finish(folder, *STUDENT)
    return folder


@pytest.fixture
def place(undisturbed, tmp_path) -> Path:
    """A folder with the stage's inputs and nothing of its outputs."""
    tiny_params(tmp_path, longer)
    for part in ("datasets", "caches"):
        shutil.copytree(undisturbed / "data" / part, tmp_path / "data" / part)
    return tmp_path


def same_result(folder: Path, undisturbed: Path) -> None:
    """As near as float32 comes after 12 epochs; tests/training/test_together.py asks for more."""
    ours, theirs = folder / RESULT, undisturbed / RESULT
    assert {p.name for p in ours.iterdir()} == {p.name for p in theirs.iterdir()}
    assert (ours / "config.yaml").read_bytes() == (theirs / "config.yaml").read_bytes()
    histories = [pd.read_csv(result / "history.csv") for result in (ours, theirs)]
    pd.testing.assert_frame_equal(*(h[["epoch", "lr", "loss", "cls_dist_distance"]] for h in histories), rtol=1e-3)
    logits = [np.load(result / "predictions.npz")["logits_last_cls"] for result in (ours, theirs)]
    np.testing.assert_allclose(*logits, atol=1e-2)
    assert list((folder / "scratch").iterdir()) == []


def checkpoint(folder: Path) -> Path | None:
    return next((folder / "scratch").glob("*/checkpoint.pt"), None)


def test_two_processes_are_stopped_and_killed_and_one_ends_the_run(place, undisturbed):
    runs, _store = start_team(2, place, *STUDENT, LONGTAIL_SAVE_EVERY_S=0.05)
    until(lambda: checkpoint(place), runs[0])
    os.kill(runs[1].process.pid, signal.SIGTERM)  # one of them alone
    assert [run.wait() for run in runs] == [143, 143], [run.err for run in runs]
    assert [run.out.count("state saved") for run in runs] == [1, 0]
    assert [run.err for run in runs] == ["", ""] and not (place / RESULT).exists()
    before = checkpoint(place).stat().st_mtime_ns
    runs, _store = start_team(2, place, *STUDENT, LONGTAIL_SAVE_EVERY_S=0.05)
    until(lambda: checkpoint(place).stat().st_mtime_ns != before, runs[0])
    runs[1].kill()
    assert runs[0].wait() == LOST
    assert runs[0].err.count("\n") == 1 and "error: process 0 of 2 lost another one: " in runs[0].err
    again = finish(place, *STUDENT)
    assert again.out.count("resumed after") == 1
    same_result(place, undisturbed)


def test_ctrl_c_reaches_all_processes_and_the_state_is_saved_once(place, undisturbed):
    """A terminal sends it to the whole group; benchmarks/kills.py does so under DVC and Snakemake."""
    runs, _store = start_team(2, place, *STUDENT, LONGTAIL_SAVE_EVERY_S=0.05)
    until(lambda: checkpoint(place), runs[0])
    for run in runs:
        os.kill(run.process.pid, signal.SIGINT)
    assert [run.wait() for run in runs] == [143, 143], [run.err for run in runs]
    assert [run.out.count("state saved") for run in runs] == [1, 0]
    assert {run.err for run in runs} == {"Ctrl-C: the state is saved after this step\n"}
    assert not (place / RESULT).exists()
    assert finish(place, *STUDENT).out.count("resumed after") == 1
    same_result(place, undisturbed)


def altered_cache(folder: Path) -> list[dict]:
    labels = folder / "data/caches/ldam_drw_sam-tiny/seed0/labels.npy"
    np.save(labels, (np.load(labels) + 1) % 10)
    return [{}, {}]


def other_epochs(folder: Path) -> list[dict]:
    params = yaml_file.read(folder / "params.yaml")
    params["recipes"]["tiny"]["train"]["epochs"] = 11
    (folder / "other.yaml").write_text(yaml.safe_dump(params))
    return [{}, {"arguments": ("--params", "other.yaml")}]


def jobs(folder: Path) -> list[dict]:
    return [{"arguments": ("--jobs", 2)}] * 2


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (altered_cache, None),
        (other_epochs, "process 1 of 2: other code, settings or inputs than the first process"),
        (jobs, "--jobs 2: 2 processes train one seed after the other; leave it out"),
    ],
)
def test_a_mistake_is_told_once(prepare, message, place):
    store = meeting()
    runs = [
        start(place, *STUDENT, *options.get("arguments", ()), **_environment(rank, 2, store.port))
        for rank, options in enumerate(prepare(place))
    ]
    codes = {run.wait() for run in runs}
    assert 2 in codes and codes <= {2, LOST}
    told = "".join(run.err for run in runs)
    assert told.startswith("error: ") and told.count("\n") == 1
    if message is None:  # the first process sets it aside; another may see the gap before that is said
        assert told.startswith("error: data/caches/ldam_drw_sam-tiny")
        assert list((place / "data/caches/ldam_drw_sam-tiny.damaged").glob("seed0-*/labels.npy"))
    else:
        assert told.endswith(f"{message}\n")


@pytest.mark.parametrize("how", ["torchrun", "LONGTAIL_NPROC"])
def test_processes_of_their_own(how, place, undisturbed):
    """The plain way, imports and all. torchrun takes an option of the stage's for its own where it is short for one."""
    command = [str(ROOT / "stages/train_student.py"), *map(str, STUDENT[1:])]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    if how == "torchrun":
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    else:
        environment["LONGTAIL_NPROC"] = "2"
    run = subprocess.run([sys.executable, *command], cwd=place, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert '"processes": 2' in (place / RESULT / "identity.json").read_text()
    same_result(place, undisturbed)
    # the way it was started is no part of the identity; a process with other modules loaded asks the probe
    assert finish(place, *STUDENT).out.startswith(("tiny-deit_lt seed 0: already there", "tiny-deit_lt seed 0: kept"))
    if how == "LONGTAIL_NPROC":
        assert run.stderr == ""
        environment["LONGTAIL_NPROC"] = "two"
        refused = subprocess.run([sys.executable, *command], cwd=place, env=environment, capture_output=True, text=True)
        assert refused.returncode == 2
        assert refused.stderr == (
            "error: LONGTAIL_NPROC=two: a whole number from 1 is needed, processes on this machine\n"
        )


def test_a_cnn_is_trained_by_two_processes(tiny, tmp_path):
    """By LONGTAIL_NPROC, as an engine starts it; as near to one process as float32 comes in ten steps of SAM. These are
    small: at a rate of .1 roundings had grown to a thousandth of the loss by then."""

    def slowly(params: dict) -> None:
        params["teachers"]["ldam_drw_sam-tiny"] |= {"lr": 1e-3}

    for folder, processes in ((tmp_path, 2), (tmp_path / "alone", 1)):
        tiny_params(folder, slowly)
        shutil.copytree(tiny / "data/datasets", folder / "data/datasets")
        finish(folder, *TEACHER, LONGTAIL_NPROC=processes)
    ours, theirs = (folder / TEACHER[-1] / "seed0" for folder in (tmp_path, tmp_path / "alone"))
    assert {p.name for p in ours.iterdir()} == {p.name for p in theirs.iterdir()}
    assert '"processes": 2' in (ours / "identity.json").read_text()
    histories = [pd.read_csv(result / "history.csv") for result in (ours, theirs)]
    pd.testing.assert_frame_equal(*(h[["epoch", "lr", "train_loss"]] for h in histories), rtol=1e-3)
    logits = [np.load(result / "predictions.npz")["logits_last_cls"] for result in (ours, theirs)]
    np.testing.assert_allclose(*logits, atol=1e-2)
    assert finish(tmp_path, *TEACHER).out.startswith(
        ("ldam_drw_sam-tiny seed 0: already", "ldam_drw_sam-tiny seed 0: kept")
    )
    runs, _store = start_team(2, tmp_path, *TEACHER, "--jobs", 2)
    assert [run.wait() for run in runs].count(2) >= 1
    assert "".join(run.err for run in runs) == (
        "error: --jobs 2: 2 processes train one seed after the other; leave it out\n"
    )
