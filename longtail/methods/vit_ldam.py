"""ViT with LDAM (Cao et al., NeurIPS 2019), the baseline whose loss stays high in DeiT-LT's Fig. S.1 (METHODS 3.10).

L = CE(scale * (cos - m_y on the true class), y), cos of a classifier without bias on normalised features and weights.
LDAM knows no soft label, and how the paper joined it with mixup is not said: here the labels are hard and the views
unmixed, which `takes_mixed` makes a condition. No re-weighting: the figure's label names LDAM alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from longtail.losses.losses import grouped_ldam_loss, ldam_margins
from longtail.losses.targets import Targets


@dataclass(frozen=True)
class Config:
    max_margin: float  # of the rarest class; LDAM on CIFAR: .5
    scale: float  # of the cosines, in the loss alone; LDAM: 30

    def __post_init__(self) -> None:
        if self.max_margin < 0:
            raise ValueError(f"max_margin must not be negative, found {self.max_margin}")
        if self.scale <= 0:
            raise ValueError(f"scale must be above 0, found {self.scale}")


class Method:
    """What a method says of itself: see longtail/methods/__init__.py."""

    distilled = False
    needs_teacher = False
    takes_mixed = False
    head_only = False
    head = "normed"
    needs_features = False

    def __init__(self, config: Config, class_counts, device="cpu"):
        self.logit_scale = config.scale
        self.margins = ldam_margins(class_counts, config.max_margin).to(device)

    def targets(self, targets: Targets, classes: int, epoch: int) -> Tensor:
        """What is subtracted from each cosine, float32 [B, C]: the margin of the true class."""
        return targets.soft(classes, 0.0) * self.margins

    def class_weights(self, epoch: int) -> None:
        """None: no class weighs more than another."""

    def loss(self, logits: dict[str, Tensor], targets: Targets, epoch: int) -> Tensor:
        """Loss of each mix group, float32 [G]. logits: {"cls": [B, C]}, cosines."""
        return grouped_ldam_loss(logits["cls"].float(), targets.y, self.margins, self.logit_scale, targets.groups)
