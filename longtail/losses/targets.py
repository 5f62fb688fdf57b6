"""What a student is trained towards in one optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def soft_targets(
    y: torch.Tensor, y_partner: torch.Tensor, lam: torch.Tensor, num_classes: int, smoothing: float
) -> torch.Tensor:
    """lam * smoothed(y) + (1 - lam) * smoothed(y_partner), float32 [n, C]; smoothed: off = smoothing / C, on = 1 -
    smoothing + off. y, y_partner: int64 [n]; lam: float32 [n]."""
    off = smoothing / num_classes
    target = torch.full((2, len(y), num_classes), off, dtype=torch.float32, device=y.device)
    target.scatter_(2, torch.stack([y, y_partner])[..., None], 1.0 - smoothing + off)
    return lam[:, None] * target[0] + (1.0 - lam[:, None]) * target[1]


@dataclass(frozen=True)
class Targets:
    """All on the model's device; B views, group after group."""

    y: Tensor  # int64 [B], true labels
    partner: Tensor  # int64 [B], true labels of the mixing partners
    lam: Tensor  # float32 [B], weight of the own label (1 = not mixed)
    teacher: Tensor | None  # int64 [B], the teacher's labels
    groups: list[int]  # views in each mix group; sums to B

    @property
    def dominant(self) -> Tensor:
        """int64 [B]: the label of the image that most of a view is; the own one where both are half of it."""
        return torch.where(self.lam >= 0.5, self.y, self.partner)

    def soft(self, num_classes: int, smoothing: float) -> Tensor:
        """float32 [B, C]: lam on the own label, 1 - lam on the partner's, smoothed as timm does."""
        return soft_targets(self.y, self.partner, self.lam, num_classes, smoothing)
