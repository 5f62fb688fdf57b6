"""Hue shifts through Pillow's 8-bit HSV for a batch, bit for bit.

Pillow (src/libImaging/Convert.c) converts in mixed float32 and float64. Its hue takes few values, so it is a table made
once on the host in that arithmetic; what is left for the device is one float64 multiplication on the way back.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

# Which of (value, low, middle) red, green and blue are, in each sixth of the hue circle.
_ROLES = np.array([(0, 2, 1), (2, 0, 1), (1, 0, 2), (1, 2, 0), (2, 1, 0), (0, 1, 2)])


def shift_hue(pixels: Tensor, shift: Tensor) -> Tensor:
    """RGB to HSV, the hue plus shift modulo 256, and back. pixels: uint8 [n, 3, H, W]; shift: int64 [n] in [0, 256)."""
    to_hue, to_saturation, to_low, to_middle, to_roles = _tables(pixels.device)
    red, green, blue = pixels.to(torch.int32).unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    by_red, by_green = red == value, green == value
    leader = torch.where(by_red, 0, torch.where(by_green, 256, 512))
    across = torch.where(by_red, green - blue, torch.where(by_green, blue - red, red - green))
    hue = (to_hue[(leader + chroma) * 511 + across + 255] + shift[:, None, None]) & 255
    saturation = to_saturation[chroma * 256 + value]
    low, middle = _round(value * to_low[saturation]), _round(value * to_middle[hue * 256 + saturation])
    return torch.stack([value.to(torch.uint8), low, middle], 1).gather(1, to_roles[hue].permute(0, 3, 1, 2))


def _round(values: Tensor) -> Tensor:
    """C's round() of float64 in [0, 255], as uint8: half away from zero. floor(x + .5) would err just below a half."""
    floor = values.floor()
    return (floor + (values - floor >= 0.5)).to(torch.uint8)


@cache
def _tables(device: torch.device) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(table).to(device) for table in (*_to_hsv(), *_to_rgb()))


def _to_hsv() -> tuple[np.ndarray, np.ndarray]:
    """Hue by (leading channel, chroma, difference of the two others + 255) and saturation by (chroma, value): int64
    [3 * 256 * 511] and [256 * 256]. One of the two others is the smallest, so that their difference tells both."""
    chroma = np.arange(1, 256, dtype=np.float32)[:, None]
    across = np.arange(-255, 256, dtype=np.float32)
    plus = (np.minimum(chroma, chroma + across) / chroma).astype(np.float64)
    minus = (np.minimum(chroma, chroma - across) / chroma).astype(np.float64)
    turn = np.stack([base + plus - minus for base in (0.0, 2.0, 4.0)]).astype(np.float32)
    turn = np.fmod(turn.astype(np.float64) / 6.0 + 1.0, 1.0).astype(np.float32)
    hue = np.zeros((3, 256, 511), np.int64)  # no chroma: hue 0
    hue[:, 1:] = turn.astype(np.float64) * 255.0
    value = np.arange(1, 256, dtype=np.float32)
    saturation = np.zeros((256, 256), np.int64)
    saturation[1:, 1:] = (chroma / value).astype(np.float64) * 255.0
    return hue.reshape(-1), saturation.reshape(-1)


def _to_rgb() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factors of the value: float64 [256] by saturation for the low channel, float64 [256 * 256] by (hue, saturation)
    for the middle one; roles by hue, int64 [256, 3]."""
    sixths = np.arange(256) * 6.0 / 255.0
    sector = np.floor(sixths).astype(np.int64)
    within = (sixths - sector).astype(np.float32)[:, None]
    saturation = (np.arange(256) / 255.0).astype(np.float32)
    falling = 1.0 - (saturation * within).astype(np.float64)
    rising = 1.0 - saturation.astype(np.float64) * (1.0 - within.astype(np.float64))
    middle = np.where(sector[:, None] % 2 == 0, rising, falling)
    return 1.0 - saturation.astype(np.float64), middle.reshape(-1), _ROLES[sector % 6]
