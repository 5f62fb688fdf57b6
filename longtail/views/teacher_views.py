"""Views for CNN teachers, functions of (seed, epoch, position): of large images, and weak ones of small.

Views of large images for CNN teachers (METHODS §2.4, §2.5): functions of (seed, epoch, position), made by Pillow.

An image is decoded once for all its views. RandAugment is timm's without `inc`: magnitudes of posterize, solarize and
the blends do not all mean more with a higher level. It is PaCo's: every operation that moves pixels is bilinear or
bicubic by a draw of its own, and ImageNet's mean moves in whatever the images are normalized with.

The weak augmentation of CNN teachers on small images: zero-padded random crop and horizontal flip (METHODS §2.3).

The whole dataset lies on the device as uint8. Parameters are pure functions of (seed, epoch, position).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from longtail.base import rng
from longtail.base.device import upload
from longtail.base.images import Images, sizes_of
from longtail.base.workers import made_ahead, makers
from longtail.views.draws import ATTEMPTS, JITTER_WORDS, crops, erase_noise, jitter, uniform
from longtail.views.normalize import NORMALIZATION
from longtail.views.ops import photometric, randaugment
from longtail.views.recipe import LargeViewRecipe

# Words of a position in a view's stream: the crop, jitter, gray?, blur?, radius, flip; then four of each operation:
# which, applied?, magnitude (high 16 bits) and sign (lowest bit), bilinear?
_JITTER = 4 * ATTEMPTS
_GRAY = _JITTER + JITTER_WORDS
_BLUR, _RADIUS, _FLIP, _OPS = _GRAY + 1, _GRAY + 2, _GRAY + 3, _GRAY + 4
_UNIT = 64  # images whose views a worker process makes at a time
_AHEAD = 2  # batches that worker processes make before they are asked for
_BLENDS = ("ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing")


@dataclass(frozen=True)
class LargeDraws:
    """Parameters of P views."""

    crop: np.ndarray  # int64 [P, 4]: left, top, width, height in the source
    order: np.ndarray  # int64 [P, 4]: parts of the color jitter, -1 = none
    factor: np.ndarray  # float64 [P, 4]: of each part
    gray: np.ndarray  # bool [P]
    radius: np.ndarray  # float64 [P]: of the blur, 0 = none
    flip: np.ndarray  # bool [P]
    op: np.ndarray  # int64 [P, K]: index into randaugment.OPS, -1 = not applied
    magnitude: np.ndarray  # float64 [P, K] in [0, 10]
    negative: np.ndarray  # bool [P, K]
    bilinear: np.ndarray  # bool [P, K]: where pixels move; else bicubic
    noise: Sequence[np.ndarray] = ()  # float32 [S·S·3] of each view, N(0, 1); none where there is no noise


def large_draws(
    recipe: LargeViewRecipe, seed: int, stream: str, epoch: int, positions: np.ndarray, height, width
) -> LargeDraws:
    """Parameters of the views at `positions` (int [P]) of sources of height x width (int or int64 [P])."""
    words = rng.draws(seed, stream, epoch, positions, _OPS + 4 * recipe.rand_ops)
    ops = words[:, _OPS:].reshape(len(words), recipe.rand_ops, 4)
    order, factor = jitter(words[:, _JITTER:_GRAY], recipe.jitter, recipe.jitter_prob)
    values = np.full(len(words), 3 * recipe.size**2)
    radius = uniform(words[:, _RADIUS], *recipe.blur_radius)
    applied = rng.unit(ops[..., 1]) < recipe.rand_prob
    normal = rng.normal_table()[ops[..., 2] >> 16]
    return LargeDraws(
        crop=crops(words[:, :_JITTER], height, width, recipe.crop_scale, recipe.crop_ratio),
        order=order,
        factor=factor,
        gray=rng.unit(words[:, _GRAY]) < recipe.gray_prob,
        radius=np.where(rng.unit(words[:, _BLUR]) < recipe.blur_prob, radius, 0.0),
        flip=rng.unit(words[:, _FLIP]) < recipe.hflip,
        op=np.where(applied, rng.below(ops[..., 0], len(randaugment.OPS)), -1),
        magnitude=np.clip(recipe.rand_magnitude + recipe.rand_std * normal, 0.0, 10.0),
        negative=(ops[..., 2] & 1).astype(bool),
        bilinear=rng.unit(ops[..., 3]) < 0.5,
        noise=erase_noise(seed, epoch, positions, values, "teacher_noise") if recipe.noise else (),
    )


def plain_argument(op: str, magnitude: float, negative: bool) -> float | int | None:
    """`randaugment.level_argument` of timm's operations without `inc`: bits kept grow with the level, so does the
    threshold of solarize, and blends go from .1 to 1.9."""
    level = magnitude / randaugment.MAX_MAGNITUDE
    if op == "PosterizeIncreasing":
        return int(level * 4)
    if op == "SolarizeIncreasing":
        return min(256, int(level * 256))
    return level * 1.8 + 0.1 if op in _BLENDS else randaugment.level_argument(op, magnitude, negative)


def large_view(pixels: np.ndarray, drawn: LargeDraws, row: int, recipe: LargeViewRecipe) -> np.ndarray:
    """A view of one image, uint8 [H, W, 3] to [S, S, 3]. row: of the draws."""
    left, top, width, height = drawn.crop[row].tolist()
    crop = pixels[top : top + height, left : left + width]
    if recipe.antialias:
        image = Image.fromarray(crop).resize((recipe.size, recipe.size), Image.Resampling.BILINEAR)
    else:
        image = Image.fromarray(photometric.bilinear(crop, recipe.size, recipe.size))
    image = photometric.color_jitter(image, drawn.order[row].tolist(), drawn.factor[row].tolist())
    image = photometric.grayscale(image) if drawn.gray[row] else image
    image = photometric.gaussian_blur(image, drawn.radius[row]) if drawn.radius[row] else image
    image = randaugment.flip(image) if drawn.flip[row] else image
    fill = randaugment.fill_color(NORMALIZATION[recipe.rand_fill][0])
    ops = (column[row].tolist() for column in (drawn.op, drawn.magnitude, drawn.negative, drawn.bilinear))
    for op, magnitude, negative, bilinear in zip(*ops, strict=True):
        if op >= 0:
            name, how = randaugment.OPS[op], Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
            image = randaugment.apply(image, name, plain_argument(name, magnitude, negative), fill, how)
    shown = np.asarray(image)
    return photometric.noisy(shown, drawn.noise[row], recipe.noise) if recipe.noise else shown


class LargeViews:
    """Batches of views, made ahead of the loop by worker processes; in this process where it has one core.

    Bytes depend neither on the batch size nor on where an epoch is entered."""

    def __init__(
        self,
        recipes: dict[str, LargeViewRecipe],
        images: Images | np.ndarray,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """recipes: of each view of an image, of one size, by the stream that it is drawn from."""
        self.recipes, self.images, self.seed = recipes, images, seed
        self.device = torch.device(device)
        self.size = next(iter(recipes.values())).size
        self._sizes = sizes_of(images)
        self._running: tuple = (None, None)  # (epoch, next row), batches

    def batch(self, epoch: int, rows: slice, order: np.ndarray, share: Callable[[int], slice] = slice) -> list[Tensor]:
        """Each recipe's views of images order[rows] at positions `rows` of an epoch: uint8 [B, 3, S, S] on the device,
        channels_last. order: int64 [P], that of the whole epoch; asked for one after the other, all but the last of one
        size, batches are there before they are needed. share: which of so many rows are made, the same in every call of
        an epoch; all of them unless told."""
        if self._running[0] != (epoch, rows.start):
            self.close()
            self._running = None, self._batches(epoch, rows.start, rows.stop - rows.start, order, share)
        made = next(self._running[1])
        self._running = (epoch, rows.stop), self._running[1]
        if rows.stop == len(order):
            self.close()
        return made

    def close(self) -> None:
        """End the worker processes."""
        if self._running[1] is not None:
            self._running[1].close()
        self._running = None, None

    def into(self, views: np.ndarray, epoch: int, positions: np.ndarray, index: np.ndarray) -> None:
        """Views of images `index` at `positions`, both int64 [n], into uint8 [recipes, at least n, S, S, 3]."""
        height, width = self._sizes[index].T
        drawn = [(r, large_draws(r, self.seed, s, epoch, positions, height, width)) for s, r in self.recipes.items()]
        for row, image in enumerate(index.tolist()):
            pixels = self.images[image]
            for view, (recipe, of) in zip(views, drawn, strict=True):
                view[row] = large_view(pixels, of, row, recipe)

    def _batches(
        self, epoch: int, first: int, batch: int, order: np.ndarray, share: Callable[[int], slice]
    ) -> Iterator[list[Tensor]]:
        steps = [range(start, min(start + batch, len(order))) for start in range(first, len(order), batch)]
        steps = [step[share(len(step))] for step in steps]
        units = [(at, min(at + _UNIT, step.stop)) for step in steps for at in range(step.start, step.stop, _UNIT)]
        with closing(self._units(epoch, units, max(map(len, steps)), order)) as made:
            for step in steps:
                views = torch.empty(
                    (len(self.recipes), len(step), self.size, self.size, 3), dtype=torch.uint8, device=self.device
                )
                for at in range(0, len(step), _UNIT):
                    part = views[:, at : at + _UNIT]
                    part.copy_(upload(np.ascontiguousarray(next(made)[:, : part.shape[1]]), self.device))
                yield list(views.permute(0, 1, 4, 2, 3))

    def _units(self, epoch: int, units: Sequence, batch: int, order: np.ndarray) -> Iterator[np.ndarray]:
        """uint8 [recipes, _UNIT, S, S, 3] of each (start, stop), good until the next one is asked for."""
        shape, workers = (len(self.recipes), _UNIT, self.size, self.size, 3), makers()
        fill = partial(self._fill_unit, epoch, order)
        if workers:
            yield from made_ahead(fill, units, shape, workers, max(2, -(-_AHEAD * -(-batch // _UNIT) // workers)))
            return
        views = np.empty(shape, np.uint8)
        for unit in units:
            fill(unit, views)
            yield views

    def _fill_unit(self, epoch: int, order: np.ndarray, unit: tuple[int, int], views: np.ndarray) -> None:
        """What a worker process does, without touching the device."""
        positions = np.arange(*unit)
        self.into(views, epoch, positions, order[positions])


def weak_parameters(seed: int, epoch: int, positions, padding: int, hflip: float) -> np.ndarray:
    """Crop and flip of each position of an epoch: int64 [P, 3] = top, left (0..2·padding), flipped (0/1)."""
    words = rng.draws(seed, "teacher_view", epoch, positions, 3)
    offsets = rng.below(words[:, :2], 2 * padding + 1)
    return np.concatenate([offsets, (rng.unit(words[:, 2:]) < hflip).astype(np.int64)], 1)


def zero_pad(images: Tensor, padding: int) -> Tensor:
    """uint8 [N, H, W, 3] with `padding` black pixels on each side."""
    return F.pad(images, (0, 0, padding, padding, padding, padding))


def weak_batch(padded: Tensor, index: Tensor, draws: Tensor, padding: int) -> Tensor:
    """Random crop with zero padding, then horizontal flip, of a batch by one gather; equal to Pillow's, bit for bit.

    padded: uint8 [N, H + 2·padding, W + 2·padding, 3] from `zero_pad`; index: int64 [B]; draws: int64 [B, 3] as
    `weak_parameters` gives them, on the same device. Returns uint8 [B, 3, H, W] in channels_last memory.
    """
    height, width = padded.shape[1] - 2 * padding, padded.shape[2] - 2 * padding
    top, left, flipped = (column[:, None] for column in draws.unbind(1))
    rows = top + torch.arange(height, device=padded.device)
    columns = torch.arange(width, device=padded.device).expand(len(draws), -1)
    columns = left + torch.where(flipped == 1, width - 1 - columns, columns)
    return padded[index[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class WeakViews:
    """Weak views of an epoch's order; what was drawn last is kept."""

    def __init__(self, images: np.ndarray, seed: int, padding: int, hflip: float, device: torch.device | str) -> None:
        self.padded = zero_pad(torch.from_numpy(images).to(device), padding)
        self.seed, self.padding, self.hflip, self.device = seed, padding, hflip, torch.device(device)
        self._drawn: tuple = (None, None, None)  # epoch, order, parameters

    def batch(self, epoch: int, rows: slice, order: np.ndarray, share: Callable[[int], slice] = slice) -> list[Tensor]:
        """The one view of images order[rows] at positions `rows` of an epoch, as LargeViews gives several; of those
        that are in `share`."""
        if self._drawn[0] != epoch:
            draws = weak_parameters(self.seed, epoch, np.arange(len(order)), self.padding, self.hflip)
            self._drawn = epoch, *(upload(a, self.device) for a in (order, draws))
        _, index, draws = self._drawn
        index, draws = index[rows], draws[rows]
        made = share(len(index))
        return [weak_batch(self.padded, index[made], draws[made], self.padding)]
