"""Plain ViT: a CLS token and soft-target cross-entropy on DeiT-LT's own views (DeiT-LT's baseline, METHODS 3.10)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from longtail.losses.losses import grouped_soft_target_cross_entropy
from longtail.losses.targets import Targets


@dataclass(frozen=True)
class Config:
    smoothing: float  # label smoothing; DeiT: .1
    smoothing_until: int  # first 0-based epoch without it

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing is from 0 to below 1, found {self.smoothing}")


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
        """float32 [B, C]."""
        return targets.soft(classes, self.config.smoothing if epoch < self.config.smoothing_until else 0.0)

    def class_weights(self, epoch: int) -> None:
        """None: no class weighs more than another."""

    def loss(self, logits: dict[str, Tensor], targets: Targets, epoch: int) -> Tensor:
        """Loss of each mix group, float32 [G]. logits: {"cls": [B, C]}."""
        cls = logits["cls"].float()
        return grouped_soft_target_cross_entropy(cls, self.targets(targets, cls.shape[1], epoch), targets.groups)
