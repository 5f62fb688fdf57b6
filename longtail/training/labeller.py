"""The network that labels a cache's views: a teacher, or a CNN trained as a student is (METHODS 2.7)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from longtail.base import intact
from longtail.base.errors import UserError
from longtail.base.files import file_digest
from longtail.base.params import build
from longtail.data.long_tail import LongTail
from longtail.models.build import CnnConfig, PooledCnn
from longtail.training.student_run import WEIGHTS, StudentRun, read_run
from longtail.training.teacher import load_teacher, teacher_digest
from longtail.training.teacher_config import TeacherConfig
from longtail.views.recipe import ViewRecipe


@dataclass(frozen=True)
class Labeller:
    """One seed of an entry of `teachers` or of `experiments`, in eval mode, float32, channels_last, no gradients."""

    network: nn.Module
    select: str  # which weights: last or best
    logit_scale: float  # of its output before any softmax
    trained_as: TeacherConfig | StudentRun


def load_labeller(
    kind: str, folder: Path, data: LongTail, recipe: ViewRecipe, device: torch.device | str = "cpu"
) -> Labeller:
    """The network in a seed's result folder; kind: the cache's teacher_kind; recipe: of the views it is to label.

    Raises UserError where a file is missing or cut short, where it was trained on another dataset or class order, where
    a teacher would be shown pixels of another scale, and where a student's run is no CNN or of another size than the
    views.
    """
    if kind == "teachers":
        network, config = load_teacher(folder, data, device)
        check_shown(folder, config.normalization, recipe)
        return Labeller(network, config.select, config.logit_scale, config)
    run = read_run(folder, data)
    shape, where = run.config.get("model"), f"{folder / 'config.yaml'}: model"
    if not isinstance(shape, dict) or "arch" not in shape:
        raise UserError(f"{where}: no CNN; of the experiments only those can label a cache")
    config = build(CnnConfig, shape, where)
    if config.image_size != recipe.teacher_size:
        sizes = f"trained at {config.image_size} px, would be shown {recipe.teacher_size} px"
        raise UserError(f"{folder}: {sizes}; the cache's views need another teacher_stride")
    network = PooledCnn(config, data.num_classes)
    run.put_into(network)
    network = network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return Labeller(network, "last", 1.0, run)


def check_shown(folder: Path, trained: str, recipe: ViewRecipe) -> None:
    """Raises UserError where a teacher would be shown another normalisation than it was trained with. The published
    runs do that with two that centre and scale alike (METHODS trap 8), so between such it is no error, unless the views
    say that they show the teacher's own; between one and none (pixel / 255, CBD) the labels would be noise."""
    shown = recipe.shown_normalization
    if shown == trained or ("none" not in (shown, trained) and not recipe.teacher_renormalize):
        return
    raise UserError(
        f"{folder}: was trained with normalization {trained}, would be shown {shown}; in the cache's views write "
        f"teacher_renormalize: true and teacher_normalization: {trained}"
    )


def labeller_digest(kind: str, folder: Path) -> str:
    """sha256 (hex) of the weights that `load_labeller` would use. Raises UserError where they are damaged."""
    intact.check(folder)
    return teacher_digest(folder) if kind == "teachers" else file_digest(folder / WEIGHTS)
