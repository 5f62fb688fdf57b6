"""Raw data that `subsample` refuses: how they are laid out, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.stage_processes import tiny_params

Spoil = Callable[[Path], None]


def folders(root: Path, classes: dict[str, int], change: dict | None = None) -> None:
    """Class folders of 12-pixel images, and a dataset entry that reads them."""
    random = np.random.default_rng(0)
    for name, count in classes.items():
        (root / "data/raw" / name).mkdir(parents=True)
        for i in range(count):
            image = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
            image.save(root / "data/raw" / name / f"{i}.png")
    block = {"source": "imagefolder", "raw": "data/raw", "cuts": [1, 2], "n_max": 4, "imbalance_factor": 4.0}
    block |= {"test_per_class": 2, "image_size": None, "download": False, "subset_seed": 0, **(change or {})}
    tiny_params(root, lambda params: params["datasets"].update(tiny=block))


SIX = {"ant": 6, "bee": 6, "cat": 6}


def damage(root: Path) -> None:
    """Every image cut short: whichever is used."""
    folders(root, SIX)
    for path in (root / "data/raw/bee").iterdir():
        path.write_bytes(path.read_bytes()[:200])


def wrong_archive(root: Path) -> None:
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]
    folder = root / "data/raw/cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"no such batch")
    cifar(root)


def cifar(root: Path) -> None:
    change = {"source": "cifar10", "raw": "data/raw", "test_per_class": None, "n_max": None}
    tiny_params(root, lambda params: params["datasets"]["tiny"].update(change))


def other_size(root: Path) -> None:
    folders(root, SIX)
    for path in (root / "data/raw/cat").iterdir():
        Image.new("RGB", (9, 9)).save(path)


RAW: dict[str, tuple[Spoil, str]] = {
    "missing folder": (lambda r: folders(r, {}), "data/raw: no such folder; datasets.tiny.raw names a folder of class"),
    "missing archive": (cifar, "data/raw/cifar-10-batches-py/data_batch_1: missing; unpack the official archive into"),
    "wrong checksum": (wrong_archive, "cifar-10-batches-py/data_batch_1: wrong checksum, expected md5 c99cafc152244af"),
    "class with no image": (
        lambda r: folders(r, SIX | {"dog": 0}),
        "data/raw/dog: class with no image; expected file",
    ),
    "class with too few": (lambda r: folders(r, SIX | {"cat": 2}), "test_per_class: class 2 has 2 images, 2 asked"),
    "one class": (lambda r: folders(r, {"ant": 6}), "data/raw: 1 class folders found; expected one folder a class"),
    "image cut short": (damage, ".png: not a readable image, or cut short"),
    "images of two sizes": (other_size, "9x9 pixels where others have 12x12; set datasets.tiny.image_size"),
    "no test set": (lambda r: folders(r, SIX, {"test_per_class": None}), "imagefolder has no test set of its own"),
}
