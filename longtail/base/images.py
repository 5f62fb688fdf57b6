"""Images of a split: an array of equal sizes in memory, or anything that decodes one image when asked for it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

SIDE = 64  # pixels of a picture, at most


class Images(Protocol):
    """What views and evaluations need. A uint8 array [N, H, W, 3] needs no wrapping."""

    sizes: np.ndarray  # int64 [N, 2]: height and width in pixels

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...  # uint8 [H, W, 3]


def sizes_of(images: Images | np.ndarray) -> np.ndarray:
    """Height and width of each image, int64 [N, 2]."""
    if isinstance(images, np.ndarray):
        return np.broadcast_to(np.array(images.shape[1:3], np.int64), (len(images), 2))
    return images.sizes


def scaled(sizes: np.ndarray, side: int) -> np.ndarray:
    """Heights and widths with the shorter side made `side`, the longer truncated as torchvision does. int64 [N, 2]."""
    return (side * sizes / sizes.min(1, keepdims=True)).astype(np.int64)


def pictures(images: Images | np.ndarray, places: np.ndarray) -> np.ndarray:
    """uint8 [*places.shape, S, S, 3]: these images to be looked at, bicubic, of what is no square the centre. S is that
    of images of one size in memory, SIDE at most. places: int64."""
    side = min(SIDE, *images.shape[1:3]) if isinstance(images, np.ndarray) else SIDE
    found = np.empty((places.size, side, side, 3), np.uint8)
    for row, place in enumerate(places.ravel().tolist()):
        found[row] = ImageOps.fit(Image.fromarray(images[place]), (side, side), Image.Resampling.BICUBIC)
    return found.reshape(*places.shape, side, side, 3)
