"""photometric.py on batches, uint8 [n, 3, H, W] on CPU or CUDA, bit for bit equal.

Parameters are host arrays with a row for each image. They are uploaded without waiting for the device, and nothing is
read back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from longtail.base.upload import upload
from longtail.views.ops import randaugment_torch
from longtail.views.ops.blur_torch import box_weights
from longtail.views.ops.blur_torch import gaussian_blur as blur_with
from longtail.views.ops.hue_torch import shift_hue
from longtail.views.ops.photometric import BLENDS, JITTER, SOLARIZE_FROM, THREE, hue_shift


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
