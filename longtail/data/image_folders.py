"""Folders of class folders, read as torchvision's ImageFolder reads them: suffixes in any case, folders within folders.

What is left out is counted: files of other kinds, files beside the class folders, hidden class folders.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from longtail.base.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's


def class_folders(folder: Path) -> tuple[list[str], list[str]]:
    """The classes, sorted by name, and notes of what else stands there. Raises UserError where there are fewer than two
    classes."""
    entries = sorted(folder.iterdir())
    names = [p.name for p in entries if p.is_dir() and not p.name.startswith(".")]
    if len(names) < 2:
        raise UserError(f"{folder}: {len(names)} class folders found; expected one folder a class")
    hidden = [p.name for p in entries if p.is_dir() and p.name.startswith(".")]
    loose = [p.name for p in entries if p.is_file() and _is_image(p.name)]
    notes = []
    if hidden:
        notes.append(f"{folder}: hidden folders are no classes: {', '.join(hidden[:3])}{_more(hidden)}")
    if loose:
        notes.append(f"{folder}: {_count(len(loose), 'image')} in no class folder left out, e.g. {loose[0]}")
    return names, notes


def files_of(folder: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Paths [N] and labels int64 [N] of all images, class after class, in torchvision's order; and notes.

    Raises UserError for a class without images, and for a link by which a folder holds itself."""
    files: list[Path] = []
    labels: list[int] = []
    others: list[Path] = []
    for label, name in enumerate(names):
        of_class, rest = _walked(folder / name)
        if not of_class:
            there = f"; it holds {_kinds(rest)}" if rest else ""
            expected = ", ".join(IMAGE_SUFFIXES)
            raise UserError(f"{folder / name}: class with no image; expected files ending in {expected}{there}")
        files += of_class
        others += rest
        labels += [label] * len(of_class)
    notes = []
    if others:
        first = others[0].relative_to(folder)
        notes.append(f"{folder}: {_count(len(others), 'file')} left out, no images ({_kinds(others)}), e.g. {first}")
    return np.array(files, object), np.array(labels, np.int64), notes


def _walked(folder: Path) -> tuple[list[Path], list[Path]]:
    """(images, other files) of a class, whatever folder below they stand in, links followed."""
    images: list[Path] = []
    others: list[Path] = []
    if not folder.is_dir():
        return images, others

    def unreadable(error: OSError) -> None:
        raise UserError(f"{error.filename}: the folder cannot be read ({error.strerror})")

    above = {}  # {folder: real paths of itself and of those above it}
    visited = []
    for place, _, names in os.walk(folder, followlinks=True, onerror=unreadable):
        real = os.path.realpath(place)
        outer = above.get(os.path.dirname(place), frozenset())
        if real in outer:
            raise UserError(f"{place}: a link to a folder that holds it; remove the link")
        above[place] = outer | {real}
        visited.append((place, names))
    for place, names in sorted(visited):
        for name in sorted(names):
            (images if _is_image(name) else others).append(Path(place, name))
    return images, others


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _kinds(paths: list[Path]) -> str:
    """How many of each suffix: `3 .txt, 1 .gif`."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in paths).most_common(4)
    return ", ".join(f"{number} {suffix}" for suffix, number in counts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def _more(items: list) -> str:
    return f" and {len(items) - 3} more" if len(items) > 3 else ""
