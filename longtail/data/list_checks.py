"""What lists must hold before anything is made of them; shared by subsample and the data doctor."""

from __future__ import annotations

import numpy as np

from longtail.data.config import FilesConfig
from longtail.data.file_lists import Listing

SPLITS = ("train", "val", "test")
NAMED = 3  # examples in one line


def number_of_classes(config: FilesConfig, train: Listing) -> int:
    """As the entry expects, else as the training list has them."""
    return config.classes or int(train.labels.max()) + 1


def list_findings(config: FilesConfig, listings: dict[str, Listing]) -> list[str]:
    """Everything that is wrong with the splits at hand, which include train, a line each; nothing where all is well."""
    classes = number_of_classes(config, listings["train"])
    found = []
    for split, listing in listings.items():
        found += _split_findings(config, split, listing, classes)
    counts = np.bincount(listings["train"].labels, minlength=classes)
    if empty := np.flatnonzero(counts == 0).tolist():
        found.append(f"{config.train}: no image of {_some([f'label {label}' for label in empty])}")
    for what, wanted, value in (
        ("largest", config.largest, int(counts.max())),
        ("smallest", config.smallest, int(counts.min())),
    ):
        if wanted not in (None, value):
            found.append(f"{config.train}: the {what} class has {value} images, {wanted} expected")
    if "test" in listings and (shared := np.intersect1d(listings["train"].files, listings["test"].files)).size:
        found.append(f"{config.test}: in the training list too: {_some(shared)}")
    return found


def _split_findings(config: FilesConfig, split: str, listing: Listing, classes: int) -> list[str]:
    name, wanted, found = getattr(config, split), getattr(config, f"{split}_images"), []
    if wanted not in (None, len(listing.files)):
        found.append(f"{name}: {len(listing.files)} images, {wanted} expected")
    seen = np.unique(listing.labels)
    if (outside := seen[seen >= classes]).size:
        one = "; labels start at 1 here, at 0 in the official lists" if seen[0] == 1 and seen[-1] == classes else ""
        labels = _some([f"label {label}" for label in outside.tolist()])
        found.append(f"{name}: {labels} out of range, {classes} classes are 0 to {classes - 1}{one}")
    files, times = np.unique(listing.files, return_counts=True)
    if (twice := files[times > 1]).size:
        found.append(f"{name}: listed more than once: {_some(twice)}")
    return found


def _some(items) -> str:
    """The first few and how many there are."""
    shown = [i.decode() if isinstance(i, bytes) else str(i) for i in items[:NAMED]]
    return ", ".join(shown) + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")
