"""Lists that name images and labels: OLTR's text files, iNaturalist's json and csv tables (METHODS 1.3 to 1.5).

What lists must hold before anything is made of them; shared by subsample and the data doctor.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from longtail.base.errors import UserError
from longtail.data.config import FilesConfig


@dataclass(frozen=True)
class Listing:
    """One split as its list tells it, in the list's order."""

    files: np.ndarray  # bytes [N], path of each image, UTF-8
    labels: np.ndarray  # int64 [N], as listed
    names: dict[int, str] = field(default_factory=dict)  # of classes, where the list tells them


def read_list(path: Path, source: str) -> Listing:
    """A `list`, `inat` or `csv`. Raises UserError where it is missing or a line or record is wrong."""
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*"))[:8])
        raise UserError(f"{path}: no such list; {path.parent} holds: {there or 'nothing'}")
    try:
        rows, names = {"list": _text, "csv": _table, "inat": _inat}[source](path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); fetch the official list again") from None
    files, labels = [], []
    wrong: list[str] = []
    for place, file, label in rows:
        problem = _problem(file, label)
        if problem:
            wrong.append(f"{place}: {problem}")
        else:
            files.append(file.encode())
            labels.append(int(label))
    if wrong:
        raise UserError(f"{path}: {wrong[0]}" + (f" ({len(wrong)} such)" if len(wrong) > 1 else ""))
    if not files:
        raise UserError(f"{path}: no image in it; fetch the official list again")
    return Listing(np.array(files), np.array(labels, np.int64), names)


def _problem(file: str, label) -> str:
    """What is wrong with a path and its label; nothing where all is well."""
    try:
        if int(label) < 0:
            return f"label {label} is negative"
    except (TypeError, ValueError):
        return f"{' '.join(str(v) for v in (file, label) if v is not None)!r} is no path with a label after it"
    if not file or file.startswith("/") or ".." in file.split("/"):
        return f"path {file!r} does not lead into the image folder"
    return ""


def _text(path: Path) -> tuple[list[tuple], dict]:
    """Lines `train/n01440764/n01440764_190.JPEG 0`; the label is what follows the last blank."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            file, *label = line.rsplit(None, 1)
            rows.append((f"line {number}", file.strip(), label[0] if label else None))
    return rows, {}


def _table(path: Path) -> tuple[list[tuple], dict[int, str]]:
    """Columns path, label and, if there, class."""
    rows, names = [], {}
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if not {"path", "label"} <= set(columns):
            raise UserError(f"{path}: columns {', '.join(columns) or 'none'}; expected path,label or path,label,class")
        for row in reader:
            place, label, name = f"line {reader.line_num}", row["label"], row.get("class")
            rows.append((place, row["path"] or "", label))
            if name and label and label.strip().isdigit() and names.setdefault(int(label), name) != name:
                raise UserError(f"{path}: {place}: label {label} is class '{name}' here, '{names[int(label)]}' above")
    return rows, names


def _inat(path: Path) -> tuple[list[tuple], dict[int, str]]:
    """`images` with id and file_name, `annotations` with image_id and category_id, `categories` with id and name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = {a["image_id"]: a["category_id"] for a in content["annotations"]}
        rows = [(f"image {i['id']}", i["file_name"], labels.get(i["id"])) for i in content["images"]]
        names = {int(c["id"]): str(c["name"]) for c in content["categories"]}
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: cut short or no json ({error}); fetch the official file again") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: no annotations as iNaturalist writes them ({error!r} where expected)") from None
    return rows, names


def class_names(train: Listing, classes: int) -> list[str]:
    """In label order: the names that the list tells, else the folders that hold each class's training images, else the
    labels; names or folders that two classes share are not used."""
    told = [train.names.get(label) for label in range(classes)]
    if len(set(told)) == classes and None not in told:
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
