"""A dataset of the shape that an entry describes, with made images: what a recipe does with it can be looked at where
the real images are not (longtail/training/entry_probe.py).

Class counts are the entry's own where its tail is cut by formula. Of datasets that come as lists only the numbers in
params.yaml are known here: as many classes and images, the largest and the smallest class, and a smooth tail between.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from longtail.base.errors import UserError
from longtail.data.config import LISTED, DatasetConfig
from longtail.data.long_tail import (
    LongTail,
    author_groups,
    class_order,
    count_groups,
    held_out_counts,
    longtail_counts,
)

CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100, "imagefolder": 10}
OF_A_CLASS = {"digits": 130, "cifar10": 5000, "cifar100": 500, "imagefolder": 5000}  # training images of the source
SIDE = {"digits": 8}  # pixels; else 32
TESTED = 8  # test images
DISTINCT = 499  # images in memory; a prime, so that they repeat with no class


@dataclass(frozen=True)
class MadeImages:
    """A longtail.base.images.Images: smooth colors that differ from image to image, of landscape and portrait sizes."""

    numbers: np.ndarray  # int64 [N]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def sizes(self) -> np.ndarray:
        """Height and width, int64 [N, 2]."""
        return np.stack(_sides(self.numbers), 1)

    def __getitem__(self, index):
        """An integer: RGB uint8 [H, W, 3]. A slice or an array: those images."""
        if isinstance(index, slice | np.ndarray | list):
            return MadeImages(self.numbers[index])
        return _picture(int(self.numbers[index])).copy()


def made_data(name: str, config: DatasetConfig) -> LongTail:
    """The dataset of an entry of `datasets`. Raises UserError for one of lists that does not say how large it is."""
    counts = _listed_counts(name, config) if config.source in LISTED else _cut_counts(config)
    if config.validation is not None and config.validation.per_class:
        counts = counts - held_out_counts(counts, config.validation.per_class)
    total, classes = int(counts.sum()), len(counts)
    tested = np.arange(TESTED) % classes
    names = tuple(f"class {i}" for i in range(classes))
    values = {
        "name": name,
        "train_images": _images(total, config, 0),
        "train_labels": np.repeat(np.arange(classes), counts),
        "train_index": np.arange(total),
        "test_images": _images(TESTED, config, total),
        "test_labels": tested,
        "class_names": names,
        "class_counts": counts,
        "cuts": config.cuts,
        "author_groups": author_groups(classes, config.cuts),
        "count_groups": count_groups(counts),
        "subset_seed": config.subset_seed,
        "class_order": class_order(names),
    }
    return LongTail(**values, digest="made")


def _cut_counts(config: DatasetConfig) -> np.ndarray:
    n_max = OF_A_CLASS[config.source] if config.n_max is None else config.n_max
    classes = CLASSES[config.source] if config.classes is None else len(config.classes)
    return longtail_counts(n_max, classes, config.imbalance_factor)


def _listed_counts(name: str, config: DatasetConfig) -> np.ndarray:
    """int64 [C]: falling from the largest to the smallest as a power of the rank, with the right sum."""
    of = config.files
    for key in ("classes", "train_images", "largest", "smallest"):
        if getattr(of, key) is None:
            raise UserError(f"datasets.{name}.files.{key}: null; made images need its number (subsample prints it)")
    if of.per_class:
        return np.full(of.classes, of.per_class, np.int64)
    place = np.linspace(1, 0, of.classes)
    low, high = 0.1, 50.0
    for _ in range(60):  # the larger the power, the fewer images
        power = (low + high) / 2
        counts = np.round(of.smallest + (of.largest - of.smallest) * place**power).astype(np.int64)
        low, high = (power, high) if counts.sum() > of.train_images else (low, power)
    rest = of.train_images - int(counts.sum())
    counts[1 : 1 + abs(rest)] += np.sign(rest)
    return counts


def _images(total: int, config: DatasetConfig, first: int) -> np.ndarray | MadeImages:
    if config.source in LISTED:
        return MadeImages(np.arange(first, first + total))
    side = config.image_size or SIDE.get(config.source, 32)
    return _array(first, total, side)


@cache
def _array(first: int, total: int, side: int) -> np.ndarray:
    """uint8 [N, S, S, 3], of which DISTINCT differ; kept, for many entries share a dataset."""
    return _pixels(np.arange(DISTINCT), side, side)[np.arange(first, first + total) % DISTINCT]


@lru_cache(128)
def _picture(number: int) -> np.ndarray:
    """One of MadeImages; the last are kept, for entries that share a dataset begin with the same ones."""
    return _pixels(np.array([number]), *_sides(number))[0]


def _sides(number):
    """Height and width of that one, or of those."""
    return 300 + number % 7 * 20, 260 + number % 5 * 40


def _pixels(numbers: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [n, H, W, 3]: integers alone, so equal on every machine."""
    rows, columns = (np.arange(side) * 256 // side for side in (height, width))
    n, y, x, c = np.ix_(numbers % 9973, rows, columns, np.arange(3))
    return ((n * (17 + 14 * c) + y * (1 + n % 3) + x * (1 + n % 2) + (x * y >> 7) * c) & 255).astype(np.uint8)
