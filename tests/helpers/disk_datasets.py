"""ImageNet-LT, iNaturalist 2017 and 2018, Places-LT and a csv table in miniature: formats and folders of the official
files.

Every maker fills data/raw/<name> and data/images/<name> under a folder and returns the entry of params.yaml.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")
SYNSET_COUNTS = (3, 6, 3, 1)  # by label; ranks 1, 0, 2, 3: the tie stays in natural order
SIZES = ((20, 30), (41, 17), (16, 16), (25, 60))  # height, width; in turn


def jpeg(path: Path, number: int) -> None:
    """Seeded noise of one of several sizes."""
    height, width = SIZES[number % len(SIZES)]
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)


def entry(source: str, name: str, cuts: list[int], **files) -> dict:
    """A block of `datasets`."""
    defaults = {"val": None, "images": f"data/images/{name}", "labels": "frequency_rank", "short_side": None}
    expected = ("classes", "train_images", "val_images", "test_images", "largest", "smallest")
    return {
        "source": source,
        "raw": f"data/raw/{name}",
        "imbalance_factor": None,
        "n_max": None,
        "subset_seed": 0,
        "cuts": cuts,
        "test_per_class": None,
        "image_size": None,
        "download": False,
        "files": defaults | {"pack": None} | dict.fromkeys(expected) | files,
    }


def write_list(path: Path, lines: list[tuple[str, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{file} {label}\n" for file, label in lines))


def imagenet_lt(folder: Path) -> dict:
    """Four synsets; val of training images (one a class), test of ILSVRC's validation images (two a class)."""
    raw, images, number = folder / "data/raw/imagenet", folder / "data/images/imagenet", 0
    lists: dict[str, list] = {"train": [], "val": [], "test": []}
    for label, (synset, count) in enumerate(zip(SYNSETS, SYNSET_COUNTS, strict=True)):
        for i in range(count + 1):
            lists["val" if i == count else "train"].append((f"train/{synset}/{synset}_{10 * i + 7}.JPEG", label))
        for i in range(2):
            lists["test"].append((f"val/{synset}/ILSVRC2012_val_{2 * label + i + 1:08d}.JPEG", label))
    lists["train"].reverse()  # official lists need not be in the order of their labels
    for split, lines in lists.items():
        write_list(raw / f"ImageNet_LT_{split}.txt", lines)
        for number, (file, _) in enumerate(lines, number + 1):  # noqa: B020  (goes on counting)
            jpeg(images / file, number)
    return entry(
        "list",
        "imagenet",
        [1, 2],
        train="ImageNet_LT_train.txt",
        val="ImageNet_LT_val.txt",
        test="ImageNet_LT_test.txt",
        classes=4,
        train_images=13,
        val_images=4,
        test_images=8,
        largest=6,
        smallest=1,
    )


def inat18(folder: Path, classes: int = 12) -> dict:
    """Twelve species, so that folder names sort otherwise than labels; label l has l // 3 + 1 training images."""
    counts = {"train": [label // 3 + 1 for label in range(classes)], "val": [1] * classes}
    inaturalist(folder, "inat", 2018, counts, lambda label: f"train_val2018/Plantae/{label}")
    return entry("inat", "inat", [3, 6], train="train2018.json", test="val2018.json", classes=classes, largest=4)


def inat17(folder: Path) -> dict:
    """Three species of 120, 30 and 9 training images and of 4, 3 and 1 test images: the test set is not balanced.
    Folders are called as species are, with blanks; an image has more keys than in 2018."""
    counts = {"train": [30, 9, 120], "val": [3, 1, 4]}
    inaturalist(folder, "inat17", 2017, counts, lambda label: f"train_val_images/Aves/Ardea species {label}")
    return entry("inat", "inat17", [1, 2], train="train2017.json", test="val2017.json", classes=3, largest=120)


def inaturalist(folder: Path, name: str, year: int, counts: dict[str, list[int]], under: Callable[[int], str]) -> None:
    """The json of both splits, as the competitions have it, and images under the folder of each label."""
    raw, images = folder / "data/raw" / name, folder / "data/images" / name
    raw.mkdir(parents=True, exist_ok=True)
    number = 0
    for split in ("train", "val"):
        pictures, annotations = [], []
        for label, count in enumerate(counts[split]):
            for _ in range(count):
                number += 1
                file = f"{under(label)}/{hashlib.md5(str(number).encode()).hexdigest()}.jpg"
                jpeg(images / file, number)
                about = {"license": 1, "rights_holder": "R"} if year == 2017 else {}
                pictures.append({"id": 1000 + number, "file_name": file, "width": 1, "height": 1, **about})
                annotations.append({"id": 1000 + number, "image_id": 1000 + number, "category_id": label})
        annotations.reverse()
        categories = [{"id": c, "name": f"Species {c}", "supercategory": "Plantae"} for c in range(len(counts[split]))]
        content = {"images": pictures, "annotations": annotations, "categories": categories}
        if year == 2017:
            content |= {"info": {"year": 2017}, "licenses": [{"id": 1, "name": "L", "url": ""}]}
        (raw / f"{split}{year}.json").write_text(json.dumps(content))


def places_lt(folder: Path) -> dict:
    """Three scenes, natural labels."""
    raw, images, number = folder / "data/raw/places", folder / "data/images/places", 100
    train, test = [], []
    for label, (scene, count) in enumerate((("airfield", 5), ("airplane_cabin", 2), ("alcove", 3))):
        train += [(f"train/{scene}/{i:08d}.jpg", label) for i in range(count)]
        test += [(f"val/{scene}/Places365_val_{10 * label + i:08d}.jpg", label) for i in range(2)]
    for name, lines in (("train", train), ("test", test)):
        write_list(raw / f"Places_LT_{name}.txt", lines)
        for number, (file, _) in enumerate(lines, number + 1):  # noqa: B020  (goes on counting)
            jpeg(images / file, number)
    lists = {"train": "Places_LT_train.txt", "test": "Places_LT_test.txt"}
    return entry("list", "places", [1, 2], **lists, labels="natural", test_images=6)


def table(folder: Path) -> dict:
    """A csv with class names and paths that have blanks and commas."""
    raw, images, number = folder / "data/raw/table", folder / "data/images/table", 200
    raw.mkdir(parents=True, exist_ok=True)
    for name, counts in (("train", (2, 4, 1)), ("test", (1, 1, 1))):
        with open(raw / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "class"])
            for label, (kind, count) in enumerate(zip(("a cat", "a dog, big", "an emu"), counts, strict=True)):
                for i in range(count):
                    number += 1
                    path = f"{name} images/{kind} {i}.jpg"
                    jpeg(images / path, number)
                    writer.writerow([path, label, kind])
    return entry("csv", "table", [1, 2], train="train.csv", test="test.csv")


MAKERS = {"imagenet": imagenet_lt, "inat": inat18, "inat17": inat17, "places": places_lt, "table": table}
