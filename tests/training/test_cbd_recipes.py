"""CBD's full recipes as they stand: steps, rates, views, who teaches whom; and a few steps of each kind (METHODS 7)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from longtail.base import params
from longtail.cost.workload import Workload
from longtail.data.config import DatasetConfig
from longtail.data.made_data import made_data
from longtail.losses.cbd import FeatureDistillation
from longtail.report.study import StudyConfig
from longtail.training.teacher import Source, build_model
from longtail.training.teacher_config import NONE, TeacherConfig
from longtail.training.teacher_training import Teacher, epoch_size, learning_rate
from tests.helpers.root import params_table
from tests.helpers.small import digits

TABLE = params_table()
STUDIES = [name for name in TABLE["studies"] if "cbd" in name]
CBD = {name: entry for name, entry in TABLE["teachers"].items() if entry["study"] in STUDIES}
FULL = {name: entry for name, entry in CBD.items() if "digits" not in name and "mini" not in name}


def config_of(name: str) -> TeacherConfig:
    return params.build(TeacherConfig, TABLE["teachers"][name], f"teachers.{name}")


@pytest.mark.parametrize(
    ("name", "images", "steps", "epochs", "decay", "lr"),
    [
        ("instance-imagenet_lt", 115_846, 452, 90, 2.5e-4, 0.2),
        ("cbd-imagenet_lt", 115_846, 452, 90, 2.5e-4, 0.2),
        ("cbd_ens_r152-imagenet_lt", 115_846, 452, 90, 2.5e-4, 0.2),
        ("finetune-imagenet_lt", 115_846, 452, 10, 2.5e-4, 0.01),
        ("crt_e90-imagenet_lt", 115_846, 452, 90, 2.5e-4, 0.2),
        ("instance-inat18", 437_513, 1709, 200, 1e-4, 0.2),
        ("cbd_ens-inat18", 437_513, 1709, 200, 1e-4, 0.2),
        ("instance_e400-inat18", 437_513, 1709, 400, 1e-4, 0.2),
        ("crt-inat18", 437_513, 1709, 30, 1e-4, 0.2),
        ("instance_r101-inat17", 579_184, 2262, 200, 1e-4, 0.2),
        ("cbd_ens-inat17", 579_184, 2262, 200, 1e-4, 0.2),
        ("crt_r101-inat17", 579_184, 2262, 30, 1e-4, 0.2),
    ],
)
def test_the_printed_settings(name, images, steps, epochs, decay, lr):
    """N // 256 steps an epoch, half a cosine over all of them, no warm-up; pixels / 255, TensorFlow's views."""
    config = config_of(name)
    assert epoch_size(config, images) == (steps, 256 * steps)
    assert (config.epochs, config.weight_decay, config.momentum, config.scale) == (epochs, decay, 0.9, 20)
    total = steps * epochs
    for step in (0, 1, steps, total // 2, total - 1):
        epoch, within = divmod(step, steps)
        found = learning_rate(config, epoch, within / steps)
        assert found == pytest.approx(lr * (1 + math.cos(math.pi * step / total)) / 2, rel=1e-9)
    assert (config.normalization, config.select, config.init, config.zero_gamma) == ("none", "last", "glorot", True)
    of = config.views
    assert (of.size, of.crop_scale, of.hflip, of.antialias, config.eval_resize) == (224, (0.05, 1.0), 0.5, False, 256)


def test_the_kinds_of_teachers_and_who_learns_from_whom():
    def told(name: str) -> tuple:
        config = config_of(name)
        of = config.views
        return config.sampler, of.jitter, of.jitter_prob, of.gray_prob, of.noise, config.family

    plain, strong = (0.0,) * 4, (0.8, 0.8, 0.8, 0.2)
    for data in ("imagenet_lt", "inat18"):
        assert told(f"instance-{data}") == ("shuffle", plain, 1.0, 0.0, 0.0, 1)
        assert told(f"instance_2-{data}") == ("shuffle", plain, 1.0, 0.0, 0.0, 2)
        assert told(f"instance_aug-{data}") == ("shuffle", strong, 0.8, 0.2, 0.0, 3)
        assert told(f"instance_aug_2-{data}") == ("shuffle", strong, 0.8, 0.2, 0.0, 4)
        assert told(f"class_balanced_aug-{data}") == ("balanced_copies", strong, 0.8, 0.2, 0.0, 0)
        assert told(f"cbd_ens-{data}") == ("balanced_copies", plain, 1.0, 0.0, 0.0, 0)
        assert told(f"crt_aug-{data}")[:2] == ("balanced_copies", plain)  # the second stage has standard views
        assert config_of(f"cbd-{data}").sources == (f"instance-{data}", *NONE[1:])
        four = (*(f"{k}-{data}" for k in ("instance", "instance_2", "instance_aug", "instance_aug_2")), "none")
        assert config_of(f"cbd_ens-{data}").sources == config_of(f"ensemble-{data}").sources == four
        assert config_of(f"cbd_la-{data}").sampler == "shuffle"
    assert told("noise_aug-imagenet_lt")[4] == 0.01


@pytest.mark.parametrize("name", [name for name, entry in CBD.items() if entry.get("distil")])
def test_students_have_the_printed_weights_and_a_projection_as_wide_as_their_teachers(name):
    """alpha .4 and beta 100 wherever neither is what varies; one teacher has no projection, but for the miniature's."""
    config = config_of(name)
    assert isinstance(config.distil, FeatureDistillation) and config.family == 0
    of, swept = config.distil, any(word in name for word in ("alpha", "beta", "kd_", "hybrid"))
    assert swept or (of.alpha, of.beta, of.tau) == (0.4, 100.0, None)
    width = {"resnet8": 64, "resnet32": 64}.get(config.arch, 2048)
    projected = of.teachers > 1 or "k1-digits" in name
    assert config.projection == (of.teachers * width if projected else None)
    sources = [config_of(source) for source in config.sources if source != "none"]
    assert len({source.family for source in sources} | {0}) == len(sources) + 1  # no two, and not it, draw the same
    assert all(source.arch == config.arch and source.sampler == "shuffle" for source in sources)


def test_inaturalist_2017_is_trained_as_2018():
    """Each entry is that of 2018, but for data set, study, teachers and what it must reach; cRT of ResNet-101 has none
    there."""
    found = {name for name in CBD if name.endswith("-inat17")}
    kinds = ("instance", "instance_2", "instance_aug", "instance_aug_2", "crt", "cbd", "cbd_ens")
    assert found == {f"{kind}{depth}-inat17" for kind in kinds for depth in ("", "_r101")}
    for name in found:
        ours, other = config_of(name), TABLE["teachers"][name.replace("_r101", "").replace("17", "18")]
        wanted = params.build(TeacherConfig, other, name)
        sources = tuple(source.replace("inat18", "inat17") for source in wanted.sources)
        if "_r101" in name:
            sources = tuple(s.replace("-inat17", "_r101-inat17") for s in sources)
        arch = "resnet101" if "_r101" in name else "resnet50"
        assert ours == replace(
            wanted, dataset="inat17", study="cbd-inat17", must_reach=ours.must_reach, sources=sources, arch=arch
        )
    reached = {name: config_of(name).must_reach for name in found}
    floors = {name: floor.top1 for name, floor in reached.items() if floor}
    assert floors == {"instance-inat17": 62.5, "instance_r101-inat17": 64.1}  # Table 8


def test_table_1_and_the_sweeps():
    found = {}
    for name, entry in CBD.items():
        if entry["dataset"] != "imagenet_lt_val":
            continue
        config = config_of(name)
        found[name.removesuffix("-imagenet_lt_val")] = config
        assert config.source_dataset == "imagenet_lt"
    assert [found[f"cbd_k{k}"].distil.teachers for k in (2, 3, 5)] == [2, 3, 5]
    assert all(found[name].epochs == 0 for name in ("cbd_k1", "cbd_k1_aug", "cbd_k4"))
    assert sorted(c.distil.alpha for n, c in found.items() if n.startswith("cbd_alpha")) == [0, 0.1, 0.2, 0.6, 0.8, 0.9]
    assert sorted(c.distil.tau for n, c in found.items() if n.startswith("kd_tau") and "_alpha" not in n) == [
        1,
        2,
        4,
        8,
    ]
    assert sorted(c.distil.beta for n, c in found.items() if n.startswith("cbd_beta")) == [0.1, 1, 10, 30, 300, 1000]
    assert {(c.distil.beta, c.distil.tau) for n, c in found.items() if n.startswith("hybrid")} == {(100, 2)}


@pytest.mark.parametrize("study", ["cbd-imagenet_lt_val", "cbd-digits_sweeps"])
def test_a_sweep_says_what_its_entries_were_trained_with(study):
    """Value, kind and temperature of each point; what is tested again has them from the entry whose weights it has."""
    panels = params.build(StudyConfig, TABLE["studies"][study], study).sweeps
    assert [panel.setting for panel in panels] == ["alpha", "beta"]
    for panel in panels:
        for line in panel.lines:
            found = [(value, config_of(name)) for value, name in line.teachers]
            trained = [(value, c if c.distil else config_of(c.sources[0])) for value, c in found]
            assert [getattr(c.distil, panel.setting) for _, c in trained] == [value for value, _ in trained]
            label, _, tau = line.label.partition(", T ")
            learns = {"Features": (True, False), "Softened answers": (False, True), "Both": (True, True)}[label]
            for c in (c.distil for value, c in trained if value):  # at alpha 0 nothing is distilled
                assert (c.beta is not None, c.tau is not None) == learns and (c.tau or "") == (
                    float(tau) if tau else ""
                )
            other = {"alpha": "beta", "beta": "alpha"}[panel.setting]
            assert {getattr(c.distil, other) for value, c in trained if value} <= {0.4, 100.0, None}


def test_the_cost_of_four_teachers_is_that_of_four_passes():
    full = Workload(TABLE)
    alone, student = (full.of("train_teacher", f"{n}-imagenet_lt") for n in ("class_balanced", "cbd_ens"))
    shape, teacher = full.teacher_shape("cbd_ens-imagenet_lt"), full.teacher_shape("instance-imagenet_lt")
    forward = [load for load in student.loads if load.part == "forward" and not load.entry.startswith("teachers.cbd")]
    shown = 90 * 452 * 256
    assert [load.count for load in forward] == [shown] * 4
    own = 2 * shown * (shape.train_macs - teacher.train_macs)
    tests = 2 * 9 * (50_000 + 20_000) * (shape.macs - teacher.macs)
    assert student.flop - alone.flop == own + tests + 4 * 2 * shown * teacher.macs
    assert student.memory - alone.memory > 4 * 4 * teacher.params
    crt, tuned = (full.of("train_teacher", f"{n}-imagenet_lt") for n in ("finetune_classifier", "finetune"))
    assert crt.memory < tuned.memory and crt.flop < 0.4 * tuned.flop
    ncm = full.of("train_teacher", "ncm_instance-imagenet_lt")
    assert [(load.part, load.count) for load in ncm.loads] == [("forward", 50_000 + 20_000 + 115_846)]


STEPS = [  # one of each kind
    *("instance-imagenet_lt", "noise_aug-imagenet_lt", "class_balanced_aug-imagenet_lt", "logit_adjusted-imagenet_lt"),
    *("cbd-imagenet_lt", "cbd_ens-inat18", "cbd_la-imagenet_lt", "kd_tau2-imagenet_lt_val", "instance-inat18"),
    *("hybrid_alpha0p4-imagenet_lt_val", "finetune-inat18", "crt-imagenet_lt", "crt_full-imagenet_lt"),
    *("cbd_ens-inat17", "crt-inat17"),
    *("cbd_ens-cifar10_if100-mini", "instance_aug-cifar10_if100-mini"),
]


@pytest.mark.parametrize("name", STEPS)
def test_a_few_steps_of_a_full_recipe(name):
    """With the entry's net, loss, rate, first weights and teachers, at small batches and, of large images, at 32
    pixels: each moves the weights, and at a late rate lowers the loss of its batch."""
    config = config_of(name)
    if config.views and config.views.size > 32:
        config = replace(config, views=replace(config.views, size=32), eval_resize=36)
    config = replace(config, batch_size=8)
    large = config.arch == "resnet50"
    data = digits() if large else made_data(config.dataset, dataset_of(config))
    torch.manual_seed(1)
    of = replace(config.untaught(), projection=None)
    named = [name for name in config.sources if name != "none"]
    sources = [Source(build_model(of, data.num_classes).eval().requires_grad_(False), 20.0, "") for _ in named]
    teacher = Teacher(config, data, 0, torch.device("cpu"), sources=sources)
    late = config.epochs * 9 // 10
    step, (lr, _, _) = teacher.step_of(late)
    assert lr == pytest.approx(config.lr * (1 + math.cos(math.pi * late / config.epochs)) / 2)
    teacher.task.train()
    batch = teacher.task.batch(late, slice(0, 8))
    before = teacher.task.model.fc.weight.detach().clone()
    losses = [step(*batch)[0].item() / 8 for _ in range(3)]
    assert all(map(math.isfinite, losses)) and not torch.equal(teacher.task.model.fc.weight, before)
    assert losses[2] < losses[0]


def dataset_of(config: TeacherConfig) -> DatasetConfig:
    return params.build(DatasetConfig, TABLE["datasets"][config.dataset], "datasets")
