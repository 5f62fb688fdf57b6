import csv
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageOps
from safetensors.torch import load_file

from longtail.base import params, rng, yaml_file
from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail, class_order, content_digest
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.losses import losses
from longtail.runs.execution import Execution
from longtail.runs.single_run import identity
from longtail.runs.workspace import Workspace
from longtail.training.optimizer import teacher_lr
from longtail.training.teacher import build_loss, build_model, evaluate, load_teacher, recipe
from longtail.training.teacher_config import Floor, TeacherConfig
from longtail.training.teacher_training import epoch_size, learning_rate, train_teacher
from longtail.views.normalize import NORMALIZATION, constants, normalize
from longtail.views.teacher_views import weak_batch, weak_parameters, zero_pad
from tests.helpers.root import ROOT
from tests.models.test_paco import PACO as SOME_PACO
from tests.views.test_large_views import VIEW as LARGE_VIEW

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
DIGITS = {
    "source": "digits",
    "raw": "data/none",
    "imbalance_factor": 20.0,
    "n_max": 60,
    "subset_seed": 0,
    "cuts": [3, 7],
    "test_per_class": 20,
    "image_size": None,
    "download": False,
}
PACO = SOME_PACO | {"alpha": 0.05, "beta": 1.0, "gamma": 1.0, "supt": 1.0, "queue": 64, "dim": 16}
TINY = {
    "study": "digits",
    "dataset": "tiny",
    "arch": "resnet8",
    "loss": "ldam",
    "max_margin": 0.5,
    "scale": 30.0,
    "drw_epoch": 8,
    "drw_beta": 0.9999,
    "paco": None,
    "epochs": 11,
    "batch_size": 32,
    "drop_last": False,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 2.0e-4,
    "schedule": "step",
    "warmup_epochs": 2,
    "milestones": [8, 10],
    "factors": [0.1, 100.0],  # the last epoch wrecks the model on purpose, so that best and last differ
    "sam_rho": 0.1,
    "crop_padding": 1,
    "hflip": 0.0,
    "normalization": "digits",
    "select": "best",
    "eval_every": 1,
    "must_reach": None,
    "seeds": [0],
}
PACO_TEACHER = {
    "loss": "paco",
    "max_margin": None,
    "scale": None,
    "drw_epoch": None,
    "drw_beta": None,
    "paco": PACO,
    "drop_last": True,
    "lr": 0.05,
    "sam_rho": None,
}


LARGE = {"views": LARGE_VIEW, "eval_resize": 28, "crop_padding": None, "hflip": None}


def config_of(**changes) -> TeacherConfig:
    return params.build(TeacherConfig, TINY | changes, "teachers.t")


@pytest.fixture(scope="module")
def data() -> LongTail:
    return make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))


def train(folder: Path, config: TeacherConfig, data: LongTail, seed: int = 0, workspace=Workspace) -> Path:
    ws = workspace(folder, "t seed 0", "f" * 64, CPU, quiet=True)
    train_teacher(config, data, seed, ws)
    return ws.result


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data) -> Path:
    return train(tmp_path_factory.mktemp("run"), config_of(), data)


# ---- configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "resnet51"}, "arch: 'resnet51' is unknown"),
        ({"factors": [0.1]}, "one factor each"),
        ({"milestones": [6, 5]}, "must rise"),
        ({"scale": None}, "ldam needs max_margin and scale"),
        ({"loss": "ce"}, "belongs to loss ldam"),
        ({"drw_beta": None}, "go together"),
        ({"drw_beta": 1.0}, "not in"),
        ({"sam_rho": 0.0}, "write null"),
        ({"normalization": "cifra"}, "did you mean 'cifar'"),
        ({"hflip": 1.5}, "probability"),
        ({"eval_every": 0}, "at least 1"),
        ({"lr": "1e-1"}, "teachers.t.lr: expected float"),
        ({"loss": "lbam"}, "did you mean 'ldam'"),
        ({"rho": 0.8}, "teachers.t.rho: unknown key"),
        ({"sam_rho": "0.8"}, "sam_rho: expected float"),
        ({"sam_rho": [[5, 0.1]]}, "the last epoch null"),
        ({"sam_rho": [[5, 0.1], [4, 0.2], [None, 0.3]]}, "rising order"),
        ({"sam_rho": [[5, 0.1], [None, -0.3]]}, "not above 0"),
        ({"sam_rho": [[5, 0.1, 2], [None, 0.3]]}, "expected 2 values"),
        ({"schedule": "cosine"}, "cosine has no milestones"),
        ({"schedule": "cosine", "milestones": [], "factors": [], "warmup_epochs": 11}, "more epochs than warmup"),
        ({"must_reach": {"top1": 81.9}}, "must_reach.tolerance: missing"),
        ({"must_reach": {"top1": 0.819, "tolerance": 1.0}}, "in %"),
        ({"loss": "paco", "max_margin": None, "scale": None}, "go together"),
        ({"paco": PACO}, "go together"),
        (PACO_TEACHER | {"drw_epoch": 3, "drw_beta": 0.9}, "no class weights"),
        (PACO_TEACHER | {"drop_last": False}, "whole batches"),
        (PACO_TEACHER | {"batch_size": 48}, "paco.queue .64. a multiple of batch_size .48."),
        (PACO_TEACHER | {"paco": PACO | {"beta": 0.0}}, "teachers.t.paco: above 0"),
        ({"crop_padding": None}, "without views give crop_padding and hflip"),
        ({"eval_resize": 28}, "without views give crop_padding and hflip, and null for eval_resize"),
        ({"views": LARGE_VIEW}, "views has its own crop and flip"),
        (LARGE | {"eval_resize": 20}, "eval_resize: 20; with views at least their size, 24"),
        (LARGE | {"views": LARGE_VIEW | {"blur_prob": 2.0}}, "teachers.t.views: blur_prob is a probability"),
        (PACO_TEACHER | LARGE, "loss paco has the entry's views and paco.key_views, or paco.views alone"),
        (PACO_TEACHER | {"paco": PACO | {"key_views": LARGE_VIEW}}, "or paco.views alone"),
        (
            PACO_TEACHER | LARGE | {"paco": PACO | {"views": None, "key_views": LARGE_VIEW | {"size": 20}}},
            "paco.key_views.size: 20; the query's is 24",
        ),
    ],
)
def test_wrong_entries_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        config_of(**changes)


def test_the_published_cifar_teachers_stand_in_params_yaml():
    teachers = params.load_all(ROOT)["teachers"]
    for entry in ("cifar10_if100", "cifar10_if50", "cifar100_if100", "cifar100_if50"):
        config = params.build(TeacherConfig, teachers[f"ldam_drw_sam-{entry}"], entry)
        assert (config.dataset, config.arch, config.loss, config.normalization) == (entry, "resnet32", "ldam", "cifar")
        assert (config.max_margin, config.scale, config.drw_epoch, config.drw_beta) == (0.5, 30.0, 160, 0.9999)
        assert (config.epochs, config.batch_size, config.momentum, config.weight_decay) == (200, 128, 0.9, 2e-4)
        assert (config.sam_rho, config.crop_padding, config.hflip, config.select) == (0.8, 4, 0.5, "best")
        schedule = (config.lr, config.warmup_epochs, config.milestones, config.factors)
        lrs = [teacher_lr(epoch, *schedule) for epoch in (0, 5, 159, 160, 180, 199)]
        assert lrs == pytest.approx([0.02, 0.1, 0.1, 1e-3, 1e-5, 1e-5])


def test_the_published_paco_teachers_stand_in_params_yaml():
    """METHODS 2.5's CIFAR-100 column for both datasets, 2.6 with SAM; floors are the printed accuracies (9.2)."""
    teachers = params.load_all(ROOT)["teachers"]
    floors = {"cifar10_if100": 86.8, "cifar10_if50": 88.6, "cifar100_if100": 52.8, "cifar100_if50": 56.6}
    for entry, printed in floors.items():
        plain, sam = (params.build(TeacherConfig, teachers[f"{name}-{entry}"], entry) for name in ("paco", "paco_sam"))
        assert (plain.dataset, plain.arch, plain.loss, plain.normalization) == (entry, "resnet32", "paco", "cifar")
        assert (plain.epochs, plain.batch_size, plain.drop_last, plain.select) == (400, 128, True, "best")
        assert (plain.lr, plain.momentum, plain.weight_decay, plain.schedule) == (0.05, 0.9, 5e-4, "step")
        of = plain.paco
        assert (of.alpha, of.beta, of.gamma, of.supt, of.temperature) == (0.01, 1.0, 1.0, 1.0, 0.05)
        assert (of.queue, of.key_momentum, of.dim) == (1024, 0.999, 32)
        views = of.views
        assert (plain.crop_padding, plain.hflip, views.autoaugment, views.cutout) == (4, 0.5, "paco", 16)
        assert (views.crop_scale, views.jitter, views.jitter_prob) == ((0.2, 1.0), (0.4, 0.4, 0.4, 0.1), 0.8)
        assert (views.gray_prob, views.blur_prob, views.blur_radius) == (0.2, 0.5, (0.1, 2.0))
        rates = {epoch: learning_rate(plain, epoch) for epoch in (0, 9, 10, 11, 320, 321, 360, 361, 399)}
        expected = {0: 5e-3, 9: 0.05, 10: 0.055, 11: 0.05, 320: 0.05, 321: 5e-3, 360: 5e-3, 361: 5e-4, 399: 5e-4}
        assert rates == pytest.approx(expected)
        assert plain.sam_rho is None and plain.must_reach is None
        assert sam == replace(plain, sam_rho=0.1, must_reach=Floor(printed, 1.0))
    swept = {teachers[f"paco_sam_rho{n}-cifar10_if100"]["sam_rho"] for n in ("005", "020", "050", "080")}
    assert swept | {0.1} == {0.05, 0.1, 0.2, 0.5, 0.8}


def test_the_ce_teachers_stand_in_params_yaml():
    """SAM's radii are SAD:run.sh's, those of imbalance factor 100 at 50 too (METHODS 2.4)."""
    teachers = params.load_all(ROOT)["teachers"]
    for entry in ("cifar10_if100", "cifar10_if50", "cifar100_if100", "cifar100_if50"):
        names = ("ce", "ce_sam", "ce_drw", "ce_drw_sam", "ldam_drw", "balanced_softmax")
        of = {name: params.build(TeacherConfig, teachers[f"{name}-{entry}"], name) for name in names}
        light, heavy = (0.1, 0.5) if entry.startswith("cifar10_") else (0.2, 0.8)
        assert [of[n].sam_rho for n in names] == [None, light, None, heavy, None, None]
        assert [of[n].drw_epoch for n in names] == [None, None, 160, 160, 160, None]
        assert {of[n].loss for n in names[:4]} == {"ce"} and of["ldam_drw"].scale == 30.0
        assert of["balanced_softmax"].loss == "balanced_softmax"
        for config in of.values():
            assert (config.dataset, config.study) == (entry, entry)
            assert (config.epochs, config.weight_decay, config.lr, config.drop_last) == (200, 2e-4, 0.1, False)


def test_the_recipe_of_a_run_does_not_depend_on_the_other_seeds():
    assert recipe(config_of(seeds=[0])) == recipe(config_of(seeds=[0, 1]))
    assert recipe(config_of()) != recipe(config_of(sam_rho=None))


# ---- loss


def test_drw_acts_from_its_zero_based_epoch_on(data):
    config = config_of(loss="ce", max_margin=None, scale=None, drw_epoch=160, drw_beta=0.9999)
    loss = build_loss(config, data.class_counts, CPU)
    z, y = torch.randn(20, 10), torch.arange(20) % 10
    weighted = losses.cross_entropy(z, y, losses.drw_weights(data.class_counts, 0.9999))
    torch.testing.assert_close(loss(z, y, 159), losses.cross_entropy(z, y))
    torch.testing.assert_close(loss(z, y, 160), weighted)
    assert abs(loss(z, y, 159) - loss(z, y, 160)) > 1e-3
    never = build_loss(config_of(loss="ce", max_margin=None, scale=None, drw_epoch=None, drw_beta=None), [5, 4], CPU)
    torch.testing.assert_close(never(z[:, :2], y % 2, 10**6), losses.cross_entropy(z[:, :2], y % 2))


def test_the_scale_is_in_the_loss_and_not_in_the_model(data):
    model = build_model(config_of(), 10).eval()
    cosines = model(torch.randn(50, 3, 8, 8))
    assert cosines.abs().max() <= 1 + 1e-6
    y = torch.arange(50) % 10
    expected = losses.ldam_loss(cosines, y, losses.ldam_margins(data.class_counts, 0.5), 30.0)
    torch.testing.assert_close(build_loss(config_of(), data.class_counts, CPU)(cosines, y, 0), expected)
    assert config_of().logit_scale == 30.0
    assert config_of(loss="balanced_softmax", max_margin=None, scale=None).logit_scale == 1.0


def test_balanced_softmax_shifts_in_training_only(data):
    config = config_of(loss="balanced_softmax", max_margin=None, scale=None, drw_epoch=None, drw_beta=None)
    z, y = torch.randn(20, 10), torch.arange(20) % 10
    got = build_loss(config, data.class_counts, CPU)(z, y, 0)
    torch.testing.assert_close(got, losses.balanced_softmax_loss(z, y, data.class_counts))


# ---- input


def test_normalize_is_pixel_over_255_minus_mean_over_std():
    assert set(NORMALIZATION) >= {"cifar", "imagenet", "digits"}
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    out = normalize(x, *constants("cifar"))
    for c, (m, s) in enumerate(zip((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), strict=True)):
        np.testing.assert_allclose(out[1, c].flatten(), (np.arange(256) / 255 - m) / s, rtol=2e-5, atol=2e-6)
    assert x.dtype == torch.uint8 and x[0, 0, 15, 15] == 255  # the input is left alone
    with pytest.raises(UserError, match="did you mean 'imagenet'"):
        constants("imagent")


def test_digits_constants_are_those_of_the_images():
    from sklearn.datasets import load_digits

    pixels = load_digits().images / 16
    mean, std = NORMALIZATION["digits"]
    assert mean[0] == pytest.approx(pixels.mean(), abs=1e-4)
    assert std[0] == pytest.approx(pixels.std(), abs=1e-4)


@pytest.mark.parametrize(("size", "padding", "hflip"), [(32, 4, 0.5), (8, 1, 0.5), (8, 0, 1.0), (8, 2, 0.0)])
def test_weak_batch_equals_a_pillow_loop_bit_for_bit(size, padding, hflip):
    images = np.random.RandomState(0).randint(0, 256, (30, size, size, 3), dtype=np.uint8)
    index = rng.permutation(3, "teacher_order", 7, 30)[:20]
    draws = weak_parameters(3, 7, np.arange(20), padding, hflip)
    expected = []
    for i, (top, left, flipped) in zip(index, draws.tolist(), strict=True):
        image = ImageOps.expand(Image.fromarray(images[i]), padding, fill=0)
        image = image.crop((left, top, left + size, top + size))
        expected.append(np.asarray(ImageOps.mirror(image) if flipped else image))
    padded = zero_pad(torch.from_numpy(images), padding)
    got = weak_batch(padded, torch.from_numpy(index), torch.from_numpy(draws), padding)
    assert got.dtype == torch.uint8
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(got.permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_weak_parameters_are_uniform_and_belong_to_their_position():
    draws = weak_parameters(0, 3, np.arange(9000), 4, 0.5)
    for column in (0, 1):
        assert np.bincount(draws[:, column], minlength=9).tolist() == pytest.approx([1000] * 9, abs=120)
    assert draws[:, 2].mean() == pytest.approx(0.5, abs=0.02)
    assert np.array_equal(weak_parameters(0, 3, [17, 4000], 4, 0.5), draws[[17, 4000]])  # whatever the batch
    assert not np.array_equal(weak_parameters(0, 4, np.arange(9000), 4, 0.5), draws)
    assert not np.array_equal(weak_parameters(1, 3, np.arange(9000), 4, 0.5), draws)
    assert weak_parameters(0, 0, np.arange(99), 0, 0.0).max() == 0


# ---- training


def history_of(result: Path) -> list[dict[str, float]]:
    with open(result / "history.csv", newline="") as file:
        return [{k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(file)]


def test_training_learns_and_writes_what_later_stages_read(trained, data):
    history = history_of(trained)
    assert list(history[0]) == ["epoch", "lr", "train_loss", "train_top1", "test_top1"]
    assert [row["lr"] for row in history] == pytest.approx([0.05] + 7 * [0.1] + [0.01, 0.01, 10.0])
    assert max(row["test_top1"] for row in history) > 55 > 30 > history[0]["test_top1"]
    assert history[7]["train_loss"] < history[0]["train_loss"]
    saved = np.load(trained / "predictions.npz")
    assert np.array_equal(saved["labels"], data.test_labels)
    assert saved["logits_last_cls"].shape == (200, 10) and saved["logits_last_cls"].dtype == np.float32
    assert abs(saved["logits_last_cls"]).max() <= 1 + 1e-6  # raw cosines; the scale stands beside them
    assert saved["logit_scale"] == 30.0 and saved["last_epoch"] == 10 > saved["best_epoch"]
    assert str(saved["class_order"]) == data.class_order
    best = max(history, key=lambda row: row["test_top1"])  # max keeps the first of equals
    assert saved["best_epoch"] == best["epoch"]
    for phase, row in (("last", history[-1]), ("best", best)):
        top1 = 100 * (saved[f"logits_{phase}_cls"].argmax(1) == data.test_labels).mean()
        assert top1 == pytest.approx(row["test_top1"])


def test_history_holds_the_loss_and_accuracy_of_the_steps(data, tmp_path):
    """One epoch in one batch, without SAM: the row is the first forward pass, redone here by hand."""
    config = config_of(epochs=1, batch_size=1000, sam_rho=None, crop_padding=0, drw_epoch=None, drw_beta=None)
    row = history_of(train(tmp_path, config, data, seed=5))[0]
    torch.manual_seed(5)
    model = build_model(config, 10).train()
    order = rng.permutation(5, "teacher_order", 0, len(data.train_labels))
    x = normalize(torch.from_numpy(data.train_images[order]).permute(0, 3, 1, 2), *constants("digits"))
    y = torch.from_numpy(data.train_labels[order])
    cosines = model(x).double()
    margins = losses.ldam_margins(data.class_counts, 0.5)
    assert row["train_loss"] == pytest.approx(losses.ldam_loss(cosines, y, margins, 30.0).item(), rel=1e-4)
    assert row["train_top1"] == pytest.approx(100 * (cosines.argmax(1) == y).double().mean().item())


def test_the_saved_weights_give_the_saved_logits(trained, data):
    saved = np.load(trained / "predictions.npz")
    images = torch.from_numpy(data.test_images)
    for select in ("best", "last"):
        config = yaml_file.read(trained / "config.yaml") | {"select": select}
        (trained / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        model, loaded = load_teacher(trained, data)
        assert recipe(loaded) == recipe(config_of(select=select))
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        logits = evaluate(model, [images.permute(0, 3, 1, 2)], *constants(loaded.normalization))
        assert np.array_equal(logits.numpy(), saved[f"logits_{select}_cls"])
    last = load_file(trained / "model.safetensors")
    assert not torch.equal(last["conv1.weight"], load_file(trained / "model_best.safetensors")["conv1.weight"])


def test_sam_and_drw_are_settings_that_change_the_training(data, tmp_path):
    losses_of = {}
    for name, changes in {"sam": {}, "sgd": {"sam_rho": None}, "no_drw": {"drw_epoch": None, "drw_beta": None}}.items():
        config = config_of(epochs=2, **({"drw_epoch": 1} | changes))
        losses_of[name] = [row["train_loss"] for row in history_of(train(tmp_path / name, config, data))]
    assert losses_of["sam"][0] > losses_of["sgd"][0]  # the loss logged is that at the perturbed weights
    assert losses_of["sam"][0] == losses_of["no_drw"][0] and losses_of["sam"][1] != losses_of["no_drw"][1]


def test_evaluating_seldom_changes_what_is_known_but_not_the_training(data, tmp_path):
    config = config_of(epochs=5, factors=[1.0, 1.0])
    always, seldom = (train(tmp_path / str(n), replace(config, eval_every=n), data) for n in (1, 2))
    tests = [row["test_top1"] for row in history_of(always)]
    assert [row["test_top1"] for row in history_of(seldom)] == [None, tests[1], None, tests[3], tests[4]]
    assert (always / "model.safetensors").read_bytes() == (seldom / "model.safetensors").read_bytes()
    assert np.load(seldom / "predictions.npz")["best_epoch"] in (1, 3, 4)


def test_seeds_differ_and_one_seed_repeats(data, tmp_path):
    config = config_of(epochs=1)
    results = [train(tmp_path / str(i), config, data, seed) for i, seed in enumerate((0, 0, 1))]
    first, again, other = ((result / "model.safetensors").read_bytes() for result in results)
    assert first == again != other


@pytest.mark.parametrize("changes", [{}, PACO_TEACHER | {"sam_rho": 0.1}])
def test_bf16_keeps_float32_weights_and_logits(data, tmp_path, changes):
    ws = Workspace(tmp_path, "t", "f" * 64, CPU, quiet=True)
    train_teacher(config_of(epochs=1, **changes), data, 0, ws, execution=Execution("bf16"))
    assert history_of(ws.result)[0]["train_loss"] > 0
    assert {v.dtype for v in load_file(ws.result / "model.safetensors").values()} == {torch.float32, torch.int64}
    assert np.load(ws.result / "predictions.npz")["logits_last_cls"].dtype == np.float32


def test_a_diverging_run_stops_with_one_line(data, tmp_path):
    config = config_of(loss="ce", max_margin=None, scale=None, lr=1.0e9, warmup_epochs=0, sam_rho=None)
    with pytest.raises(UserError, match=r"diverged.*lower lr"):
        train(tmp_path, config, data)


# ---- resume


class Interrupted(Exception):
    pass


class Interrupting(Workspace):
    """Saves and stops after a given number of ticks of this attempt."""

    after = 0

    def tick(self, state):
        type(self).after -= 1
        if self.after == 0:
            self.save(state())
            self.finish()
            raise Interrupted


FILES = ("model.safetensors", "model_best.safetensors", "predictions.npz", "history.csv", "config.yaml")


@pytest.mark.parametrize(
    ("stops", "changes"),
    [  # 7 steps an epoch (6 of PaCo's): inside one, and right at its end
        ((1, 9, 10), {"drw_epoch": 3}),
        ((6, 7, 21), {"drw_epoch": 3}),
        ((1, 4, 6, 13), PACO_TEACHER),
        ((3, 9), PACO_TEACHER | {"sam_rho": [[2, 0.05], [None, 0.1]]}),
    ],
)
def test_an_interrupted_run_ends_in_the_same_bytes(data, tmp_path, stops, changes):
    config = config_of(**{"epochs": 5, "milestones": [3], "factors": [0.1]} | changes)
    assert epoch_size(config, len(data.train_labels))[0] == (6 if config.drop_last else 7)
    whole = train(tmp_path / "whole", config, data)
    for stop in stops:
        Interrupting.after = stop
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", config, data, workspace=Interrupting)
        torch.manual_seed(99)  # what a fresh process would not share
    parts = train(tmp_path / "parts", config, data)
    for name in FILES:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_outright_ends_in_the_same_bytes(data, tmp_path, monkeypatch):
    """A real SIGKILL, as soon as a checkpoint lies there; then the run is started again."""
    config = config_of(epochs=15)
    monkeypatch.setenv("LONGTAIL_SAVE_EVERY_S", "0")
    child = os.fork()
    if child == 0:
        train(tmp_path / "killed", config, data)
        os._exit(0)
    while not (tmp_path / "killed" / "checkpoint.pt").exists():
        time.sleep(0.005)
    time.sleep(0.1)  # anywhere in a step, or in the middle of writing a checkpoint
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not list((tmp_path / "killed" / "result").iterdir())
    monkeypatch.delenv("LONGTAIL_SAVE_EVERY_S")
    killed, whole = train(tmp_path / "killed", config, data), train(tmp_path / "whole", config, data)
    for name in FILES:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


# ---- stage


def stage(cwd: Path, entry: str, **block) -> list[str]:
    """The command line for one entry, with params.yaml and its dataset file in cwd."""
    (cwd / "params.yaml").write_text(json.dumps({"teachers": {entry: TINY | block}}))  # YAML, and text stays text
    paths = ["--params", str(cwd / "params.yaml"), "--dataset", str(cwd / "tiny.npz"), "--out", str(cwd / "out")]
    return [str(ROOT / "stages" / "train_teacher.py"), entry, *paths, "--device", "cpu"]


def run_here(monkeypatch, argv: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(argv[0], run_name="__main__")
    return stop.value.code


def test_stage_trains_each_seed_once(data, tmp_path):
    data.save(tmp_path / "tiny.npz")
    argv = stage(tmp_path, "t", epochs=1, seeds=[4])
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LONGTAIL_SCRATCH": str(tmp_path / "scratch")}
    twice = "import runpy, sys\nsys.argv.pop(0)\n"
    twice += "for _ in range(2):\n  try: runpy.run_path(sys.argv[0], {}, '__main__')\n"
    twice += "  except SystemExit as stop: assert stop.code == 0; print('ended')"
    done = subprocess.run([sys.executable, "-c", twice, *argv], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second, _ = done.stdout.split("ended\n")
    assert "already there" in second and "already there" not in first
    assert {f.name for f in (tmp_path / "out" / "seed4").iterdir()} == {*FILES, "identity.json", "probe.json"}
    _, config = load_teacher(tmp_path / "out" / "seed4", data)
    assert config == config_of(epochs=1, seeds=[])


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"dataset": "huge"}, "teachers.t.dataset is 'huge' but"),
        ({"seeds": []}, "teachers.t.seeds: give at least one"),
        ({"lr": "1e-1"}, "write 0.1"),
    ],
)
def test_stage_says_in_one_line_what_is_wrong(data, tmp_path, monkeypatch, capsys, block, message):
    data.save(tmp_path / "tiny.npz")
    assert run_here(monkeypatch, stage(tmp_path, "t", **block)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_stage_refuses_float16_from_the_environment_once(data, tmp_path, monkeypatch, capsys):
    data.save(tmp_path / "tiny.npz")
    monkeypatch.setenv("LONGTAIL_PRECISION", "fp16")
    assert run_here(monkeypatch, stage(tmp_path, "t", seeds=[0, 1])) == 2
    error = capsys.readouterr().err
    assert "LONGTAIL_PRECISION" in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


# ---- loading


def renamed(data: LongTail, **changes) -> LongTail:
    data = replace(data, **changes)
    data = replace(data, class_order=class_order(data.class_names))
    return replace(data, digest=content_digest(data))


def copy_of(trained: Path, folder: Path) -> Path:
    for file in trained.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_teacher_of_another_dataset_entry_is_refused(trained, data):
    with pytest.raises(UserError, match="trained on dataset 'tiny', asked to label 'cifar10_if100'"):
        load_teacher(trained, renamed(data, name="cifar10_if100"))


def test_a_teacher_with_another_class_order_is_refused_with_the_permutation(trained, data):
    swapped = ("1", "0", *data.class_names[2:])
    with pytest.raises(UserError, match=r"class order.*\[1, 0, 2, 3, 4, 5, 6, 7, 8, 9\]"):
        load_teacher(trained, renamed(data, class_names=swapped))
    with pytest.raises(UserError, match="not the same classes"):
        load_teacher(trained, renamed(data, class_names=("zero", *data.class_names[1:])))


@pytest.mark.parametrize("name", ["config.yaml", "model_best.safetensors"])
def test_a_missing_file_is_named(trained, data, tmp_path, name):
    folder = copy_of(trained, tmp_path)
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe(config_of())))
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        load_teacher(folder, data)


@pytest.mark.parametrize("keep", [0, 4, 200, 20_000])
def test_weights_cut_short_are_refused(trained, data, tmp_path, keep):
    folder = copy_of(trained, tmp_path)
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe(config_of())))
    path = folder / "model_best.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="cut short"):
        load_teacher(folder, data)


def test_weights_of_another_architecture_are_refused(trained, data, tmp_path):
    folder = copy_of(trained, tmp_path)
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe(config_of(arch="resnet14"))))
    with pytest.raises(UserError, match="do not fit"):
        load_teacher(folder, data)


def test_identities_tell_seeds_and_settings_apart():
    marks = [identity(recipe(config_of(**c)), s, "d") for c, s in (({}, 0), ({}, 1), ({"lr": 0.2}, 0), ({}, 0))]
    assert len(set(marks)) == 3 and marks[0] == marks[3]
