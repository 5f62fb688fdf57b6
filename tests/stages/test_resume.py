"""Stages that are killed and started again end in the same bytes as undisturbed ones, and nothing half-made shows."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from longtail.base import yaml_file
from tests.helpers.stage_processes import CACHE, STUDENT, TEACHER, VIT, Run, finish, start, tiny_params, until

RUNS = {"train_teacher": TEACHER, "cache_logits": CACHE, "train_student": STUDENT}
FILES = {
    "train_teacher": {"model.safetensors", "model_best.safetensors", "predictions.npz", "history.csv", "config.yaml"},
    "cache_logits": {"labels.npy", "meta.json", "config.yaml"},
    "train_student": {"model.safetensors", "predictions.npz", "history.csv", "config.yaml"},
}


def longer(params: dict) -> None:
    """Seconds of work instead of instants."""
    params["teachers"]["ldam_drw_sam-tiny"] |= {"epochs": 30, "drw_epoch": 15, "milestones": [20], "seeds": [0, 1]}
    params["caches"]["ldam_drw_sam-tiny"] |= {"epochs": 40, "seeds": [0, 1]}
    params["recipes"]["tiny"]["train"] |= {"epochs": 20, "eval_every": 4}
    for name in ("tiny-vit", "tiny-deit_lt"):
        params["experiments"][name] |= {"seeds": [0, 1]}


def one_seed(params: dict) -> None:
    longer(params)
    for block in (*params["teachers"].values(), *params["caches"].values(), *params["experiments"].values()):
        block["seeds"] = [0]


def result(folder: Path, command: tuple, seed: int = 0) -> Path:
    return folder / command[-1] / f"seed{seed}"


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory) -> Path:
    """Two seeds of teacher, cache and students, run in one go, one after the other."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny_params(folder, longer)
    shutil.copytree(tiny / "data" / "datasets", folder / "data" / "datasets")
    for command in (TEACHER, CACHE, STUDENT, VIT):
        finish(folder, *command)
    return folder


@pytest.fixture
def place(undisturbed, tmp_path):
    """A folder with the inputs of a stage and nothing of its outputs."""

    def prepare(command: tuple, change=one_seed) -> Path:
        tiny_params(tmp_path, change)
        for part in ("datasets", "teachers", "caches", "students"):
            shutil.copytree(undisturbed / "data" / part, tmp_path / "data" / part)
        shutil.rmtree(tmp_path / command[-1])
        return tmp_path

    return prepare


def same_bytes(folder: Path, undisturbed: Path, command: tuple, seed: int = 0) -> None:
    made, wanted = result(folder, command, seed), result(undisturbed, command, seed)
    assert {p.name for p in made.iterdir()} == FILES[command[0]] | {"identity.json", "probe.json"}
    for name in FILES[command[0]]:
        assert (made / name).read_bytes() == (wanted / name).read_bytes(), name


def nothing_left(folder: Path) -> None:
    assert list((folder / "scratch").iterdir()) == []


def checkpoints(folder: Path) -> dict[str, int]:
    """Of every scratch folder with a checkpoint, when it was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in (folder / "scratch").glob("*/checkpoint.pt")}


def locked(path: Path) -> bool:
    """Whether the process of a seed that holds this lock still lives."""
    try:
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def working(folder: Path, run: Run) -> None:
    until(lambda: any((folder / "scratch").glob("*/result")), run)


@pytest.mark.parametrize("command", RUNS.values(), ids=RUNS)
def test_sigkill_at_any_moment(command, place, undisturbed):
    folder, moment = place(command), random.Random(command[0])
    for _ in range(2):
        before = checkpoints(folder)
        run = start(folder, *command, LONGTAIL_SAVE_EVERY_S=0.05)
        until(lambda before=before: checkpoints(folder) != before, run)
        time.sleep(moment.uniform(0, 0.15))
        assert run.alive
        run.kill()
        assert run.process.exitcode == -signal.SIGKILL
        assert not result(folder, command).exists()
    assert "resumed after" in finish(folder, *command).out
    same_bytes(folder, undisturbed, command)
    nothing_left(folder)


@pytest.mark.parametrize(
    ("command", "signum"),
    [(TEACHER, signal.SIGTERM), (CACHE, signal.SIGUSR1), (STUDENT, signal.SIGINT)],
    ids=["train_teacher", "cache_logits", "train_student"],
)
def test_a_polite_signal_saves_and_stops(command, signum, place, undisturbed):
    folder = place(command)
    run = start(folder, *command)
    working(folder, run)
    time.sleep(0.1)
    os.kill(run.process.pid, signum)
    assert run.wait() == 143, run.err
    assert "state saved" in run.out
    assert not result(folder, command).exists()
    assert len(checkpoints(folder)) == 1
    assert "resumed after" in finish(folder, *command).out
    same_bytes(folder, undisturbed, command)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_the_parent_of_two_seeds_dies(how, place, undisturbed):
    folder = place(STUDENT, longer)
    run = start(folder, *STUDENT, "--jobs", 2, cores=2, LONGTAIL_SAVE_EVERY_S=0)
    until(lambda: len(checkpoints(folder)) == 2, run)
    os.kill(run.process.pid, getattr(signal, how))  # the parent alone
    assert run.wait() == (-signal.SIGKILL if how == "SIGKILL" else 143)
    deadline = time.monotonic() + 20
    while any(locked(path) for path in (folder / "scratch").glob(".*.lock")):
        assert time.monotonic() < deadline, "an orphan goes on"
        time.sleep(0.05)
    assert not list((folder / STUDENT[-1]).glob("seed*"))
    again = finish(folder, *STUDENT, "--jobs", 2, cores=2)
    assert again.out.count("resumed after") == 2
    for seed in (0, 1):
        same_bytes(folder, undisturbed, STUDENT, seed)


def test_the_seed_left_over_ends_as_if_both_had_been_run_together(place, undisturbed):
    """With a core to spare; sums must not depend on how many seeds are still to be trained."""
    folder = place(STUDENT, longer)
    shutil.copytree(result(undisturbed, STUDENT, 0), result(folder, STUDENT, 0))
    run = finish(folder, *STUDENT, cores=2)
    assert "seed 0: already there" in run.out
    same_bytes(folder, undisturbed, STUDENT, 1)


def two_at_once(folder: Path) -> tuple[Run, Run]:
    """The first process has saved its state; the second has found it at work."""
    first = start(folder, *VIT, LONGTAIL_SAVE_EVERY_S=0.05)
    until(lambda: checkpoints(folder), first)
    os.killpg(first.process.pid, signal.SIGSTOP)  # it must not end before the second comes
    second = start(folder, *VIT)
    until(lambda: "another process is at work" in second.out, second)
    os.killpg(first.process.pid, signal.SIGCONT)
    return first, second


def test_two_processes_at_once(place, undisturbed):
    folder = place(VIT)
    first, second = two_at_once(folder)
    for run in (first, second):
        assert run.wait() == 0, run.err
        assert run.err == ""
    same_bytes(folder, undisturbed, VIT)
    nothing_left(folder)


def test_the_second_process_takes_over_when_the_first_is_killed(place, undisturbed):
    folder = place(VIT)
    first, second = two_at_once(folder)
    first.kill()
    assert second.wait() == 0, second.err
    assert "resumed after" in second.out
    same_bytes(folder, undisturbed, VIT)
    nothing_left(folder)


def test_a_checkpoint_of_another_configuration_is_not_continued(place):
    folder = place(TEACHER)
    run = start(folder, *TEACHER, LONGTAIL_SAVE_EVERY_S=0.1)
    until(lambda: checkpoints(folder), run)
    run.kill()

    def other(params: dict) -> None:
        one_seed(params)
        params["teachers"]["ldam_drw_sam-tiny"] |= {"lr": 0.05, "epochs": 2, "drw_epoch": 1, "milestones": [1]}

    tiny_params(folder, other)
    again = finish(folder, *TEACHER)
    assert "resumed after" not in again.out
    assert yaml_file.read(result(folder, TEACHER) / "config.yaml")["lr"] == 0.05
    assert (result(folder, TEACHER) / "history.csv").read_text().splitlines()[1].startswith("0,0.05,")


def test_scratch_on_another_file_system_without_git(place, undisturbed):
    """As on a cluster's node: the result replaces a stale one by copy, and the commit is unknown."""
    folder = place(VIT)
    elsewhere = next((p for p in ("/dev/shm", "/run") if os.access(p, os.W_OK)), None)
    if elsewhere is None or os.stat(elsewhere).st_dev == folder.stat().st_dev:
        pytest.skip("no second file system here")
    stale = result(folder, VIT)
    stale.mkdir(parents=True)
    (stale / "identity.json").write_text('{"identity": "of another run"}')
    (stale / "stale.txt").touch()
    with tempfile.TemporaryDirectory(dir=elsewhere) as scratch:
        finish(folder, *VIT, LONGTAIL_SCRATCH=scratch, PATH="")
        assert os.listdir(scratch) == []
    same_bytes(folder, undisturbed, VIT)
    assert [p.name for p in stale.parent.iterdir()] == ["seed0"]
    made = stale.parent.with_name(f"{stale.parent.name}.environment") / "seed0.json"
    assert json.loads(made.read_text())["git_commit"] is None
