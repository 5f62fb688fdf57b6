"""Per-view random parameters, all from (seed, epoch, position) and a fixed word for each purpose.

Distributions are those of torchvision's ColorJitter, RandomApply and RandomCrop and of the published code (METHODS 2.5,
3.7). Integers and IEEE-exact operations only, as in draws.py. Plain choices need no function here: `rng.below(word, n)`
picks one of n, `rng.unit(word) < p` applies with probability p.

Distributions are those of torchvision's RandomResizedCrop, RandomCrop and ColorJitter, and of timm's RandAugment and
RandomErasing (METHODS 3.7). Only integers, IEEE-exact operations and rounded tables are used, so that every machine
draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from longtail.base import rng
from longtail.base.images import scaled

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


ATTEMPTS = 10  # of a crop or an erasing box before it gives up (torchvision, timm)

# Words of a position in stream "view". A new purpose takes new words; moving one would change every run.
_CROP = 0  # ATTEMPTS x (area, ratio, top, left)
_FLIP = 40
_ERASE = 41  # applied?
_CORNER = 42  # of the padded crop: left, top
_ERASE_BOX = 44  # ATTEMPTS x (area, ratio, top, left)
_OPS = 84  # per operation: which, applied?, magnitude (high 16 bits) and sign (lowest bit), unused
_THREE = 4  # after the operations': which of three, radius of the blur, two unused; then the jitter's


def crops(words: np.ndarray, height, width, scale, ratio) -> np.ndarray:
    """Boxes of RandomResizedCrop. words: uint32 [P, 40]; height, width: of the sources, int or int64 [P]. Returns int64
    [P, 4]: left, top, width, height."""
    w = words.reshape(len(words), ATTEMPTS, 4)
    height, width = (np.broadcast_to(side, len(words)) for side in (height, width))
    area = (scale[0] + (scale[1] - scale[0]) * rng.unit(w[..., 0])) * (height * width)[:, None]
    aspect = rng.log_uniform_table(*ratio)[w[..., 1] >> 16]  # width over height
    box_w = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    box_h = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (box_w > 0) & (box_w <= width[:, None]) & (box_h > 0) & (box_h <= height[:, None])
    boxes = _first(fits, box_w, box_h, w[..., 2], w[..., 3], height, width)
    for view in np.flatnonzero(~fits.any(1)).tolist():
        boxes[view] = _central(int(height[view]), int(width[view]), ratio)
    return boxes


def padded_corners(words: np.ndarray, height, width, size: int, padding: int) -> np.ndarray:
    """Crops of RandomCrop from images whose shorter side was made `size` and that were padded then: int64 [P, 4], left
    and top in them, size, size.

    words: uint32 [P, 2]; height, width: of the sources, int or int64 [P]."""
    sources = np.stack(np.broadcast_arrays(height, width), -1).reshape(-1, 2)
    corner = corners(words, *scaled(sources, size).T, size, padding)
    return np.concatenate([corner, np.full_like(corner, size)], 1)


def erasures(words: np.ndarray, applied: np.ndarray, size: int, area, ratio) -> np.ndarray:
    """Boxes of RandomErasing on size x size pixels. words: uint32 [P, 40]; applied: bool [P]. Returns int64 [P, 4]:
    left, top, width, height, all 0 where nothing is erased (not applied, or no attempt fitted)."""
    w = words.reshape(len(words), ATTEMPTS, 4)
    target = (area[0] + (area[1] - area[0]) * rng.unit(w[..., 0])) * (size * size)
    aspect = rng.log_uniform_table(*ratio)[w[..., 1] >> 16]  # height over width, the other way round than the crop's
    box_h = np.rint(np.sqrt(target * aspect)).astype(np.int64)
    box_w = np.rint(np.sqrt(target / aspect)).astype(np.int64)
    fits = (box_w < size) & (box_h < size)
    boxes = _first(fits, box_w, box_h, w[..., 2], w[..., 3], size, size)
    boxes[~(applied & fits.any(1))] = 0
    return boxes


def _first(fits, box_w, box_h, top, left, height, width) -> np.ndarray:
    """The first attempt that fits, placed uniformly; all arguments [P, ATTEMPTS]. Returns int64 [P, 4]."""
    pick = np.arange(len(fits)), fits.argmax(1)
    w, h = box_w[pick], box_h[pick]
    left = rng.below(left[pick], np.maximum(width - w + 1, 1))
    top = rng.below(top[pick], np.maximum(height - h + 1, 1))
    return np.stack([left, top, w, h], 1)


def _central(height: int, width: int, ratio) -> tuple[int, int, int, int]:
    """The centre crop that torchvision falls back to: the whole image with its aspect ratio clipped."""
    w, h = width, height
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return (width - w) // 2, (height - h) // 2, w, h


_CACHE_BLOCKS = 16384  # at a time, so that temporaries stay in the processor's cache; no effect on the values


@dataclass(frozen=True)
class ViewDraws:
    """Parameters of P views; what either pixel backend needs."""

    crop: np.ndarray  # int64 [P, 4]: left, top, width, height in the source, or in it enlarged and padded
    flip: np.ndarray  # bool [P]
    op: np.ndarray  # int64 [P, K]: index into randaugment.OPS, -1 = not applied
    magnitude: np.ndarray  # float64 [P, K] in [0, 10]
    negative: np.ndarray  # bool [P, K]
    three: np.ndarray  # int64 [P]: index into ops_photometric.THREE, -1 = none
    radius: np.ndarray  # float64 [P]: of the blur, where it is that
    order: np.ndarray  # int64 [P, J]: parts of the color jitter, indices into ops_photometric.JITTER; J = 0 without one
    factor: np.ndarray  # float64 [P, 4]: of each part
    erase: np.ndarray  # int64 [P, 4]: left, top, width, height in view pixels; 0 = none

    def rows(self, rows: slice) -> ViewDraws:
        """Those of some of the views."""
        return ViewDraws(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def view_draws(recipe, seed: int, epoch: int, positions: np.ndarray, height, width, n_ops: int) -> ViewDraws:
    """Draw the parameters of the views at `positions` (int [P]) of sources of height x width (int or int64 [P]).

    recipe: a ViewRecipe; n_ops: how many operations there are to choose from."""
    color = _OPS + 4 * recipe.rand_ops
    colored = recipe.three_augment or recipe.jitter > 0
    words = rng.draws(seed, "view", epoch, positions, color + (_THREE + JITTER_WORDS) * colored)
    op_words = words[:, _OPS:color].reshape(len(words), recipe.rand_ops, 4)
    normal = rng.normal_table()[op_words[..., 2] >> 16]
    applied = rng.unit(op_words[..., 1]) < recipe.rand_prob
    erased = rng.unit(words[:, _ERASE]) < recipe.erase_prob
    if recipe.crop == "padded":
        crop = padded_corners(words[:, _CORNER : _CORNER + 2], height, width, recipe.size, recipe.crop_padding)
    else:
        crop = crops(words[:, _CROP : _CROP + 40], height, width, recipe.crop_scale, recipe.crop_ratio)
    return ViewDraws(
        crop=crop,
        flip=rng.unit(words[:, _FLIP]) < recipe.hflip,
        op=np.where(applied, rng.below(op_words[..., 0], n_ops), -1),
        magnitude=np.clip(recipe.rand_magnitude + recipe.rand_std * normal, 0.0, 10.0),
        negative=(op_words[..., 2] & 1).astype(bool),
        **_colors(recipe, words[:, color:]),
        erase=erasures(
            words[:, _ERASE_BOX : _ERASE_BOX + 40], erased, recipe.size, recipe.erase_area, recipe.erase_ratio
        ),
    )


def _colors(recipe, words: np.ndarray) -> dict[str, np.ndarray]:
    """3-Augment and color jitter (METHODS 3.7). words: uint32 [P, _THREE + JITTER_WORDS]; [P, 0] where both are off."""
    three, radius = np.full(len(words), -1), np.zeros(len(words))
    order, factor = np.zeros((len(words), 0), np.int64), np.ones((len(words), 4))
    if recipe.three_augment:
        three, radius = rng.below(words[:, 0], 3), uniform(words[:, 1], *recipe.blur_radius)
    if recipe.jitter > 0:
        order, factor = jitter(words[:, _THREE:], (*(recipe.jitter,) * 3, 0.0))
    return {"three": three, "radius": radius, "order": order, "factor": factor}


def weak_draws(recipe, seed: int, epoch: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the weak views that a teacher labels at `positions` (int [P]): left and top of the crop in the padded image,
    int64 [P, 2], and whether it is mirrored, bool [P]. recipe: a ViewRecipe."""
    words = rng.draws(seed, "weak_view", epoch, positions, 3)
    return rng.below(words[:, :2], 2 * recipe.teacher_padding + 1), rng.unit(words[:, 2]) < recipe.hflip


def patch_orders(seed: int, epoch: int, positions: np.ndarray, patches: int) -> np.ndarray:
    """Of the views at `positions` (int [P]), the patches in the order of a random number each, smallest first: int64
    [P, patches]. A masked autoencoder sees the first of them and predicts the others (METHODS 5.2)."""
    return np.argsort(rng.draws(seed, "patch_order", epoch, positions, patches), axis=1, kind="stable")


def erase_noise(
    seed: int, epoch: int, positions: np.ndarray, counts: np.ndarray, stream: str | None = None
) -> list[np.ndarray]:
    """N(0, 1) values, 16 bits each, of the erased pixels of several views, or of another stream.

    counts: int [P], values that each position needs. Returns float32 [count] for each position; they do not depend on
    which other positions are asked for."""
    table = rng.normal_table().astype(np.float32)
    key, family = rng.key_of(seed, stream or "noise")
    blocks = -(-counts // 8)  # a Philox block holds 8 values
    first = np.cumsum(blocks) - blocks
    counter = np.empty((int(blocks.sum()), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter)) - np.repeat(first, blocks)
    counter[:, 1] = np.repeat(np.asarray(positions), blocks)
    counter[:, 2], counter[:, 3] = epoch, family
    values = np.empty((len(counter), 8), np.float32)
    for start in range(0, len(counter), _CACHE_BLOCKS):
        chunk = slice(start, start + _CACHE_BLOCKS)
        values[chunk] = table[rng.philox4x32(counter[chunk], key).astype("<u4").view("<u2")]
    return [values.reshape(-1)[8 * f : 8 * f + n] for f, n in zip(first.tolist(), counts.tolist(), strict=True)]
