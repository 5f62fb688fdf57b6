"""The test-time view: resize, centre crop, normalise (METHODS 3.8).

At 224 the published protocol resizes the shorter side to 256 and crops the centre, also for 32-px images: 2 px of the
original are lost on every side, and a direct resize to 224 gives other accuracies (METHODS trap 2).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from longtail.normalize import constants, normalize


def eval_pixels(images: np.ndarray, size: int, resize_to: int) -> Tensor:
    """Bicubic resize of the shorter side to resize_to, then the central size x size. Equal to torchvision on Pillow.

    images: uint8 [n, H, W, 3]. Returns uint8 [n, 3, size, size]. With resize_to == size a square image is resized only.
    """
    if resize_to < size:
        raise ValueError(f"eval_resize {resize_to} is smaller than the model's input {size}")
    height, width = images.shape[1:3]
    short = min(height, width)
    height, width = int(resize_to * height / short), int(resize_to * width / short)
    top, left = round((height - size) / 2), round((width - size) / 2)
    views = np.empty((len(images), size, size, 3), np.uint8)
    for view, image in zip(views, images, strict=True):
        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
        view[:] = resized[top : top + size, left : left + size]
    return torch.from_numpy(views).permute(0, 3, 1, 2).contiguous()


def eval_batch(images: np.ndarray, size: int, resize_to: int, normalization: str) -> Tensor:
    """eval_pixels, scaled to [0, 1] and normalised by that name's constants. Returns float32 [n, 3, size, size]."""
    return normalize(eval_pixels(images, size, resize_to), *constants(normalization))
