"""The entries of ImageNet-LT and iNaturalist-2018 are the published recipes (METHODS 3.4, 3.5, 3.9, 11)."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from longtail.base import params
from longtail.losses.losses import drw_weights, ldam_margins
from longtail.models.paco import projection_head
from longtail.models.vit import ModelConfig
from longtail.runs.parallel import ALONE
from longtail.training.cache import CacheConfig
from longtail.training.experiment import resolve
from longtail.training.gradients import Gradients
from longtail.training.optimizer import cosine_lr, sam_radius
from longtail.training.teacher import TestSet, build_model
from longtail.training.teacher_config import Floor, TeacherConfig
from longtail.training.teacher_tasks import build_task
from longtail.training.teacher_training import _step, learning_rate
from longtail.views.recipe import LargeViewRecipe
from tests.helpers.root import params_table
from tests.helpers.small import digits

PARAMS = params_table()
EPOCHS = {"imagenet_lt": (1400, 1200), "inat18": (1000, 900)}  # all, and the first of DRW
LARGE = [name for name, block in PARAMS["experiments"].items() if block["study"] in EPOCHS]


def test_each_has_its_rows():
    methods = ("vit-b", "deit_lt-b", "deit_lt_paco_sam-b")
    assert set(LARGE) >= {f"{dataset}-{method}" for dataset in EPOCHS for method in methods}


@pytest.mark.parametrize("name", LARGE)
def test_the_recipe_is_the_published_one(name):
    config, _ = resolve(PARAMS, name)
    epochs, drw = EPOCHS[config.dataset]
    base, _ = resolve(PARAMS, "cifar10_if100-vit-b")
    assert isinstance(config.model, ModelConfig) and config.model == base.model
    changed = {k for k, v in params.plain(config.train).items() if v != params.plain(base.train)[k]}
    assert changed == {"epochs", "lr"} and (config.train.epochs, config.train.lr) == (epochs, 5e-4)
    assert config.views == params.build(type(config.views), PARAMS["views"][config.dataset], "views")
    assert config.views.mix_until == config.loss.smoothing_until == epochs  # stay on in the DRW phase
    if config.method == "deit_lt":
        assert (config.loss.drw_epoch, config.loss.drw_beta, config.loss.alpha) == (drw, 0.9999, 0.5)
        labels = params.build(CacheConfig, PARAMS["caches"][config.cache], "caches")
        assert (labels.epochs, labels.views, labels.dataset) == (epochs, config.dataset, config.dataset)
        assert labels.teacher == config.cache and labels.teacher.endswith(f"-{config.dataset}")


@pytest.mark.parametrize(("dataset", "rate"), [("imagenet_lt", 3.43e-5), ("inat18", 2.20e-5)])
def test_learning_rate_where_drw_starts(dataset, rate):
    train = resolve(PARAMS, f"{dataset}-deit_lt-b")[0].train
    _, drw = EPOCHS[dataset]
    found = cosine_lr(drw, train.lr, train.epochs, train.warmup_epochs, train.warmup_lr, train.min_lr)
    assert found == pytest.approx(rate, rel=2e-3)


@pytest.mark.parametrize(("dataset", "ratio"), [("imagenet_lt", 240.35), ("inat18", 475.86)])
def test_weight_of_the_rarest_class_over_the_commonest(dataset, ratio):
    files = PARAMS["datasets"][dataset]["files"]
    beta = resolve(PARAMS, f"{dataset}-deit_lt-b")[0].loss.drw_beta
    most, least = drw_weights(np.array([files["largest"], files["smallest"]]), beta).tolist()
    assert least / most == pytest.approx(ratio, rel=1e-4)


# --- their teachers: METHODS 2.4 (SAD's scripts) and 2.5 (PaCo's), floors 9.2 and the end of 2.4

DATASETS = {"imagenet_lt": "imagenet", "inat18": "inat"}  # and the constants that pixels are normalised with
VIEW = LargeViewRecipe(
    224,
    (0.08, 1.0),
    (0.75, 1.3333333333333333),
    (0.4, 0.4, 0.4, 0.0),
    0.0,
    0.0,
    (0.1, 2.0),
    0.5,
    0,
    0.5,
    10.0,
    0.5,
    "imagenet",  # moves in on iNaturalist too: PaCo's script has one mean for it, whatever it normalizes with
)


def teacher(name: str) -> TeacherConfig:
    config = params.build(TeacherConfig, PARAMS["teachers"][name], name)
    assert (config.arch, config.momentum, config.select, config.seeds) == ("resnet50", 0.9, "best", (0,))
    assert (config.normalization, config.eval_resize) == (DATASETS[config.dataset], 256)
    return config


def radii(config: TeacherConfig) -> list[float | None]:
    """Of epochs 5, 6, 60, 61, 75, 76 and 90, counted from 1."""
    return [sam_radius(config.sam_rho, epoch - 1) for epoch in (5, 6, 60, 61, 75, 76, 90)]


@pytest.mark.parametrize(
    ("dataset", "lr", "decay", "floor"), [("imagenet_lt", 0.2, 2e-4, 53.1), ("inat18", 0.1, 1e-4, 70.1)]
)
def test_ldam_teachers(dataset, lr, decay, floor):
    sam, plain = teacher(f"ldam_drw_sam-{dataset}"), teacher(f"ldam_drw-{dataset}")
    assert (sam.epochs, sam.batch_size, sam.drop_last, sam.lr, sam.weight_decay) == (90, 256, False, lr, decay)
    assert (sam.loss, sam.max_margin, sam.scale, sam.drw_epoch, sam.drw_beta) == ("ldam", 0.3, 30.0, 60, 0.9999)
    assert radii(sam) == [0.05, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5] and sam.views == VIEW
    rates = [learning_rate(sam, epoch) for epoch in (0, 30, 45, 60)]  # no warm-up, to 0
    assert rates == pytest.approx([lr, 0.75 * lr, 0.5 * lr, 0.25 * lr]) and learning_rate(sam, 89) < 4e-4 * lr
    assert sam.must_reach == Floor(floor, 1.0)
    assert plain == dataclasses.replace(sam, sam_rho=None, must_reach=None)


@pytest.mark.parametrize(
    ("dataset", "floor", "rho"),
    [
        ("imagenet_lt", 47.1, [0.05, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5]),
        ("inat18", 65.3, [0.05, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2]),
    ],
)
def test_ce_teachers(dataset, floor, rho):
    config = teacher(f"ce_drw_sam-{dataset}")
    assert radii(config) == rho
    like = dict(loss="ce", max_margin=None, scale=None, weight_decay=2e-4, must_reach=Floor(floor, 1.0))
    assert config == dataclasses.replace(teacher(f"ldam_drw_sam-{dataset}"), sam_rho=config.sam_rho, **like)


@pytest.mark.parametrize(
    ("dataset", "decay", "floors"), [("imagenet_lt", 5e-4, (57.0, 57.5)), ("inat18", 1e-4, (73.2, 73.4))]
)
def test_paco_teachers(dataset, decay, floors):
    plain, sam = teacher(f"paco-{dataset}"), teacher(f"paco_sam-{dataset}")
    assert (plain.epochs, plain.batch_size, plain.drop_last, plain.lr, plain.weight_decay) == (
        400,
        128,
        True,
        0.02,
        decay,
    )
    of = plain.paco
    assert (of.alpha, of.beta, of.gamma, of.supt, of.temperature) == (0.05, 1.0, 1.0, 1.0, 0.2)
    assert (of.queue, of.key_momentum, of.dim, of.views) == (8192, 0.999, 128, None)
    assert plain.views == dataclasses.replace(VIEW, rand_ops=2)  # randcls_sim
    assert of.key_views == dataclasses.replace(VIEW, gray_prob=0.2, blur_prob=0.5)
    rates = [learning_rate(plain, epoch) for epoch in (0, 9, 399)]
    assert (plain.schedule, rates[:2]) == ("cosine", pytest.approx([0.002, 0.02])) and rates[2] < 1e-5
    assert plain.must_reach == Floor(floors[0], 1.0)
    assert sam == dataclasses.replace(plain, sam_rho=0.1, must_reach=Floor(floors[1], 1.0))


@pytest.mark.parametrize("dataset", DATASETS)
def test_their_networks(dataset):
    """ResNet-50 with a classifier of cosines, or PaCo's linear one and a projection of 2048 to 128."""
    classes = PARAMS["datasets"][dataset]["files"]["classes"]
    with torch.device("meta"):
        ldam, paco = (build_model(teacher(f"{name}-{dataset}"), classes) for name in ("ldam_drw_sam", "paco_sam"))
        projection = projection_head(paco.fc.in_features, teacher(f"paco-{dataset}").paco.dim, paco.kaiming_fc)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (ldam, paco, projection)]
    assert sizes == [23_508_032 + 2048 * classes, 23_508_032 + 2049 * classes, 2048 * 2049 + 2 * 2048 + 128 * 2049]


def test_margins():
    """METHODS 2.2: .075 to .3 on ImageNet-LT, whose ends alone decide."""
    margins = ldam_margins([1280, 5], teacher("ldam_drw_sam-imagenet_lt").max_margin)
    assert margins.tolist() == pytest.approx([0.075, 0.3], rel=1e-4)


@pytest.mark.parametrize("name", ["ldam_drw_sam-imagenet_lt", "paco_sam-inat18"])
def test_a_teacher_takes_a_step(name):
    """The entry at 32 px on images in memory: SAM's two passes, and the test images resized and cropped."""
    config = teacher(name)
    small = {"views": dataclasses.replace(config.views, size=32), "eval_resize": 36, "batch_size": 4}
    if config.paco:
        key = dataclasses.replace(config.paco.key_views, size=32)
        small["paco"] = dataclasses.replace(config.paco, key_views=key, queue=8)
    config, data = dataclasses.replace(config, **small), digits()
    torch.manual_seed(0)
    task = build_task(config, data, 0, torch.device("cpu"))
    task.train()
    optimizer = torch.optim.SGD(task.weights, 0.01)
    before = task.model.fc.weight.detach().clone()
    tally = _step(
        partial(task.forward, 0), optimizer, Gradients(task.weights, ALONE), 0.05, *task.batch(0, slice(0, 4))
    )
    assert torch.isfinite(tally).all() and not torch.equal(task.model.fc.weight, before)
    assert task.model.bn1.num_batches_tracked == 2  # trap 37
    logits = TestSet(config, data, torch.device("cpu")).logits(task.model)
    assert logits.shape == (20, 10) and (config.paco is not None or logits.abs().max() <= 1.0001)
