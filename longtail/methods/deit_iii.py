"""DeiT-III (Touvron et al., ECCV 2022): a CLS token and binary cross-entropy on multi-hot targets, no teacher.

Every class that a mixed image has a share of is a full target: t_c = 1 where lam * [c = y] + (1 - lam) * [c = partner]
is above the threshold, else 0, without label smoothing. The loss is the mean over images and classes, a C-th of the sum
over classes that other codes take (DEIT: BCEWithLogitsLoss; METHODS 3.10).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from longtail.losses.losses import grouped_binary_cross_entropy
from longtail.losses.targets import Targets


@dataclass(frozen=True)
class Config:
    threshold: float  # a class whose share of the mixed label is above this is a target; DEIT: 0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold is from 0 to below 1, found {self.threshold}")


class Method:
    """What a method says of itself: see longtail/methods/__init__.py."""

    distilled = False
    needs_teacher = False
    takes_mixed = True
    head_only = False
    head = "linear"
    needs_features = False
    logit_scale = 1.0

    def __init__(self, config: Config, class_counts, device="cpu"):
        self.config = config

    def targets(self, targets: Targets, classes: int, epoch: int) -> Tensor:
        """Ones and zeros, float32 [B, C]."""
        return (targets.soft(classes, 0.0) > self.config.threshold).float()

    def class_weights(self, epoch: int) -> None:
        """None: no class weighs more than another."""

    def loss(self, logits: dict[str, Tensor], targets: Targets, epoch: int) -> Tensor:
        """Loss of each mix group, float32 [G]. logits: {"cls": [B, C]}."""
        cls = logits["cls"].float()
        return grouped_binary_cross_entropy(cls, self.targets(targets, cls.shape[1], epoch), targets.groups)
