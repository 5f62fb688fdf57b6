"""As parity.py, for the augmentation of the other papers: color jitter, blur, 3-Augment, AutoAugment, padded crops,
Cutout and the evaluation view, batched in PyTorch against one Pillow image at a time.

    python benchmarks/parity_extra.py [--device cuda] [--pixels 10000000]

Writes parity_extra.md and .json and exits with 1 if any pixel differs. Cost: 5 minutes on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import parity
import torch
from parity import Case
from PIL import Image
from torch import Tensor

from longtail.base.errors import run_main
from longtail.base.rng import below
from longtail.views import draws, eval_views
from longtail.views.ops import (
    autoaugment,
    autoaugment_torch,
    padded_crop,
    photometric,
    photometric_torch,
    resample_torch,
)
from longtail.views.ops.photometric import JITTER, THREE
from tests.helpers.pictures import small


def batch(images: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)


def unbatch(pixels: Tensor) -> np.ndarray:
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def one_by_one(op: Callable, images: np.ndarray, *columns: Iterable) -> np.ndarray:
    return np.stack([np.asarray(op(Image.fromarray(i), *values)) for i, *values in zip(images, *columns, strict=True)])


def words(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return rng.integers(0, 2**32, (n, k), dtype=np.uint32)


def plain(name: str, images: np.ndarray, rng: np.random.Generator, device: torch.device):
    """grayscale or solarize."""
    ours = getattr(photometric_torch, name)(batch(images, device))
    return unbatch(ours), one_by_one(getattr(photometric, name), images)


def blur(images: np.ndarray, rng: np.random.Generator, device: torch.device):
    radius = draws.uniform(words(rng, len(images), 1)[:, 0], 0.1, 2.0)
    ours = photometric_torch.gaussian_blur(batch(images, device), radius)
    return unbatch(ours), one_by_one(photometric.gaussian_blur, images, radius.tolist())


def part(name: str, images: np.ndarray, rng: np.random.Generator, device: torch.device):
    """One part of the jitter over all the range that any recipe uses."""
    low, high = (-0.5, 0.5) if name == "hue" else (0.0, 2.0)
    factor = rng.uniform(low, high, len(images))
    ours = photometric_torch.adjust(batch(images, device), name, factor)
    return unbatch(ours), one_by_one(lambda i, f: photometric.adjust(i, name, f), images, factor.tolist())


def jitter(images: np.ndarray, rng: np.random.Generator, device: torch.device):
    """PaCo's: .4, .4, .4, .1, applied with probability .8."""
    drawn = words(rng, len(images), draws.JITTER_WORDS)
    order, factors = draws.jitter(drawn, (0.4, 0.4, 0.4, 0.1), 0.8)
    ours = photometric_torch.color_jitter(batch(images, device), order, factors)
    return unbatch(ours), one_by_one(photometric.color_jitter, images, order.tolist(), factors.tolist())


def three(images: np.ndarray, rng: np.random.Generator, device: torch.device):
    drawn = words(rng, len(images), 2)
    choice, radius = below(drawn[:, 0], len(THREE)), draws.uniform(drawn[:, 1], 0.1, 2.0)

    def op(image: Image.Image, kind: int, r: float) -> Image.Image:
        if THREE[kind] == "blur":
            return photometric.gaussian_blur(image, r)
        return getattr(photometric, THREE[kind])(image)

    ours = photometric_torch.one_of_three(batch(images, device), choice, radius)
    return unbatch(ours), one_by_one(op, images, choice.tolist(), radius.tolist())


def padded(reflect: bool, images: np.ndarray, rng: np.random.Generator, device: torch.device):
    """The whole size, 4 pixels on every side, half of them mirrored."""
    n, size = images.shape[:2]
    corner, flip = draws.corners(words(rng, n, 2), size, size, size, 4), rng.random(n) < 0.5
    theirs = [padded_crop.padded_crop(i, *c, size, 4, reflect) for i, c in zip(images, corner.tolist(), strict=True)]
    theirs = np.stack([t[:, ::-1] if f else t for t, f in zip(theirs, flip, strict=True)])
    given = torch.from_numpy(corner).to(device), torch.from_numpy(flip).to(device)
    return unbatch(padded_crop.padded_crops(batch(images, device), *given, size, 4, reflect)), theirs


def cutout(images: np.ndarray, rng: np.random.Generator, device: torch.device):
    boxes = draws.cutout_boxes(words(rng, len(images), 2), images.shape[1], images.shape[1] // 4 * 2)
    theirs = np.stack([padded_crop.cutout(i, box) for i, box in zip(images, boxes, strict=True)])
    return unbatch(padded_crop.cutouts(batch(images, device), torch.from_numpy(boxes).to(device))), theirs


def evaluate(side: int | None, images: np.ndarray, rng: np.random.Generator, device: torch.device):
    """The shorter side to 256 / 224 of the view, then its center; of the images themselves or of 32 px."""
    n, size = images.shape[:2]
    source = images if side is None else small(256)[rng.integers(0, len(small(256)), n)]
    ours = resample_torch.eval_pixels(batch(source, device), size, round(size * 256 / 224))
    return unbatch(ours), unbatch(eval_views.eval_pixels(source, size, round(size * 256 / 224)))


def learned(op: str, variant: str, images: np.ndarray, rng: np.random.Generator, device: torch.device):
    """One operation of AutoAugment at any strength and sign."""
    n, size = images.shape[:2]
    levels = zip(rng.integers(0, 10, n).tolist(), (rng.random(n) < 0.5).tolist(), strict=True)
    arguments = [autoaugment.argument(op, *level, size, variant) for level in levels]
    theirs = one_by_one(lambda i, a: autoaugment.apply(i, op, a, variant), images, arguments)
    given = np.array([a or 0 for a in arguments], np.float64)
    return unbatch(autoaugment_torch.apply(batch(images, device), op, given, variant)), theirs


def policy(variant: str, images: np.ndarray, rng: np.random.Generator, device: torch.device):
    drawn = autoaugment.draw(words(rng, len(images), autoaugment.WORDS))
    theirs = one_by_one(lambda i, row: autoaugment.augment(i, drawn, row, variant), images, range(len(images)))
    return unbatch(autoaugment_torch.augment(batch(images, device), drawn, variant)), theirs


CASES: dict[str, Case] = {
    "grayscale": partial(plain, "grayscale"),
    "solarize at 128": partial(plain, "solarize"),
    "Gaussian blur, radius .1 to 2": blur,
    **{f"jitter: {name}": partial(part, name) for name in JITTER},
    "color jitter, any order": jitter,
    "3-Augment: one of three": three,
    "black padded crop, flip": partial(padded, False),
    "reflected padded crop, flip": partial(padded, True),
    "Cutout": cutout,
    "evaluation view of 32 px": partial(evaluate, 32),
    "evaluation view of the view's size": partial(evaluate, None),
    **{f"AutoAugment, {v}: {op}": partial(learned, op, v) for v in autoaugment.VARIANTS for op in autoaugment.OPS},
    **{f"AutoAugment, {v}: whole policy": partial(policy, v) for v in autoaugment.VARIANTS},
}


def main() -> None:
    parity.main(CASES, "parity_extra", __doc__)


if __name__ == "__main__":
    run_main(main)
