"""The data doctor, as a process, on miniature datasets that are spoiled as real ones are."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from longtail.data.layout_causes import likely_cause
from tests.helpers.disk_datasets import MAKERS, SYNSETS, imagenet_lt, inat17, inat18, places_lt
from tests.helpers.stage_processes import finish, start

IMAGES, RAW = "data/images/imagenet", "data/raw/imagenet"


def diagnosis(folder: Path, block: dict, *arguments: str, others: dict | None = None) -> list[str]:
    """Findings of the entry `d`, which must have some."""
    (folder / "params.yaml").write_text(yaml.safe_dump({"datasets": {"d": block, **(others or {})}}))
    run = start(folder, "doctor", "d", "--jobs", "1", *arguments)
    assert run.wait() == 2, (run.out, run.err)
    lines = run.err.splitlines()
    assert all(line.startswith("error: ") for line in lines) and "Traceback" not in run.err
    return [line.removeprefix("error: ") for line in lines]


@pytest.mark.parametrize("name", MAKERS)
def test_a_sound_dataset_passes_with_a_table(name, tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"datasets": {"d": MAKERS[name](tmp_path)}}))
    run = finish(tmp_path, "doctor", "d", "--jobs", "2", cores=2)
    rows = {line.split()[0]: line.split()[1:5] for line in run.out.splitlines()}
    expected = {
        "imagenet": {"train": ["13", "4"], "val": ["4", "4"], "test": ["8", "4"]},
        "inat": {"train": ["30", "12"], "test": ["12", "12"]},
        "inat17": {"train": ["159", "3"], "test": ["8", "3"]},
        "places": {"train": ["10", "3"], "test": ["6", "3"]},
        "table": {"train": ["7", "3"], "test": ["3", "3"]},
    }[name]
    assert {k: v for k, v in rows.items() if k != "split"} == {k: [*v, "0", "0"] for k, v in expected.items()}
    assert run.err == ""


def test_a_checksum_of_all_images_in_the_order_of_the_list(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"datasets": {"d": imagenet_lt(tmp_path)}}))
    out = finish(tmp_path, "doctor", "d", "--hash", "--jobs", "2", cores=2).out
    sha = hashlib.sha256()
    for line in (tmp_path / RAW / "ImageNet_LT_test.txt").read_text().splitlines():
        sha.update(hashlib.sha256((tmp_path / IMAGES / line.split()[0]).read_bytes()).digest())
    assert out.splitlines()[-1].split()[-1] == sha.hexdigest()


# ---- lists


def test_lists_of_another_split_or_dataset_are_recognised(tmp_path):
    block, raw = imagenet_lt(tmp_path), tmp_path / RAW
    shutil.copy(raw / "ImageNet_LT_val.txt", raw / "ImageNet_LT_test.txt")
    found = diagnosis(tmp_path, block)
    assert f"{RAW}/ImageNet_LT_test.txt: 4 images, 8 expected" in found
    assert f"{RAW}/ImageNet_LT_test.txt: looks like the val list of this entry" in found  # trap 13
    places = places_lt(tmp_path)
    shutil.copy(tmp_path / "data/raw/places/Places_LT_test.txt", raw / "ImageNet_LT_test.txt")
    found = diagnosis(tmp_path, block, others={"places_lt": places})
    assert f"{RAW}/ImageNet_LT_test.txt: looks like the test list of places_lt" in found


def test_everything_wrong_with_lists_is_told_at_once(tmp_path):
    block, raw = imagenet_lt(tmp_path), tmp_path / RAW
    lines = (raw / "ImageNet_LT_train.txt").read_text().splitlines()
    (raw / "ImageNet_LT_train.txt").write_text("\n".join([*lines, lines[0]]))
    (raw / "ImageNet_LT_val.txt").write_text("nonsense\n")
    test = (raw / "ImageNet_LT_test.txt").read_text()
    (raw / "ImageNet_LT_test.txt").write_text(test.replace(" 3\n", " 4\n") + lines[1] + "\n")
    said = "\n".join(diagnosis(tmp_path, block))
    for expected in (
        "ImageNet_LT_val.txt: line 1: 'nonsense' is no path with a label after it",
        "ImageNet_LT_train.txt: 14 images, 13 expected",
        "ImageNet_LT_train.txt: listed more than once: train/n01491361/n01491361_7.JPEG",
        "ImageNet_LT_train.txt: the smallest class has 2 images, 1 expected",
        "ImageNet_LT_test.txt: label 4 out of range, 4 classes are 0 to 3",
        "ImageNet_LT_test.txt: in the training list too: train/n01484850",
    ):
        assert expected in said


def test_inaturalist_2017_is_recognised_by_its_classes(tmp_path):
    block, path = inat18(tmp_path), tmp_path / "data/raw/inat/train2018.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 5088  # 5,089 classes
    path.write_text(json.dumps(content))
    block["files"]["train_images"] = 999
    found = diagnosis(tmp_path, block)
    assert any(line.endswith("train2018.json: looks like iNaturalist 2017") for line in found)


def test_inaturalist_2018_in_the_place_of_2017(tmp_path):
    block, path = inat17(tmp_path), tmp_path / "data/raw/inat17/train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 8141  # 8,142 classes
    path.write_text(json.dumps(content))
    block["files"] |= {"train_images": 999, "classes": 5089}
    assert any(line.endswith("train2017.json: looks like iNaturalist 2018") for line in diagnosis(tmp_path, block))


# ---- images that are missing, and why


def flat(folder: Path) -> None:
    for path in sorted((folder / "val").rglob("*.*")):
        path.rename(folder / "val" / path.name)
    for synset in SYNSETS:
        (folder / "val" / synset).rmdir()


def tarred(folder: Path) -> None:
    for synset in SYNSETS:
        with tarfile.open(folder / f"train/{synset}.tar", "w") as archive:
            archive.add(folder / "train" / synset, synset)
        shutil.rmtree(folder / "train" / synset)


def one_tar(folder: Path) -> None:
    shutil.rmtree(folder / "train")
    (folder / "ILSVRC2012_img_train.tar").touch()


def suffixes(folder: Path) -> None:
    for path in sorted(folder.rglob("*.JPEG")):
        path.rename(path.with_suffix(".jpg"))


def upper(folder: Path) -> None:
    (folder / "train").rename(folder / "Train")


def other_synsets(folder: Path) -> None:
    for number, synset in enumerate(SYNSETS):
        (folder / "train" / synset).rename(folder / "train" / f"n9999999{number}")


def other_numbers(folder: Path) -> None:
    for number, path in enumerate(sorted((folder / "train").rglob("*.JPEG"))):
        path.rename(path.with_name(f"{path.parent.name}_x{number}.JPEG"))


def other_year(folder: Path) -> None:
    for path in sorted((folder / "val").rglob("*.JPEG")):
        path.rename(path.with_name(path.name.replace("2012", "2010").replace("val_0", "val_1")))


def too_high(folder: Path) -> None:
    (folder.parent / "inner").mkdir()
    for name in ("train", "val"):
        (folder / name).rename(folder.parent / "inner" / name)
    (folder.parent / "inner").rename(folder / "ILSVRC2012")


def nothing(folder: Path) -> None:
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "val")


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


CAUSES = {
    "flat val": (flat, "8 of 8 test images missing", "/val is flat: sort its images into class folders, as val/n0144"),
    "tars of synsets": (
        tarred,
        "13 of 13 train images missing",
        "not unpacked: data/images/imagenet/train has n01440764",
    ),
    "one tar": (one_tar, "13 of 13 train images", "not unpacked: data/images/imagenet has ILSVRC2012_img_train.tar"),
    "suffix": (suffixes, "13 of 13 train", "_7.jpg where the list has n01491361_7.JPEG: rename as in the list"),
    "case": (upper, "13 of 13 train", "data/images/imagenet has Train where the list has train: rename as in the list"),
    "other synsets": (other_synsets, "13 of 13 train", "/train has 4 synset folders and no n01491361: another ILSVRC"),
    "other numbers": (other_numbers, "13 of 13 train", "n01491361 has 2 other images, e.g. n01491361_x"),
    "other year": (other_year, "8 of 8 test", "has images of ILSVRC2010, the list is of ILSVRC2012"),
    "root too high": (too_high, "13 of 13 train", "one folder too high, they are in data/images/imagenet/ILSVRC2012"),
    "empty": (nothing, "8 of 8 test", "no train/ in data/images/imagenet, which holds nothing: another archive"),
    "no folder": (gone, "8 of 8 test", "no folder data/images/imagenet: link it or set files.images"),
}


@pytest.mark.parametrize("what", CAUSES)
def test_the_likely_cause_is_named(what, tmp_path):
    spoil, counted, cause = CAUSES[what]
    block = imagenet_lt(tmp_path)
    spoil(tmp_path / IMAGES)
    said = "\n".join(diagnosis(tmp_path, block))
    assert counted in said and cause in said, said


def test_a_root_too_low(tmp_path):
    block = imagenet_lt(tmp_path)
    block["files"]["images"] = f"{IMAGES}/train"
    said = "\n".join(diagnosis(tmp_path, block))
    assert f"files.images is one folder too low, they are in {IMAGES}" in said


def test_the_archives_of_places_with_letters(tmp_path):
    block, images = places_lt(tmp_path), tmp_path / "data/images/places"
    (images / "data_256").mkdir()
    (images / "train").rename(images / "data_256/a")
    (images / "val").rename(images / "val_256")
    said = "\n".join(diagnosis(tmp_path, block))
    assert "data/images/places has data_256, val_256: the lists want Places365's other archive" in said


def test_inaturalist_of_another_year(tmp_path):
    block, images = inat18(tmp_path), tmp_path / "data/images/inat"
    (images / "train_val2018").rename(images / "train_val2017")
    said = "\n".join(diagnosis(tmp_path, block))
    assert "30 of 30 train images missing" in said
    assert "no train_val2018/ in data/images/inat, which holds train_val2017: another archive or edition?" in said
    (images / "train_val2017").rename(images / "train_val2018.tar.gz")
    assert "not unpacked: data/images/inat has train_val2018.tar.gz" in "\n".join(diagnosis(tmp_path, block))


def test_a_few_that_are_missing(tmp_path):
    block, images = places_lt(tmp_path), tmp_path / "data/images/places"
    for i in range(4):
        (images / f"train/airfield/{i:08d}.jpg").unlink()
    (finding,) = diagnosis(tmp_path, block)
    assert "4 of 10 train images missing: train/airfield/00000000.jpg, train/airfield/00000001.jpg, train" in finding
    assert finding.endswith(
        "6 others are there: unpacked or copied in part, or another edition; "
        "data/images/places/train/airfield holds 00000004.jpg"
    )


# ---- images that cannot be read


def test_damaged_images_are_named_and_counted(tmp_path):
    block, images = imagenet_lt(tmp_path), tmp_path / IMAGES
    paths = sorted(images.glob("train/n01443537/*.JPEG"))
    paths[0].write_bytes(paths[0].read_bytes()[:-60])
    paths[1].write_bytes(b"")
    paths[2].write_bytes(b"<!DOCTYPE html><title>404</title>")
    paths[3].write_bytes(b"II*\0")
    (finding,) = (line for line in diagnosis(tmp_path, block) if "train images" in line)
    assert finding.startswith("4 of 13 train images unreadable: ") and finding.endswith(" and 1 more")
    said = "\n".join(diagnosis(tmp_path, block))
    assert finding in said and finding.count("not a readable image, or cut short") == 3
    paths[0].unlink()
    paths[3].unlink()
    said = "\n".join(diagnosis(tmp_path, block))
    assert "the file is empty" in said and "a web page was saved in its place" in said and "2 of 13 train" in said


def test_what_a_cause_is_looked_for_in_may_be_unreadable_or_odd(tmp_path):
    (tmp_path / "train").write_text("a file, not a folder")
    assert "train/x/1.JPEG" not in likely_cause(tmp_path, ["train/x/1.JPEG"], 1)
    assert likely_cause(tmp_path / "none", ["a"], 1).startswith("no folder")
    os.remove(tmp_path / "train")
    assert likely_cause(tmp_path, ["1.JPEG"], 1) == f"none is there; {tmp_path} holds nothing"


def test_other_sources_are_read_as_subsample_reads_them(tmp_path):
    folders = {"source": "imagefolder", "raw": "data/raw/x", "imbalance_factor": 5.0, "n_max": 10, "subset_seed": 0}
    folders |= {"cuts": [3, 7], "test_per_class": 2, "image_size": None, "download": False}
    (finding,) = diagnosis(tmp_path, folders)
    assert "data/raw/x" in finding
    digits = folders | {"source": "digits", "raw": "data/none"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"datasets": {"d": digits}}))
    assert finish(tmp_path, "doctor", "d").out.startswith("d: 46 training images in 10 classes, 10 to 2 a class;")
