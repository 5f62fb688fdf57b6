"""LiVT's balanced fine-tuning (Xu et al., CVPR 2023): one way to train, and the losses that the paper compares.

Soft targets, bias in training alone (METHODS 5.4). `bal_bce` with `test_prior: none` is Theorem 2, which
made the published numbers; `uniform` is Eq. 10, which the paper prints; shares are Theorem 3. tau scales the whole
bias. The loss is a mean over each mix group, LIVT's micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from longtail.losses import soft_target
from longtail.losses.losses import drw_weights, grouped_soft_target_cross_entropy, ldam_margins
from longtail.losses.targets import Targets

BALANCED = ("bal_ce", "bal_bce")
CLASS_BALANCED = ("cb_ce", "cb_bce")
HARD = ("ldam", "lade")  # read labels, not smoothed targets


@dataclass(frozen=True)
class Config:
    loss: Literal["ce", "bal_ce", "bce", "bal_bce", "cb_ce", "cb_bce", "ldam", "lade", "ib"]
    smoothing: float  # label smoothing; off-value smoothing / C, as timm's Mixup makes it
    tau: float  # factor of the bias, of bal_ce and bal_bce; published 1
    test_prior: Literal["none", "uniform"] | tuple[float, ...]  # of bal_bce: shares of the classes at test
    cb_beta: float  # of cb_ce and cb_bce; published .9999
    max_margin: float  # of ldam: that of the rarest class; published .5
    scale: float  # of ldam; published 30
    lade_strength: float  # of lade; published .1
    ib_alpha: float  # of ib; its code on CIFAR 1000
    ib_epoch: int  # of ib: first 0-based epoch, before it plain cross-entropy; its code: half of all

    def __post_init__(self) -> None:
        for name in ("smoothing", "cb_beta"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is from 0 to below 1, found {getattr(self, name)}")
        for name in ("tau", "max_margin", "lade_strength", "ib_epoch"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name)}")
        for name in ("scale", "ib_alpha"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, found {getattr(self, name)}")
        if self.loss in HARD and self.smoothing:
            raise ValueError(f"loss {self.loss} reads labels; smoothing must be 0.0, found {self.smoothing}")
        if self.test_prior != "none" and self.loss != "bal_bce":
            raise ValueError(f"test_prior belongs to loss bal_bce; with {self.loss} it must be none")
        if isinstance(self.test_prior, tuple):
            total = sum(self.test_prior)
            if not all(0 < share < 1 for share in self.test_prior) or abs(total - 1) > 1e-6:
                raise ValueError(f"test_prior: shares above 0 that sum to 1, found {list(self.test_prior)}")

    @property
    def takes_mixed(self) -> bool:
        """LADE counts the images of a class, of which a mixed one has two."""
        return self.loss != "lade"


class Method:
    """What a method says of itself: see longtail/methods/__init__.py."""

    distilled = False
    needs_teacher = False
    takes_mixed = True
    head_only = False
    head = "linear"
    logit_scale = 1.0

    def __init__(self, config: Config, class_counts, device="cpu"):
        """Raises ValueError where test_prior has another number of classes."""
        self.config, counts = config, torch.as_tensor(class_counts)
        self.needs_features = config.loss == "ib"
        if config.loss == "bal_ce":
            own = soft_target.softmax_bias(counts, config.tau)
        elif config.loss == "bal_bce":
            prior = None if config.test_prior == "none" else config.test_prior
            prior = [1 / len(counts)] * len(counts) if prior == "uniform" else prior
            own = soft_target.sigmoid_bias(counts, config.tau, prior)
        elif config.loss in CLASS_BALANCED:
            own = drw_weights(counts, config.cb_beta)
        elif config.loss == "ldam":
            own = ldam_margins(counts, config.max_margin)
        else:
            own = (counts.double() / counts.sum()).float() if config.loss == "lade" else None
        self.of_class = None if own is None else own.to(device)

    def targets(self, targets: Targets, classes: int, epoch: int) -> Tensor:
        """float32 [B, C]."""
        return targets.soft(classes, self.config.smoothing)

    def class_weights(self, epoch: int) -> Tensor | None:
        """What each class has of its own: its bias, weight, margin or share of the images."""
        return self.of_class

    def loss(self, logits: dict[str, Tensor], targets: Targets, epoch: int, features: Tensor | None = None) -> Tensor:
        """Loss of each mix group, float32 [G]. logits: {"cls": [B, C]}; features: float32 [B, d], what the head reads,
        for ib."""
        z, groups, config = logits["cls"].float(), targets.groups, self.config
        if config.loss == "ldam":
            of = targets.y, targets.partner, targets.lam, self.of_class
            return soft_target.grouped_mixed_ldam(z, *of, config.scale, groups)
        if config.loss == "lade":
            return soft_target.grouped_lade(z, targets.y, self.of_class, config.lade_strength, groups)
        soft = self.targets(targets, z.shape[1], epoch)
        if config.loss == "cb_ce":
            return soft_target.grouped_class_weighted(z, soft, self.of_class, groups)
        if config.loss == "ib" and epoch >= config.ib_epoch:
            return soft_target.grouped_influence_balanced(z, soft, features, config.ib_alpha, groups)
        if config.loss in BALANCED:
            z = z + self.of_class
        if config.loss in ("bce", "bal_bce", "cb_bce"):
            weight = self.of_class if config.loss == "cb_bce" else None
            return soft_target.grouped_binary_sum(z, soft, groups, weight)
        return grouped_soft_target_cross_entropy(z, soft, groups)
