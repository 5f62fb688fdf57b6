"""Teachers of images that stay in their files, through the stages: ImageNet-LT and a network in miniature."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.data.long_tail import LongTail
from longtail.training.teacher import load_teacher
from longtail.views.normalize import constants, normalize
from longtail.views.teacher_views import large_draws, large_view
from tests.helpers.disk_datasets import imagenet_lt
from tests.helpers.stage_processes import finish, start, tiny_params, until
from tests.training.test_teacher import PACO
from tests.views.test_large_views import VIEW

DATASET = "data/datasets/imagenet.npz"
FILES = ("model.safetensors", "model_best.safetensors", "predictions.npz", "history.csv", "config.yaml")
LARGE = {
    "dataset": "imagenet",
    "schedule": "cosine",
    "warmup_epochs": 0,
    "milestones": [],
    "factors": [],
    "epochs": 3,
    "batch_size": 4,
    "lr": 0.02,
    "sam_rho": [[1, 0.05], [2, 0.1], [None, 0.5]],
    "crop_padding": None,
    "hflip": None,
    "normalization": "imagenet",
    "views": VIEW,
    "eval_resize": 28,
}
KEY = VIEW | {"gray_prob": 0.2, "blur_prob": 0.5}
CONTRAST = {"loss": "paco", "max_margin": None, "scale": None, "drw_epoch": None, "drw_beta": None, "drop_last": True}
CONTRAST |= {"views": VIEW | {"rand_ops": 2}, "paco": PACO | {"queue": 8, "views": None, "key_views": KEY}}
NAMES = ("large-tiny", "paco-tiny")


def study(folder: Path, block: dict, **more) -> None:
    """params.yaml with both teachers, a cache of each, and a student of the first."""

    def change(params: dict) -> None:
        params["datasets"]["imagenet"] = block
        teachers, caches, experiments = (params[section] for section in ("teachers", "caches", "experiments"))
        teachers["large-tiny"] = teachers["ldam_drw_sam-tiny"] | LARGE | more
        teachers["paco-tiny"] = teachers["large-tiny"] | CONTRAST
        params["views"]["imagenet"] = params["views"]["tiny"] | {"teacher_stride": 1, "teacher_offset": 0}
        for name in NAMES:
            caches[name] = caches["ldam_drw_sam-tiny"] | {"teacher": name, "dataset": "imagenet", "views": "imagenet"}
        experiments["large-student"] = experiments["tiny-deit_lt"] | {"dataset": "imagenet", "views": "imagenet"}
        experiments["large-student"]["cache"] = "large-tiny"

    tiny_params(folder, change)


def train(name: str) -> tuple[str, ...]:
    return "train_teacher", name, "--dataset", DATASET, "--out", f"data/teachers/{name}"


def result(folder: Path, name: str) -> Path:
    return folder / "data/teachers" / name / "seed0"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The dataset file and both teachers, trained without disturbance on two cores."""
    folder = tmp_path_factory.mktemp("large")
    study(folder, imagenet_lt(folder))
    finish(folder, "subsample", "imagenet", "--out", DATASET)
    for name in NAMES:
        finish(folder, *train(name), cores=2)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_training_leaves_a_whole_result(made, name):
    with open(result(made, name) / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.02, 0.015, 0.005])  # a half cosine of three epochs
    assert all(np.isfinite(float(row["train_loss"])) for row in rows)
    saved = np.load(result(made, name) / "predictions.npz")
    assert saved["logits_last_cls"].shape == (8, 4) and np.bincount(saved["labels"]).tolist() == [2] * 4
    assert saved["logit_scale"] == (30.0 if name == "large-tiny" else 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_ends_in_the_same_bytes(made, name, tmp_path):
    """Entered again within an epoch, with views made by other processes."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(result(tmp_path, name).parent)
    shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
    run = start(tmp_path, *train(name), cores=2, LONGTAIL_SAVE_EVERY_S=0)
    until(lambda: any((tmp_path / "scratch").glob("*/checkpoint.pt")), run)
    run.kill()
    assert run.process.exitcode == -signal.SIGKILL and not result(tmp_path, name).exists()
    assert "resumed after" in finish(tmp_path, *train(name), cores=2).out
    for file in FILES:
        assert (result(tmp_path, name) / file).read_bytes() == (result(made, name) / file).read_bytes(), file


def entropy_by_hand(name: str) -> float:
    """Mean over the images, each by the first epoch's view at its own number, in nats. In the folder of the study."""
    data = LongTail.load(DATASET)
    model, config = load_teacher(result(Path(), name), data)
    height, width = data.train_images.sizes.T
    drawn = large_draws(config.views, 0, "teacher_view", 0, np.arange(13), height, width)
    views = [large_view(data.train_images[i], drawn, i, config.views) for i in range(13)]
    x = normalize(torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2), *constants("imagenet"))
    p = (config.logit_scale * model(x).double()).softmax(1).numpy()
    return float(-(p * np.log(p)).sum(1).mean())


def test_it_labels_a_cache_that_a_student_learns_from(made, monkeypatch):
    monkeypatch.chdir(made)
    for name in NAMES:
        given = ("cache_logits", name, "--dataset", DATASET, "--teacher", f"data/teachers/{name}")
        finish(made, *given, "--out", f"data/caches/{name}")
        finish(made, *given, "--out", f"data/caches/{name}", "--verify", 1)
        assert np.load(made / f"data/caches/{name}/seed0/labels.npy").max() < 4
        teacher = ("--teacher", f"data/teachers/{name}", "--dataset", DATASET)
        finish(made, "teacher_entropy", name, *teacher, "--out", f"entropy-{name}")
        with open(made / f"entropy-{name}/entropy_mean.csv") as file:
            means = {row["domain"]: row for row in csv.DictReader(file)}
        assert means["in"]["n"] == "13" and 0 < float(means["out"]["mean_nats"]) < np.log(4)
        assert float(means["in"]["mean_nats"]) == pytest.approx(entropy_by_hand(name), rel=1e-3)
    student = ("train_student", "large-student", "--dataset", DATASET, "--cache", "data/caches/large-tiny")
    finish(made, *student, "--out", "data/students/large-student")
    for kind, name, run in (
        ("experiment", "large-student", "data/students/large-student"),
        ("teacher", "large-tiny", "data/teachers/large-tiny"),
    ):
        given = ("--run", run, "--dataset", DATASET, "--kind", kind)
        finish(made, "evaluate", name, *given, "--out", f"{name}.json")
        assert json.loads((made / f"{name}.json").read_text())


def test_files_without_views_are_refused(made, tmp_path):
    """One line and exit code 2."""
    shutil.copytree(made / "data", tmp_path / "data", symlinks=True)
    block = imagenet_lt(tmp_path)
    study(tmp_path, block, views=None, eval_resize=None, crop_padding=4, hflip=0.5)
    shutil.rmtree(tmp_path / "data/teachers")
    run = start(tmp_path, *train("large-tiny"))
    assert run.wait() == 2
    assert "dataset imagenet: its images are files; a teacher of them needs the block `views`" in run.err
    assert "Traceback" not in run.err
