"""PaCo and PaCo+SAM teachers through the stages, as processes: trained, killed, gone on with, put to use or refused."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from longtail.base import yaml_file
from tests.helpers.stage_processes import finish, start, tiny_params, until
from tests.training.test_teacher import PACO, PACO_TEACHER

FILES = ("model.safetensors", "model_best.safetensors", "predictions.npz", "history.csv", "config.yaml")
CHANGES = PACO_TEACHER | {"paco": PACO | {"queue": 32}, "batch_size": 16, "epochs": 3}
NAMES = ("paco-tiny", "paco_sam-tiny")


def with_paco(params: dict, floor: dict | None = None, **more) -> None:
    """Both teachers, a cache of the first, and an online student of it. floor: the cache's own."""
    teachers, caches, experiments = (params[section] for section in ("teachers", "caches", "experiments"))
    teachers["paco-tiny"] = teachers["ldam_drw_sam-tiny"] | CHANGES | more
    teachers["paco_sam-tiny"] = teachers["paco-tiny"] | {"sam_rho": [[1, 0.05], [None, 0.1]]}
    own = {"must_reach": floor} if floor else {}
    caches["paco-tiny"] = caches["ldam_drw_sam-tiny"] | {"teacher": "paco-tiny"} | own
    experiments["tiny-paco_online"] = experiments["tiny-deit_lt"] | {"cache": "none", "teacher": "paco-tiny"}


def train(name: str) -> tuple[str, ...]:
    return "train_teacher", name, "--dataset", "data/datasets/tiny.npz", "--out", f"data/teachers/{name}"


CACHE = ("cache_logits", "paco-tiny", "--dataset", "data/datasets/tiny.npz", "--teacher", "data/teachers/paco-tiny")
CACHE += ("--out", "data/caches/paco-tiny")
ONLINE = ("train_student", "tiny-paco_online", "--dataset", "data/datasets/tiny.npz")
ONLINE += ("--teacher", "data/teachers/paco-tiny", "--out", "data/students/tiny-paco_online")


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory) -> Path:
    """Both teachers, trained without disturbance."""
    folder = tmp_path_factory.mktemp("paco")
    tiny_params(folder, with_paco)
    shutil.copytree(tiny / "data" / "datasets", folder / "data" / "datasets")
    for name in NAMES:
        finish(folder, *train(name))
    return folder


@pytest.fixture
def place(made, tmp_path):
    """A copy of what was made, with a change of the params."""

    def prepare(**more) -> Path:
        shutil.copytree(made / "data", tmp_path / "data", symlinks=True)
        tiny_params(tmp_path, lambda params: with_paco(params, **more))
        return tmp_path

    return prepare


def result(folder: Path, name: str) -> Path:
    return folder / "data" / "teachers" / name / "seed0"


def test_the_resolved_entry_stands_beside_the_result(made):
    for name in NAMES:
        config = yaml_file.read(result(made, name) / "config.yaml")
        assert (config["loss"], config["drop_last"], config["paco"]["queue"]) == ("paco", True, 32)
        assert {p.name for p in result(made, name).iterdir()} == {*FILES, "identity.json", "probe.json"}
    assert config["sam_rho"] == [[1, 0.05], [None, 0.1]]
    first = [(result(made, name) / "history.csv").read_text().splitlines()[1] for name in NAMES]
    losses = [float(row.split(",")[2]) for row in first]
    assert losses[1] > losses[0]  # SAM logs the loss at the perturbed weights


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_ends_in_the_same_bytes(name, made, place):
    folder = place()
    shutil.rmtree(result(folder, name).parent)
    checkpoints = folder / "scratch"
    run = start(folder, *train(name), LONGTAIL_SAVE_EVERY_S=0)
    until(lambda: any(checkpoints.glob("*/checkpoint.pt")), run)
    run.kill()
    assert run.process.exitcode == -signal.SIGKILL and not result(folder, name).exists()
    assert "resumed after" in finish(folder, *train(name)).out
    for file in FILES:
        assert (result(folder, name) / file).read_bytes() == (result(made, name) / file).read_bytes(), file


def test_bf16_is_a_setting_of_the_execution(made, place):
    folder = place()
    shutil.rmtree(result(folder, "paco_sam-tiny").parent)
    finish(folder, *train("paco_sam-tiny"), "--precision", "bf16")
    ours, theirs = (np.load(result(f, "paco_sam-tiny") / "predictions.npz") for f in (folder, made))
    assert ours["logits_last_cls"].dtype == np.float32
    assert not np.array_equal(ours["logits_last_cls"], theirs["logits_last_cls"])


def test_later_stages_need_not_know_how_it_was_trained(place):
    """Labelled from a cache and online, the same."""
    folder = place()
    finish(folder, *CACHE)
    labels = np.load(folder / "data/caches/paco-tiny/seed0/labels.npy")
    assert labels.shape[0] == 3 and labels.max() < 10
    finish(folder, *CACHE, "--verify", 1)
    finish(folder, *ONLINE)
    assert (folder / "data/students/tiny-paco_online/seed0/model.safetensors").is_file()


@pytest.mark.parametrize("command", [CACHE, ONLINE], ids=["cache_logits", "train_student"])
def test_a_weak_teacher_is_kept_and_teaches_nobody_unless_told(command, place):
    folder = place(must_reach={"top1": 99.9, "tolerance": 0.1})
    shutil.rmtree(result(folder, "paco-tiny").parent)
    finish(folder, *train("paco-tiny"))
    assert result(folder, "paco-tiny").is_dir()
    run = start(folder, *command)
    assert run.wait() == 2
    assert run.err.count("\n") <= 2 and "must_reach asks for 99.80 %" in run.err
    assert not any((folder / command[-1]).glob("seed*"))
    finish(folder, *command, LONGTAIL_ALLOW_WEAK_TEACHER=1)


def test_a_cache_has_a_floor_of_its_own_where_it_names_one(place):
    folder = place(floor={"top1": 99.9, "tolerance": 0.1})  # the teacher's entry has none
    run = start(folder, *CACHE)
    assert run.wait() == 2 and "must_reach asks for 99.80 %" in run.err
    assert not any((folder / CACHE[-1]).glob("seed*"))


def test_wrong_numbers_are_told_in_one_line(place):
    folder = place(paco=PACO | {"queue": 33})
    run = start(folder, *train("paco-tiny"))
    assert run.wait() == 2 and run.err.count("\n") == 1
    assert "teachers.paco-tiny: paco: the queue takes whole batches" in run.err
