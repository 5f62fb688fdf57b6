"""The full entries of the DeiT and cRT baselines and of their RegNetY teachers, as they stand in params.yaml."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.base import params
from longtail.losses.targets import Targets
from longtail.models.build import CnnConfig, build_network
from longtail.models.vit import ModelConfig
from longtail.training.cache import CacheConfig
from longtail.training.experiment import load_method, resolve
from longtail.training.optimizer import cosine_lr
from longtail.training.student import train_student
from longtail.training.student_run import StudentRun
from longtail.views.student_views import ViewRecipe, Views
from tests.training.test_full_recipes import PARAMS, STUDIES, Enough, Few, counts_of, random_images, shrunk

VIT_B = ModelConfig(224, 16, 768, 12, 12, 4.0, 0.1)
CPU = torch.device("cpu")


def same_views_but(name: str, **changed) -> None:
    """An entry's views are those of DeiT-LT but for what changed, all of which is said."""
    published, _ = resolve(PARAMS, f"{name.partition('-')[0]}-deit_lt-b")
    assert resolve(PARAMS, name)[0].views == dataclasses.replace(published.views, **changed)


@pytest.mark.parametrize("dataset", STUDIES)
def test_the_teacher_is_a_regnety_trained_on_views_such_as_the_students(dataset):
    """METHODS 2.7: from scratch at 224 px, DeiT's recipe: 5e-4 for each 512 of the batch, weight decay .05, 5 epochs of
    warm-up, at least 300 epochs."""
    config, seeds = resolve(PARAMS, f"{dataset}-regnety")
    assert config.model == CnnConfig("regnety_160", 224) and config.method == "vit" and config.dataset == dataset
    assert (config.cache, config.teacher, config.start) == ("none", "none", "none")
    train, views = config.train, config.views
    batch = views.mix_group * views.virtual_world * views.accumulate
    assert train.lr == pytest.approx(5e-4 * batch / 512) and batch == 1024
    assert (train.epochs, train.warmup_epochs, train.weight_decay, train.eval_resize) == (300, 5, 0.05, 256)
    assert (train.betas, train.eps) == ((0.9, 0.999), 1e-8)
    assert min(views.mix_until, config.loss.smoothing_until) >= train.epochs and config.loss.smoothing == 0.1
    same_views_but(f"{dataset}-regnety", mix_group=128, mix_until=1200, teacher_stride=1, teacher_offset=0, family=1)
    cache = params.build(CacheConfig, PARAMS["caches"][f"regnety-{dataset}"], "c")
    assert (cache.teacher, cache.teacher_kind, cache.dataset) == (f"{dataset}-regnety", "students", dataset)
    assert cache.views == PARAMS["experiments"][f"{dataset}-deit-b"]["views"] and len(seeds) == 1  # whatever the seed


@pytest.mark.parametrize("dataset", STUDIES)
def test_deit_learns_its_labels_without_reweighting(dataset):
    """METHODS 3.4, trap 23: plain means and smoothing .1 from the first epoch to the last, by hand."""
    name = f"{dataset}-deit-b"
    config, _ = resolve(PARAMS, name)
    assert config.model == VIT_B and config.method == "deit_lt" and config.cache == f"regnety-{dataset}"
    assert config.train == resolve(PARAMS, f"{dataset}-deit_lt-b")[0].train
    same_views_but(name, mix_until=1200, teacher_stride=1, teacher_offset=0)
    assert config.views.teacher_size == 224
    counts = counts_of(dataset)
    classes = len(counts)
    method = load_method("deit_lt").Method(config.loss, counts)
    logits = torch.zeros(2, classes)
    logits[0, 0] = 2.0
    y, teacher = torch.tensor([0, 1]), torch.tensor([0, classes - 1])  # the teacher's: one of the head, one of the tail
    targets = Targets(y, y, torch.ones(2), teacher, [2])
    total = np.log(np.exp(2.0) + classes - 1)
    smooth = total - 2.0 * (0.9 + 0.1 / classes), np.log(classes)
    plain = total - 2.0, np.log(classes)
    expected = 0.5 * np.mean(smooth) + 0.5 * np.mean(plain)
    for epoch in (0, 600, 1100, 1199):
        loss = method.loss({"cls": logits, "dist": logits}, targets, epoch)
        assert loss.item() == pytest.approx(expected, rel=1e-5), epoch


@pytest.mark.parametrize("dataset", STUDIES)
def test_crt_trains_a_head_for_ten_epochs_on_the_vit(dataset):
    """METHODS 3.10: class-balanced sampling, AdamW at 1e-3, cosine."""
    name = f"{dataset}-vit_crt-b"
    config, seeds = resolve(PARAMS, name)
    start, starts = resolve(PARAMS, config.start)
    assert (config.start, config.method, config.model) == (f"{dataset}-vit-b", "crt", start.model)
    assert start.model == VIT_B and start.method == "vit" and set(seeds) <= set(starts)
    train = config.train
    assert (train.epochs, train.lr, train.warmup_epochs, train.weight_decay) == (10, 1e-3, 0, 0.05)
    rates = [cosine_lr(t, train.lr, 10, 0, train.warmup_lr, train.min_lr) for t in (0, 5, 10)]
    assert rates == pytest.approx([1e-3, (1e-3 + 1e-5) / 2, 1e-5])
    same_views_but(name, sampler="class_balanced", repeats=1, mix_group=128, mix_until=0)
    counts = counts_of(dataset)
    labels = np.repeat(np.arange(len(counts)), counts)
    views = Views(config.views, np.zeros((len(labels), 1, 1, 3), np.uint8), 0, labels=labels)
    seen = np.bincount(labels[views.order(0)], minlength=len(counts))
    mean = views.positions_per_epoch / len(counts)
    assert np.abs(seen - mean).max() < 5 * np.sqrt(mean)  # whatever the imbalance
    assert views.positions_per_epoch == Views(start.views, views.images, 0).positions_per_epoch


def test_no_network_labels_the_very_views_it_was_trained_on():
    """Of all caches: a CNN that was trained as a student is shows its labels on views of another family. Other teachers
    have streams of their own, and nothing else leaves the first family."""
    taught_on = {"teacher_order", "teacher_view", "paco_query", "paco_key", "paco_queue"}
    assert taught_on.isdisjoint({"order", "class_balanced", "view", "weak_view", "mix", "noise", "drop_path"})
    families, labellers = {}, set()
    for name in PARAMS["experiments"]:
        families[name] = resolve(PARAMS, name)[0].views.family
    for name, block in PARAMS["caches"].items():
        labelled = params.build(ViewRecipe, PARAMS["views"][block["views"]], name).family
        assert labelled == 0
        if block["teacher_kind"] == "students":
            labellers.add(block["teacher"])
            assert families[block["teacher"]] != labelled
    assert {name for name, family in families.items() if family} == labellers and len(labellers) == 5


def one_step(name: str, start: StudentRun | None = None) -> dict:
    """State after an optimizer step on four views: groups of two on each rank."""
    config, workspace = shrunk(name, accumulate=1), Few(1)
    with pytest.raises(Enough):
        train_student(config, random_images(config.dataset), 0, None, workspace, CPU, start=start)
    assert np.isfinite(workspace.states[0]["loss"])
    return workspace.last


def test_regnety_160_trains():
    state = one_step("cifar10_if100-regnety")
    assert state["model"]["head.weight"].shape == (10, 3024)
    assert state["model"]["features.stem.bn.num_batches_tracked"] == 2  # two groups
    assert [group["weight_decay"] for group in state["optimizer"]["param_groups"]] == [0.05, 0.0]


def test_vit_b_gets_a_new_head():
    torch.manual_seed(1)
    first = build_network(VIT_B, 10, False).state_dict()
    start = StudentRun(Path("seed0"), {}, first)
    after = one_step("cifar10_if100-vit_crt-b", start)["model"]
    assert {name for name in first if not torch.equal(first[name], after[name])} == {"head.weight", "head.bias"}


# --- ablations and PaCo teachers: rows of Tables 1, 2, 5, 6 and S.3


NO_DRW = {
    "cifar10_if100-deit_lt-b-no_drw": ("ldam_drw_sam", {}),
    "cifar10_if100-deit_lt-b-no_drw-no_mix": ("ldam_drw_sam", {"mix_prob": 0.0}),
    "cifar10_if100-deit_lt-b-no_drw-weak_teacher": ("ldam_drw_sam", {"mix_prob": 0.0, "teacher_view": "weak"}),
    "cifar10_if100-deit_lt_paco-b-no_drw": ("paco", {}),
    "cifar100_if100-deit_lt_paco-b-no_drw": ("paco", {}),
}
WITH_DRW = {f"{dataset}-deit_lt_paco_sam-b": "paco_sam" for dataset in STUDIES}
WITH_DRW |= {f"{d}_if100-deit_lt_paco_sam-{size}": "paco_sam" for d in ("cifar10", "cifar100") for size in ("s", "ti")}
WITH_DRW |= {f"{d}_if100-deit_lt_paco-b": "paco" for d in ("cifar10", "cifar100")}


def like(name: str) -> dict:
    """The DeiT-LT entry of the same data and size with the LDAM-DRW + SAM teacher, as a plain mapping without names."""
    dataset, _, rest = name.partition("-")
    config, _ = resolve(PARAMS, f"{dataset}-deit_lt-{rest.split('-')[1]}")
    return params.plain(config) | {"experiment": name}


@pytest.mark.parametrize("name", NO_DRW)
def test_a_run_without_drw_differs_in_nothing_else(name):
    """METHODS 3.4: mixing, where there is any, and smoothing stay on; teacher and views are said."""
    config, _ = resolve(PARAMS, name)
    teacher, views = NO_DRW[name]
    expected = like(name)
    expected["loss"] |= {"drw_epoch": None, "smoothing_until": 1200}
    if "mix_prob" in views:  # without mixup the released code's criterion is plain cross-entropy
        expected["loss"]["smoothing"] = 0.0
    expected["views"] |= {"mix_until": 1200, **views}
    assert params.plain(config) == expected | {"cache": config.cache}
    assert PARAMS["caches"][config.cache]["teacher"] == f"{teacher}-{config.dataset}"
    assert PARAMS["caches"][config.cache]["views"] == PARAMS["experiments"][name]["views"]


@pytest.mark.parametrize("name", WITH_DRW)
def test_another_teacher_is_all_that_differs(name):
    config, _ = resolve(PARAMS, name)
    assert params.plain(config) == like(name) | {"cache": f"{WITH_DRW[name]}-{config.dataset}"}
    assert PARAMS["caches"][config.cache]["teacher"] == f"{WITH_DRW[name]}-{config.dataset}"
