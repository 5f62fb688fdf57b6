from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from longtail.base.errors import UserError
from longtail.data.config import FilesConfig
from longtail.data.file_lists import class_names, list_findings
from longtail.data.list_formats import Listing, read_list
from tests.helpers.disk_datasets import inat18, table


def told(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def text(folder: Path, content: str) -> Path:
    path = folder / "list.txt"
    path.write_bytes(content.encode("latin-1"))
    return path


def listing(*lines: tuple[str, int]) -> Listing:
    return Listing(np.array([f.encode() for f, _ in lines]), np.array([label for _, label in lines]))


# ---- text


def test_an_official_list_is_read_in_its_order(tmp_path):
    read = read_list(text(tmp_path, "train/n01/n01_190.JPEG 0\r\n\ntrain/n02/a b.JPEG 11\n"), "list")
    assert read.files.tolist() == [b"train/n01/n01_190.JPEG", b"train/n02/a b.JPEG"]
    assert read.labels.tolist() == [0, 11] and read.labels.dtype == np.int64 and read.names == {}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a.jpg 0\na.jpg\nb.jpg x\n", "line 2: 'a.jpg' is no path with a label after it (2 such)"),
        ("a.jpg 1.5\n", "line 1: 'a.jpg 1.5' is no path with a label after it"),
        ("a.jpg -1\n", "line 1: label -1 is negative"),
        ("/data/a.jpg 0\n", "line 1: path '/data/a.jpg' does not lead into the image folder"),
        ("../a.jpg 0\n", "line 1: path '../a.jpg' does not lead into"),
        ("\n", "no image in it"),
        ("\xe9.jpg 0\n", "not UTF-8 text"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path, content, expected):
    assert expected in told(lambda: read_list(text(tmp_path, content), "list"))


def test_a_missing_list_says_what_is_there(tmp_path):
    text(tmp_path, "a 0\n")
    assert told(lambda: read_list(tmp_path / "x.txt", "list")).endswith(f"no such list; {tmp_path} holds: list.txt")
    assert told(lambda: read_list(tmp_path / "y/x.txt", "list")).endswith("y holds: nothing")


# ---- json


def test_inaturalist_is_joined_by_image_id(tmp_path):
    inat18(tmp_path)
    path = tmp_path / "data/raw/inat/train2018.json"
    read = read_list(path, "inat")
    assert np.bincount(read.labels).tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    folders = [int(file.decode().split("/")[2]) for file in read.files.tolist()]
    assert folders == read.labels.tolist()  # the maker writes the annotations in another order than the images
    assert read.names[11] == "Species 11"


def test_a_damaged_json_is_refused(tmp_path):
    inat18(tmp_path)
    path = tmp_path / "data/raw/inat/train2018.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    assert "cut short or no json" in told(lambda: read_list(path, "inat"))
    content = json.loads(whole)
    path.write_text(json.dumps({k: v for k, v in content.items() if k != "annotations"}))  # as a test set's json
    assert "no annotations as iNaturalist writes them (KeyError('annotations')" in told(lambda: read_list(path, "inat"))
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    assert told(lambda: read_list(path, "inat")).endswith("image 1001: no annotation, so no label")


# ---- csv


def test_a_table_has_names(tmp_path):
    table(tmp_path)
    read = read_list(tmp_path / "data/raw/table/train.csv", "csv")
    assert read.files[2] == b"train images/a dog, big 0.jpg" and read.labels.tolist() == [0, 0, 1, 1, 1, 1, 2]
    assert class_names(read, 3) == ["a cat", "a dog, big", "an emu"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("file,label\na,0\n", "columns file, label; expected path,label or path,label,class"),
        ("", "columns none"),
        ("path,label,class\na,0,cat\nb,0,dog\n", "line 3: label 0 is class 'dog' here, 'cat' above"),
        ("path,label\na\n", "line 2: 1 value for 2 columns (path, label)"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, content, expected):
    assert expected in told(lambda: read_list(text(tmp_path, content), "csv"))


# ---- names


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("train/n01/a", 0), ("train/n02/b", 1)], ["n01", "n02"]),
        ([("t/Plantae/1/a", 1), ("t/Plantae/0/b", 0), ("t/Aves/2/c", 2)], ["Plantae/0", "Plantae/1", "Aves/2"]),
        ([("x/a", 0), ("x/b", 1)], ["0", "1"]),  # one folder for all
        ([("x/1/a", 0), ("x/2/b", 0), ("x/3/c", 1)], ["0", "1"]),  # a class in two folders
        ([("a", 0), ("b", 1)], ["0", "1"]),
        ([("a/1", 0), ("b/1", 1)], ["a", "b"]),
    ],
)
def test_classes_are_named_by_their_folders(lines, expected):
    assert class_names(listing(*lines), len(expected)) == expected


def test_names_that_two_classes_share_are_not_used():
    read = Listing(np.array([b"t/1/a", b"t/2/b"]), np.array([0, 1]), {0: "fly", 1: "fly"})
    assert class_names(read, 2) == ["1", "2"]


# ---- what lists must hold


def expected(**changes) -> FilesConfig:
    values = {"train": "train.txt", "val": None, "test": "test.txt", "images": "i", "labels": "natural"}
    numbers = ("short_side", "pack", "classes", "train_images", "val_images", "test_images", "largest", "smallest")
    return FilesConfig(**values | dict.fromkeys(numbers) | changes)


TRAIN = [("t/a1", 0), ("t/a2", 0), ("t/b1", 1)]
TEST = [("v/a", 0), ("v/b", 1)]


@pytest.mark.parametrize(
    ("changes", "train", "test", "findings"),
    [
        ({"classes": 2, "train_images": 3, "test_images": 2, "largest": 2, "smallest": 1}, TRAIN, TEST, []),
        ({"train_images": 4}, TRAIN, TEST, ["train.txt: 3 images, 4 expected"]),
        ({"test_images": 1}, TRAIN, TEST, ["test.txt: 2 images, 1 expected"]),
        ({"largest": 3}, TRAIN, TEST, ["train.txt: the largest class has 2 images, 3 expected"]),
        ({"smallest": 2}, TRAIN, TEST, ["train.txt: the smallest class has 1 images, 2 expected"]),
        ({"classes": 3}, TRAIN, TEST, ["train.txt: no image of label 2"]),
        ({}, TRAIN, [("v/a", 2)], ["test.txt: label 2 out of range, 2 classes are 0 to 1"]),
        ({}, TRAIN, [("t/b1", 1)], ["test.txt: in the training list too: t/b1"]),
        ({}, [*TRAIN, TRAIN[0]], TEST, ["train.txt: listed more than once: t/a1"]),
    ],
)
def test_what_is_wrong_with_lists_is_found(changes, train, test, findings):
    splits = {"train": listing(*train), "test": listing(*test)}
    assert list_findings(expected(**changes), splits) == findings


def test_labels_from_1_and_many_of_a_kind_are_told_in_one_line():
    train = listing(*[(f"t/{i}", i + 1) for i in range(9)])
    found = list_findings(expected(classes=9), {"train": train})
    assert found[0].endswith(
        "label 9 out of range, 9 classes are 0 to 8; labels start at 1 here, at 0 in the official lists"
    )
    assert found[1] == "train.txt: no image of label 0"
    twice = listing(*[(f"t/{i}", 0) for i in range(9)] * 2)
    assert list_findings(expected(), {"train": twice}) == ["train.txt: listed more than once: t/0, t/1, t/2 and 6 more"]
