"""The weak augmentation of CNN teachers on small images: zero-padded random crop and horizontal flip (METHODS §2.3).

The whole dataset lies on the device as uint8. Parameters are pure functions of (seed, epoch, position).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.base import rng
from longtail.base.upload import upload


def weak_parameters(seed: int, epoch: int, positions, padding: int, hflip: float) -> np.ndarray:
    """Crop and flip of each position of an epoch: int64 [P, 3] = top, left (0..2·padding), flipped (0/1)."""
    words = rng.draws(seed, "teacher_view", epoch, positions, 3)
    offsets = rng.below(words[:, :2], 2 * padding + 1)
    return np.concatenate([offsets, (rng.unit(words[:, 2:]) < hflip).astype(np.int64)], 1)


def zero_pad(images: Tensor, padding: int) -> Tensor:
    """uint8 [N, H, W, 3] with `padding` black pixels on each side."""
    return F.pad(images, (0, 0, padding, padding, padding, padding))


def weak_batch(padded: Tensor, index: Tensor, draws: Tensor, padding: int) -> Tensor:
    """Random crop with zero padding, then horizontal flip, of a batch by one gather; equal to Pillow's, bit for bit.

    padded: uint8 [N, H + 2·padding, W + 2·padding, 3] from `zero_pad`; index: int64 [B]; draws: int64 [B, 3] as
    `weak_parameters` gives them, on the same device. Returns uint8 [B, 3, H, W] in channels_last memory.
    """
    height, width = padded.shape[1] - 2 * padding, padded.shape[2] - 2 * padding
    top, left, flipped = (column[:, None] for column in draws.unbind(1))
    rows = top + torch.arange(height, device=padded.device)
    columns = torch.arange(width, device=padded.device).expand(len(draws), -1)
    columns = left + torch.where(flipped == 1, width - 1 - columns, columns)
    return padded[index[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class WeakViews:
    """Weak views of an epoch's order; what was drawn last is kept."""

    def __init__(self, images: np.ndarray, seed: int, padding: int, hflip: float, device: torch.device | str) -> None:
        self.padded = zero_pad(torch.from_numpy(images).to(device), padding)
        self.seed, self.padding, self.hflip, self.device = seed, padding, hflip, torch.device(device)
        self._drawn: tuple = (None, None, None)  # epoch, order, parameters

    def batch(self, epoch: int, rows: slice, order: np.ndarray) -> list[Tensor]:
        """The one view of images order[rows] at positions `rows` of an epoch, as views.large_views gives several."""
        if self._drawn[0] != epoch:
            draws = weak_parameters(self.seed, epoch, np.arange(len(order)), self.padding, self.hflip)
            self._drawn = epoch, *(upload(a, self.device) for a in (order, draws))
        _, index, draws = self._drawn
        return [weak_batch(self.padded, index[rows], draws[rows], self.padding)]
