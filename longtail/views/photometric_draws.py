"""Parameters of color jitter, blur, padded crop and Cutout, as pure functions of random words.

Distributions are those of torchvision's ColorJitter, RandomApply and RandomCrop and of the published code (METHODS 2.5,
3.7). Integers and IEEE-exact operations only, as in draws.py. Plain choices need no function here: `rng.below(word, n)`
picks one of n, `rng.unit(word) < p` applies with probability p.
"""

from __future__ import annotations

import numpy as np

from longtail.base import rng

JITTER_WORDS = 9  # applied?, four keys of the order, four factors


def uniform(words: np.ndarray, low: float, high: float) -> np.ndarray:
    """float64 in [low, high), uniform. words: uint32, any shape."""
    return low + (high - low) * rng.unit(words)


def jitter(words: np.ndarray, strengths: tuple[float, float, float, float], probability: float = 1.0):
    """Color jitter of strengths (brightness, contrast, saturation, hue), 0 = that part is left out.

    words: uint32 [P, JITTER_WORDS]. Returns the order, int64 [P, 4], indices of parts with -1 for none, all 24 orders
    equally likely; and the factors by part, float64 [P, 4], uniform: blends [max(0, 1 - s), 1 + s), turns [-s, s)."""
    order = np.argsort(words[:, 1:5], axis=1, kind="stable")
    used = np.array([s > 0 for s in strengths])[order] & (rng.unit(words[:, :1]) < probability)
    low = [max(0.0, 1.0 - s) for s in strengths[:3]] + [-strengths[3]]
    high = [1.0 + s for s in strengths[:3]] + [strengths[3]]
    factors = np.stack([uniform(words[:, 5 + i], low[i], high[i]) for i in range(4)], 1)
    return np.where(used, order, -1), factors


def corners(words: np.ndarray, height, width, size: int, padding: int) -> np.ndarray:
    """Of size x size crops from padded images: left and top in them, int64 [P, 2]. words: uint32 [P, 2]; height, width:
    of the images, int or int64 [P].

    Raises ValueError where a padded image is smaller than the crop."""
    room = np.stack(np.broadcast_arrays(width, height), -1) + (2 * padding - size + 1)
    if (room < 1).any():
        raise ValueError(f"a crop of {size} does not fit into {height} x {width} pixels with {padding} on every side")
    return rng.below(words, room)


def cutout_boxes(words: np.ndarray, size: int, side: int) -> np.ndarray:
    """Squares of an even side around a pixel anywhere in size x size, clipped: int64 [P, 4], left, top, width, height.

    words: uint32 [P, 2]. An odd side loses one pixel, as in the published code."""
    center = rng.below(words, size)
    low, high = np.clip(center - side // 2, 0, size), np.clip(center + side // 2, 0, size)
    return np.concatenate([low, high - low], 1)
