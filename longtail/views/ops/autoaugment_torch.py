"""autoaugment.py on batches, uint8 [n, 3, S, S] on CPU or CUDA, bit for bit equal.

Pillow: src/libImaging/Geometry.c. Without shear or rotation it takes another path there, which counts in float64 and
truncates; `fixed_point` gives integers that lead to the same pixel.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from longtail.base.device import upload
from longtail.views.ops import autoaugment, randaugment_torch
from longtail.views.ops.photometric_torch import by_choice
from longtail.views.ops.resample_torch import slide

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


def apply(pixels: Tensor, op: str, arguments: np.ndarray, variant: str) -> Tensor:
    """One operation on every view. arguments: float64 [n], from autoaugment.argument; 0 where it gives None."""
    how = autoaugment.VARIANTS[variant]
    size, values = pixels.shape[3], arguments.tolist()
    if op in autoaugment.PIXELWISE:
        given = upload(arguments[:, None], pixels.device)
        return randaugment_torch.apply(pixels, autoaugment.PIXELWISE[op], given, pixels.new_zeros(3))
    if op == "ShearY" and how.bicubic_shear:
        slope = upload(arguments, pixels.device)
        fill = pixels.new_full((3,), how.fill)
        return slide(pixels, slope, slope.new_zeros(len(slope)), fill, vertical=True)
    if op == "Rotate":
        matrices = [rotation(v, size, size) for v in values]
    else:
        matrices = [autoaugment.matrix(op, v) for v in values]
    fixed = np.array([fixed_point(m) for m in matrices], np.int64)
    return affine_nearest(pixels, upload(fixed, pixels.device), how.fill)


def augment(pixels: Tensor, drawn: autoaugment.Draws, variant: str) -> Tensor:
    """The views that autoaugment.augment makes of these images, one call for all that an operation falls to."""
    size = pixels.shape[3]
    for step in range(drawn.op.shape[1]):
        strength, negative = drawn.strength[:, step].tolist(), drawn.negative[:, step].tolist()

        def op(kind: int, x: Tensor, rows: np.ndarray, strength=strength, negative=negative) -> Tensor:
            name = autoaugment.OPS[kind]
            values = [autoaugment.argument(name, strength[r], negative[r], size, variant) or 0 for r in rows]
            return apply(x, name, np.array(values, np.float64), variant)

        pixels = by_choice(pixels, drawn.op[:, step], op)
    return pixels
