"""The test-time view: resize, centre crop, normalise (METHODS 3.8).

At 224 the published protocol resizes the shorter side to 256 and crops the centre, also for 32-px images: 2 px of the
original are lost on every side, and a direct resize to 224 gives other accuracies (METHODS trap 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from longtail.base.images import Images, scaled, sizes_of
from longtail.base.workers import cores, in_order
from longtail.views.normalize import constants, normalize
from longtail.views.ops import photometric


def eval_pixels(
    images: np.ndarray | Images, size: int, resize_to: int, bilinear: bool = False, antialias: bool = True
) -> Tensor:
    """Resize of the shorter side to resize_to, bicubic unless told, then the central size x size. Equal to torchvision
    on Pillow. antialias False: bilinear as TensorFlow's.

    images: uint8 [n, H, W, 3], or of several sizes. Returns uint8 [n, 3, size, size]. With resize_to == size a square
    image is resized only.
    """
    return torch.from_numpy(_views(images, size, resize_to, bilinear, antialias)).permute(0, 3, 1, 2).contiguous()


def eval_batch(images: np.ndarray | Images, size: int, resize_to: int, normalization: str) -> Tensor:
    """eval_pixels, scaled to [0, 1] and normalised by that name's constants. Returns float32 [n, 3, size, size]."""
    return normalize(eval_pixels(images, size, resize_to), *constants(normalization))


class EvalViews:
    """The evaluation views of a test set, a batch at a time, as often as asked for.

    Of an array they are made once and kept; images that are decoded from files stream through worker processes."""

    def __init__(
        self,
        images: np.ndarray | Images,
        size: int,
        resize_to: int,
        bilinear: bool = False,
        antialias: bool = True,
    ) -> None:
        _check_sizes(size, resize_to)
        self.images, self.size, self.resize_to = images, size, resize_to
        self.how = {"bilinear": bilinear, "antialias": antialias}
        self.kept = eval_pixels(images, size, resize_to, **self.how) if isinstance(images, np.ndarray) else None

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, batch: int) -> Iterator[Tensor]:
        """uint8 [batch, 3, size, size] on the CPU, in order; the last may be smaller."""
        if self.kept is not None:
            yield from self.kept.split(batch)
            return
        parts = [self.images[start : start + batch] for start in range(0, len(self.images), batch)]
        make = partial(_views, size=self.size, resize_to=self.resize_to, **self.how)
        for views in in_order(make, parts, cores()):
            yield torch.from_numpy(views).permute(0, 3, 1, 2).contiguous()


def _views(
    images: np.ndarray | Images, size: int, resize_to: int, bilinear: bool = False, antialias: bool = True
) -> np.ndarray:
    """uint8 [n, size, size, 3]."""
    _check_sizes(size, resize_to)
    how = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
    views = np.empty((len(images), size, size, 3), np.uint8)
    for row, (height, width) in enumerate(scaled(sizes_of(images), resize_to).tolist()):
        top, left = round((height - size) / 2), round((width - size) / 2)
        if antialias:
            resized = np.asarray(Image.fromarray(images[row]).resize((width, height), how))
        else:
            resized = photometric.bilinear(images[row], height, width)
        views[row] = resized[top : top + size, left : left + size]
    return views


def _check_sizes(size: int, resize_to: int) -> None:
    if resize_to < size:
        raise ValueError(f"eval_resize {resize_to} is smaller than the model's input {size}")
