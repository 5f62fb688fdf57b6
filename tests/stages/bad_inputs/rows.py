"""What a row of the table of bad inputs is, and the small sound datasets that its input spoils.

Kinds of fault: A the file is something else than its name says; B of two the last would win; C something would be left
out in silence; F known early, and said late; I names; J numbers from outside as sizes; L names of entries; M a cause of
missing images that the doctor names.

A dataset is three classes of 3, 2 and 2 training images and two test images each, in class folders below data/images or
named by lists in data/raw; the pictures are 6 px wide and made once.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

RAW, IMAGES = Path("data/raw"), Path("data/images")
COUNTS = {"train": (3, 2, 2), "test": (2, 2, 2)}
CLASSES = ("ant", "bee", "cat")
Spoil = Callable[[Path], dict | None]  # in the dataset's folder; may give changes of its block in params.yaml


@dataclass(frozen=True)
class Row:
    """An input and what is said of it."""

    kind: str  # a letter, as above
    name: str
    source: str  # list, csv, inat or imagefolder: the dataset that is made and then spoiled
    spoil: Spoil
    said: str  # a part of the one line of stage subsample
    doctor: str | None = None  # a part of one of the doctor's lines, where it is not the same

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.source}-{self.name}".replace(" ", "_")


@cache
def picture(number: int, suffix: str = ".png", mode: str = "RGB") -> bytes:
    """The bytes of an image file."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, Image.registered_extensions()[suffix])
    return out.getvalue()


def listed() -> dict[str, list[tuple[str, int]]]:
    """{split: [(path, label)]}, the same for every source."""
    return {
        split: [(f"{split}/{CLASSES[k]}/{i}.png", k) for k, count in enumerate(counts) for i in range(count)]
        for split, counts in COUNTS.items()
    }


def made(folder: Path, source: str) -> dict:
    """Make a sound dataset below `folder`; its block of `datasets`."""
    of_folders = source == "imagefolder"
    number = 0
    for lines in listed().values():
        for file, _ in lines:
            number += 1
            path = folder / (RAW if of_folders else IMAGES) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(number))
    block = {"source": source, "raw": str(RAW), "n_max": None, "subset_seed": 0, "cuts": [1, 2], "download": False}
    block |= {"test_per_class": None, "image_size": None, "imbalance_factor": 1.0 if of_folders else None}
    if of_folders:
        return block
    (folder / RAW).mkdir(parents=True, exist_ok=True)
    suffix = {"list": "txt", "csv": "csv", "inat": "json"}[source]
    for split, lines in listed().items():
        (folder / RAW / f"{split}.{suffix}").write_text(text_of(source, lines))
    free = ("val", "short_side", "pack", "classes", "train_images", "val_images", "test_images", "largest", "smallest")
    files = {"train": f"train.{suffix}", "test": f"test.{suffix}", "images": str(IMAGES), "labels": "natural"}
    return block | {"files": files | dict.fromkeys(free)}


def text_of(source: str, lines: list[tuple[str, int]]) -> str:
    """The lines as a file of that source."""
    if source == "list":
        return "".join(f"{file} {label}\n" for file, label in lines)
    if source == "csv":
        return "path,label,class\n" + "".join(f"{file},{label},{CLASSES[label]}\n" for file, label in lines)
    return json.dumps(coco(lines))


def coco(lines: list[tuple[str, int]]) -> dict:
    """As iNaturalist's and COCO's files are."""
    return {
        "images": [{"id": i, "file_name": file} for i, (file, _) in enumerate(lines)],
        "annotations": [{"id": i, "image_id": i, "category_id": label} for i, (_, label) in enumerate(lines)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES)],
    }


# ---- ways to spoil


def text(change: Callable[[str], str], split: str = "train") -> Spoil:
    """The list of a split as another text."""

    def spoil(folder: Path) -> None:
        (path,) = (folder / RAW).glob(f"{split}.*")
        path.write_text(change(path.read_text()))

    return spoil


def content(data: bytes | str, split: str = "train") -> Spoil:
    """The list of a split as these bytes."""

    def spoil(folder: Path) -> None:
        (path,) = (folder / RAW).glob(f"{split}.*")
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    return spoil


def encoded(encoding: str, change: Callable[[str], str] = lambda text: text) -> Spoil:
    def spoil(folder: Path) -> None:
        (path,) = (folder / RAW).glob("train.*")
        path.write_bytes(change(path.read_text()).encode(encoding))

    return spoil


def record(change: Callable[[dict], None]) -> Spoil:
    """The training json with a change."""

    def spoil(folder: Path) -> None:
        path = folder / RAW / "train.json"
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return spoil


def image(data: bytes | Callable[[bytes], bytes]) -> Spoil:
    """The first bee of the training set as these bytes, or as a change of its own."""

    def spoil(folder: Path) -> None:
        (path,) = (folder / "data").glob("*/train/bee/0.png")
        path.write_bytes(data(path.read_bytes()) if callable(data) else data)

    return spoil


def renamed(old: str, new: str) -> Spoil:
    """A path below the images' folder moved."""

    def spoil(folder: Path) -> None:
        root = folder / (IMAGES if (folder / IMAGES).is_dir() else RAW)
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)

    return spoil


def block(**changes: object) -> Spoil:
    """Changes of the entry in params.yaml; those of `files` by their own names."""
    return lambda folder: changes


def both(*spoils: Spoil) -> Spoil:
    def spoil(folder: Path) -> dict:
        return {key: value for each in spoils for key, value in (each(folder) or {}).items()}

    return spoil
