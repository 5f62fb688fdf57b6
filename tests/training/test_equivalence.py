"""The fast paths against the plain one of helpers/plain_path.py over the first 100 steps; none changes what a run is.

Several processes against one: test_together.py. Views of either backend, operation by operation: tests of views.ops.
SAM's step in closed form: test_sam.py. Final accuracies: benchmarks/equivalence.py.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from longtail.base import params
from longtail.data.long_tail import LongTail
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.losses import losses
from longtail.methods.deit_lt import Method
from longtail.models.build import build_network
from longtail.runs.execution import Execution
from longtail.runs.workspace import Workspace
from longtail.training import student, supervised
from longtail.training.cache import build_cache
from longtail.training.experiment import StudentConfig
from longtail.training.labels import TeacherLabels
from longtail.training.student import train_student
from longtail.training.teacher import build_model
from longtail.training.teacher_training import train_teacher
from longtail.views.student_views import Views
from tests.helpers.pictures import small
from tests.helpers.plain_path import Plain, train_deit_lt, train_ldam_sam
from tests.helpers.small import Teacher, digits
from tests.helpers.stage_processes import STUDENT, TEACHER, finish
from tests.training.test_student import SEED, config_of
from tests.training.test_teacher import DIGITS
from tests.training.test_teacher import config_of as teacher_config_of

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
EPOCHS, SWITCH = 50, 30  # two steps in an epoch, of four groups and of two; the epoch without mixing, with re-weighting


def config(**changes) -> StudentConfig:
    """Changes of the blocks loss, model and train, and of two keys of the views. 44 views an epoch, three micro-batches
    of two ranks: 8, 8, 6."""
    loss = {"drw_epoch": SWITCH, "smoothing_until": SWITCH} | changes.get("loss", {})
    train = {"epochs": EPOCHS, "lr": 5e-3, "warmup_epochs": 5, "eval_every": EPOCHS} | changes.get("train", {})
    model = {"drop_path": 0.5} | changes.get("model", {})
    views = (
        ("views.v.accumulate", changes.get("accumulate", 2)),
        ("views.v.mix_until", changes.get("mix_until", SWITCH)),
    )
    return config_of(*views, loss=loss, train=train, model=model)


@pytest.fixture(scope="module")
def data() -> LongTail:
    """46 photographs with the labels of small.digits."""
    return replace(digits(), train_images=small(46))


@pytest.fixture(scope="module")
def plain(data) -> Plain:
    run = train_deit_lt(config(), data, SEED, Teacher())
    assert run.steps == 100 and len(run.losses) == 300
    return run


@dataclass
class Fast:
    losses: list[float]  # of every mix group
    weights: dict[str, Tensor]
    result: Path


def fast(
    folder: Path,
    config: StudentConfig,
    data: LongTail,
    labels: TeacherLabels | nn.Module | None = None,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    double: bool = False,
) -> Fast:
    """train_student, its loss overheard. labels: None = the stand-in teacher. double: weights and losses in float64."""
    heard, loss = [], Method.loss

    def overheard(method, *arguments) -> Tensor:
        if double:
            method.weights = method.weights.double()
        with mock.patch.object(Tensor, "float", Tensor.double) if double else nullcontext():
            of_groups = loss(method, *arguments)
        heard.extend(of_groups.tolist())
        return of_groups

    space = Workspace(folder, "e", "f" * 64, CPU, quiet=True)
    build = in_double if double else build_network
    with mock.patch.object(Method, "loss", overheard), mock.patch.object(student, "build_network", build):
        train_student(config, data, SEED, labels or Teacher(), space, CPU, execution)
    return Fast(heard, load_file(space.result / "model.safetensors"), space.result)


def in_double(*shape) -> nn.Module:
    """The untrained network with float64 weights, for float32 images."""
    model = build_network(*shape).double()
    model.patch_embed.register_forward_pre_hook(lambda _, images: images[0].double())
    return model


def largest_difference(run: Fast, plain: Plain) -> float:
    """Of a group's loss, relative."""
    ours, theirs = np.array(run.losses), np.array(plain.losses)
    assert ours.shape == theirs.shape
    return float(np.abs(ours / theirs - 1).max())


# ---- views and labels


def test_views_are_the_plain_ones_byte_for_byte_and_the_teacher_names_the_same_classes(plain, data, tmp_path):
    made = {backend: Views(config().views, data.train_images, SEED, backend=backend) for backend in ("torch", "pil")}
    cached, groups = cache(tmp_path, config(), data), 0
    for epoch in range(EPOCHS):
        for step in range(2):
            steps = {backend: views.step(epoch, step) for backend, views in made.items()}
            rows = steps["torch"].groups
            views, taught = (torch.cat(of[groups : groups + len(rows)]) for of in (plain.views, plain.taught))
            for backend, batch in steps.items():
                assert torch.equal(batch.x, views), (epoch, step, backend)
            assert torch.equal(cached.at(epoch, steps["torch"].positions), taught), (epoch, step)
            groups += len(rows)
    assert groups == len(plain.views) == 300


def cache(folder: Path, config: StudentConfig, data: LongTail) -> TeacherLabels:
    space = Workspace(folder / "cache", "c", "c" * 64, CPU, quiet=True)
    facts = {"num_classes": 10, "class_order": data.class_order, "class_names": list(data.class_names)}
    views = Views(config.views, data.train_images, SEED)
    build_cache(Teacher(), views, data.train_labels, config.train.epochs, facts, space)
    return TeacherLabels.load(space.result)


# ---- a student, step by step

# Largest relative difference of a group's loss within the 100 steps. Measured on a CPU: 4e-16, 2e-7, 1e-3 and 2e-4;
# in float32 and float64 it does not grow, as the small network is in no hurry.
FLOAT64 = 1e-9
FLOAT32 = 1e-5
AUTOCAST = {"bf16": 5e-3, "fp16": 1e-3}


def test_float64(data, tmp_path):
    """What is left is no rounding of float32: two formulas, or two orders of sums."""
    run = fast(tmp_path, config(), data, double=True)
    plain = train_deit_lt(config(), data, SEED, Teacher(), torch.float64)
    assert largest_difference(run, plain) < FLOAT64
    for name, weight in plain.weights.items():
        assert weight.dtype == run.weights[name].dtype == torch.float64
        torch.testing.assert_close(run.weights[name], weight, rtol=0, atol=1e-8, msg=name)


@pytest.mark.parametrize("micro_batch", [0, 8, 16])
def test_float32(micro_batch, plain, data, tmp_path):
    """Views of a step by PyTorch and AdamW in one kernel; all of a step, one group, or two in a forward pass."""
    run = fast(tmp_path, config(), data, execution=Execution(micro_batch=micro_batch))
    assert largest_difference(run, plain) < FLOAT32


def test_labels_of_a_cache(plain, data, tmp_path):
    run = fast(tmp_path, config(), data, cache(tmp_path, config(), data))
    assert largest_difference(run, plain) < FLOAT32


@pytest.mark.parametrize("precision", AUTOCAST)
def test_autocast(precision, plain, data, tmp_path):
    run = fast(tmp_path, config(), data, execution=Execution(precision))
    assert FLOAT32 < largest_difference(run, plain) < AUTOCAST[precision]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
def test_compiled(data, tmp_path, monkeypatch):
    """Steps of one size, blocks of one kind: less to compile, which takes most of a minute of a core."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    train = {"epochs": 100, "eval_every": 100}
    one_size = config(accumulate=3, train=train, model={"drop_path_mode": "constant"})
    run = fast(tmp_path, one_size, data, execution=Execution(engine="compiled"))
    assert json.loads((run.result / "identity.json").read_text())["engine"] == "compiled"
    plain = train_deit_lt(one_size, data, SEED, Teacher())
    assert plain.steps == 100 and largest_difference(run, plain) < FLOAT32


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": {"smoothing": 0.11}},
        {"loss": {"drw_epoch": SWITCH + 1}},
        {"train": {"weight_decay": 0.04}},
        {"train": {"min_lr": 2e-5}},
    ],
    ids=str,
)
def test_another_recipe_is_told_apart(changes, plain, data, tmp_path):
    """The tolerance of float32 is narrow enough to notice a small change. test_probes.py has many more of them."""
    assert largest_difference(fast(tmp_path, config(**changes), data), plain) > 10 * FLOAT32


# ---- a teacher


def test_a_teacher_with_sam(tmp_path):
    """In float64: of float32, roundings have grown to two percent of the loss after 100 steps, SAM and all."""
    data = make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))
    config = teacher_config_of(epochs=15, drw_epoch=8, milestones=[8, 12], factors=[0.1, 0.01], eval_every=15)
    space, weights_of = Workspace(tmp_path, "t", "f" * 64, CPU, quiet=True), losses.drw_weights
    with ExitStack() as exact:
        exact.enter_context(mock.patch.object(Tensor, "float", Tensor.double))
        exact.enter_context(mock.patch.object(losses, "drw_weights", lambda *of: weights_of(*of).double()))
        plain = train_ldam_sam(config, data, 0, torch.float64)
        exact.enter_context(mock.patch.object(supervised, "build_model", teacher_in_double))
        train_teacher(config, data, 0, space)
    rows = pd.read_csv(space.result / "history.csv")["train_loss"].to_numpy()
    assert plain.steps >= 100 and len(rows) == len(plain.losses) == 15
    np.testing.assert_allclose(rows, plain.losses, rtol=1e-7)  # of eight digits
    weights = load_file(space.result / "model.safetensors")
    for name, weight in plain.weights.items():
        assert weight.dtype == weights[name].dtype
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=FLOAT64, msg=name)


def teacher_in_double(*shape) -> nn.Module:
    model = build_model(*shape).double()
    model.conv1.register_forward_pre_hook(lambda _, images: images[0].double())
    return model


# ---- what a run is, whatever computes it


def identity(result: Path) -> tuple:
    facts = json.loads((result / "identity.json").read_text())
    return (result / "config.yaml").read_bytes(), facts["config_hash"], facts["identity"]


@pytest.mark.parametrize("command", [STUDENT, TEACHER], ids=["student", "teacher"])
def test_execution_settings_are_no_part_of_what_a_run_is(command, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True, symlinks=True)
    result = tmp_path / command[-1] / "seed0"
    first, weights = identity(result), (result / "model.safetensors").read_bytes()
    again = finish(tmp_path, *command, "--precision", "bf16", "--engine", "compiled")
    assert "seed 0: already there" in again.out
    again = finish(tmp_path, *command, LONGTAIL_PRECISION="bf16", LONGTAIL_ENGINE="compiled")
    assert "seed 0: already there" in again.out
    assert (result / "model.safetensors").read_bytes() == weights
    shutil.rmtree(result)
    finish(tmp_path, *command, "--precision", "bf16")
    assert identity(result) == first
    assert (result / "model.safetensors").read_bytes() != weights
