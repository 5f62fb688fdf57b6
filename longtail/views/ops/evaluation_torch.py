"""evaluation.eval_pixels for images on a device: the same bytes from matrix products, exact as in resample_torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from longtail.views.ops.resample_torch import weights


def eval_pixels(pixels: Tensor, size: int, resize_to: int) -> Tensor:
    """Bicubic resize of the shorter side to resize_to, then the central size x size.

    pixels: uint8 [n, 3, H, W]. Returns uint8 [n, 3, size, size]."""
    if resize_to < size:
        raise ValueError(f"eval_resize {resize_to} is smaller than the model's input {size}")
    height, width = pixels.shape[2:]
    short = min(height, width)
    down, across = (_matrix(n, int(resize_to * n / short), size, pixels.device) for n in (height, width))
    x = (pixels.double() @ across.T + 0.5).floor_().clamp_(0, 255)  # uint8 between the passes, as in Pillow
    return (down @ x + 0.5).clamp_(0, 255).to(torch.uint8)


@lru_cache(64)  # photographs come in many sizes
def _matrix(source: int, resized: int, size: int, device: torch.device) -> Tensor:
    """The central size pixels of a resize from source to resized, float64 [size, source]."""
    first, weight = weights(source, resized)
    start = round((resized - size) / 2)
    matrix = np.zeros((size, source))
    for row in range(size):
        taps = weight[start + row, : source - first[start + row]]
        matrix[row, first[start + row] :][: len(taps)] = taps
    return torch.from_numpy(matrix * 2.0**-22).to(device)  # `weights` counts in 2^-22
