"""What a student is trained towards in one optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from longtail.views.mix import soft_targets


@dataclass(frozen=True)
class Targets:
    """All on the model's device; B views, group after group."""

    y: Tensor  # int64 [B], true labels
    partner: Tensor  # int64 [B], true labels of the mixing partners
    lam: Tensor  # float32 [B], weight of the own label (1 = not mixed)
    teacher: Tensor | None  # int64 [B], the teacher's labels
    groups: list[int]  # views in each mix group; sums to B

    def soft(self, num_classes: int, smoothing: float) -> Tensor:
        """float32 [B, C]: lam on the own label, 1 - lam on the partner's, smoothed as timm does."""
        return soft_targets(self.y, self.partner, self.lam, num_classes, smoothing)
