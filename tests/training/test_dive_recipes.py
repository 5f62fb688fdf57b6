"""DiVE's full recipes as they stand: images, steps, learning rates, who teaches whom; and a few steps (METHODS 6.3)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from longtail.base import params
from longtail.cost.workload import Workload
from longtail.data.config import DatasetConfig
from longtail.data.made_data import made_data
from longtail.training.teacher import Source, build_model
from longtail.training.teacher_config import NONE, TeacherConfig
from longtail.training.teacher_training import Teacher, epoch_size, learning_rate
from tests.helpers.root import params_table
from tests.helpers.small import digits

TABLE = params_table()
DIVE = {name: entry for name, entry in TABLE["teachers"].items() if "dive" in entry["study"]}


def config_of(name: str) -> TeacherConfig:
    return params.build(TeacherConfig, TABLE["teachers"][name], f"teachers.{name}")


@pytest.mark.parametrize(
    ("dataset", "images", "steps"),
    [("cifar100_if100", 10_847, 85), ("cifar100_if50", 12_608, 99), ("cifar100_if10", 19_573, 153)],
)
@pytest.mark.parametrize("method", ["ce_bbn", "balanced_softmax_bbn", "dive", "dive_row3"])
def test_cifar_by_bbns_recipe(method, dataset, images, steps):
    """x .01 at epoch 120 and again at 160; the warm-up's rates as BBN's: a third of the base, and a fifth of the rest
    more each epoch."""
    config = config_of(f"{method}-{dataset}")
    assert epoch_size(config, images) == (steps, images)
    assert (config.arch, config.epochs, config.batch_size, config.weight_decay, config.momentum) == (
        "resnet32",
        200,
        128,
        2e-4,
        0.9,
    )
    rates = [learning_rate(config, epoch) for epoch in (0, 1, 2, 3, 4, 5, 119, 120, 159, 160, 199)]
    expected = [0.0333333, 0.0466667, 0.06, 0.0733333, 0.0866667, 0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5]
    assert rates == pytest.approx(expected, rel=1e-5)
    assert (config.crop_padding, config.hflip, config.sam_rho, config.select, config.drw_epoch) == (
        4,
        0.5,
        None,
        "last",
        None,
    )


@pytest.mark.parametrize(
    ("name", "arch", "images", "steps", "batch", "lr", "epochs", "tau", "power", "jitter"),
    [
        ("dive_x50-imagenet_lt", "resnext50", 115_846, 227, 512, 0.2, 90, 9.0, 1.0, 0.4),
        ("balanced_softmax_x50-imagenet_lt", "resnext50", 115_846, 227, 512, 0.2, 90, None, None, 0.4),
        ("dive-inat18", "resnet50", 437_513, 1710, 256, 0.1, 90, 2.0, 0.5, 0.0),
        ("dive_e200-inat18", "resnet50", 437_513, 1710, 256, 0.1, 200, 2.0, 0.5, 0.0),
        ("ce_dive-inat18", "resnet50", 437_513, 1710, 256, 0.1, 90, None, None, 0.0),
    ],
)
def test_large_sets_by_a_cosine_an_epoch(name, arch, images, steps, batch, lr, epochs, tau, power, jitter):
    config = config_of(name)
    assert epoch_size(config, images) == (steps, images)
    assert (config.arch, config.batch_size, config.epochs, config.weight_decay) == (arch, batch, epochs, 5e-4)
    middle, last = epochs // 2, epochs - 1
    rates = [learning_rate(config, epoch) for epoch in (0, middle, last)]
    assert rates == pytest.approx([lr, lr / 2, lr * (1 + math.cos(math.pi * last / epochs)) / 2], rel=1e-12)
    assert (config.views.size, config.eval_resize, config.views.hflip) == (224, 256, 0.5)
    assert config.views.jitter == (jitter, jitter, jitter, 0.0) and config.views.rand_ops == 0
    assert (
        config.distil is None
        if tau is None
        else (config.distil.tau, config.distil.power, config.distil.alpha) == (tau, power, 0.5)
    )


@pytest.mark.parametrize("name", [n for n, entry in DIVE.items() if entry.get("distil") and not n.startswith("ride")])
def test_a_student_is_its_teacher_but_for_what_the_table_compares(name):
    """Architecture, schedule and views are one recipe; seeds and data too, except for FULL's."""
    config = config_of(name)
    assert config.sources[1:] == NONE[1:]
    teacher = config_of(config.sources[0])
    own = {
        "sources": NONE,
        "distil": None,
        "loss": teacher.loss,
        "must_reach": None,
        "study": teacher.study,
        "sam_rho": None,
    }
    same = replace(config, **own, dataset=config.distil.teacher_dataset or config.dataset)
    assert same == replace(teacher, must_reach=None, sam_rho=None)
    assert teacher.loss == ("ce" if name.startswith("kd_") else "balanced_softmax")


def test_table_6_and_the_printed_settings():
    def told(name: str) -> tuple:
        config = config_of(f"{name}-cifar100_if100")
        of = config.distil
        return config.loss, of.tau, of.power, of.targets, of.power_of, of.of_student, of.weight

    distilled = [config_of(name) for name, entry in DIVE.items() if entry.get("distil")]
    assert {of.distil.alpha for of in distilled if of.experts == 1} == {0.5}
    assert told("dive") == ("balanced_softmax", 3, 0.5, "teacher", None, 3, 9)
    assert told("dive_row2") == ("none", 1, 0.5, "mixed", "mixed", 1, 1)
    assert told("dive_row2_power_first") == ("none", 1, 0.5, "mixed", "teacher", 1, 1)
    assert told("dive_row3") == ("none", 3, 0.5, "teacher", None, 3, 9)
    assert told("dive_row4") == ("none", 1, 1, "teacher", None, 1, 1)
    assert told("dive_row5") == ("none", 1, 1, "mixed", None, 1, 1)
    assert told("dive_row6") == ("none", 3, 0.5, "mixed", "mixed", 3, 9)
    assert told("kd_full_tau3") == ("none", 3, 1, "teacher", None, 3, 9)


@pytest.mark.parametrize("dataset", ["cifar100_if100", "cifar10_if100", "digits_if20-again", "cifar10_if100-jpeg"])
def test_four_students_of_the_same_targets(dataset):
    """What carries the gain: T is that of temperature 6 in all; the student is at 3 or 6, the factor 9 or 36."""
    found = [config_of(f"{n}-{dataset}").distil for n in ("dive", "dive_factor36", "dive_student6", "dive_tau6")]
    assert [of.tau / of.power for of in found] == [6] * 4
    assert [(of.of_student, of.weight) for of in found] == [(3, 9), (3, 36), (6, 9), (6, 36)]
    assert len({(of.alpha, of.targets) for of in found}) == 1


def test_the_miniatures_of_the_four():
    """On digits the recipe of digits-dive; of CIFAR-10-LT all images in six epochs, two of them at lower rates."""
    again, first = (config_of(f"balanced_softmax-digits_if20{name}") for name in ("-again", ""))
    assert replace(again, study=first.study, dataset=first.dataset) == first
    images = [dataset_of(of) for of in (again, first)]
    assert images[0] == images[1]
    jpeg, full = (config_of(f"balanced_softmax{name}") for name in ("-cifar10_if100-jpeg", "_bbn-cifar10_if100"))
    own = {"study", "dataset", "arch", "epochs", "warmup_epochs", "milestones", "seeds"}
    assert replace(jpeg, **{name: getattr(full, name) for name in own}) == full
    rates = [learning_rate(jpeg, epoch) for epoch in range(6)]
    assert rates == pytest.approx([0.1 / 3, 0.1, 0.1, 0.1, 1e-3, 1e-5])
    data = made_data(jpeg.dataset, dataset_of(jpeg))
    assert epoch_size(jpeg, len(data.train_labels)) == (97, 12_406)
    assert [len(of.seeds) for of in (again, jpeg)] == [4, 3]


def test_learnt_scales_of_ces_logits():
    """Fig. 4's LWS: five epochs of class-balanced sampling, a cosine an epoch from .2, from CE's weights."""
    config, ce = config_of("lws_x50-imagenet_lt"), config_of("ce_x50-imagenet_lt")
    assert (config.start.train, config.start.classifier, config.sources[0]) == ("scales", "kept", "ce_x50-imagenet_lt")
    own = {"epochs": ce.epochs, "eval_every": ce.eval_every, "sampler": "shuffle", "sources": NONE, "start": None}
    assert replace(config, **own) == ce
    assert (config.epochs, config.batch_size, config.weight_decay, config.sampler) == (5, 512, 5e-4, "class_balanced")
    rates = [learning_rate(config, epoch) for epoch in (0, 4)]
    assert rates == pytest.approx([0.2, 0.1 * (1 + math.cos(0.8 * math.pi))], rel=1e-12)
    small = config_of("lws-cifar10_if100-mini")
    assert (small.epochs, small.start, small.sampler) == (5, config.start, config.sampler)


def test_a_students_work_is_its_teachers_and_one_more_pass():
    full = Workload(TABLE)
    teacher, student = (full.of("train_teacher", f"{n}-cifar100_if100") for n in ("balanced_softmax_bbn", "dive"))
    forward = [load for load in student.loads if load.part == "forward" and "balanced_softmax_bbn" in load.entry]
    assert [load.count for load in forward] == [200 * 10_847]
    shape = full.teacher_shape("dive-cifar100_if100")
    assert student.flop - teacher.flop == 2 * 200 * 10_847 * shape.macs
    assert student.memory > teacher.memory and student.disk == teacher.disk


@pytest.mark.parametrize("name", ["dive-cifar10_if100-mini", "dive_tau6-cifar10_if100-mini"])
def test_a_few_steps_of_the_miniature_on_cifar(name):
    """On made images, taught by an untrained network, after the first decay: each step on a batch lowers its loss."""
    config = config_of(name)
    data = made_data(config.dataset, params.build(DatasetConfig, TABLE["datasets"][config.dataset], "datasets"))
    assert epoch_size(config, len(data.train_labels)) == (20, 1236)
    torch.manual_seed(1)
    source = Source(build_model(config, data.num_classes).eval().requires_grad_(False), 1.0, "made")
    teacher = Teacher(config, data, 0, torch.device("cpu"), sources=[source])
    step, (lr, _, _) = teacher.step_of(60)
    teacher.task.train()
    batch = teacher.task.batch(60, slice(0, 64))
    losses = [step(*batch)[0].item() for _ in range(4)]
    assert lr == pytest.approx(1e-3) and losses == sorted(losses, reverse=True) and losses[3] < losses[0]


@pytest.mark.parametrize(
    ("dataset", "arch", "images", "steps", "batch", "lr", "epochs", "decay", "milestones", "factor", "factors"),
    [
        ("cifar100_if100", "resnet32", 10_847, 85, 128, 0.1, 200, 5e-4, (160, 180), (-0.1, 0.05, 160), [1e-2, 1e-4]),
        ("imagenet_lt", "resnext50", 115_846, 453, 256, 0.1, 100, 2e-4, (60, 80), (-0.2, 0.02, 80), [0.1, 0.01]),
        ("inat18", "resnet50", 437_513, 855, 512, 0.2, 100, 2e-4, (60, 80), (-0.2, 0.015, 80), [0.1, 0.01]),
    ],
)
def test_rides_recipe_of_teacher_and_student(
    dataset, arch, images, steps, batch, lr, epochs, decay, milestones, factor, factors
):
    """Warm-up by fifths of the rate, Nesterov; the student is its teacher with four experts, held against its mean."""
    teacher, student = config_of(f"ride_bsce-{dataset}"), config_of(f"ride_dive-{dataset}")
    assert epoch_size(teacher, images) == (steps, images)
    assert (teacher.arch, teacher.batch_size, teacher.epochs, teacher.weight_decay) == (arch, batch, epochs, decay)
    assert (teacher.nesterov, teacher.momentum, teacher.scale, teacher.drw_epoch) == (True, 0.9, 30.0, None)
    assert (teacher.loss, teacher.experts, teacher.sources) == ("balanced_softmax", 6, NONE)
    of = teacher.diversity
    assert (of.factor, of.reweight, of.reweight_epoch) == factor
    last = milestones[-1]
    rates = [learning_rate(teacher, e) / lr for e in (0, 1, 4, 5, milestones[0] - 1, milestones[0], last - 1, last)]
    assert rates == pytest.approx([0.2, 0.4, 1, 1, 1, factors[0], factors[0], factors[1]], rel=1e-9)
    made, own = Teacher(replace(teacher, arch="resnet8"), digits(), 0, torch.device("cpu")), ("sources", "distil")
    assert made.optimizer.param_groups[0]["nesterov"]
    assert len({made.step_of(e)[1][2] for e in (0, of.reweight_epoch - 1)}) == 1
    assert made.step_of(of.reweight_epoch)[1][2] != made.step_of(0)[1][2]  # a CUDA graph is of one set of temperatures
    expected = {"experts": 4, "diversity": None, "must_reach": None, **{name: getattr(student, name) for name in own}}
    assert student == replace(teacher, **expected) and student.sources == (f"ride_bsce-{dataset}", *NONE[1:])
    soft = {"cifar100_if100": (3, 0.5, 9), "imagenet_lt": (3, 1, 9), "inat18": (2, 0.5, 4)}[dataset]
    assert (student.distil.tau, student.distil.power, student.distil.weight, student.distil.alpha) == (*soft, 0.75)


@pytest.mark.parametrize(
    ("dataset", "images", "steps", "top"),
    [("cifar100_if100", 10_847, 22, 30), ("imagenet_lt", 115_846, 227, 50), ("inat18", 437_513, 855, 50)],
)
def test_rides_router_alone(dataset, images, steps, top):
    """Five epochs of 512 in class-balanced draws, a cosine an epoch from .01."""
    config, student = config_of(f"ride_dive_routed-{dataset}"), config_of(f"ride_dive-{dataset}")
    assert epoch_size(config, images) == (steps, images) and config.sampler == "class_balanced"
    assert (config.start.train, config.start.classifier) == ("router", "kept")
    assert config.sources == (f"ride_dive-{dataset}", *NONE[1:])
    assert (config.router.top, config.router.hidden, config.router.pos_weight) == (top, 16, 100)
    assert (config.epochs, config.batch_size, config.weight_decay, config.nesterov) == (5, 512, 5e-4, True)
    rates = [learning_rate(config, epoch) for epoch in (0, 1, 4)]
    cosines = [0.005 * (1 + math.cos(math.pi * epoch / 5)) for epoch in (0, 1, 4)]
    assert rates == pytest.approx(cosines, rel=1e-12)
    same = ("arch", "experts", "scale", "views", "eval_resize", "crop_padding", "hflip", "normalization", "dataset")
    assert all(getattr(config, name) == getattr(student, name) for name in same)


def test_a_routers_work_is_forward_alone():
    full = Workload(TABLE)
    router, student = (full.of("train_teacher", f"ride_dive{of}-cifar100_if100") for of in ("_routed", ""))
    assert [(load.part, load.count) for load in router.loads] == [
        ("batch", 5 * 10_847),
        ("forward", 5 * 10_847),
        ("forward", 10_000),
    ]
    six = full.teacher_shape("ride_bsce-cifar100_if100")
    asked = [load for load in student.loads if load.entry == "teachers.ride_bsce-cifar100_if100"]
    assert [(load.part, load.count, load.shape) for load in asked] == [("forward", 200 * 10_847, six)]
    assert router.memory < student.memory


FULL = [  # one of each loss and each net that the published studies have, of the two classes, of the four cells
    *("ce_bbn-cifar100_if100", "focal_bbn-cifar100_if100", "balanced_softmax_bbn_sam-cifar100_if100"),
    *("dive-cifar100_if100", "dive_row3-cifar100_if50", "dive_row6-cifar100_if10", "dive_tau6-cifar10_if100"),
    *("kd_full_tau3-cifar100_if100", "dive_x50-imagenet_lt", "dive_e200-inat18"),
    *("eps0-airplane_automobile_5000_500", "eps40-airplane_dog_500_50", "lws_x50-imagenet_lt"),
    *("dive_student6-cifar10_if100-jpeg", "dive_factor36-digits_if20-again", "dive_student6-cifar100_if100"),
    *(
        "ride_bsce-cifar100_if100",
        "ride_dive-cifar100_if100",
        "ride_dive_routed-cifar100_if100",
        "ride_dive-imagenet_lt",
    ),
]


@pytest.mark.parametrize("name", FULL)
def test_a_few_steps_of_a_full_recipe(name):
    """With the entry's net, loss, rates and teacher, at small batches and, of large images, at 32 pixels: each
    moves the weights, and at the rate after the first decay lowers the loss of its batch."""
    config = config_of(name)
    if config.views:
        config = replace(config, views=replace(config.views, size=32), eval_resize=36)
    config = replace(config, batch_size=8)
    data = digits() if config.views else made_data(config.dataset, dataset_of(config))
    torch.manual_seed(1)
    sources = []
    if config.sources != NONE:
        sources = [Source(build_model(config.untaught(), data.num_classes).eval().requires_grad_(False), 1.0, "made")]
    teacher = Teacher(config, data, 0, torch.device("cpu"), sources=sources)
    decayed = config.milestones[0] if config.milestones else config.epochs - 1
    step, (lr, _, _) = teacher.step_of(decayed)
    assert lr == pytest.approx(config.lr * config.factors[0] if config.milestones else learning_rate(config, decayed))
    teacher.task.train()
    batch = teacher.task.batch(decayed, slice(0, 8))
    before = teacher.task.weights[-1].detach().clone()
    losses = [step(*batch)[0].item() / 8 for _ in range(3)]
    assert all(map(math.isfinite, losses)) and not torch.equal(teacher.task.weights[-1], before)
    assert config.views or losses[2] < losses[0]


def dataset_of(config: TeacherConfig) -> DatasetConfig:
    return params.build(DatasetConfig, TABLE["datasets"][config.dataset], "datasets")


@pytest.mark.parametrize("pair", ["airplane_automobile_5000_500", "airplane_dog_5000_500", "airplane_dog_5000_50"])
def test_two_classes_differ_in_the_heads_smoothing_alone(pair):
    """Figs 3 and 7: five seeds of five epsilons of four pairs; the rate falls at three and at four fifths."""
    entries = [config_of(f"eps{eps}-{pair}") for eps in (0, 10, 20, 30, 40)]
    assert [entry.head_smoothing for entry in entries] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert len({replace(entry, head_smoothing=0.0) for entry in entries}) == 1
    first, tenth = entries[0], config_of("eps0-airplane_dog_500_50")
    assert first.seeds == tenth.seeds == (0, 1, 2, 3, 4)
    assert (first.loss, first.arch, first.epochs, first.milestones) == ("ce", "resnet8", 12, (7, 10))
    assert (tenth.epochs, tenth.milestones) == (60, (36, 48))
    head, tail = (int(n) for n in pair.split("_")[2:])
    data = dataset_of(first)
    assert (data.n_max, data.imbalance_factor, data.cuts) == (head, head / tail, (1, 1))
    assert data.classes == ((0, 1) if "automobile" in pair else (0, 5))
    made = made_data(first.dataset, data)
    assert made.class_counts.tolist() == [head, tail] and made.author_groups.tolist() == [0, 2]
