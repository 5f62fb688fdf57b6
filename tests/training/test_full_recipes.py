"""The published recipes as they stand in params.yaml, run for a step or two on random images of the right counts."""

from __future__ import annotations

import dataclasses
import re
from functools import cache

import numpy as np
import pytest
import torch

from longtail.base import params, rng
from longtail.data.long_tail import LongTail, author_groups, count_groups, longtail_counts
from longtail.losses.losses import drw_weights
from longtail.losses.targets import Targets
from longtail.models.vit import ModelConfig
from longtail.runs.parallel import ALONE
from longtail.training import student, student_evaluation, student_step
from longtail.training.cache import CacheConfig
from longtail.training.experiment import load_method, resolve
from longtail.training.labels import TeacherLabels
from longtail.training.optimizer import teacher_lr
from longtail.training.student import train_student
from longtail.training.teacher import build_loss
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_training import epoch_size, train_teacher
from longtail.views.student_views import Views
from tests.helpers.root import ROOT, params_table

PARAMS = params_table()
STUDIES = ("cifar10_if100", "cifar10_if50", "cifar100_if100", "cifar100_if50")
BALANCED = "cifar10_if1"  # ViT and DeiT-LT alone
FULL = [
    name
    for name in PARAMS["experiments"]
    if re.fullmatch(rf"({'|'.join((*STUDIES, BALANCED))})-(vit|deit_lt)-(ti|s|b)", name)
]
TOTAL = {"cifar10_if100": 12406, "cifar10_if50": 13996, "cifar100_if100": 10847, "cifar100_if50": 12608}  # METHODS 11
TOTAL["cifar10_if1"] = 50000
MICRO_BATCHES = {"cifar10_if100": 48, "cifar10_if50": 54, "cifar100_if100": 42, "cifar100_if50": 49}  # METHODS 3.5
MICRO_BATCHES["cifar10_if1"] = 195  # 50,000 rounded down to 195 x 256 views, 128 a micro-batch, 2 ranks
MICRO_BATCHES["cifar10_if50"] = 27  # of 256 (METHODS 3.5: the name of the released checkpoint); 54 of 128
STEPS = {"cifar10_if100": 12, "cifar10_if50": 7, "cifar10_if1": 49, "cifar100_if100": 11, "cifar100_if50": 13}
A_GPU = dict.fromkeys(STEPS, 128) | {"cifar10_if50": 256}


def counts_of(dataset: str) -> np.ndarray:
    """Published class counts of an entry of `datasets` (CIFAR: 50,000 training images)."""
    block = PARAMS["datasets"][dataset]
    classes = {"cifar10": 10, "cifar100": 100}[block["source"]]
    return longtail_counts(50000 / classes, classes, block["imbalance_factor"])


@cache
def random_images(dataset: str) -> LongTail:
    """uint8 noise 32 x 32 with an entry's own counts; one test image a class."""
    counts, cuts = counts_of(dataset), tuple(PARAMS["datasets"][dataset]["cuts"])
    classes, random = len(counts), np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), counts)
    return LongTail(
        name=dataset,
        train_images=random.integers(0, 256, (len(labels), 32, 32, 3), np.uint8),
        train_labels=labels,
        train_index=np.arange(len(labels)),
        test_images=random.integers(0, 256, (classes, 32, 32, 3), np.uint8),
        test_labels=np.arange(classes),
        class_names=tuple(map(str, range(classes))),
        class_counts=counts,
        cuts=cuts,
        author_groups=author_groups(classes, cuts),
        count_groups=count_groups(counts),
        subset_seed=0,
        class_order="0" * 64,
        digest="0" * 64,
    )


class Enough(Exception):
    """So many optimizer steps were done."""


class Few:
    """A workspace that keeps the state in memory and ends the run after some steps; start: a state to go on from."""

    team = ALONE

    def __init__(self, steps: int, start: dict | None = None):
        self.steps, self.start, self.states = steps, start, []

    def load(self) -> dict | None:
        return self.start

    def tick(self, state) -> None:
        found = state()
        self.states.append({"lr": found["optimizer"]["param_groups"][0]["lr"], "loss": found["sums"][0].item()})
        self.last = found
        if len(self.states) == self.steps:
            raise Enough


# --- teachers


def test_teacher_takes_sam_steps_at_the_published_size():
    block = PARAMS["teachers"]["ldam_drw_sam-cifar10_if100"]
    config = params.build(TeacherConfig, block, "teachers")
    data = random_images("cifar10_if100")
    assert len(data.train_labels) == 12406
    first = Few(2)
    with pytest.raises(Enough):
        train_teacher(config, data, 0, first)
    assert [s["lr"] for s in first.states] == pytest.approx([0.02, 0.02])  # .1 over five epochs of warm-up
    assert first.last["step"] == 2 and -(-12406 // config.batch_size) == 97
    assert sum(v.numel() for k, v in first.last["model"].items() if v.ndim == 4) > 460_000  # ResNet-32
    assert first.last["model"]["bn1.num_batches_tracked"] == 4  # SAM: both passes update it
    assert np.isfinite(first.last["sums"][0].item())
    again = Few(1, start=first.last | {"epoch": 160, "step": 0})
    with pytest.raises(Enough):
        train_teacher(config, data, 0, again)
    assert again.states[0]["lr"] == pytest.approx(1e-3)


@pytest.mark.parametrize("name", ["paco-cifar10_if100", "paco_sam-cifar100_if50"])
def test_paco_takes_a_step_at_the_published_size(name):
    """The first of an epoch's whole batches, and the first at a tenth of the learning rate."""
    config = params.build(TeacherConfig, PARAMS["teachers"][name], "teachers")
    data = random_images(config.dataset)
    first = Few(1)
    with pytest.raises(Enough):
        train_teacher(config, data, 0, first)
    assert first.states[0]["lr"] == pytest.approx(0.005)
    steps = {"cifar10_if100": 96, "cifar100_if50": 98}[config.dataset]
    assert epoch_size(config, len(data.train_labels)) == (steps, 128 * steps)
    model, rest = first.last["model"], first.last["paco"]
    assert rest["queue"].shape == (1024, 32) and rest["queue_labels"].shape == (1024,)
    lengths = rest["queue"].norm(dim=1)
    assert torch.allclose(lengths[-128:], torch.ones(128)) and lengths[:-128].max() < 0.5  # the new keys are the last
    order = rng.permutation(0, "teacher_order", 0, len(data.train_labels))[:128]
    assert np.array_equal(rest["queue_labels"][-128:], data.train_labels[order])
    assert model["fc.weight"].shape == (data.num_classes, 64)
    trained = 463_504 + 65 * data.num_classes + (64 * 64 + 64) + 128 + (64 * 32 + 32)
    assert sum(v["momentum_buffer"].numel() for v in first.last["optimizer"]["state"].values()) == trained
    assert model["bn1.num_batches_tracked"] == (1 if config.sam_rho is None else 2)
    assert rest["key_encoder.bn1.num_batches_tracked"] == 1
    assert 2 < first.last["sums"][0].item() / 128 < 40  # noise looks alike: similarities are near 1 / 0.05 at first
    again = Few(1, start=first.last | {"epoch": 321, "step": 0})
    with pytest.raises(Enough):
        train_teacher(config, data, 0, again)
    assert again.states[0]["lr"] == pytest.approx(0.005)


@pytest.mark.parametrize("dataset", STUDIES)
def test_teacher_recipe(dataset):
    config = params.build(TeacherConfig, PARAMS["teachers"][f"ldam_drw_sam-{dataset}"], "teachers")
    assert (config.arch, config.epochs, config.batch_size, config.sam_rho) == ("resnet32", 200, 128, 0.8)
    assert (config.momentum, config.weight_decay, config.select) == (0.9, 2e-4, "best")
    rates = [teacher_lr(e, config.lr, config.warmup_epochs, config.milestones, config.factors) for e in range(200)]
    assert rates[:6] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    assert (rates[159], rates[160], rates[179], rates[180]) == pytest.approx((0.1, 1e-3, 1e-3, 1e-5))
    loss = build_loss(config, counts_of(dataset), torch.device("cpu"))
    tail = len(counts_of(dataset)) - 1
    logits = torch.zeros(2, tail + 1)
    logits[0, 0] = 0.5  # the head image is easier
    labels = torch.tensor([0, tail])
    plain, weighted = (loss(logits, labels, epoch).item() for epoch in (159, 160))
    each = [loss(logits[i : i + 1], labels[i : i + 1], 0).item() for i in (0, 1)]
    weights = drw_weights(counts_of(dataset), 0.9999).double()[[0, tail]]
    assert plain == pytest.approx(sum(each) / 2, rel=1e-5)
    mean = (weights @ torch.tensor(each, dtype=torch.float64) / weights.sum()).item()
    assert weighted == pytest.approx(mean, rel=1e-5)


# --- students


@pytest.mark.parametrize("name", FULL)
def test_an_epoch_has_the_published_shape(name):
    config, _ = resolve(PARAMS, name)
    data = config.dataset
    assert counts_of(data).sum() == TOTAL[data]
    views = Views(config.views, np.zeros((TOTAL[data], 1, 1, 3), np.uint8), 0)
    rank = MICRO_BATCHES[data] * A_GPU[data]
    assert (views.positions_per_epoch, views.steps_per_epoch) == (2 * rank, STEPS[data])
    groups = [views.groups_of_step(step) for step in range(STEPS[data])]
    assert all(g.stop - g.start == A_GPU[data] for step in groups for g in step)
    assert [len(step) for step in groups[:-1]] == [8] * (STEPS[data] - 1)  # 4 micro-batches of 2 ranks: 1,024 views
    assert sum(len(step) for step in groups) == 2 * MICRO_BATCHES[data]
    assert len(views.order(0)) == 2 * rank
    if data == "cifar10_if100":
        assert (2 * rank, STEPS[data]) == (12288, 12)
    firsts = [4 * step for step in range(STEPS[data] - 1)] + [MICRO_BATCHES[data] - 1]  # the last window: its last
    assert [views.lr_fraction(step) for step in range(STEPS[data])] == [f / MICRO_BATCHES[data] for f in firsts]


@pytest.mark.parametrize("name", FULL)
def test_the_recipe_is_the_published_one(name):
    """METHODS 3.5 to 3.9; the decision table's choices where paper and code differ. The learning rate goes with what is
    on a GPU, accumulation not counted; mixing and smoothing end where re-weighting begins, else not at all."""
    config, _ = resolve(PARAMS, name)
    size = {"ti": (192, 3), "s": (384, 6), "b": (768, 12)}[name.rpartition("-")[2]]
    assert config.model == ModelConfig(224, 16, size[0], 12, size[1], 4.0, 0.1)
    train = config.train
    assert (train.epochs, train.warmup_epochs, train.weight_decay, train.eval_resize) == (1200, 5, 0.05, 256)
    gpu = A_GPU[config.dataset]
    assert (train.lr, train.min_lr, train.warmup_lr) == (5e-4 * gpu * 2 / 512, 1e-5, 1e-6)
    assert (train.betas, train.eps) == ((0.9, 0.999), 1e-8)
    rates = {t: student.cosine_lr(t, train.lr, 1200, 5, train.warmup_lr, train.min_lr) for t in (600, 1100)}
    assert rates == pytest.approx(
        {128: {600: 1.300e-4, 1100: 1.409e-5}, 256: {600: 2.55e-4, 1100: 1.835e-5}}[gpu], rel=1e-3
    )
    views = config.views
    assert (views.repeats, views.virtual_world, views.mix_group, views.accumulate) == (3, 2, gpu, 4)
    assert (views.mixup_alpha, views.cutmix_alpha, views.mix_prob, views.switch_prob) == (0.8, 1.0, 1.0, 0.5)
    until = 1100 if config.method == "deit_lt" else 1200
    assert (views.mix_until, config.loss.smoothing_until, config.loss.smoothing) == (until, until, 0.1)
    if config.method == "deit_lt":
        assert (config.loss.alpha, config.loss.drw_epoch, config.loss.drw_beta) == (0.5, 1100, 0.9999)
        labels = params.build(CacheConfig, PARAMS["caches"][config.cache], "caches")
        assert (labels.epochs, labels.teacher) == (1200, f"ldam_drw_sam-{config.dataset}")
        assert labels.views == PARAMS["experiments"][name]["views"]
        assert (views.teacher_size, views.teacher_offset) == (32, 3)


@pytest.mark.parametrize(
    "name", [n for n, block in PARAMS["experiments"].items() if block["method"] in ("vit", "deit_lt")]
)
def test_mixing_and_smoothing_go_together_to_the_start_of_drw_or_to_the_end(name):
    """Of every entry, miniatures too: without DRW nothing is switched off (METHODS 3.4), but in a control that leaves
    out its weights alone. On the large sets DRW leaves both on; where nothing is mixed the released code smooths
    nothing either (plain cross-entropy)."""
    config, _ = resolve(PARAMS, name)
    end, views = config.train.epochs, config.views
    drw = getattr(config.loss, "drw_epoch", None)
    if not views.mixes:
        assert config.loss.smoothing == 0 and drw is None
        return
    assert config.loss.smoothing == 0.1
    if name.endswith("-unweighted"):
        weighted = resolve(PARAMS, name.removesuffix("-unweighted"))[0]
        assert drw is None and config.loss == dataclasses.replace(weighted.loss, drw_epoch=None)
        assert config.views == weighted.views
    elif drw is None or config.study in ("imagenet_lt", "inat18"):
        assert min(views.mix_until, config.loss.smoothing_until) >= end
    else:
        assert views.mix_until == config.loss.smoothing_until == drw < end


def shrunk(name: str, **change):
    """An entry with mix groups of two views, so that a step is affordable on a CPU; all else as it stands."""
    config, _ = resolve(PARAMS, name)
    return dataclasses.replace(config, views=dataclasses.replace(config.views, mix_group=2, **change))


def labels_of(config, classes: int) -> TeacherLabels | None:
    """What a teacher might have said, for every view of every epoch."""
    if not load_method(config.method).Method.needs_teacher:
        return None
    random = np.random.default_rng(1)
    table = np.lib.stride_tricks.as_strided(  # one epoch's labels, shown for all of them
        random.integers(0, classes, 20000, np.uint8), (config.train.epochs, 20000), (0, 1)
    )
    return TeacherLabels(table, {})


@pytest.fixture
def shapes(monkeypatch) -> dict[str, list]:
    """Shapes that went through the model: features after the final norm, logits of each head; and its size."""
    seen: dict[str, list] = {"features": [], "cls": [], "dist": [], "parameters": []}
    build_network, head_logits = student.build_network, student_step.head_logits

    def build(*arguments):
        model = build_network(*arguments)
        model.norm.register_forward_hook(lambda _, __, out: seen["features"].append(tuple(out.shape)))
        seen["parameters"].append(sum(p.numel() for p in model.parameters()))
        return model

    def heads(model, tokens):
        logits = head_logits(model, tokens)
        for head, z in logits.items():
            seen[head].append(tuple(z.shape))
        return logits

    monkeypatch.setattr(student, "build_network", build)
    for module in (student_step, student_evaluation):
        monkeypatch.setattr(module, "head_logits", heads)
    return seen


def some_steps(config, workspace: Few) -> None:
    data = random_images(config.dataset)
    labels = labels_of(config, data.num_classes)
    with pytest.raises(Enough):
        train_student(config, data, 0, labels, workspace, torch.device("cpu"))


def test_deit_lt_ti_trains(shapes):
    """Two steps of the first epoch, then one of the first DRW epoch: 16 views each, in 8 groups."""
    config, first = shrunk("cifar10_if100-deit_lt-ti"), Few(2)
    some_steps(config, first)
    assert shapes["features"] == [(16, 198, 192)] * 2
    assert shapes["cls"] == shapes["dist"] == [(16, 10)] * 2
    assert shapes["parameters"][0] == pytest.approx(5.53e6, rel=1e-3)
    rates = [1e-6, 1e-6 + 4 / 3072 * (2.5e-4 - 1e-6) / 5]  # of 3,072 micro-batches a step takes four
    assert [s["lr"] for s in first.states] == pytest.approx(rates, rel=1e-9)
    assert first.states[0]["loss"] / 16 == pytest.approx(np.log(10), abs=0.3)
    before = {name: value.clone() for name, value in first.last["model"].items()}
    moments = {k: {n: v.clone() for n, v in s.items()} for k, s in first.last["optimizer"]["state"].items()}
    groups = first.last["optimizer"]["param_groups"]
    assert [g["weight_decay"] for g in groups] == [0.05, 0.0]
    assert all(s["exp_avg"].abs().sum() > 0 for s in moments.values())  # every parameter had a gradient
    later = Few(1, start=first.last | {"model": before, "epoch": 1100, "step": 0, "sums": torch.zeros(3).double()})
    some_steps(config, later)
    assert later.states[0]["lr"] == pytest.approx(1.409e-5, rel=1e-3)
    assert any(not torch.equal(value, before[name]) for name, value in later.last["model"].items())


@pytest.mark.parametrize(
    ("name", "millions", "dim", "classes"),
    [
        ("cifar10_if100-deit_lt-s", 21.67, 384, 10),
        ("cifar10_if100-vit-b", 85.81, 768, 10),
        ("cifar100_if100-deit_lt-s", 21.74, 384, 100),
    ],
)
def test_larger_students_train(name, millions, dim, classes, shapes):
    """One step of four views: groups of two on each rank, no accumulation."""
    config, workspace = shrunk(name, accumulate=1), Few(1)
    some_steps(config, workspace)
    distilled = config.method == "deit_lt"
    assert shapes["features"] == [(4, 197 + distilled, dim)]
    assert shapes["cls"] == [(4, classes)] and shapes["dist"] == [(4, classes)] * distilled
    assert shapes["parameters"][0] == pytest.approx(millions * 1e6, rel=1e-3)
    assert workspace.states[0]["lr"] == pytest.approx(1e-6)
    assert workspace.states[0]["loss"] / 4 == pytest.approx(np.log(classes), abs=0.5)


# --- DeiT-III


def deit_iii(size: str, dataset: str = "cifar10_if100"):
    """The entry of a dataset, with the recipe of a size."""
    block = PARAMS["experiments"][f"{dataset}-deit_iii-b"]
    return resolve(PARAMS | {"experiments": {"e": block | {"recipe": f"deit_iii-{size}"}}}, "e")[0]


@pytest.mark.parametrize("dataset", STUDIES)
def test_every_dataset_has_deit_iii_with_mixed_views_in_batches_of_2048(dataset):
    """The learning rate goes with the batch; CutMix and mixup stay on, and nothing is erased (METHODS 3.10). The crop
    is that of DEIT's ImageNet-1k recipe, from 8 % of the image on; its padded one is ImageNet-21k's."""
    config = deit_iii("b", dataset)
    assert (config.dataset, config.study, config.cache, config.teacher) == (dataset, dataset, "none", "none")
    views = config.views
    assert views.mix_group * views.virtual_world * views.accumulate == 2048
    assert (views.mixup_alpha, views.cutmix_alpha, views.mix_prob, views.repeats) == (0.8, 1.0, 1.0, 3)
    assert views.mix_until == config.train.epochs and views.erase_prob == views.rand_ops == 0
    assert (views.crop, views.crop_scale, views.three_augment, views.jitter) == ("resized", (0.08, 1.0), True, 0.3)


@pytest.mark.parametrize(("size", "dim", "heads", "rate", "lr"), [("b", 768, 12, 0.2, 3e-3), ("s", 384, 6, 0.05, 4e-3)])
def test_the_recipe_of_deit_iii(size, dim, heads, rate, lr):
    """METHODS 3.10; epochs as in the other rows."""
    config = deit_iii(size)
    assert config.model == ModelConfig(224, 16, dim, 12, heads, 4.0, rate, "constant", 1e-4, False)
    train = config.train
    assert (train.optimizer, train.lr, train.weight_decay, train.warmup_epochs) == ("lamb", lr, 0.05, 5)
    assert (train.epochs, train.eval_resize, train.betas, train.eps) == (1200, 224, (0.9, 0.999), 1e-8)
    assert config.loss.threshold == 0.0


def test_deit_iii_s_trains(shapes):
    """Two steps of LAMB on four views each: ten binary losses of log 2 at the start."""
    config, workspace = deit_iii("s"), Few(2)
    config = dataclasses.replace(config, views=dataclasses.replace(config.views, mix_group=2, accumulate=1))
    some_steps(config, workspace)
    assert shapes["features"] == [(4, 197, 384)] * 2 and shapes["cls"] == [(4, 10)] * 2 and shapes["dist"] == []
    d = 384  # patch embedding, CLS, positions, blocks with LayerScale, final norm, head
    assert shapes["parameters"] == [769 * d + d + 196 * d + 12 * (12 * d * d + 15 * d) + 2 * d + 10 * (d + 1)]
    assert workspace.states[0]["loss"] / 4 == pytest.approx(np.log(2), abs=0.1)
    groups = workspace.last["optimizer"]["param_groups"]
    assert [g["weight_decay"] for g in groups] == [0.05, 0.0] and [int(g["step"]) for g in groups] == [2, 2]
    assert workspace.states[0]["lr"] == pytest.approx(1e-6)


def test_vit_with_ldam_differs_from_the_plain_vit_in_loss_head_and_mixing_alone(shapes):
    """One step of four views of the same model at size S."""
    block = PARAMS["experiments"]["cifar10_if100-vit_ldam-b"]
    assert block | {"method": "vit", "views": "cifar-mix_always"} == PARAMS["experiments"]["cifar10_if100-vit-b"]
    config, _ = resolve(PARAMS | {"experiments": {"e": block | {"recipe": "cifar-s"}}}, "e")
    plain, _ = resolve(PARAMS, "cifar10_if100-vit-b")
    assert dataclasses.replace(config.views, mix_prob=1.0) == plain.views and config.views.mix_prob == 0
    assert (config.loss.max_margin, config.loss.scale) == (0.5, 30.0)
    workspace = Few(1)
    views = dataclasses.replace(config.views, mix_group=2, accumulate=1)
    some_steps(dataclasses.replace(config, views=views), workspace)
    assert shapes["features"] == [(4, 197, 384)] and shapes["cls"] == [(4, 10)]
    head = workspace.last["model"]["head.weight"]
    assert head.shape == (384, 10) and torch.allclose(head.norm(dim=0), torch.ones(10), atol=1e-3)
    assert np.isfinite(workspace.states[0]["loss"])


def test_views_are_mixed_until_epoch_1100():
    config = shrunk("cifar10_if100-deit_lt-ti")
    views = Views(config.views, random_images("cifar10_if100").train_images, 0)
    before, after = views.step(1099, 0), views.step(1100, 0)
    assert before.x.shape == after.x.shape == (16, 3, 224, 224)
    assert (before.lam < 1).any() and (before.partner != before.index).any()
    assert (after.lam == 1).all() and torch.equal(after.partner, after.index)


@pytest.mark.parametrize("dataset", (*STUDIES, BALANCED))
def test_reweighting_acts_from_epoch_1100(dataset):
    """The DIST term becomes a weighted mean by the teacher's labels; smoothing of the CLS target ends."""
    config, _ = resolve(PARAMS, f"{dataset}-deit_lt-b")
    counts = counts_of(dataset)
    tail = len(counts) - 1
    method = load_method("deit_lt").Method(config.loss, counts)
    ratios = {"cifar10_if100": 78.89, "cifar10_if50": 39.54, "cifar100_if100": 97.57, "cifar100_if50": 48.79}
    ratio = {**ratios, "cifar10_if1": 1.0}[dataset]  # balanced: weights are equal
    logits = torch.zeros(2, tail + 1)
    logits[0, 0] = 2.0
    teacher = torch.tensor([0, tail])
    targets = Targets(teacher, teacher, torch.ones(2), teacher, [2])
    before, after = (method.loss({"cls": logits, "dist": logits}, targets, epoch).item() for epoch in (1099, 1100))
    head = np.log(np.exp(2.0) + tail) - 2.0  # cross-entropy of the head view, of the tail view
    last = np.log(tail + 1)
    soft = head + 0.1 * 2.0 * tail / (tail + 1)  # smoothed by .1: the logit's weight falls from 1 to .9 + .1/C
    assert before == pytest.approx(0.5 * (soft + last) / 2 + 0.5 * (head + last) / 2, rel=1e-5)
    assert after == pytest.approx(0.5 * (head + last) / 2 + 0.5 * (head + ratio * last) / (1 + ratio), rel=1e-4)


def test_params_file_is_what_was_read():
    """The entries above come through the strict loader, and mean what plain YAML says."""
    assert params.load_all(ROOT) == PARAMS
