"""Images that the pixel operations are compared on: photographs, digits, CIFAR-10 where it is there, and hard cases."""

from __future__ import annotations

import io
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from longtail.base.errors import UserError

ARCHIVE = Path(__file__).parents[2] / "shared/data/cifar10_jpeg.tar.xz"  # CIFAR-10 as JPEG files


@cache
def cifar(n: int) -> np.ndarray:
    """The archive's first images, uint8 [at most n, 32, 32, 3]; none where it is not there."""
    found: list[np.ndarray] = []
    if ARCHIVE.is_file():
        with tarfile.open(ARCHIVE, "r|xz") as archive:
            for member in archive:
                if len(found) == n:
                    break
                if member.name.lower().endswith((".jpg", ".jpeg")):
                    found.append(np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")))
    return np.stack(found) if found else np.zeros((0, 32, 32, 3), np.uint8)


@cache
def small(n: int = 24) -> np.ndarray:
    """Sources of views: n CIFAR-10 images, or tiles of a photograph where there are none; uint8 [n, 32, 32, 3]."""
    photo = load_sample_image("china.jpg")[:416, :640].reshape(13, 32, 20, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
    return np.concatenate([cifar(n), photo])[:n]


@cache
def digits(n: int = 24) -> np.ndarray:
    """uint8 [n, 8, 8, 3]."""
    images = np.round(load_digits().images[:n] * 255 / 16).astype(np.uint8)
    return np.repeat(images[..., None], 3, -1)


def resized(images: np.ndarray, size: int) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(i).resize((size, size), Image.Resampling.BICUBIC)) for i in images])


@cache
def hard(size: int) -> np.ndarray:
    """Noise, black, white, one color, one bright or dark pixel, stripes, gradients, checks, few values."""
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    flat = np.zeros((6, size, size, 3), np.uint8) + np.array([0, 255, 77, 0, 255, 254], np.uint8)[:, None, None, None]
    flat[2] += np.array([0, 90, 178], np.uint8)
    flat[3, size // 2, size // 3] = 255
    flat[4, 0, size - 1] = 0, 0, 254
    flat[5, ::2] = 255
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    across = np.stack([np.broadcast_to(ramp, (size, size)), np.broadcast_to(ramp[:, None], (size, size))], -1)
    gradient = np.concatenate([across, 255 - across[..., :1]], -1)
    checks = np.indices((size, size)).sum(0)[..., None] % 2 * np.array([255, 200, 1]) + np.array([0, 20, 100])
    few = rng.integers(100, 103, (1, size, size, 3), dtype=np.uint8)
    return np.concatenate([noise, flat, gradient[None], checks[None].astype(np.uint8), few])


@cache
def pictures(size: int) -> np.ndarray:
    """All kinds at one size, uint8 [n, size, size, 3]."""
    flower = load_sample_image("flower.jpg")
    crops = [flower[y : y + size, x : x + size] for y, x in ((100, 250), (0, 0), (427 - size, 640 - size))]
    return np.concatenate([resized(small(6), size), resized(digits(4), size), np.stack(crops), hard(size)])


class Listed:
    """Images as longtail.base.images asks for them. damaged: one that cannot be decoded."""

    def __init__(self, arrays: list[np.ndarray], damaged: int | None = None) -> None:
        self.arrays, self.damaged = arrays, damaged
        self.sizes = np.array([a.shape[:2] for a in arrays])

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> np.ndarray:
        if index == self.damaged:
            raise UserError(f"images/{index}.jpg: cut short")
        return self.arrays[index]
