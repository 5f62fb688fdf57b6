"""LiVT's full recipes as they stand: images, steps and learning rates, and a few of their steps (METHODS 5.2, 5.3)."""

from __future__ import annotations

import dataclasses
import math

import pytest

from longtail.base import params
from longtail.cost.workload import Workload
from longtail.data.config import DatasetConfig
from longtail.data.made_data import made_data
from longtail.training.experiment import resolve
from longtail.training.optimizer import cosine_after_warmup
from longtail.training.pretraining_config import resolve_pretraining
from longtail.training.pretraining_probe import pretraining_probe
from longtail.training.student_probe import student_probe
from longtail.views.student_views import Views
from tests.helpers.root import params_table

TABLE = params_table()
FULL = Workload(TABLE)
LIVT = [n for n, e in TABLE["experiments"].items() if e["study"].startswith("livt-") and "mini" not in n]


@pytest.mark.parametrize(
    ("t", "expected"), [(2.5, 5e-4), (5, 1e-3), (52.5, 5.005e-4), (100, 1e-6), (0, 0.0), (76.25, None)]
)
def test_fine_tunings_rate(t, expected):
    """The warm-up from 0, then half a cosine over what is left, whose end is min_lr."""
    half = 1e-6 + (1e-3 - 1e-6) * (1 + math.cos(math.pi * (76.25 - 5) / 95)) / 2
    assert cosine_after_warmup(t, 1e-3, 100, 5, 1e-6) == pytest.approx(
        half if expected is None else expected, rel=1e-12
    )


@pytest.mark.parametrize(("t", "expected"), [(20, 3e-4), (40, 6e-4), (420, 3e-4), (800, 0.0)])
def test_pretrainings_rate(t, expected):
    assert cosine_after_warmup(t, 6e-4, 800, 40, 0.0) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("name", "batch", "steps", "lr", "size", "epochs"),
    [
        ("imagenet_lt-mgp-b", 1024, 113, 6e-4, 224, 800),
        ("imagenet_lt-mgp-l", 4096, 28, 2.4e-3, 224, 800),
        ("imagenet_bal-mgp-b", 4096, 28, 2.4e-3, 224, 800),
        ("imagenet_bal160-mgp-b", 4096, 39, 2.4e-3, 224, 800),
        ("inat18-mgp-b", 3072, 142, 1.8e-3, 128, 800),
        ("inat18-mgp-s", 3072, 142, 1.8e-3, 128, 800),
        ("imagenet-mgp-b", 4096, 312, 2.4e-3, 224, 800),
    ],
)
def test_pretrainings_as_printed_or_logged(name, batch, steps, lr, size, epochs):
    config, _ = resolve_pretraining(TABLE, name)
    views, layout = config.views, FULL.layout(TABLE["pretrainings"][name]["views"], config.dataset)
    assert views.mix_group * views.virtual_world * views.accumulate == batch and layout.steps == steps
    assert layout.positions == steps * batch  # an incomplete batch at the end makes no step
    assert (config.train.lr, config.train.epochs, config.model.image_size) == (lr, epochs, size)
    assert lr == pytest.approx(1.5e-4 * batch / 256) and config.train.betas == (0.9, 0.95)
    assert (config.mask_ratio, config.visible) == (0.75, (size // 16) ** 2 // 4)
    assert (config.decoder.dim, config.decoder.depth, config.decoder.heads) == (512, 8, 16)
    assert views.crop_scale == (0.2, 1.0) and views.hflip == 0.5 and not views.rand_ops and not views.mixes


@pytest.mark.parametrize(
    ("name", "batch", "steps", "lr", "decay", "drop", "smoothing", "epochs"),
    [
        ("imagenet_lt-livt-b", 512, 226, 1e-3, 0.75, 0.1, 0.1, 100),
        ("imagenet_lt-mae-ti", 512, 226, 1e-3, 0.75, 0.1, 0.1, 100),
        ("imagenet_lt-livt-l", 512, 226, 1e-3, 0.75, 0.1, 0.1, 50),
        ("imagenet_lt-livt-b-384", 1024, 113, 2e-3, 0.65, 0.1, 0.1, 100),
        ("imagenet_lt-livt-b-args", 2048, 56, 8e-3, 0.75, 0.1, 0.1, 100),
        ("imagenet_lt-livt-b-readme", 1024, 113, 4e-3, 0.75, 0.1, 0.1, 100),
        ("imagenet_bal-mae-b", 512, 226, 1e-3, 0.75, 0.1, 0.1, 100),
        ("inat18-livt-b", 2048, 213, 8e-3, 0.65, 0.1, 0.0, 100),
        ("inat18-livt-b-384", 1024, 427, 4e-3, 0.65, 0.2, 0.0, 100),
        ("inat18-mae-b-from_lt", 2048, 213, 8e-3, 0.65, 0.1, 0.0, 100),
        ("places_lt-livt-b", 1024, 61, 4e-3, 0.75, 0.1, 0.0, 30),
        ("places_lt-livt-b-384", 1024, 61, 2e-3, 0.75, 0.1, 0.0, 30),
        ("cifar10_if100-livt-b", 256, 48, 1e-3, 0.65, 0.1, 0.0, 100),
        ("cifar100_if10-livt-b-issue3", 2048, 9, 8e-3, 0.65, 0.1, 0.0, 20),
    ],
)
def test_fine_tunings_as_printed_or_logged(name, batch, steps, lr, decay, drop, smoothing, epochs):
    config, _ = resolve(TABLE, name)
    views, train, model = config.views, config.train, config.model
    layout = FULL.layout(TABLE["experiments"][name]["views"], config.dataset)
    assert views.mix_group * views.virtual_world * views.accumulate == batch
    assert layout.steps == steps and layout.positions == steps * batch
    assert (train.lr, train.layer_decay, train.epochs, train.min_lr) == (lr, decay, epochs, 1e-6)
    assert (model.drop_path, config.loss.smoothing, model.pool, model.head_std) == (drop, smoothing, "mean", 2e-5)
    assert train.eval_resize == {224: 256, 384: 384, 64: 73}[model.image_size]
    assert views.mix_until >= epochs and config.loss.tau == 1.0


def test_the_first_epochs_rates_of_the_logged_run():
    """905 micro-batches of 128, a window of 4: its mean lr is that of t = 4k/905 of 226 windows and one that is cut."""
    config, _ = resolve(TABLE, "imagenet_lt-livt-b")
    layout = FULL.layout("livt-imagenet_lt", "imagenet_lt")
    rates = [layout.loader_fraction(step) for step in range(layout.steps)]
    assert rates == [4 * k / 905 for k in range(226)]
    assert cosine_after_warmup(rates[-1], config.train.lr, 100, 5, 1e-6) == pytest.approx(1e-3 * 900 / 905 / 5)


def test_what_the_tables_compare_differs_in_nothing_else():
    """Table 6 by size, Fig. 2, Table 7 and Fig. 3: one run but for the loss and its tau."""
    families = [[f"imagenet_lt-{m}-{s}" for m in ("mae", "bal_ce", "bce", "livt")] for s in ("ti", "s", "b", "l")]
    families += [[f"inat18-{m}-s" for m in ("mae", "bal_ce", "bce", "livt")]]
    for c, f in ((10, 100), (10, 10), (100, 100), (100, 10)):
        every = ("bft_ce", "bft_cb", "bft_ldam", "bft_lade", "bft_ib", "bft_bal_ce", "livt")
        families.append([f"cifar{c}_if{f}-{m}-b" for m in every])
    families.append(["cifar100_if100-livt-b", *(n for n in LIVT if "-tau" in n and n.startswith("cifar100_if100"))])
    for names in families:
        configs = [params.plain(resolve(TABLE, name)[0]) for name in names]
        for config in configs:
            del config["experiment"], config["loss"]
        assert all(config == configs[0] for config in configs), names
    taus = sorted(resolve(TABLE, n)[0].loss.tau for n in families[-1])
    assert taus == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2]
    assert [resolve(TABLE, n)[0].loss.loss for n in families[5]] == [
        "ce",
        "cb_ce",
        "ldam",
        "lade",
        "ib",
        "bal_ce",
        "bal_bce",
    ]


def test_the_published_loss_and_what_the_paper_writes():
    assert resolve(TABLE, "imagenet_lt-livt-b")[0].loss.test_prior == "none"
    assert resolve(TABLE, "imagenet_lt-livt-b-eq10")[0].loss.test_prior == "uniform"
    assert resolve(TABLE, "places_lt-livt-b-tau1_05")[0].loss.tau == 1.05
    assert resolve(TABLE, "imagenet_lt-livt-b-readme")[0].train.betas == (0.9, 0.99)


@pytest.mark.parametrize("name", [n.removesuffix("-released") for n in LIVT if n.endswith("-released")])
def test_released_checkpoints_are_evaluated_as_ours_and_cost_no_training(name):
    ours, released = resolve(TABLE, name)[0], resolve(TABLE, f"{name}-released")[0]
    assert (released.model, released.train, released.dataset) == (ours.model, ours.train, ours.dataset)
    assert released.views.normalization == ours.views.normalization and released.start == "none"
    assert FULL.of("train_student", f"{name}-released") is None and FULL.of("train_student", name).flop > 0


def test_the_longer_budget_of_the_miniature_is_both_stages_and_nothing_else():
    """Its views, recipe and data set are the root's, written again where a paper's stages look for them."""
    pretraining, fine_tuning = resolve_pretraining(TABLE, "digits-mgp")[0], resolve(TABLE, "digits-livt")[0]
    epochs = pretraining.train.epochs + fine_tuning.train.epochs
    told = TABLE["studies"]["livt-digits-budget"]["note"]
    assert f"for {pretraining.train.epochs} epochs and fine-tunes for {fine_tuning.train.epochs}. " in told
    assert TABLE["datasets"]["digits_if20-again"] == TABLE["datasets"]["digits_if20"]
    for loss in ("ce", "livt"):
        (short, seeds), (long, same) = (resolve(TABLE, f"digits-{loss}-scratch{end}") for end in ("", "-long"))
        changed = {"epochs": epochs}
        assert long.train == dataclasses.replace(short.train, **changed) and seeds == same
        changed = {"experiment": long.experiment, "study": "livt-digits-budget", "dataset": "digits_if20-again"}
        assert long == dataclasses.replace(short, train=long.train, **changed)
        assert f"{epochs} epochs" in str(TABLE["studies"]["livt-digits-budget"]["tables"][0]["rows"])


def test_a_few_steps_of_the_miniature_on_cifar():
    """On made images: at zero logits CE is log 10 and BCE, summed over classes, 10 log 2; three updates lower each."""
    config = params.build(DatasetConfig, TABLE["datasets"]["cifar10_if100-mini"], "datasets")
    data = made_data("cifar10_if100-mini", config)
    assert len(data.train_labels) == 1236
    mgp, seeds = resolve_pretraining(TABLE, "cifar10_if100-mini-mgp")
    views = Views(resolve(TABLE, "cifar10_if100-mini-livt")[0].views, data.train_images, 0, labels=data.train_labels)
    assert (views.steps_per_epoch, mgp.visible, mgp.patches, seeds) == (19, 16, 64, (0,))
    probes = {"mgp": (pretraining_probe(mgp, data, 0), None)}
    for name, start in (("mae", math.log(10)), ("bce", 10 * math.log(2))):
        probes[name] = student_probe(resolve(TABLE, f"cifar10_if100-mini-{name}")[0], data, 0, None), start
    for probe, start in probes.values():
        first, *_, last = (probe.computed[f"loss {step} of epoch 5"][0] for step in (1, 2, 3))
        assert last < first and (start is None or first == pytest.approx(start, rel=1e-4))
