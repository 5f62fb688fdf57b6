"""The operations of randaugment.py on batches, uint8 [n, 3, S, S] on CPU or CUDA, bit for bit equal to Pillow's.

Each view has its own argument. Nothing here waits for the device: arguments come from the host's draws, histograms and
means stay on the device. Integers wherever Pillow's result allows; blends are float32 as in Pillow's C, with a rounded
product and a rounded sum, which eager PyTorch keeps apart (do not compile: a compiler may fuse them).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from longtail.views.ops.resample_torch import affine, slide

ARGUMENTS = 6  # numbers an operation may need: the matrix of a rotation


def arguments(op: str, values: list[float | int | None], size: int) -> np.ndarray:
    """Arguments of randaugment.level_argument as `apply` wants them: float64 [n, ARGUMENTS]."""
    table = np.zeros((len(values), ARGUMENTS))
    if op == "Rotate":
        table[:] = [_rotation(degrees, size) for degrees in values]
    elif values and values[0] is not None:
        table[:, 0] = values
        if op in ("TranslateXRel", "TranslateYRel"):
            table[:, 0] *= size
    return table


def _rotation(degrees: float, size: int) -> tuple[float, ...]:
    """The matrix that Pillow's Image.rotate makes, about the center of a square image. At multiples of 90 degrees it is
    exact, and gives what Pillow's special cases do."""
    angle = -math.radians(degrees % 360.0)
    cos, sin, center = round(math.cos(angle), 15), round(math.sin(angle), 15), size / 2.0
    c = cos * -center + sin * -center + 0.0 + center
    f = -sin * -center + cos * -center + 0.0 + center
    return cos, sin, c, -sin, cos, f


def apply(pixels: Tensor, op: str, arguments: Tensor, fill: Tensor) -> Tensor:
    """One operation on every view. pixels: uint8 [n, 3, S, S]; arguments: float64 [n, ARGUMENTS] from `arguments`;
    fill: uint8 [3], color of what moves in from outside; all on one device. Returns a new tensor."""
    first = arguments[:, 0]
    if op == "AutoContrast":
        return autocontrast(pixels)
    if op == "Equalize":
        return equalize(pixels)
    if op == "Invert":
        return 255 - pixels
    if op == "Rotate":
        return affine(pixels, arguments, fill)
    if op == "PosterizeIncreasing":
        return pixels & (256 - (256 >> _whole(first))).to(torch.uint8)
    if op == "SolarizeIncreasing":
        return torch.where(pixels >= _whole(first), 255 - pixels, pixels)
    if op == "SolarizeAdd":
        return torch.where(pixels < 128, pixels + _whole(first).to(torch.uint8), pixels)  # at most 127 + 128
    if op == "ColorIncreasing":
        return blend(grayscale(pixels), pixels, first)
    if op == "ContrastIncreasing":
        return blend(_gray_mean(pixels), pixels, first)
    if op == "BrightnessIncreasing":
        return blend(torch.zeros((), dtype=torch.uint8, device=pixels.device), pixels, first)
    if op == "SharpnessIncreasing":
        return blend(smooth(pixels), pixels, first)
    zero = torch.zeros_like(first)
    if op == "ShearX":
        return slide(pixels, first, zero, fill)
    if op == "ShearY":
        return slide(pixels, first, zero, fill, vertical=True)
    if op == "TranslateXRel":
        return slide(pixels, zero, first, fill)
    if op == "TranslateYRel":
        return slide(pixels, zero, first, fill, vertical=True)
    raise ValueError(f"unknown operation {op!r}")


def _whole(values: Tensor) -> Tensor:
    """int16 [n, 1, 1, 1] of whole numbers in float64 [n]."""
    return values.to(torch.int16)[:, None, None, None]


def look_up(pixels: Tensor, tables: Tensor) -> Tensor:
    """Every value through its channel's table. tables: uint8 [n, 3, 256]."""
    return tables.gather(2, pixels.flatten(2).to(torch.int64)).view_as(pixels)


def autocontrast(pixels: Tensor) -> Tensor:
    """Each channel's range to [0, 255], truncating; a channel of one value stays."""
    low, high = (v.double()[..., None] for v in pixels.flatten(2).aminmax(dim=2))
    levels = torch.arange(256, dtype=torch.float64, device=pixels.device)
    scale = torch.full_like(high, 255.0) / (high - low).clamp_(min=1)
    tables = (levels * scale + -low * scale).clamp_(0, 255)
    return look_up(pixels, torch.where(high > low, tables, levels).to(torch.uint8))


def equalize(pixels: Tensor) -> Tensor:
    """Each channel through its running count; a channel of too few values stays."""
    values = pixels.flatten(2).to(torch.int64)
    count = torch.zeros(*values.shape[:2], 256, dtype=torch.int64, device=pixels.device)
    count.scatter_add_(2, values, torch.ones((), dtype=torch.int64, device=pixels.device).expand_as(values))
    brightest = count.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - brightest) // 255
    before = count.cumsum(2) - count
    tables = ((step // 2 + before) // step.clamp(min=1)).clamp_(max=255)
    levels = torch.arange(256, device=pixels.device)
    return torch.where(step > 0, tables, levels).to(torch.uint8).gather(2, values).view_as(pixels)


def grayscale(pixels: Tensor) -> Tensor:
    """Pillow's convert("L"): uint8 [n, 1, S, S]."""
    red, green, blue = pixels.to(torch.int32).split(1, 1)
    return ((red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(0x8000) >> 16).to(torch.uint8)


def _gray_mean(pixels: Tensor) -> Tensor:
    """The mean of the grayscale image, halves up: uint8 [n, 1, 1, 1]."""
    gray = grayscale(pixels).flatten(1)
    n = gray.shape[1]
    return ((2 * gray.sum(1, dtype=torch.int64) + n) // (2 * n)).to(torch.uint8)[:, None, None, None]


def smooth(pixels: Tensor) -> Tensor:
    """Pillow's ImageFilter.SMOOTH, (neighbors + 5 center) / 13; the border of one pixel stays.

    Pillow sums in float32 and rounds at 1/2; thirteenths never come closer to a half than 1/26, so integers agree."""
    x = pixels.to(torch.int16)
    rows = x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * x[..., 1:-1, 1:-1]
    out = pixels.clone()
    out[..., 1:-1, 1:-1] = (2 * total + 13).div_(26, rounding_mode="floor")
    return out


def blend(degenerate: Tensor, pixels: Tensor, factor: Tensor) -> Tensor:
    """Pillow's Image.blend: degenerate + factor * (pixels - degenerate), clipped and truncated.

    degenerate: uint8, broadcast to pixels; factor: float64 [n], used as float32."""
    base = degenerate.to(torch.float32)
    product = (pixels - base).mul_(factor.to(torch.float32)[:, None, None, None])
    return product.add_(base).clamp_(0, 255).to(torch.uint8)
