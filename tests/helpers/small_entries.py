"""Entries of params.yaml made small enough to be probed whole in a second: networks and images shrink, recipes stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from longtail.base import params
from longtail.data.config import DatasetConfig
from longtail.data.long_tail import LongTail
from longtail.data.made_data import made_data
from longtail.models.build import CnnConfig
from longtail.models.mae import DecoderConfig, MaskedAutoencoder, split_state
from longtail.runs.probe import Probe
from longtail.training.cache_probe import cache_probe
from longtail.training.experiment import StudentConfig, load_method, resolve
from longtail.training.labels import TeacherLabels
from longtail.training.pretraining_config import PretrainingConfig, resolve_pretraining
from longtail.training.pretraining_probe import pretraining_probe
from longtail.training.student_probe import student_probe
from longtail.training.student_run import StudentRun
from longtail.training.teacher import Source, build_model
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_probe import teacher_probe
from longtail.views.student_views import Views
from tests.helpers.root import params_table
from tests.helpers.small import Teacher

TABLE = params_table()
SIDE = 24
TEACHER_SEES = {"teacher_stride": 2, "teacher_offset": 1}
STUDENTS = {  # an experiment of each method, and of each kind of network
    "deit_lt": "cifar10_if100-deit_lt-b",
    "deit_lt_own": "cifar100_if100-deit_lt_paco_sam-b-no_distillation",
    "vit": "cifar10_if100-vit-b",
    "deit_iii": "cifar10_if100-deit_iii-b",
    "vit_ldam": "cifar10_if100-vit_ldam-b",
    "crt": "cifar10_if100-vit_crt-b",
    "regnet": "cifar10_if100-regnety",
    "livt": "cifar10_if100-livt-b-issue3",  # mixed views, Bal-BCE
    **{loss: f"cifar10_if100-bft_{loss}-b" for loss in ("cb", "ldam", "lade", "ib", "bal_ce")},
}
PRETRAININGS = {"mgp": "imagenet_lt-mgp-b"}
TEACHERS = {
    "ldam_drw_sam": "ldam_drw_sam-cifar10_if100",
    "ce": "ce-cifar10_if100",
    "balanced_softmax": "balanced_softmax-cifar10_if100",
    "paco_sam": "paco_sam-cifar10_if100",
    "large": "ldam_drw_sam-imagenet_lt",
    "large_paco": "paco-imagenet_lt",
    "dive": "dive-cifar100_if100",
    "dive_mixed": "dive_row6-cifar100_if100",
    "dive_student6": "dive_student6-cifar100_if100",
    "dive_factor36": "dive_factor36-cifar100_if100",
    "lws": "lws_x50-imagenet_lt",
    "focal": "focal_bbn-cifar100_if100",
    "dive_large": "dive-inat18",
    "ride": "ride_bsce-cifar100_if100",
    "ride_dive": "ride_dive-imagenet_lt",
    "ride_routed": "ride_dive_routed-cifar100_if100",
    "cbd_ens": "cbd_ens-cifar10_if100-mini",
    "cbd_crt": "crt-imagenet_lt",
}


def student_entry(table: dict, name: str) -> tuple[StudentConfig, LongTail]:
    """An experiment with a network of two thin blocks that sees few small views, and its dataset in small."""
    config, _ = resolve(table, name)
    side = 64 if isinstance(config.model, CnnConfig) else SIDE  # its last layer still has four pixels
    views = replace(config.views, size=side, mix_group=8, round_to=8, **TEACHER_SEES)
    if isinstance(config.model, CnnConfig):
        model = CnnConfig("regnetx_002", side)
    else:
        model = replace(config.model, image_size=side, patch_size=6, dim=48, depth=2, heads=3)
    resize = side * config.train.eval_resize // config.views.size
    small = replace(config, model=model, views=views, train=replace(config.train, eval_resize=resize))
    return small, small_data(config.dataset)


def pretraining_entry(table: dict, name: str) -> tuple[PretrainingConfig, LongTail]:
    """A pretraining with two thin blocks of encoder and one of decoder, that sees few small views."""
    config, _ = resolve_pretraining(table, name)
    views = replace(config.views, size=SIDE, mix_group=8, round_to=8)
    model = replace(config.model, image_size=SIDE, patch_size=6, dim=48, depth=2, heads=3)
    small = replace(config, model=model, views=views, decoder=DecoderConfig(dim=16, depth=1, heads=2))
    return small, small_data(config.dataset)


def teacher_entry(table: dict, name: str) -> tuple[TeacherConfig, LongTail]:
    """A teacher's entry with a ResNet-8 and, on large images, few views of few pixels."""
    config = params.build(TeacherConfig, table["teachers"][name], f"teachers.{name}")
    changes = {"arch": "resnet8", "batch_size": 16, "paco": config.paco and replace(config.paco, queue=64)}
    if config.router is not None:
        changes["router"] = replace(config.router, top=5)  # of ten classes
    if config.views is not None:
        changes |= {"views": replace(config.views, size=SIDE), "eval_resize": SIDE + 4}
        if config.paco is not None:
            changes["paco"] = replace(changes["paco"], key_views=replace(config.paco.key_views, size=SIDE))
    return replace(config, **changes), small_data(config.dataset)


def small_data(name: str) -> LongTail:
    """Images of 32 px, in which a PaCo teacher's Cutout leaves something, in ten classes of 130 down to 6."""
    block = {"source": "imagefolder", "raw": "data/none", "imbalance_factor": 20.0, "n_max": 130, "subset_seed": 0}
    block |= {"cuts": [3, 7], "test_per_class": None, "image_size": 32, "download": False}
    return made_data(name, params.build(DatasetConfig, block, "datasets.small"))


def made_labels(config: StudentConfig, data: LongTail) -> TeacherLabels | None:
    """A cache of labels that follow the positions, for methods with a teacher."""
    if "none" == config.cache == config.teacher:
        return None
    positions = Views(config.views, data.train_images, 0, labels=data.train_labels).positions_per_epoch
    table = (np.arange(config.train.epochs)[:, None] + np.arange(positions)) % data.num_classes
    return TeacherLabels(table.astype(np.uint8), {})


def probe_student(table: dict, name: str, seed: int = 0) -> Probe:
    config, data = student_entry(table, name)
    start = None
    if load_method(config.method).Method.head_only or config.pretrained is not None:
        start = first_weights(config, data)
    return student_probe(config, data, seed, made_labels(config, data), start)


def first_weights(config: StudentConfig, data: LongTail) -> StudentRun:
    """What another seed begins with, as a run to start from."""
    import torch

    from longtail.models.build import build_network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        if config.pretrained is None:
            return StudentRun(Path("made"), {}, build_network(config.model, data.num_classes, False).state_dict())
        shape = replace(config.model, image_size=2 * config.model.image_size, drop_path=0.0)  # other positions
        encoder, _ = split_state(MaskedAutoencoder(shape, DecoderConfig(dim=16, depth=1, heads=2)).state_dict())
        return StudentRun(Path("made"), {"pretraining": "made"}, encoder)


def probe_pretraining(table: dict, name: str, seed: int = 0) -> Probe:
    config, data = pretraining_entry(table, name)
    return pretraining_probe(config, data, seed)


def probe_teacher(table: dict, name: str, seed: int = 0) -> Probe:
    config, data = teacher_entry(table, name)
    named = [name for name in config.sources if name != "none"]
    return teacher_probe(config, data, seed, [untrained(config, data, 1 + k) for k in range(len(named))])


def untrained(config: TeacherConfig, data: LongTail, seed: int = 1) -> Source:
    """What another seed begins with, in the place of an entry's teacher; its logits times 5, as a trained one's are."""
    import torch

    of = replace(config.untaught(), projection=None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model(of, data.num_classes).eval().requires_grad_(False)
    return Source(network, 5.0, "made")


def probe_cache(table: dict, name: str) -> Probe:
    """Of the labels that a student's entry learns from, by the stand-in teacher."""
    config, data = student_entry(table, name)
    views = Views(config.views, data.train_images, 0, labels=data.train_labels)
    return cache_probe(Teacher(side=config.views.teacher_size), views, config.train.epochs)
