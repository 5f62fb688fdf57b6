"""Pillow's crop-and-resize and bicubic affine transform on batches of uint8 tensors, bit for bit, CPU or CUDA.

The resize is integer arithmetic: Pillow's 22-bit fixed-point weights and uint8 pixels. It runs here as float64 matrix
products, which are exact in any order of summation, with or without fused multiply-add, as all sums stay below 2^31.
The affine transform is float64 in Pillow (x86-64 builds, which do not fuse): each multiplication and each addition must
be rounded for itself, which eager PyTorch does because every one is a kernel of its own. Do not compile `affine` or
`slide`: a compiler may contract a * b + c. Pillow: src/libImaging/Resample.c, Geometry.c.

evaluation.eval_pixels for images on a device: the same bytes from matrix products, exact as in resample_torch.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

_PRECISION = 22  # bits of Pillow's weights
_SUPPORT = {False: 2.0, True: 1.0}  # of the filter, bilinear or not, in source pixels where it enlarges


def _bicubic(x: np.ndarray) -> np.ndarray:
    """The resize filter, a = -0.5."""
    x, a = np.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    return np.where(x < 1.0, near, np.where(x < 2.0, (((x - 5) * x + 8) * x - 4) * a, 0.0))


def _bilinear(x: np.ndarray) -> np.ndarray:
    """The resize filter that falls from 1 at 0 to 0 at 1."""
    return np.maximum(1.0 - np.abs(x), 0.0)


def weights(source: int, size: int, bilinear: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """One axis of a resize, bicubic unless told, from source to size pixels: first source pixel, int64 [size], and
    weights in units of 2^-22, integers as float64 [size, K]. K covers the support, which grows where the image shrinks.
    """
    scale = source / size
    stretch = max(scale, 1.0)
    support = _SUPPORT[bilinear] * stretch
    kernel = _bilinear if bilinear else _bicubic
    center = (np.arange(size) + 0.5) * scale
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    last = np.minimum((center + support + 0.5).astype(np.int64), source)
    tap = first[:, None] + np.arange(int(np.ceil(support)) * 2 + 1)
    weight = np.where(tap < last[:, None], kernel((tap - center[:, None] + 0.5) * (1.0 / stretch)), 0.0)
    total = np.zeros(size)
    for column in weight.T:  # left to right, as Pillow adds them
        total += column
    weight = weight / total[:, None] * 2.0**_PRECISION
    return first, np.trunc(np.where(weight < 0, weight - 0.5, weight + 0.5))


@cache
def _tables(source: int, size: int, device: torch.device, bilinear: bool) -> tuple[Tensor, Tensor]:
    """`weights` of every crop up to source pixels: int64 [source, size] and float64 [source, size, K] in units of 1."""
    every = [weights(width, size, bilinear) for width in range(1, source + 1)]
    taps = max(weight.shape[1] for _, weight in every)
    padded = np.stack([np.pad(weight, ((0, 0), (0, taps - weight.shape[1]))) for _, weight in every])
    first = torch.from_numpy(np.stack([first for first, _ in every]))
    return first.to(device), torch.from_numpy(padded * 2.0**-_PRECISION).to(device)


def _matrices(start: Tensor, length: Tensor, source: int, size: int, bilinear: bool) -> Tensor:
    """Resize of [start, start + length) to size as matrices, float64 [n, size, source]."""
    first, weight = _tables(source, size, start.device, bilinear)
    weight = weight.index_select(0, length - 1)
    column = first.index_select(0, length - 1) + start[:, None]
    column = column[..., None] + torch.arange(weight.shape[2], device=start.device)
    matrix = weight.new_zeros(len(start), size, source)
    return matrix.scatter_add_(2, column.clamp_(max=source - 1), weight)  # taps beyond the crop weigh 0


def resized_crop(rows: Tensor, boxes: Tensor, flip: Tensor, size: int, bilinear: bool = False) -> Tensor:
    """Crop each image, resize it to size x size (bicubic unless told) and mirror it left to right where flip says so.

    rows: uint8 [n, H, 3, W], the layout in which both passes are plain matrix products; boxes: int64 [n, 4], left, top,
    width, height, inside the image; flip: bool [n]. Returns uint8 [n, 3, size, size]."""
    _, height, _, width = rows.shape
    left, top, box_width, box_height = boxes.unbind(1)
    across = _matrices(left, box_width, width, size, bilinear)
    across = torch.where(flip[:, None, None], across.flip(1), across)
    return _resampled(rows, _matrices(top, box_height, height, size, bilinear), across)


def resized(rows: Tensor, height: int, width: int) -> Tensor:
    """The whole of each image at height x width (bicubic). rows: uint8 [n, H, 3, W]. Returns uint8 [n, 3, height,
    width]."""
    down, across = (_matrix(rows.shape[axis], size, rows.device) for axis, size in ((1, height), (3, width)))
    return _resampled(rows, down.expand(len(rows), -1, -1), across.expand(len(rows), -1, -1))


@cache
def _matrix(source: int, size: int, device: torch.device) -> Tensor:
    """Resize of a whole axis of source pixels to size, float64 [size, source]."""
    first, weight = weights(source, size)
    matrix = np.zeros((size, source + weight.shape[1]))
    np.put_along_axis(matrix, first[:, None] + np.arange(weight.shape[1]), weight * 2.0**-_PRECISION, 1)
    return torch.from_numpy(matrix[:, :source].copy()).to(device)  # taps beyond the image weigh 0


def _resampled(rows: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Both passes, to h x w. rows: uint8 [n, H, 3, W]; down: float64 [n, h, H]; across: float64 [n, w, W]."""
    n, height, _, width = rows.shape
    half = rows.new_full((), 0.5, dtype=torch.float64)
    x = torch.baddbmm(half, rows.view(n, height * 3, width).double(), across.mT)
    x = x.floor_().clamp_(0, 255).view(n, height, 3 * across.shape[1])  # uint8 between the passes, as in Pillow
    x = torch.baddbmm(half, down, x).clamp_(0, 255).view(n, down.shape[1], 3, across.shape[1])
    return x.permute(0, 2, 1, 3).to(torch.uint8, memory_format=torch.contiguous_format)  # truncates


def affine(pixels: Tensor, matrix: Tensor, fill: Tensor) -> Tensor:
    """Pillow's Image.transform(AFFINE, BICUBIC): out(x, y) = in(a x + b y + c, d x + e y + f) at pixel centers.

    pixels: uint8 [n, 3, S, S]; matrix: float64 [n, 6], a to f; fill: uint8 [3], color of what comes from outside."""
    n, channels, height, width = pixels.shape
    a, b, c, d, e, f = matrix[:, :, None, None].unbind(1)
    x = torch.arange(width, dtype=torch.float64, device=pixels.device) + 0.5
    y = torch.arange(height, dtype=torch.float64, device=pixels.device)[:, None] + 0.5
    column, across, outside = _taps((a * x + b * y) + c, width)
    row, down, above = _taps((d * x + e * y) + f, height)
    place = (row[:, :, None] * width + column[:, None]).view(n, 1, -1).expand(-1, channels, -1)
    taps = pixels.flatten(2).gather(2, place).view(n, channels, 4, 4, height, width)
    rows = _cubic(taps.to(torch.int16).unbind(3), across[:, None])
    return _finish(_cubic(rows.unbind(2), down), outside | above, fill)


def slide(pixels: Tensor, slope: Tensor, offset: Tensor, fill: Tensor, vertical: bool = False) -> Tensor:
    """`affine` for a shift along one axis only: x + slope * y + offset, or y + slope * x + offset where vertical.

    The other axis then falls on pixel centers, where the cubic returns its second tap exactly: 4 taps, not 16.
    slope, offset: float64 [n]."""
    if vertical:
        return slide(pixels.mT.contiguous(), slope, offset, fill).mT.contiguous()
    _, channels, height, width = pixels.shape
    x = torch.arange(width, dtype=torch.float64, device=pixels.device) + 0.5
    y = torch.arange(height, dtype=torch.float64, device=pixels.device)[:, None] + 0.5
    column, across, outside = _taps((x + slope[:, None, None] * y) + offset[:, None, None], width)
    place = column[:, None].expand(-1, channels, -1, -1, -1)
    taps = pixels[:, :, None].expand(-1, -1, 4, -1, -1).gather(4, place)
    return _finish(_cubic(taps.to(torch.int16).unbind(2), across), outside, fill)


def _taps(position: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of float64 positions [n, h, w] on an axis: the four pixels around each, int64 [n, 4, h, w], the fraction
    [n, 1, h, w], and where the position is outside, bool [n, h, w]."""
    outside = (position < 0) | (position >= length)
    position = position - 0.5
    floor = position.floor()
    nearby = torch.arange(-1, 3, device=position.device)[:, None, None]
    return (floor.to(torch.int64)[:, None] + nearby).clamp_(0, length - 1), (position - floor)[:, None], outside


def _cubic(taps: tuple[Tensor, ...], d: Tensor) -> Tensor:
    """Pillow's BICUBIC (a = -1), in its order of operations. taps: float64, or pixels as int16; d: float64."""
    one, two, three, four = taps
    p2 = three - one
    p3 = (one - two).mul_(2).add_(three).sub_(four)
    p4 = (two - one).sub_(three).add_(four)
    return p4.mul(d).add_(p3).mul_(d).add_(p2).mul_(d).add_(two)


def _finish(values: Tensor, outside: Tensor, fill: Tensor) -> Tensor:
    """Clipped and truncated to uint8; fill where outside. values: float64 [n, 3, h, w]."""
    return torch.where(outside[:, None], fill[:, None, None], values.clamp_(0, 255).to(torch.uint8))


def eval_pixels(pixels: Tensor, size: int, resize_to: int) -> Tensor:
    """Bicubic resize of the shorter side to resize_to, then the central size x size.

    pixels: uint8 [n, 3, H, W]. Returns uint8 [n, 3, size, size]."""
    if resize_to < size:
        raise ValueError(f"eval_resize {resize_to} is smaller than the model's input {size}")
    height, width = pixels.shape[2:]
    short = min(height, width)
    down, across = (_cropped_matrix(n, int(resize_to * n / short), size, pixels.device) for n in (height, width))
    x = (pixels.double() @ across.T + 0.5).floor_().clamp_(0, 255)  # uint8 between the passes, as in Pillow
    return (down @ x + 0.5).clamp_(0, 255).to(torch.uint8)


@lru_cache(64)  # photographs come in many sizes
def _cropped_matrix(source: int, resized: int, size: int, device: torch.device) -> Tensor:
    """The central size pixels of a resize from source to resized, float64 [size, source]."""
    first, weight = weights(source, resized)
    start = round((resized - size) / 2)
    matrix = np.zeros((size, source))
    for row in range(size):
        taps = weight[start + row, : source - first[start + row]]
        matrix[row, first[start + row] :][: len(taps)] = taps
    return torch.from_numpy(matrix * 2.0**-22).to(device)  # `weights` counts in 2^-22
