"""Operations that place a square: the padded random crop and Cutout, on one image (NumPy) and on a batch (torch).

The crop is torchvision's RandomCrop with padding, black on CIFAR (METHODS 2.3) or reflected in 3-Augment (METHODS 3.7);
Cutout is that of PaCo's CIFAR teacher, black because it comes before normalization (METHODS trap 10.10).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def padded_crop(pixels: np.ndarray, left: int, top: int, size: int, padding: int, reflect: bool) -> np.ndarray:
    """size x size pixels at (left, top) of the image with `padding` pixels added on every side.

    pixels: uint8 [H, W, 3], H and W above padding. Outside is black or, where reflect, mirrored at the border pixel."""
    sides = ((padding, padding), (padding, padding), (0, 0))
    return np.pad(pixels, sides, mode="reflect" if reflect else "constant")[top : top + size, left : left + size]


def padded_crops(pixels: Tensor, corner: Tensor, flip: Tensor, size: int, padding: int, reflect: bool) -> Tensor:
    """`padded_crop` of each image, mirrored left to right where flip says so.

    pixels: uint8 [n, 3, H, W]; corner: int64 [n, 2], left and top in the padded image; flip: bool [n]. Returns uint8
    [n, 3, size, size]."""
    n, channels, height, width = pixels.shape
    steps = torch.arange(size, device=pixels.device)
    across = torch.where(flip[:, None], size - 1 - steps, steps) + (corner[:, :1] - padding)
    down = steps + (corner[:, 1:] - padding)
    if reflect:
        x, y = (length - 1 - (length - 1 - at.abs()).abs() for at, length in ((across, width), (down, height)))
    else:
        x, y = across.clamp(0, width - 1), down.clamp(0, height - 1)
    place = (y[:, :, None] * width + x[:, None, :]).view(n, 1, -1).expand(-1, channels, -1)
    out = pixels.flatten(2).gather(2, place).view(n, channels, size, size)
    if reflect:
        return out
    inside = ((across == x)[:, None, :] & (down == y)[:, :, None])[:, None]
    return out * inside


def cutout(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A black rectangle. pixels: uint8 [H, W, 3]; box: left, top, width, height. Returns a copy."""
    left, top, width, height = box
    pixels = pixels.copy()
    pixels[top : top + height, left : left + width] = 0
    return pixels


def cutouts(pixels: Tensor, boxes: Tensor) -> Tensor:
    """`cutout` of each image. pixels: uint8 [n, 3, H, W]; boxes: int64 [n, 4]."""
    left, top, width, height = boxes[:, :, None].unbind(1)
    x = torch.arange(pixels.shape[3], device=pixels.device)
    y = torch.arange(pixels.shape[2], device=pixels.device)
    columns, rows = (x >= left) & (x < left + width), (y >= top) & (y < top + height)
    return pixels * ~(rows[:, None, :, None] & columns[:, None, None, :])
