"""How many images a data set has, counted from its entry alone."""

from __future__ import annotations

from dataclasses import dataclass

from longtail.base import params as tables
from longtail.base.errors import UserError
from longtail.data.config import DatasetConfig
from longtail.data.long_tail import held_out_counts, longtail_counts

SOURCES = {"digits": (10, None, None, 8), "cifar10": (10, 5000, 10_000, 32), "cifar100": (100, 500, 10_000, 32)}
FILE_SIDE = 224  # pixels taken for the side of an image in a file, whose size is not known


@dataclass(frozen=True)
class Images:
    """How many images a dataset has."""

    classes: int
    train: int
    test: int
    side: int  # pixels
    in_files: bool = False
    validation: int = 0  # on which an epoch is chosen


def counted(params: dict, name: str) -> Images:
    """The images of an entry of `datasets`. Raises UserError where it does not say how many there are."""
    unknown = UserError(f"datasets.{name}: how many images there are is not known; make subsample@{name} first")
    config = tables.build(DatasetConfig, tables.entry(params, "datasets", name), f"datasets.{name}")
    if files := config.files:
        if None in (files.classes, files.train_images, files.test_images):
            raise unknown
        train = files.classes * files.per_class if files.per_class else files.train_images
        held = config.validation is not None and config.validation.listed
        if held and files.val_images is None:
            raise unknown
        return Images(files.classes, train, files.test_images, FILE_SIDE, True, files.val_images if held else 0)
    classes, most, test, side = SOURCES.get(config.source, (None,) * 4)
    if config.classes is not None:
        test = test and test // classes * len(config.classes)
        classes = len(config.classes)
    n_max = config.n_max or most
    test = test or (classes and config.test_per_class and classes * config.test_per_class)
    if None in (classes, n_max, test):
        raise UserError(f"datasets.{name}: how many images there are is not known; make subsample@{name} first")
    counts = longtail_counts(n_max, classes, config.imbalance_factor)
    held = held_out_counts(counts, config.validation.per_class).sum() if config.validation else 0
    return Images(classes, int(counts.sum() - held), test, side, validation=int(held))
