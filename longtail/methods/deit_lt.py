"""DeiT-LT (Rangwani et al., CVPR 2024): the DIST token learns a CNN teacher's hard labels on out-of-distribution views.

L = (1 - alpha) * CE(CLS, y) + alpha * CE_w(DIST, y_t), y_t = argmax teacher(x) on the same augmented and mixed view.
From drw_epoch on, w are class-balanced weights of the *teacher's* label, as a weighted mean within each mix group: the
published code normalises by the sum of the group's weights, so their scale cancels (METHODS 3.4, traps 21 and 22). The
CLS term is never re-weighted. DRW off means an unweighted DIST term throughout; the released code re-weights from epoch
0 when its flag is left out (METHODS trap 23), which is not reproduced.

`dist_labels: own` takes the distillation out and leaves the rest: DIST learns the image's own label, as hard as the
teacher's, from a mixture that of the image most of it is; what re-weighting alone does to the two heads is then seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from longtail.base.params import later
from longtail.losses.losses import drw_weights, grouped_soft_target_cross_entropy, grouped_weighted_cross_entropy
from longtail.losses.targets import Targets


@dataclass(frozen=True)
class Config:
    alpha: float  # weight of the DIST term; published .5
    smoothing: float  # label smoothing of the CLS target; published .1
    smoothing_until: int  # first 0-based epoch without it; CIFAR: the DRW epoch (trap 19)
    drw_epoch: int | None  # first 0-based epoch with re-weighting; null = never
    drw_beta: float  # published .9999
    dist_labels: Literal["teacher", "own"] = later("teacher")  # what DIST learns; own: no distillation

    @property
    def needs_teacher(self) -> bool:
        return self.dist_labels == "teacher"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is a weight from 0 to 1, found {self.alpha}")
        for name in ("smoothing", "drw_beta"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is from 0 to below 1, found {getattr(self, name)}")


class Method:
    """What a method says of itself: see longtail/methods/__init__.py."""

    distilled = True
    needs_teacher = True
    takes_mixed = True
    head_only = False
    head = "linear"
    needs_features = False
    logit_scale = 1.0

    def __init__(self, config: Config, class_counts, device="cpu"):
        self.config = config
        self.needs_teacher = config.needs_teacher
        self.weights = drw_weights(class_counts, config.drw_beta).to(device)

    def targets(self, targets: Targets, classes: int, epoch: int) -> Tensor:
        """The CLS token's, float32 [B, C]."""
        return targets.soft(classes, self.config.smoothing if epoch < self.config.smoothing_until else 0.0)

    def class_weights(self, epoch: int) -> Tensor | None:
        """Of the DIST term, float32 [C]; None before DRW."""
        drw = self.config.drw_epoch is not None and epoch >= self.config.drw_epoch
        return self.weights if drw else None

    def loss(self, logits: dict[str, Tensor], targets: Targets, epoch: int) -> Tensor:
        """Loss of each mix group, float32 [G]. logits: "cls" and "dist", [B, C]."""
        alpha, cls, dist = self.config.alpha, logits["cls"].float(), logits["dist"].float()
        soft, weights = self.targets(targets, cls.shape[1], epoch), self.class_weights(epoch)
        cls_loss = grouped_soft_target_cross_entropy(cls, soft, targets.groups)
        labels = targets.teacher if self.needs_teacher else targets.dominant
        dist_loss = grouped_weighted_cross_entropy(dist, labels, weights, targets.groups)
        return (1 - alpha) * cls_loss + alpha * dist_loss
