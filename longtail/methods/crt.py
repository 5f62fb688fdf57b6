"""Classifier re-training (Kang et al., ICLR 2020) of a finished ViT, DeiT-LT's baseline "ViT (cRT)" (METHODS 3.10).

The backbone stays as it is, in evaluation mode; a head initialised anew learns from class-balanced views (the recipe's
`sampler`) by cross-entropy. The paper says no more than "a small number of epochs"; the numbers are METHODS' choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from longtail.losses.losses import grouped_soft_target_cross_entropy
from longtail.losses.targets import Targets


@dataclass(frozen=True)
class Config:
    smoothing: float  # label smoothing; 0 = plain cross-entropy, as in the CNNs' cRT (METHODS 2.8)

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing is from 0 to below 1, found {self.smoothing}")


class Method:
    """What a method says of itself: see longtail/methods/__init__.py."""

    distilled = False
    needs_teacher = False
    takes_mixed = True
    head_only = True
    head = "linear"
    needs_features = False
    logit_scale = 1.0

    def __init__(self, config: Config, class_counts, device="cpu"):
        self.config = config

    def targets(self, targets: Targets, classes: int, epoch: int) -> Tensor:
        """float32 [B, C]."""
        return targets.soft(classes, self.config.smoothing)

    def class_weights(self, epoch: int) -> None:
        """None: no class weighs more than another."""

    def loss(self, logits: dict[str, Tensor], targets: Targets, epoch: int) -> Tensor:
        """Loss of each mix group, float32 [G]. logits: {"cls": [B, C]}."""
        cls = logits["cls"].float()
        return grouped_soft_target_cross_entropy(cls, self.targets(targets, cls.shape[1], epoch), targets.groups)
