"""Lists that name images and labels: OLTR's text files, iNaturalist's and COCO's json, csv tables (METHODS 1.3 to 1.5).

Nothing is guessed and nothing is left out in silence: what could be read in two ways is refused, with its line or id
and how many such there are; what plays no part, such as annotations of other images, is counted in a note.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from longtail.base import csv_file
from longtail.base.errors import UserError

DIGITS, BITS = 18, 62  # of a label at most: it fits 64 bits
LABEL = re.compile(r"-?[0-9]+")
CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)  # also halves of UTF-16 pairs, which no UTF-8 has
FETCH = "fetch the official list again"


@dataclass(frozen=True)
class Listing:
    """One split as its list tells it, in the list's order."""

    files: np.ndarray  # bytes [N], path of each image, UTF-8
    labels: np.ndarray  # int64 [N], as listed
    names: dict[int, str] = field(default_factory=dict)  # of classes, where the list tells them
    notes: tuple[str, ...] = ()  # what of the list plays no part, a line each


def read_list(path: Path, source: str) -> Listing:
    """A `list`, `inat` or `csv`. Raises UserError where it is missing or a line or record is wrong."""
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*"))[:8])
        raise UserError(f"{path}: no such list; {path.parent} holds: {there or 'nothing'}")
    names: dict[int, str] = {}
    notes: list[str] = []
    files, labels, wrong = [], [], []
    for place, file, label in READERS[source](path, names, notes):
        problem = _problem(file, label)
        if problem:
            wrong.append(f"{place}: {problem}")
        else:
            files.append(file.encode())
            labels.append(int(label))
    if wrong:
        raise UserError(f"{path}: {wrong[0]}{_such(len(wrong))}")
    if not files:
        raise UserError(f"{path}: no image in it; {FETCH}")
    return Listing(np.array(files), np.array(labels, np.int64), names, tuple(f"{path}: {note}" for note in notes))


Rows = Iterator[tuple[str, Any, Any]]  # place, path, label


def _problem(file: Any, label: Any) -> str:
    """What is wrong with a path and its label; nothing where all is well."""
    if isinstance(label, str):
        label = label.strip()
    whole = type(label) is int or (isinstance(label, str) and LABEL.fullmatch(label))
    if not whole or not isinstance(file, str):
        return f"{' '.join(str(v) for v in (file, label) if v is not None)[:200]!r} is no path with a label after it"
    if len(label) > DIGITS if isinstance(label, str) else label.bit_length() > BITS:
        return "its label is larger than any number of classes"
    if int(label) < 0:
        return f"label {label} is negative"
    if found := CONTROL.search(file):
        return f"path {file[:200]!r} has the character {found[0]!r}, which no text shows; rename the file"
    if not file or file.startswith("/") or ".." in file.split("/"):
        return f"path {file!r} does not lead into the image folder"
    return ""


def _text(path: Path, names: dict[int, str], notes: list[str]) -> Rows:
    """Lines `train/n01440764/n01440764_190.JPEG 0`; the label is what follows the last blank."""
    for number, line in enumerate(csv_file.text_lines(path), 1):
        if line.strip():
            file, *label = line.rsplit(None, 1)
            yield f"line {number}", file.strip(), label[0] if label else None


def _table(path: Path, names: dict[int, str], notes: list[str]) -> Rows:
    """Columns path, label and, if there, class; others play no part."""
    others: set[str] = set()
    for line, row in csv_file.numbered(path, ("path", "label"), optional=("class",)):
        place, label, name = f"line {line}", row["label"].strip(), row.get("class")
        yield place, row["path"], label
        others |= set(row)
        if name and len(label) <= DIGITS and LABEL.fullmatch(label):
            _check_name(name, f"{path}: {place}")
            if names.setdefault(int(label), name) != name:
                raise UserError(f"{path}: {place}: label {label} is class '{name}' here, '{names[int(label)]}' above")
    if others := others - {"path", "label", "class"}:
        notes.append(f"not read: columns {', '.join(sorted(others))}")


def _inat(path: Path, names: dict[int, str], notes: list[str]) -> Rows:
    """`images` with id and file_name, `annotations` with image_id and category_id, `categories` with id and name."""
    content = _json(path)
    try:
        images = _by_id(content["images"], "image", path)
        labels = _one_each(content["annotations"], images, path, notes)
        for number, category in _by_id(content["categories"], "category", path).items():
            name = str(category["name"])
            if type(number) is not int:
                raise UserError(f"{path}: category id {number!r} is no whole number")
            _check_name(name, f"{path}: category {number}")
            names[number] = name
        rows = [(f"image {id_!r}", image["file_name"], labels.get(id_)) for id_, image in images.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no annotations as iNaturalist writes them ({error!r} where expected)") from None
    lacking = [place for place, _, label in rows if label is None]
    if lacking:
        raise UserError(f"{path}: {lacking[0]}: no annotation, so no label{_such(len(lacking))}")
    yield from rows


def _json(path: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        block = dict(pairs)
        if len(block) < len(pairs):
            keys = [key for key, _ in pairs]
            raise UserError(f"{path}: key '{next(k for k in keys if keys.count(k) > 1)}' stands twice in a block")
        return block

    text = "\n".join(csv_file.text_lines(path))
    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise UserError(f"{path}: no such list, nested too deeply; {FETCH}") from None
    except ValueError as error:  # JSONDecodeError, and a number of more digits than Python reads
        raise UserError(f"{path}: cut short or no json ({error}); fetch the official file again") from None


def _by_id(records: Iterable[dict], what: str, path: Path) -> dict[Any, dict]:
    """{id: record}. Raises UserError where an id stands twice."""
    found, twice = {}, []
    for record in records:
        if record["id"] in found:
            twice.append(record["id"])
        found[record["id"]] = record
    if twice:
        raise UserError(f"{path}: {what} id {twice[0]!r} stands twice{_such(len(twice))}; keep one")
    return found


def _one_each(annotations: list[dict], images: dict, path: Path, notes: list[str]) -> dict[Any, Any]:
    """{image id: category id}. Raises UserError where one image has several labels."""
    labels: dict[Any, dict[Any, None]] = {}  # a dict, so that they stay in the file's order
    unlisted, repeated = 0, 0
    for annotation in annotations:
        image, label = annotation["image_id"], annotation["category_id"]
        if type(label) is not int:
            raise UserError(f"{path}: image {image!r}: category_id {label!r} is no whole number")
        if image not in images:
            unlisted += 1
            continue
        own = labels.setdefault(image, {})
        repeated += label in own
        own[label] = None
    several = {image: list(own) for image, own in labels.items() if len(own) > 1}
    if several:
        image, own = next(iter(several.items()))
        told = " and ".join(map(str, own)) if len(own) < 4 else f"{', '.join(map(str, own[:3]))}, …"
        count = f"; {len(several)} such" if len(several) > 1 else ""
        raise UserError(
            f"{path}: image {image!r} has {len(own)} annotations (labels {told}{count}); an image of this task has one"
        )
    if unlisted:
        notes.append(f"left out: {unlisted} annotations of images that it does not list")
    if repeated:
        notes.append(f"taken once: {repeated} annotations that say an image's label again")
    return {image: next(iter(own)) for image, own in labels.items()}


def _check_name(name: str, where: str) -> None:
    if problem := name_problem(name):
        raise UserError(f"{where}: class name {problem}")


def name_problem(name: str) -> str:
    """Why a class cannot be called so; nothing where it can."""
    if not name.strip():
        return f"{name!r} is empty"
    if found := CONTROL.search(name):
        if 0xDC80 <= ord(found[0]) <= 0xDCFF:  # how Python shows a byte of a file's name that is not UTF-8
            return f"{name!r} is not UTF-8; rename it, if it is Latin-1: convmv -f latin1 -t utf-8 -r --notest FOLDER"
        return f"{name!r} has the character {found[0]!r}, which no figure or table can show; rename it"
    return ""


def _such(count: int) -> str:
    return f" ({count} such)" if count > 1 else ""


READERS = {"list": _text, "csv": _table, "inat": _inat}
