"""The entries of ImageNet-LT and iNaturalist-2018 are the published recipes (METHODS 3.4, 3.5, 3.9, 11)."""

from __future__ import annotations

import numpy as np
import pytest
from stage_processes import ROOT

from longtail import params
from longtail.cache import CacheConfig
from longtail.experiment import resolve
from longtail.losses import drw_weights
from longtail.schedule import cosine_lr
from longtail.vit import ModelConfig

PARAMS = params.load(ROOT / "params.yaml")
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
