"""What lists of images must hold before anything is made of them; shared by subsample and the data doctor."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import PurePosixPath

import numpy as np

from longtail.data.config import FilesConfig
from longtail.data.list_formats import Listing, name_problem

SPLITS = ("train", "val", "test")
NAMED = 3  # examples in one line


def class_names(train: Listing, classes: int) -> list[str]:
    """In label order: the names that the list tells, else the folders that hold each class's training images, else the
    labels; names or folders that two classes share are not used."""
    told = [train.names.get(label) for label in range(classes)]
    if not _unused(told):
        return told
    folders: dict[int, set[str]] = {}
    for file, label in zip(train.files.tolist(), train.labels.tolist(), strict=True):
        folders.setdefault(label, set()).add(file.decode().rpartition("/")[0])
    parts = [PurePosixPath(*f).parts if len(f := folders.get(label, ())) == 1 else () for label in range(classes)]
    shared = 0
    while all(len(p) > shared + 1 for p in parts) and len({p[shared] for p in parts}) == 1:
        shared += 1
    found = ["/".join(p[shared:]) for p in parts]
    return found if len(set(found)) == classes and "" not in found else [str(label) for label in range(classes)]


def _unused(told: list[str | None]) -> str:
    """Why the names that a list tells are not used; nothing where they are."""
    if missing := told.count(None):
        return f"{missing} of {len(told)} classes have no name in the list" if missing < len(told) else "none"
    name, times = Counter(told).most_common(1)[0]
    return f"{times} classes are called '{name}'" if times > 1 else ""


def names_note(train: Listing, classes: int) -> str:
    """What to say where the list tells names of classes and others are taken; else nothing."""
    why = _unused([train.names.get(label) for label in range(classes)])
    return f"class names of the list not used: {why}" if why not in ("", "none") else ""


def number_of_classes(config: FilesConfig, train: Listing) -> int:
    """As the entry expects, else as the training list has them."""
    return config.classes or int(train.labels.max()) + 1


def list_findings(config: FilesConfig, listings: dict[str, Listing]) -> list[str]:
    """Everything that is wrong with the splits at hand, which include train, a line each; nothing where all is well."""
    classes, found = number_of_classes(config, listings["train"]), []
    if beyond := classes > len(listings["train"].labels):  # nothing of that size is made
        found.append(f"{config.train}: {_too_many_classes(config, listings['train'])}")
    for split, listing in listings.items():
        found += _split_findings(config, split, listing, classes)
    if not beyond:
        found += _count_findings(config, listings["train"], classes)
    if "test" in listings and (shared := np.intersect1d(*(_plain(listings[s].files) for s in ("train", "test")))).size:
        found.append(f"{config.test}: in the training list too: {_some(shared)}")
    return found


def _count_findings(config: FilesConfig, train: Listing, classes: int) -> list[str]:
    found = []
    counts = np.bincount(train.labels, minlength=classes)
    if empty := np.flatnonzero(counts == 0).tolist():
        one = "; labels start at 1 here, 0 is needed" if empty == [0] and not config.classes else ""
        found.append(f"{config.train}: no image of {_some([f'label {label}' for label in empty])}{one}")
    for what, wanted, value in (
        ("largest", config.largest, int(counts.max())),
        ("smallest", config.smallest, int(counts.min())),
    ):
        if wanted not in (None, value):
            found.append(f"{config.train}: the {what} class has {value} images, {wanted} expected")
    return found


def _too_many_classes(config: FilesConfig, train: Listing) -> str:
    if config.classes:
        return f"{len(train.labels)} images, fewer than its {config.classes} classes (files.classes)"
    largest = int(train.labels.max())
    of = int((train.labels == largest).sum())
    return f"label {largest} of {of} image{'s' * (of > 1)}: more classes than images; is it the label?"


def tested_findings(labels: np.ndarray, classes: int, cuts: tuple[int, int]) -> tuple[list[str], list[str]]:
    """(what makes a test set useless, what is to be known of it). labels: int64 [M], of our classes."""
    counts = np.bincount(labels, minlength=classes)
    if not counts[cuts[1] :].any():
        tail = f"classes {cuts[1]} to {classes - 1}" if classes - cuts[1] > 1 else f"class {cuts[1]}"
        return [f"no test image of a tail class ({tail} by cuts {list(cuts)}), so nothing can be said of the tail"], []
    empty = np.flatnonzero(counts == 0).tolist()
    return [], [f"no test image of {_some([f'class {label}' for label in empty])}"] if empty else []


def name_findings(names: list[str]) -> list[str]:
    """Class names that no figure or table could show."""
    return [f"class name {problem}" for name in names if (problem := name_problem(name))]


def _plain(files: np.ndarray) -> np.ndarray:
    """Paths of which two that are one file are equal: a//b and a/./b are a/b. bytes [N]."""
    odd = [b"//" in file or b"/./" in file or file.startswith(b"./") for file in files.tolist()]
    return np.array([os.path.normpath(file) for file in files.tolist()]) if any(odd) else files


def _split_findings(config: FilesConfig, split: str, listing: Listing, classes: int) -> list[str]:
    name, wanted, found = getattr(config, split), getattr(config, f"{split}_images"), []
    if wanted not in (None, len(listing.files)):
        found.append(f"{name}: {len(listing.files)} images, {wanted} expected")
    seen = np.unique(listing.labels)
    if (outside := seen[seen >= classes]).size:
        one = "; labels start at 1 here, at 0 in the official lists" if seen[0] == 1 and seen[-1] == classes else ""
        labels = _some([f"label {label}" for label in outside.tolist()])
        found.append(f"{name}: {labels} out of range, {classes} classes are 0 to {classes - 1}{one}")
    files, times = np.unique(_plain(listing.files), return_counts=True)
    if (twice := files[times > 1]).size:
        found.append(f"{name}: listed more than once: {_some(twice)}")
    return found


def _some(items) -> str:
    """The first few and how many there are."""
    shown = [i.decode() if isinstance(i, bytes) else str(i) for i in items[:NAMED]]
    return ", ".join(shown) + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")
