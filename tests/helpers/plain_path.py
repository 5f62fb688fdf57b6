"""A DeiT-LT student and an LDAM teacher with SAM trained in plain loops, written from METHODS 2.3, 2.4 and 3.3 to 3.7.

What the fast paths of longtail are compared with: one mix group, which is one micro-batch of one virtual GPU, at a
time; its views made one by one with Pillow and mixed here; timm's own forward pass; losses, schedule and updates as the
formulas stand. Shared with longtail are the draws of chance (views, mixing, stochastic depth) and the untrained
teacher.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.base import rng
from longtail.data.long_tail import LongTail
from longtail.models import transformer
from longtail.models.vit import ModelConfig
from longtail.training.experiment import StudentConfig, TrainConfig
from longtail.training.teacher import build_model
from longtail.training.teacher_config import TeacherConfig
from longtail.views import mix
from longtail.views.normalize import NORMALIZATION
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views
from longtail.views.teacher_views import weak_parameters


@dataclass
class Plain:
    """What a run did, group by group, and its last weights."""

    views: list[Tensor] = field(default_factory=list)  # float32 [n, 3, S, S]
    taught: list[Tensor] = field(default_factory=list)  # int64 [n], the teacher's labels
    losses: list[float] = field(default_factory=list)
    steps: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


def timms_own(shape: ModelConfig, classes: int) -> VisionTransformerDistilled:
    """With the published code's initial weights; stochastic depth takes its chance from longtail's draws."""
    model = VisionTransformerDistilled(
        img_size=shape.image_size,
        patch_size=shape.patch_size,
        embed_dim=shape.dim,
        depth=shape.depth,
        num_heads=shape.heads,
        mlp_ratio=shape.mlp_ratio,
        num_classes=classes,
    )
    first = shape.drop_path if shape.drop_path_mode == "constant" else 0
    for number, rate in enumerate(np.linspace(first, shape.drop_path, shape.depth)):
        for branch, name in enumerate(("drop_path1", "drop_path2")):
            if rate:
                setattr(model.blocks[number], name, transformer.DropPath(float(rate), 2 * number + branch))
    return model


def train_deit_lt(
    config: StudentConfig, data: LongTail, seed: int, teacher: nn.Module, dtype: torch.dtype = torch.float32
) -> Plain:
    """METHODS 3.4 and 3.5. dtype: of the weights and of all that is computed from them."""
    recipe, schedule, loss, classes = config.views, config.train, config.loss, data.num_classes
    views = Views(recipe, data.train_images, seed, backend="pil")
    torch.manual_seed(seed)
    model = timms_own(config.model, classes).to(dtype).train()
    model.set_distilled_training(True)
    branches, weight = transformer.branches(model), class_weights(data.class_counts, loss.drw_beta).to(dtype)
    optimizer = torch.optim.AdamW(
        groups_by_name(model, schedule.weight_decay),
        lr=schedule.lr,
        betas=schedule.betas,
        eps=schedule.eps,
        foreach=False,
        fused=False,
    )
    run = Plain()
    for epoch in range(schedule.epochs):
        smoothing = loss.smoothing if epoch < loss.smoothing_until else 0.0
        micro_batches = list(positions_of_ranks(views.positions_per_epoch, recipe))
        for number, ranks in enumerate(micro_batches):
            first, last = number % recipe.accumulate == 0, number == len(micro_batches) - 1
            if first or last:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(epoch + number / len(micro_batches), schedule)
            for rank, positions in enumerate(ranks):
                x, lam = mixed(views, epoch, positions, number * recipe.virtual_world + rank)
                taught = teacher_of(teacher, x, recipe)
                y = torch.from_numpy(data.train_labels[views.order(epoch)[positions]])
                transformer.use(branches, torch.from_numpy(transformer.draw(branches, views.key, epoch, positions)))
                cls, dist = model(x.to(dtype))
                target = soft_target(y, lam, classes, smoothing).to(dtype)
                base = -(target * cls.log_softmax(1)).sum(1).mean()
                distilled = F.cross_entropy(dist, taught, weight=weight if epoch >= loss.drw_epoch else None)
                both = (1 - loss.alpha) * base + loss.alpha * distilled
                (both / (recipe.accumulate * recipe.virtual_world)).backward()
                run.views.append(x)
                run.taught.append(taught)
                run.losses.append(both.item())
            if (number + 1) % recipe.accumulate == 0 or last:
                optimizer.step()
                optimizer.zero_grad()
                run.steps += 1
    run.weights = {name: value.detach() for name, value in model.state_dict().items()}
    return run


def positions_of_ranks(positions: int, recipe: ViewRecipe) -> Iterator[list[np.ndarray]]:
    """Of each micro-batch of an epoch, the positions that each rank has (METHODS 3.6)."""
    left, start = positions // recipe.virtual_world, 0
    while left:
        size = min(recipe.mix_group, left)
        yield [np.arange(start + rank * size, start + (rank + 1) * size) for rank in range(recipe.virtual_world)]
        left, start = left - size, start + size * recipe.virtual_world


def mixed(views: Views, epoch: int, positions: np.ndarray, group: int) -> tuple[Tensor, Tensor]:
    """One group's views, float32 [n, 3, S, S], and the weight of their own labels, float32 (METHODS 3.7, row 7)."""
    x = torch.cat([views.unmixed(epoch, positions[i : i + 1]) for i in range(len(positions))])
    (what,) = mix.draw(views.recipe, views.key, epoch, [group])
    partner = x.flip(0)
    if what.box is None:
        x = what.lam * x + (1 - what.lam) * partner
    else:
        top, bottom, left, right = what.box
        x[:, :, top:bottom, left:right] = partner[:, :, top:bottom, left:right]
    return x, torch.tensor(what.lam, dtype=torch.float32)


@torch.no_grad()
def teacher_of(teacher: nn.Module, x: Tensor, recipe: ViewRecipe) -> Tensor:
    """The teacher's argmax on the student's own views, sampled at every stride-th pixel (METHODS 3.3)."""
    every = slice(recipe.teacher_offset, None, recipe.teacher_stride)
    return teacher(x[..., every, every]).argmax(1)


def soft_target(y: Tensor, lam: Tensor, classes: int, smoothing: float) -> Tensor:
    """float32 [n, C]; the partner of view i is view n - 1 - i."""
    off = smoothing / classes
    smoothed = torch.where(F.one_hot(y, classes).bool(), 1 - smoothing + off, off)
    return lam * smoothed + (1 - lam) * smoothed.flip(0)


def class_weights(counts: np.ndarray, beta: float) -> Tensor:
    """(1 - b) / (1 - b^n), in float32 as published, where they sum to the number of classes (METHODS 3.4)."""
    weights = (1 - beta) / (1 - np.power(beta, np.asarray(counts, np.float64)))
    return torch.from_numpy(weights / weights.sum() * len(counts)).to(torch.float32)


def groups_by_name(model: nn.Module, decay: float) -> list[dict]:
    """No weight decay on norms, biases, positions and the two tokens (METHODS 3.5)."""
    spared = [n for n, _ in model.named_parameters() if "norm" in n or n.endswith(("bias", "_token", "pos_embed"))]
    named = dict(model.named_parameters())
    return [
        {"params": [p for n, p in named.items() if n not in spared], "weight_decay": decay},
        {"params": [named[n] for n in spared], "weight_decay": 0.0},
    ]


def learning_rate(t: float, of: TrainConfig) -> float:
    """At a fractional epoch (METHODS 3.5)."""
    if t < of.warmup_epochs:
        return of.warmup_lr + (of.lr - of.warmup_lr) * t / of.warmup_epochs
    return of.min_lr + (of.lr - of.min_lr) * (1 + math.cos(math.pi * t / of.epochs)) / 2


def train_ldam_sam(config: TeacherConfig, data: LongTail, seed: int, dtype: torch.dtype = torch.float32) -> Plain:
    """METHODS 2.2 to 2.4: LDAM-DRW with SAM, on zero-padded random crops. Its losses are means of epochs."""
    torch.manual_seed(seed)
    model = build_model(config, data.num_classes).to(dtype).train()
    optimizer = torch.optim.SGD(
        model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, foreach=False
    )
    margins = torch.from_numpy(np.asarray(data.class_counts, np.float64) ** -0.25)
    margins = (config.max_margin * margins / margins.max()).to(torch.float32)
    weight = class_weights(data.class_counts, config.drw_beta).to(dtype)
    run = Plain()
    for epoch in range(config.epochs):
        (group,) = optimizer.param_groups
        group["lr"] = step_rate(epoch + 1, config)
        order = rng.permutation(seed, "teacher_order", epoch, len(data.train_labels))
        corners = weak_parameters(seed, epoch, np.arange(len(order)), config.crop_padding, config.hflip)
        total = 0.0
        for start in range(0, len(order), config.batch_size):
            rows = slice(start, start + config.batch_size)
            images = zip(data.train_images[order[rows]], corners[rows], strict=True)
            x = torch.stack([weak_view(image, *corner, config) for image, corner in images]).to(dtype)
            y = torch.from_numpy(data.train_labels[order[rows]])

            def loss(x=x, y=y, drw=epoch >= config.drw_epoch) -> Tensor:
                shifted = model(x) - F.one_hot(y, data.num_classes) * margins
                return F.cross_entropy(config.scale * shifted, y, weight=weight if drw else None)

            optimizer.zero_grad()
            loss().backward()
            before = [p.detach().clone() for p in model.parameters()]
            length = math.sqrt(sum(float(p.grad.double().square().sum()) for p in model.parameters()))
            with torch.no_grad():
                for p in model.parameters():
                    p += config.sam_rho * p.grad / (length + 1e-12)
            optimizer.zero_grad()
            second = loss()
            second.backward()
            with torch.no_grad():
                for p, old in zip(model.parameters(), before, strict=True):
                    p.copy_(old)
            optimizer.step()
            total += second.item() * len(x)
            run.steps += 1
        run.losses.append(total / len(order))
    run.weights = {name: value.detach() for name, value in model.state_dict().items()}
    return run


def weak_view(image: np.ndarray, top: int, left: int, flipped: int, config: TeacherConfig) -> Tensor:
    """float32 [3, H, W], normalised (METHODS 2.3)."""
    padded = ImageOps.expand(Image.fromarray(image), config.crop_padding, fill=0)
    view = padded.crop((left, top, left + image.shape[1], top + image.shape[0]))
    pixels = np.asarray(ImageOps.mirror(view) if flipped else view, np.float32) / 255
    mean, std = (np.asarray(values, np.float32) for values in NORMALIZATION[config.normalization])
    return torch.from_numpy((pixels - mean) / std).permute(2, 0, 1)


def step_rate(epoch: int, of: TeacherConfig) -> float:
    """Of an epoch counted from 1 (METHODS 2.3)."""
    if epoch <= of.warmup_epochs:
        return of.lr * epoch / of.warmup_epochs
    rate = of.lr
    for milestone, factor in zip(of.milestones, of.factors, strict=True):
        rate = of.lr * factor if epoch > milestone else rate
    return rate
