"""Pillow's GaussianBlur for a batch, bit for bit, each image with its own radius: integers only.

Three extended box filters along each axis (Gwosdek et al., 2011), weights in 1/2^24, uint8 between the passes. The
weights come from float32 arithmetic on the host, as in Pillow's C (src/libImaging/BoxBlur.c) without fused operations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_PASSES = 3
_PRECISION = 24  # bits of the weights
_TEMPORARY = {"cpu": 2**23, "cuda": 2**30}  # bytes that one int64 copy of the images in work may take


def box_weights(radius: np.ndarray) -> np.ndarray:
    """The box filter that stands for each Gaussian: int64 [n, 2 R + 1] in 1/2^24, symmetric, R that of the widest.

    radius: float64 [n], standard deviations in pixels. Full weight within the integer part of the box's radius, the
    rest on both ends."""
    f = np.float32
    variance = radius.astype(f) * radius.astype(f) / f(_PASSES)
    length = np.sqrt(12.0 * variance.astype(np.float64) + 1.0).astype(f)
    whole = np.floor((length.astype(np.float64) - 1.0) / 2.0).astype(f)
    part = (f(2) * whole + f(1)) * (whole * (whole + f(1)) - f(3) * variance)
    part = part / (f(6) * (variance - (whole + f(1)) * (whole + f(1))))
    box = whole + part
    inner = box.astype(np.int64)
    full = (f(2**_PRECISION) / (box * f(2) + f(1))).astype(np.int64)
    end = (2**_PRECISION - (2 * inner + 1) * full) // 2
    reach = int(inner.max()) + 1
    tap, inner = np.abs(np.arange(-reach, reach + 1)), inner[:, None]
    return np.where(tap <= inner, full[:, None], np.where(tap == inner + 1, end[:, None], 0))


def gaussian_blur(pixels: Tensor, weights: Tensor) -> Tensor:
    """pixels: uint8 [n, 3, H, W]; weights: int64 [n, taps] from `box_weights`, on the same device. A new tensor."""
    rows = max(1, _TEMPORARY[pixels.device.type] // (8 * max(1, pixels[:1].numel())))
    return torch.cat([_blur(*part) for part in zip(pixels.split(rows), weights.split(rows), strict=True)])


def _blur(pixels: Tensor, weights: Tensor) -> Tensor:
    for axis in (3, 2):
        for _ in range(_PASSES):
            pixels = _box(pixels, weights, axis)
    return pixels


def _box(pixels: Tensor, weights: Tensor, axis: int) -> Tensor:
    """One pass along an axis; beyond the border its pixel goes on."""
    size, reach = pixels.shape[axis], weights.shape[1] // 2
    place = torch.arange(-reach, size + reach, device=pixels.device).clamp_(0, size - 1)
    padded = pixels.index_select(axis, place).to(torch.int64)
    taps = weights[:, reach:, None, None, None].unbind(1)  # the center and one side: the filter is symmetric
    total = taps[0] * pixels + (1 << (_PRECISION - 1))
    for k in range(1, reach + 1):
        total += taps[k] * (padded.narrow(axis, reach - k, size) + padded.narrow(axis, reach + k, size))
    return (total >> _PRECISION).to(torch.uint8)
