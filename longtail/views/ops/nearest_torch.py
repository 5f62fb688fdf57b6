"""Pillow's nearest-neighbor affine transform for a batch, bit for bit: 16.16 fixed point, integers only.

Pillow: src/libImaging/Geometry.c. Without shear or rotation it takes another path there, which counts in float64 and
truncates; `fixed_point` gives integers that lead to the same pixel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ONE = 65536


def fixed_point(matrix: tuple[float, ...]) -> list[int]:
    """The matrix (a, b, c, d, e, f) of out(x, y) = in(a x + b y + c, d x + e y + f) in units of 2^-16, half a pixel
    included. Where b = d = 0, a and e must be whole (ValueError otherwise)."""
    a, b, c, d, e, f = matrix
    if b == 0 and d == 0:
        if a % 1 or e % 1:
            raise ValueError(f"a scale must be whole, found {matrix}")
        whole = (a, 0, math.floor(c + a * 0.5), 0, e, math.floor(f + e * 0.5))
        return [int(term) * _ONE for term in whole]
    terms = (a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5)
    return [math.floor(term * _ONE + 0.5) for term in terms]


def rotation(degrees: float, width: int, height: int) -> tuple[float, ...]:
    """The matrix of Pillow's Image.rotate about the center, the cosine and sine rounded to 15 decimals as there."""
    angle, x, y = -math.radians(degrees % 360.0), width / 2, height / 2
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    return cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y


def affine_nearest(pixels: Tensor, matrix: Tensor, fill: int) -> Tensor:
    """pixels: uint8 [n, 3, H, W]; matrix: int64 [n, 6] from `fixed_point`; fill: gray of what comes from outside."""
    n, channels, height, width = pixels.shape
    a, b, c, d, e, f = matrix[:, :, None, None].unbind(1)
    x = torch.arange(width, device=pixels.device)
    y = torch.arange(height, device=pixels.device)[:, None]
    column, row = (a * x + b * y + c) >> 16, (d * x + e * y + f) >> 16
    inside = ((column >= 0) & (column < width) & (row >= 0) & (row < height))[:, None]
    place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    found = pixels.flatten(2).gather(2, place.view(n, 1, -1).expand(-1, channels, -1)).view_as(pixels)
    return torch.where(inside, found, fill)
