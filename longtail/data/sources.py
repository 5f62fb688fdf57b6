"""Where images come from: one function a source, and the long-tailed set made of it.

digits (scikit-learn, embedded), cifar10 and cifar100 (torchvision, checksummed), imagefolder (any class folders).
A source names its classes and labels at once and decodes images only when asked for them. Those whose images stay in
files that lists name are in list_sources.py.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from longtail.base.errors import UserError
from longtail.base.files import file_digest
from longtail.base.what_file import really
from longtail.data.config import LISTED, DatasetConfig
from longtail.data.file_images import read_rgb
from longtail.data.file_lists import font_notes, name_findings, tested_findings
from longtail.data.image_folders import class_folders, files_of
from longtail.data.list_sources import make_listed
from longtail.data.long_tail import (
    LongTail,
    author_groups,
    class_order,
    content_digest,
    count_groups,
    hold_out,
    longtail_counts,
    subsample,
)

DIGITS_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"


@dataclass
class Source:
    """All images of a source by label, decoded only when asked for."""

    class_names: list[str]
    train_labels: np.ndarray
    test_labels: np.ndarray
    train: Callable[[np.ndarray], np.ndarray]  # positions [n] -> uint8 [n, H, W, 3]
    test: Callable[[np.ndarray], np.ndarray]
    notes: tuple[str, ...] = ()  # what was left out, a line each


def read_source(config: DatasetConfig, name: str) -> Source:
    """The entry's source, of the classes that it takes. Raises UserError where it is missing, damaged or has fewer."""
    source = SOURCES[config.source](config, name)
    if config.classes is None:
        return source
    known = len(source.class_names)
    if max(config.classes) >= known:
        raise UserError(f"datasets.{name}.classes: {list(config.classes)}, but the source has classes 0 to {known - 1}")
    splits = source.train_labels, source.test_labels
    train, test = (np.flatnonzero(np.isin(labels, config.classes)) for labels in splits)
    number = np.full(known, -1, np.int64)
    number[list(config.classes)] = np.arange(len(config.classes))
    return Source(
        [source.class_names[label] for label in config.classes],
        number[source.train_labels[train]],
        number[source.test_labels[test]],
        lambda positions: source.train(train[positions]),
        lambda positions: source.test(test[positions]),
        source.notes,
    )


def make_longtail(name: str, config: DatasetConfig, told: Callable[[str], None] = lambda line: None) -> LongTail:
    """Read the source and cut its tail. told: called with a line for each thing that was left out. Raises UserError for
    missing or damaged data and for empty classes."""
    if config.source in LISTED:
        return make_listed(name, config, told)
    source = read_source(config, name)
    classes = len(source.class_names)
    if config.cuts[1] >= classes:
        raise UserError(f"datasets.{name}.cuts: {list(config.cuts)} leaves no tail among {classes} classes")
    wrong, notes = tested_findings(source.test_labels, classes, config.cuts)
    if wrong := [*wrong, *name_findings(source.class_names)]:
        raise UserError(f"datasets.{name}: {wrong[0]}")
    for line in (*source.notes, *notes, *font_notes(source.class_names)):
        told(line)
    available = np.bincount(source.train_labels, minlength=classes)
    for label in np.flatnonzero(available == 0):
        raise UserError(f"datasets.{name}: class '{source.class_names[label]}' has no training image")
    n_max = len(source.train_labels) / classes if config.n_max is None else config.n_max
    counts = longtail_counts(n_max, classes, config.imbalance_factor)
    for label in np.flatnonzero((counts > available) | (counts < 1)):
        raise UserError(
            f"datasets.{name}: class '{source.class_names[label]}' would keep {counts[label]} of its {available[label]}"
            f" images; set n_max and imbalance_factor so that every class keeps at least 1 and at most what it has"
        )
    index, held = subsample(source.train_labels, counts, config.subset_seed), {}
    if config.validation is not None:
        kept, out = index, hold_out(source.train_labels[index], config.validation.per_class, config.subset_seed)
        index, out = np.delete(kept, out), kept[out]
        counts = np.bincount(source.train_labels[index], minlength=classes)
        held = {"val_images": source.train(out), "val_labels": source.train_labels[out].astype(np.int64)}
        held |= {"val_index": out.astype(np.int64)}
    values = {
        "name": name,
        "train_images": source.train(index),
        "train_labels": source.train_labels[index].astype(np.int64),
        "train_index": index.astype(np.int64),
        "test_images": source.test(np.arange(len(source.test_labels))),
        "test_labels": source.test_labels.astype(np.int64),
        "class_names": tuple(source.class_names),
        "class_counts": counts,
        "cuts": config.cuts,
        "author_groups": author_groups(classes, config.cuts),
        "count_groups": count_groups(counts),
        "subset_seed": config.subset_seed,
        "class_order": class_order(source.class_names),
        **held,
    }
    sizes = [f"{i.shape[2]}x{i.shape[1]}" for i in (values["train_images"], values["test_images"])]
    if sizes[0] != sizes[1]:
        raise UserError(f"datasets.{name}: training images are {sizes[0]}, test images {sizes[1]}; set image_size")
    draft = LongTail(**values, digest="")
    return LongTail(**values, digest=content_digest(draft))


def summary(data: LongTail) -> str:
    """What was cut, in a line."""
    return (
        f"{data.name}: {len(data.train_labels)} training images in {data.num_classes} classes,"
        f" {data.class_counts.max()} to {data.class_counts.min()} a class; {len(data.test_labels)} test images"
        + ("" if data.val_labels is None else f"; {len(data.val_labels)} for validation")
    )


def _hold_out(
    labels: np.ndarray, per_class: int | None, config: DatasetConfig, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (train, test) with a class-balanced test set, by a RandomState of the subset seed."""
    if not per_class:
        raise UserError(f"datasets.{name}.test_per_class: {config.source} has no test set of its own; set e.g. 40")
    state, test = np.random.RandomState(config.subset_seed), []
    for label in range(labels.max() + 1):
        positions = np.flatnonzero(labels == label)
        if len(positions) <= per_class:
            raise UserError(
                f"datasets.{name}.test_per_class: class {label} has {len(positions)} images, {per_class} asked"
            )
        test.append(np.sort(state.permutation(positions)[:per_class]))
    test = np.concatenate(test)
    return np.setdiff1d(np.arange(len(labels)), test), test


def _digits(config: DatasetConfig, name: str) -> Source:
    """scikit-learn's 1,797 handwritten digits, 8x8, 0..16 grey levels scaled to 0..255 and repeated to RGB: what its
    load_digits reads, from its file, since scikit-learn itself takes three seconds to load."""
    (package,) = importlib.util.find_spec("sklearn").submodule_search_locations
    path = Path(package) / "datasets/data/digits.csv.gz"
    if file_digest(path) != DIGITS_SHA256:
        raise UserError(f"{path}: not the file of digits that scikit-learn is known to bring; install it again")
    table = np.loadtxt(path, np.int64, delimiter=",")  # of a row 64 grey levels, then the class
    grey, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    images = np.repeat(np.round(grey * (255 / 16)).astype(np.uint8)[..., None], 3, axis=-1)
    train, test = _hold_out(labels, config.test_per_class, config, name)
    return Source(
        [str(digit) for digit in range(10)],
        labels[train],
        labels[test],
        lambda positions: images[train[positions]],
        lambda positions: images[test[positions]],
    )


def _cifar(config: DatasetConfig, name: str) -> Source:
    """CIFAR-10/100 through torchvision: batches 1 to 5 in order (CIFAR-100: fine labels), checksums verified."""
    from torchvision.datasets import CIFAR10, CIFAR100
    from torchvision.datasets.utils import check_integrity

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[config.source]
    if not config.download:
        folder = Path(config.raw) / kind.base_folder
        for file, md5 in [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]:
            if not (folder / file).is_file():
                raise UserError(
                    f"{folder / file}: missing; unpack the official archive into {config.raw}"
                    f" or set datasets.{name}.download: true"
                )
            if not check_integrity(str(folder / file), md5):
                said = really(folder / file)
                raise UserError(
                    f"{folder / file}: wrong checksum, expected md5 {md5}{said and f'; {said}'}; fetch the official"
                    " archive again"
                )
    try:
        train, test = (kind(config.raw, train=split, download=config.download) for split in (True, False))
    except (RuntimeError, OSError) as error:
        raise UserError(f"datasets.{name}: {config.source} in {config.raw}: {' '.join(str(error).split())}") from None
    return Source(
        list(train.classes),
        np.array(train.targets),
        np.array(test.targets),
        lambda positions: train.data[positions],
        lambda positions: test.data[positions],
    )


def _imagefolder(config: DatasetConfig, name: str) -> Source:
    """<raw>/train/<class>/* and <raw>/test/<class>/* (or val), or <raw>/<class>/* with a held-out test set."""
    root = Path(config.raw)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; datasets.{name}.raw names a folder of class folders")
    splits = root / "train", next((root / s for s in ("test", "val") if (root / s).is_dir()), None)
    if splits[0].is_dir() and splits[1]:
        names, notes = class_folders(splits[0])
        others, more = class_folders(splits[1])
        if unknown := sorted(set(others) - set(names)):
            raise UserError(f"{splits[1] / unknown[0]}: no such class in {splits[0]}")
        train_files, train_labels, left = files_of(splits[0], names)
        test_files, test_labels, also = files_of(splits[1], names)
        notes += more + left + also
    else:
        names, notes = class_folders(root)
        files, labels, left = files_of(root, names)
        notes += left
        train, test = _hold_out(labels, config.test_per_class, config, name)
        train_files, train_labels, test_files, test_labels = files[train], labels[train], files[test], labels[test]

    def decode(files: np.ndarray) -> np.ndarray:
        first = None
        out = []
        for file in files:
            image = _decode(file, config.image_size)
            if first is not None and image.shape != first:
                raise UserError(
                    f"{file}: {image.shape[1]}x{image.shape[0]} pixels where others have {first[1]}x{first[0]};"
                    f" set datasets.{name}.image_size to resize them all"
                )
            first = image.shape
            out.append(image)
        return np.stack(out)

    return Source(
        names,
        train_labels,
        test_labels,
        lambda positions: decode(train_files[positions]),
        lambda positions: decode(test_files[positions]),
        tuple(notes),
    )


def _decode(file: Path, size: int | None) -> np.ndarray:
    image = read_rgb(file)
    if size is not None:
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return np.asarray(image)


SOURCES = {"digits": _digits, "cifar10": _cifar, "cifar100": _cifar, "imagefolder": _imagefolder}
