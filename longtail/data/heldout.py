"""Labelled images that a long-tailed training set leaves unused: for choices that must not be made on the test set.

Of a source that is cut, training images outside the subset; of lists, their validation split. A learner of the
long-tailed task does not have these labels: nothing that is trained may read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longtail.base.errors import UserError
from longtail.data.config import LISTED, DatasetConfig
from longtail.data.file_images import FileImages
from longtail.data.list_formats import read_list
from longtail.data.list_sources import read_headers
from longtail.data.long_tail import LongTail, check_labels, class_order
from longtail.data.sources import Source, read_source


@dataclass(frozen=True)
class HeldOut:
    """Images in none of the two splits, class after class, in the source's order within a class. May be empty."""

    images: np.ndarray | FileImages  # uint8 [n, H, W, 3]
    labels: np.ndarray  # int64 [n], classes of the dataset file
    origin: str  # in words
    limit: int  # images of a class at most


def held_out(data: LongTail, config: DatasetConfig, limit: int) -> HeldOut:
    """The first `limit` unused images of each class. config: the entry of `datasets` that `data` was made by.

    Raises UserError, as subsample does, where the source is missing or damaged, and where it is another than then."""
    if config.source in LISTED:
        return _listed(data, config, limit)
    source = read_source(config, data.name)
    _check_same(source, data)
    used = data.train_index if data.val_index is None else np.concatenate([data.train_index, data.val_index])
    left = np.setdiff1d(np.arange(len(source.train_labels)), used)
    chosen = left[first_of_each(source.train_labels[left], limit)]
    images = source.train(chosen) if len(chosen) else data.train_images[:0]
    labels = source.train_labels[chosen].astype(np.int64)
    return HeldOut(images, labels, "training images that the long-tailed subset leaves out", limit)


def first_of_each(labels: np.ndarray, limit: int) -> np.ndarray:
    """Positions of the first `limit` of every label, int64, label after label. labels: integers [n]."""
    order = np.argsort(labels, kind="stable")
    ranked = labels[order]
    return order[np.arange(len(order)) - np.searchsorted(ranked, ranked) < limit]


def _check_same(source: Source, data: LongTail) -> None:
    """Is it the source that the subset was cut out of? Labels of all images, pixels of the first of each class."""
    index, first = data.train_index, first_of_each(data.train_labels, 1)
    same = class_order(source.class_names) == data.class_order and index.max() < len(source.train_labels)
    same = same and np.array_equal(source.train_labels[index], data.train_labels)
    if not same or not np.array_equal(source.train(index[first]), data.train_images[first]):
        raise UserError(f"datasets.{data.name}: its source holds other images now; make it again with subsample")


def _listed(data: LongTail, config: DatasetConfig, limit: int) -> HeldOut:
    """The validation list's images, in the dataset's classes, without any that one of the other lists names too."""
    files = config.files
    if files.val is None:
        return HeldOut(data.train_images[:0], data.train_labels[:0], "the source has no validation list", limit)
    listing = read_list(Path(config.raw) / files.val, config.source)
    check_labels(listing.labels, data.num_classes, str(Path(config.raw) / files.val))
    labels = listing.labels if data.class_map is None else data.class_map[listing.labels]
    used = np.concatenate([data.train_images.files, data.test_images.files])
    left = np.flatnonzero(~np.isin(listing.files, used))
    chosen = left[first_of_each(labels[left], limit)]
    heads, problems = read_headers(Path(files.images), listing.files[chosen])
    if problems:
        raise UserError(f"datasets.{data.name}: {problems[0][1]}; python stages/doctor.py {data.name} tells more")
    images = FileImages(files.images, listing.files[chosen], heads[:, :2], heads[:, 2], files.short_side or 0)
    return HeldOut(images, labels[chosen], f"validation list {files.val}", limit)
