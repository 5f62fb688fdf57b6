"""The published exponential long tail, and the one file that every later stage reads.

Construction (METHODS 1.1; LDAM:imbalance_cifar.py): class i of C keeps trunc((N/C) * f^(i/(C-1))) images with
f = 1/imbalance_factor, in natural class order, chosen by a legacy NumPy RandomState that shuffles the positions of each
class in turn. It is local: the published code seeds the global one, so that every later draw of a run depended on it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from longtail.base.errors import UserError
from longtail.base.files import npz
from longtail.data.file_images import FileImages
from longtail.data.packed_images import images_from

OPTIONAL = (
    "class_map",
    "val_images",
    "val_labels",
    "val_index",
)  # what a dataset file may lack; where it does, its digest is that of a file without them


@dataclass(frozen=True)
class LongTail:
    """A long-tailed training set with its balanced test set: uint8 in memory, or files that are decoded when asked."""

    name: str
    train_images: np.ndarray | FileImages  # uint8 [N, H, W, 3]
    train_labels: np.ndarray  # int64 [N], class after class in label order
    train_index: np.ndarray  # int64 [N], position in the source's training set
    test_images: np.ndarray | FileImages  # uint8 [M, H, W, 3]
    test_labels: np.ndarray  # int64 [M]
    class_names: tuple[str, ...]
    class_counts: np.ndarray  # int64 [C]
    cuts: tuple[int, int]
    author_groups: np.ndarray  # int64 [C]: 0 head, 1 mid, 2 tail, by class index
    count_groups: np.ndarray  # int64 [C]: 0 many (> 100 images), 1 medium (20 to 100), 2 few (< 20)
    subset_seed: int
    class_order: str  # sha256 of the ordered class list
    digest: str  # sha256 of everything else; of images in files: of the list of files with their sizes
    class_map: np.ndarray | None = None  # int64 [C]: our label of each label of the source, where they differ
    # where an epoch is to be chosen on validation, images that are neither trained on nor tested: V of them
    val_images: np.ndarray | FileImages | None = None  # uint8 [V, H, W, 3]
    val_labels: np.ndarray | None = None  # int64 [V]
    val_index: np.ndarray | None = None  # int64 [V], position in the source's training set, or in its validation list

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def save(self, path: Path) -> None:
        """Write the npz; arrays only, no pickles."""
        with open(path, "wb") as file:
            values = {name: value for f in fields(self) for name, value in _arrays(self, f.name, places=True).items()}
            np.savez(file, **{name: np.asarray(value) for name, value in values.items()})

    @classmethod
    def load(cls, path: str | Path) -> LongTail:
        """Read and check. Raises UserError where it is missing, cut short, altered, or a label is out of range."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: no such dataset file; make it with stages/subsample.py {path.stem}")
        with npz(path, "cut short or no dataset file", "make it again with subsample") as file:
            values = {f.name: _read(file, f.name) for f in fields(cls)}
        values["class_names"] = tuple(values["class_names"].tolist())
        values["cuts"] = tuple(values["cuts"].tolist())
        values |= {k: values[k].item() for k in ("name", "subset_seed", "class_order", "digest")}
        data = cls(**values)
        if content_digest(data) != data.digest:
            raise UserError(f"{path}: wrong checksum, the content was altered; make it again with subsample")
        for split in ("train", "test", *(("val",) if data.val_labels is not None else ())):
            check_labels(getattr(data, f"{split}_labels"), data.num_classes, f"{path}: {split} labels")
        return data


def check_labels(labels: np.ndarray, num_classes: int, where: str) -> None:
    """Raises UserError for a label outside [0, num_classes)."""
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        bad = labels[(labels < 0) | (labels >= num_classes)][0]
        raise UserError(f"{where}: label {bad} out of range, {num_classes} classes are 0 to {num_classes - 1}")


def longtail_counts(n_max: float, num_classes: int, imbalance_factor: float) -> np.ndarray:
    """int64 [C]: trunc(n_max * f^(i/(C-1))), f = 1/imbalance_factor, in float64; rounding would change many."""
    f = 1.0 / imbalance_factor
    steps = [i / (num_classes - 1.0) if num_classes > 1 else 0.0 for i in range(num_classes)]
    return np.array([int(n_max * f**step) for step in steps], np.int64)


def subsample(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """Positions kept, int64 [sum(counts)], class after class. Also a class that keeps everything is shuffled."""
    state = np.random.RandomState(seed)
    kept = []
    for label, count in enumerate(counts):
        positions = np.flatnonzero(labels == label)
        state.shuffle(positions)
        kept.append(positions[:count])
    return np.concatenate(kept)


HOLD_OUT = 1  # beside the subset's seed: a stream of its own


def held_out_counts(class_counts: np.ndarray, per_class: int) -> np.ndarray:
    """int64 [C]: images of each class that a hold-out takes, at most half of what the class has; of one image none."""
    return np.minimum(per_class, class_counts // 2)


def hold_out(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Positions held out of a training set for validation, int64, class after class, ascending within one.

    labels: int64 [N] of the long-tailed training set. As many of each class as held_out_counts says, drawn by a
    RandomState of (seed, 1): which images the subset has does not depend on it. Raises ValueError where that is none.
    """
    state, held = np.random.RandomState([seed, HOLD_OUT]), []
    for label, count in enumerate(held_out_counts(np.bincount(labels), per_class)):
        positions = np.flatnonzero(labels == label)
        held.append(np.sort(state.permutation(positions)[:count]))
    if not sum(map(len, held)):
        raise ValueError("no class has two images, so that none can be held out for validation")
    return np.concatenate(held).astype(np.int64)


def author_groups(num_classes: int, cuts: tuple[int, int]) -> np.ndarray:
    """0 head, 1 mid, 2 tail by class index (DLT:main.py cuts, e.g. [3, 7] and [36, 71] whatever the imbalance)."""
    return np.digitize(np.arange(num_classes), cuts).astype(np.int64)


def count_groups(class_counts: np.ndarray) -> np.ndarray:
    """0 many (> 100 training images), 1 medium (20 to 100), 2 few (< 20); METHODS 1.2."""
    return np.where(class_counts > 100, 0, np.where(class_counts >= 20, 1, 2)).astype(np.int64)


def class_order(class_names) -> str:
    """sha256 of the ordered class list: two artefacts with different values number their classes differently."""
    return hashlib.sha256(json.dumps(list(class_names)).encode()).hexdigest()


def check_class_order(data: LongTail, order: str, names: list[str] | None, what: str) -> None:
    """Raises UserError when an artefact numbers its classes differently, with the permutation where there is one."""
    if order == data.class_order:
        return
    message = f"{what} has class order {order[:12]}, dataset {data.name} has {data.class_order[:12]}"
    if names and sorted(names) == sorted(data.class_names):
        if data.class_map is not None and order == class_order([data.class_names[i] for i in data.class_map]):
            column = "argsort(class_map)[i]"
            raise UserError(f"{message}: the labels of its source; its output column for class i is {column}")
        permutation = [list(names).index(name) for name in data.class_names]
        raise UserError(f"{message}: same classes, other order; its output column for class i is {permutation}[i]")
    raise UserError(f"{message}: not the same classes")


def content_digest(data: LongTail) -> str:
    """sha256 of everything but the digest itself."""
    sha = hashlib.sha256()
    for field in fields(data):
        if field.name != "digest":
            for name, value in _arrays(data, field.name).items():
                value = np.ascontiguousarray(value)
                sha.update(f"{name} {value.dtype.str} {value.shape}".encode())
                sha.update(value.tobytes())
    return sha.hexdigest()


def _arrays(data: LongTail, name: str, places: bool = False) -> dict:
    """{name: value} of a field; of images in files, several; places: also where these lie, which is no content."""
    value = getattr(data, name)
    if isinstance(value, FileImages):
        return {f"{name}.{key}": part for key, part in (value.arrays() if places else value.content()).items()}
    return {} if value is None else {name: value}


def _read(file, name: str):
    """A field of an opened npz. Raises KeyError where it lacks one that is not optional."""
    parts = {key.removeprefix(f"{name}."): file[key] for key in file.files if key.startswith(f"{name}.")}
    if parts:
        return images_from(parts)
    return None if name in OPTIONAL and name not in file.files else file[name]
