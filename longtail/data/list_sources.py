"""Datasets that are long-tailed as they come, their images named by lists: ImageNet-LT, iNaturalist, Places-LT, csv.

DeiT-LT numbers the classes of ImageNet-LT and iNaturalist by their count of training images, PaCo's teachers and the
lists by synset or category: a teacher that ignores this distills near-random labels and still trains.
The published order of equal counts is that of an unstable sort and differs by NumPy version; here it is natural.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from longtail.base.errors import UserError
from longtail.base.workers import cores, in_order
from longtail.data.config import DatasetConfig
from longtail.data.file_images import FileImages, read_header
from longtail.data.file_lists import (
    class_names,
    font_notes,
    list_findings,
    name_findings,
    names_note,
    number_of_classes,
    tested_findings,
)
from longtail.data.layout_causes import likely_cause
from longtail.data.list_formats import Listing, read_list
from longtail.data.long_tail import LongTail, author_groups, class_order, content_digest, count_groups, hold_out
from longtail.data.packed_images import packed


def frequency_rank(class_counts: np.ndarray) -> np.ndarray:
    """Our label of each natural label, int64 [C]: 0 for the largest class; equal counts in natural order."""
    class_map = np.empty(len(class_counts), np.int64)
    class_map[np.argsort(-class_counts, kind="stable")] = np.arange(len(class_counts))
    return class_map


def natural_labels(class_map: np.ndarray) -> np.ndarray:
    """Natural label of each of ours, int64 [C]: `logits[:, natural_labels(class_map)]` puts the columns of a model
    that was trained on natural labels into our order."""
    return np.argsort(class_map)


def some_of_each(listing: Listing, per_class: int, seed: int, where: str) -> np.ndarray:
    """Lines of per_class images of every class, int64, in order: its paths sorted by bytes, then drawn by a RandomState
    of `seed`. The released code takes the first of an unsorted folder, which differs by file system (METHODS 1.5).
    Raises UserError where a class has fewer."""
    state, kept = np.random.RandomState(seed), []
    for label in range(int(listing.labels.max()) + 1):
        mine = np.flatnonzero(listing.labels == label)
        if len(mine) < per_class:
            raise UserError(f"{where}: {per_class} asked, but label {label} has {len(mine)} images")
        mine = mine[np.argsort(listing.files[mine], kind="stable")]
        kept.append(state.permutation(mine)[:per_class])
    return np.sort(np.concatenate(kept))


def numbered(
    config: DatasetConfig, train: Listing, test: Listing
) -> tuple[Listing, Listing, list[str], np.ndarray | None]:
    """The splits with our labels, the names of the classes in their order, and the class map where there is one."""
    classes = number_of_classes(config.files, train)
    names, counts = class_names(train, classes), np.bincount(train.labels, minlength=classes)
    if config.files.labels != "frequency_rank":
        return train, test, names, None
    class_map = frequency_rank(counts)
    train, test = (replace(part, labels=class_map[part.labels]) for part in (train, test))
    return train, test, [names[label] for label in natural_labels(class_map)], class_map


def group_findings(config: DatasetConfig, train: Listing, test: Listing) -> tuple[list[str], list[str]]:
    """(what is wrong, what is to be known) of classes and their groups, in lists that hold what list_findings wants."""
    classes = number_of_classes(config.files, train)
    if config.cuts[1] >= classes:
        return [f"cuts {list(config.cuts)} leaves no tail among {classes} classes"], []
    _, test, names, _ = numbered(config, train, test)
    wrong, notes = tested_findings(test.labels, classes, config.cuts)
    unused = names_note(train, classes)
    notes = [*notes, *font_notes(names)]
    return [*wrong, *name_findings(names)], [unused, *notes] if unused else notes


CHUNK = 500  # files a worker reads before it answers


def make_listed(name: str, config: DatasetConfig, told: Callable[[str], None] = lambda note: None) -> LongTail:
    """Read and check the lists, number the classes, and read every image's size from its header.

    told: called with a line for each thing that was left out. Raises UserError for wrong lists and for missing or
    damaged images; stages/doctor.py tells all that is wrong."""
    files = config.files
    listed = config.validation is not None and config.validation.listed
    splits = ("train", "val", "test") if listed else ("train", "test")
    listings = {s: read_list(Path(config.raw) / getattr(files, s), config.source) for s in splits}
    if found := list_findings(files, listings):
        more = f" (and {len(found) - 1} more: python stages/doctor.py {name})" if len(found) > 1 else ""
        raise UserError(f"datasets.{name}: {Path(config.raw) / found[0]}{more}")
    train, test = listings["train"], listings["test"]
    classes = number_of_classes(files, train)
    if config.cuts[1] >= classes:
        raise UserError(f"datasets.{name}.cuts: {list(config.cuts)} leaves no tail among {classes} classes")
    rows = np.arange(len(train.files))
    if files.per_class:
        rows = some_of_each(train, files.per_class, config.subset_seed, f"datasets.{name}.files.per_class")
        train = replace(train, files=train.files[rows], labels=train.labels[rows])
    wrong, notes = group_findings(config, train, test)
    if wrong:
        raise UserError(f"datasets.{name}: {wrong[0]}")
    for note in (*train.notes, *test.notes, *notes):
        told(note)
    train, test, names, class_map = numbered(config, train, test)
    counts = np.bincount(train.labels, minlength=classes)
    index, held = np.argsort(train.labels, kind="stable"), {}  # class after class, as everywhere
    if listed:
        held = _listed_validation(name, config, listings, class_map)
    elif config.validation is not None:
        out = index[hold_out(train.labels[index], config.validation.per_class, config.subset_seed)]
        index = index[~np.isin(index, out)]
        counts = np.bincount(train.labels[index], minlength=classes)
        held = {"val_images": _images(name, config, None, train.files[out]), "val_labels": train.labels[out]}
        held |= {"val_index": rows[out]}
    values = {
        "name": name,
        "train_images": _images(name, config, "train", train.files[index]),
        "train_labels": train.labels[index],
        "train_index": rows[index],
        "test_images": _images(name, config, "test", test.files),
        "test_labels": test.labels,
        "class_names": tuple(names),
        "class_counts": counts,
        "cuts": config.cuts,
        "author_groups": author_groups(classes, config.cuts),
        "count_groups": count_groups(counts),
        "subset_seed": config.subset_seed,
        "class_order": class_order(names),
        "class_map": class_map,
        **held,
    }
    draft = LongTail(**values, digest="")
    return LongTail(**values, digest=content_digest(draft))


def _listed_validation(name: str, config: DatasetConfig, listings: dict[str, Listing], class_map) -> dict:
    """The fields of the validation list. Raises UserError where another list names one of its images too."""
    val = listings["val"]
    for split in ("train", "test"):
        shared = np.intersect1d(val.files, listings[split].files)
        if len(shared):
            found = f"{config.files.val}: {shared[0].decode()} is in {getattr(config.files, split)} too"
            raise UserError(f"datasets.{name}: {found}; choose the epoch on images that nothing else uses")
    labels = val.labels if class_map is None else class_map[val.labels]
    images = _images(name, config, None, val.files)
    return {"val_images": images, "val_labels": labels, "val_index": np.arange(len(labels))}


def _images(name: str, config: DatasetConfig, split: str | None, listed: np.ndarray) -> FileImages:
    """split: of the pack; None: of none, the files are decoded every time."""
    root = Path(config.files.images)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; datasets.{name}.files.images is where the listed paths start from")
    heads, problems = read_headers(root, listed)
    if problems:
        missing = [file for file, _ in problems if not (root / file).is_file()]
        why = f"; {likely_cause(root, missing, len(listed))}" if missing and missing[0] == problems[0][0] else ""
        more = f" ({len(problems)} such; python stages/doctor.py {name} tells more){why}"
        raise UserError(f"datasets.{name}: {problems[0][1]}{more}")
    images = FileImages(config.files.images, listed, heads[:, :2], heads[:, 2], config.files.short_side or 0)
    return packed(images, config.files.pack, split) if config.files.pack and split else images


def read_headers(root: Path, listed: np.ndarray) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Height, width and bytes of each file, int64 [N, 3], by all cores; and (file, what is wrong) of those that have
    none."""

    def read(part: np.ndarray) -> tuple[list[tuple[int, int, int]], list[tuple[str, str]]]:
        heads, problems = [], []
        for file in part.tolist():
            try:
                heads.append(read_header(root / file.decode()))
            except UserError as error:
                problems.append((file.decode(), str(error)))
        return heads, problems

    parts = [listed[start : start + CHUNK] for start in range(0, len(listed), CHUNK)]
    heads, problems = [], []
    for found, wrong in in_order(read, parts, cores()):
        heads += found
        problems += wrong
    return np.array(heads, np.int64).reshape(-1, 3), problems
