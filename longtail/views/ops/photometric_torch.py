"""photometric.py on batches, uint8 [n, 3, H, W] on CPU or CUDA, bit for bit equal.

Pillow (src/libImaging/Convert.c) converts in mixed float32 and float64. Its hue takes few values, so it is a table made
once on the host in that arithmetic; what is left for the device is one float64 multiplication on the way back.

Pillow's GaussianBlur for a batch, bit for bit, each image with its own radius: integers only.

Three extended box filters along each axis (Gwosdek et al., 2011), weights in 1/2^24, uint8 between the passes. The
weights come from float32 arithmetic on the host, as in Pillow's C (src/libImaging/BoxBlur.c) without fused operations.

Parameters are host arrays with a row for each image. They are uploaded without waiting for the device, and nothing is
read back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from longtail.base.device import upload
from longtail.views.ops import randaugment_torch
from longtail.views.ops.photometric import BLENDS, JITTER, SOLARIZE_FROM, THREE, hue_shift

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


def blur_with(pixels: Tensor, weights: Tensor) -> Tensor:
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


def by_choice(pixels: Tensor, choice: np.ndarray, op: Callable[[int, Tensor, np.ndarray], Tensor]) -> Tensor:
    """Each image through the operation chosen for it, one call for all that chose the same. Returns a new tensor.

    choice: int [n], negative = none; op(choice, images of some rows, those rows) returns them changed, same shape."""
    made = pixels.clone()
    for kind in np.unique(choice[choice >= 0]).tolist():
        rows = np.flatnonzero(choice == kind)
        index = upload(rows, pixels.device)
        made.index_copy_(0, index, op(kind, pixels.index_select(0, index), rows))
    return made


def grayscale(pixels: Tensor) -> Tensor:
    """Luma in all three channels."""
    return randaugment_torch.grayscale(pixels).expand(-1, 3, -1, -1).contiguous()


def solarize(pixels: Tensor) -> Tensor:
    """Invert values of 128 and more."""
    return torch.where(pixels >= SOLARIZE_FROM, 255 - pixels, pixels)


def gaussian_blur(pixels: Tensor, radius: np.ndarray) -> Tensor:
    """radius: float64 [n], standard deviations in pixels; 0 = unchanged."""
    return blur_with(pixels, upload(box_weights(radius), pixels.device))


def one_of_three(pixels: Tensor, choice: np.ndarray, radius: np.ndarray) -> Tensor:
    """choice: int [n], index into THREE, -1 = none; radius: float64 [n], of the blur where it is chosen."""

    def apply(kind: int, x: Tensor, rows: np.ndarray) -> Tensor:
        if THREE[kind] == "blur":
            return gaussian_blur(x, radius[rows])
        return grayscale(x) if THREE[kind] == "grayscale" else solarize(x)

    return by_choice(pixels, choice, apply)


def adjust(pixels: Tensor, part: str, factor: np.ndarray) -> Tensor:
    """One part of a color jitter; factor: float64 [n], a blend factor, or turns for "hue"."""
    if part == "hue":
        return shift_hue(pixels, upload(hue_shift(factor), pixels.device))
    return randaugment_torch.apply(pixels, BLENDS[part], upload(factor[:, None], pixels.device), pixels.new_zeros(3))


def color_jitter(pixels: Tensor, order: np.ndarray, factors: np.ndarray) -> Tensor:
    """order: int [n, k], indices into JITTER in the order of use, -1 = none; factors: float64 [n, 4], by part."""
    for step in order.T:
        pixels = by_choice(pixels, step, lambda part, x, rows: adjust(x, JITTER[part], factors[rows, part]))
    return pixels
