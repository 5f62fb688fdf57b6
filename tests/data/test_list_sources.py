from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from longtail.base import params
from longtail.base.errors import UserError
from longtail.data.config import DatasetConfig
from longtail.data.file_images import FileImages
from longtail.data.file_lists import font_notes
from longtail.data.list_formats import read_list
from longtail.data.list_sources import natural_labels
from longtail.data.long_tail import LongTail, check_class_order, class_order, content_digest
from longtail.data.sources import make_longtail
from tests.helpers.disk_datasets import MAKERS, SYNSETS, imagenet_lt, inat17, inat18
from tests.helpers.root import ROOT
from tests.helpers.stage_processes import finish, start


def told(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def make(block: dict, name: str = "d", **files) -> LongTail:
    block = block | {"files": block["files"] | files}
    return make_longtail(name, params.build(DatasetConfig, block, f"datasets.{name}"))


@pytest.fixture
def imagenet(tmp_path, monkeypatch) -> dict:
    monkeypatch.chdir(tmp_path)  # entries name places relative to where stages run
    return imagenet_lt(tmp_path)


# ---- entries


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"files": None}, "source list needs a block `files`"),
        ({"source": "cifar10"}, "source cifar10 takes no block `files`"),
        ({"imbalance_factor": 100.0}, "imbalance_factor 100.0: a number for sources whose tail is cut"),
        ({"n_max": 5}, "n_max 5: list takes what its lists name; write null"),
        ({"test_per_class": 5}, "test_per_class 5: list takes"),
        ({"image_size": 5}, "image_size 5: list takes"),
        ({"files": {"test": "ImageNet_LT_train.txt"}}, "files.test ImageNet_LT_train.txt is the train list too"),
        ({"files": {"test": "ImageNet_LT_val.txt"}}, "files.test ImageNet_LT_val.txt is the val list too"),  # trap 13
        ({"files": {"short_side": 0}}, "files.short_side 0 is below 1"),
        ({"files": {"labels": "rank"}}, "files.labels: 'rank' is not one of natural, frequency_rank"),
        ({"files": {"trian": "x"}}, "files.trian: unknown key; did you mean 'train'?"),
    ],
)
def test_a_wrong_entry_is_refused(tmp_path, changes, expected):
    block = imagenet_lt(tmp_path)
    if isinstance(changes.get("files"), dict):
        changes = {"files": block["files"] | changes["files"]}
    assert expected in told(lambda: params.build(DatasetConfig, block | changes, "datasets.d"))


def test_the_sources_that_are_cut_need_an_imbalance_factor():
    block = params.load_all(ROOT)["datasets"]["digits_if20"] | {"imbalance_factor": None}
    assert "imbalance_factor None: a number for sources whose tail is cut" in told(
        lambda: params.build(DatasetConfig, block, "datasets.d")
    )


def test_the_large_entries_expect_the_published_counts():
    """METHODS 1.3 to 1.5 and 11."""
    expected = {  # classes, train, val, test, largest, smallest
        "imagenet_lt": (1000, 115846, 20000, 50000, 1280, 5),
        "inat18": (8142, 437513, None, 24426, 1000, 2),
        "inat17": (5089, 579184, None, 95986, 3919, 9),
        "places_lt": (365, 62500, 7300, 36500, 4980, 5),
        "imagenet": (1000, 1281167, None, 50000, 1300, 732),
    }
    for name, numbers in expected.items():
        block = params.load_all(ROOT)["datasets"][name]
        files = params.build(DatasetConfig, block, f"datasets.{name}").files
        found = (files.classes, files.train_images, files.val_images, files.test_images, files.largest, files.smallest)
        assert found == numbers
        assert files.labels == ("natural" if name == "imagenet" else "frequency_rank")
        assert files.short_side is None and files.pack is None and files.per_class is None
    for name, number in (("imagenet_bal", 116), ("imagenet_bal160", 160)):
        block = params.load_all(ROOT)["datasets"][name]
        assert block["files"]["per_class"] == number and block["files"]["train"] == "ImageNet_train.txt"


# ---- what is made


def test_imagenet_lt_by_frequency_rank(imagenet):
    data = make(imagenet)
    assert data.class_map.tolist() == [1, 0, 2, 3]
    assert data.class_names == tuple(SYNSETS[label] for label in (1, 0, 2, 3))
    assert data.class_counts.tolist() == [6, 3, 3, 1] == np.bincount(data.train_labels).tolist()
    assert data.train_labels.tolist() == [0] * 6 + [1] * 3 + [2] * 3 + [3]
    assert data.author_groups.tolist() == [0, 1, 2, 2] and data.count_groups.tolist() == [2] * 4
    listed = read_list(Path("data/raw/imagenet/ImageNet_LT_train.txt"), "list")
    assert (listed.files[data.train_index] == data.train_images.files).all()
    assert (data.class_map[listed.labels[data.train_index]] == data.train_labels).all()
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        for file, label in zip(images.files.tolist(), labels.tolist(), strict=True):
            assert file.decode().split("/")[1] == data.class_names[label]
    assert np.bincount(data.test_labels).tolist() == [2] * 4
    assert data.train_images[0].shape == (*data.train_images.sizes[0], 3)


def test_as_many_of_every_class_whatever_the_order_of_the_list(imagenet):
    """ImageNet-BAL: paths sorted, then drawn with the subset's seed."""
    path = Path("data/raw/imagenet/ImageNet_LT_train.txt")
    data, other = make(imagenet, per_class=1), make(imagenet | {"subset_seed": 1}, per_class=1)
    assert data.class_counts.tolist() == [1] * 4 and data.class_names == make(imagenet, labels="natural").class_names
    listed = read_list(path, "list")
    assert (listed.files[data.train_index] == data.train_images.files).all()
    for label in range(4):
        mine = sorted(listed.files[listed.labels == label].tolist())
        assert data.train_images.files[data.train_labels == label].tolist()[0] in mine
    state = np.random.RandomState(0)  # the first class's is the first draw
    first = sorted(listed.files[listed.labels == 0].tolist())
    assert data.train_images.files[0] == first[state.permutation(3)[0]]
    assert data.digest != other.digest
    path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    again = make(imagenet, per_class=1)
    assert again.train_images.files.tolist() == data.train_images.files.tolist()
    said = told(lambda: make(imagenet, per_class=2))
    assert said == "datasets.d.files.per_class: 2 asked, but label 3 has 1 images"


def test_natural_labels_stay_as_listed(imagenet):
    data = make(imagenet, labels="natural")
    assert data.class_map is None and data.class_names == SYNSETS and data.class_counts.tolist() == [3, 6, 3, 1]
    assert data.class_order != make(imagenet).class_order


def test_a_teacher_on_natural_labels_is_told_apart_and_can_be_mapped(imagenet):
    """METHODS trap 5: it is refused, not silently distilled, and the permutation is named."""
    ours, natural = make(imagenet), make(imagenet, labels="natural")
    error = told(lambda: check_class_order(ours, natural.class_order, list(natural.class_names), "teacher t"))
    assert error.endswith("the labels of its source; its output column for class i is argsort(class_map)[i]")
    columns = natural_labels(ours.class_map)
    assert [natural.class_names[c] for c in columns] == list(ours.class_names)
    assert natural.class_order == class_order([ours.class_names[c] for c in ours.class_map])


def test_inaturalist_keeps_integer_ids_apart_from_folder_order(tmp_path, monkeypatch):
    """METHODS trap 7: ImageFolder would sort 10 before 2."""
    monkeypatch.chdir(tmp_path)
    data = make(inat18(tmp_path), labels="natural")
    assert data.class_names == tuple(f"Species {label}" for label in range(12))
    folders = [int(file.decode().split("/")[2]) for file in data.train_images.files.tolist()]
    assert folders == data.train_labels.tolist() == sorted(folders)
    ranked = make(inat18(tmp_path))
    assert ranked.class_map.tolist() == [9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2]


def test_inaturalist_2017_has_a_test_set_that_is_not_balanced(tmp_path, monkeypatch):
    """Folders of species' names, many, medium and few images of each; the labels of both splits are by frequency."""
    monkeypatch.chdir(tmp_path)
    data = make(inat17(tmp_path))
    assert data.class_names == ("Species 2", "Species 0", "Species 1") and data.class_counts.tolist() == [120, 30, 9]
    assert data.count_groups.tolist() == [0, 1, 2] and np.bincount(data.test_labels).tolist() == [4, 3, 1]
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        folders = [file.decode().split("/")[2] for file in images.files.tolist()]
        assert [name.replace("Ardea species", "Species") for name in folders] == [
            data.class_names[label] for label in labels
        ]


def test_the_same_lists_make_the_same_file_wherever_the_images_lie(imagenet):
    data = make(imagenet)
    assert make(imagenet).digest == data.digest
    Path("elsewhere").symlink_to(Path("data/images/imagenet").absolute())
    assert make(imagenet, images="elsewhere").digest == data.digest
    assert make(imagenet, short_side=8).digest != data.digest
    path = Path("data/images/imagenet") / data.train_images.files[4].decode()
    path.write_bytes(path.read_bytes() + b"\0")
    assert make(imagenet).digest != data.digest


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_saved_is_loaded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = make(MAKERS[name](tmp_path), short_side=12 if name == "table" else None)
    data.save(tmp_path / "d.npz")
    loaded = LongTail.load(tmp_path / "d.npz")
    assert loaded.digest == data.digest == content_digest(loaded)
    assert (loaded.class_map is None) == (name == "places")
    assert data.class_map is None or (loaded.class_map == data.class_map).all()
    for ours, theirs in ((data.train_images, loaded.train_images), (data.test_images, loaded.test_images)):
        assert type(theirs) is FileImages and theirs.root == ours.root and theirs.short_side == ours.short_side
        assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))
        assert (ours.sizes == theirs.sizes).all()


def test_an_altered_file_is_refused(imagenet, tmp_path):
    data = make(imagenet)
    path = tmp_path / "d.npz"
    data.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    for key in ("train_images.files", "test_images.file_sizes", "class_map"):
        np.savez(path, **arrays | {key: arrays[key][::-1]})
        assert "wrong checksum" in told(lambda: LongTail.load(path))
    np.savez(path, **{k: v for k, v in arrays.items() if k != "class_map"})
    assert "wrong checksum" in told(lambda: LongTail.load(path))


# ---- the stage


@pytest.mark.parametrize("name", MAKERS)
def test_the_stage_makes_it(name, tmp_path):
    block = MAKERS[name](tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"datasets": {name: block}}))
    run = finish(tmp_path, "subsample", name, "--out", "d.npz", cores=2)
    data = LongTail.load(tmp_path / "d.npz")
    assert f"{len(data.train_labels)} training images in {data.num_classes} classes" in run.out
    assert data.name == name and data.train_images.root == block["files"]["images"]


SPOILED = {
    "wrong list": (lambda r: (r / "data/raw/imagenet/ImageNet_LT_test.txt").unlink(), "ImageNet_LT_test.txt: no such"),
    "another count": (
        lambda r: (r / "data/raw/imagenet/ImageNet_LT_test.txt").write_text("val/x/1.JPEG 0\n"),
        "data/raw/imagenet/ImageNet_LT_test.txt: 1 images, 8 expected",
    ),
    "no images": (lambda r: (r / "data/images/imagenet").rename(r / "x"), "data/images/imagenet: no such folder"),
    "a missing image": (
        lambda r: (r / "data/images/imagenet/train/n01443537/n01443537_7.JPEG").unlink(),
        "imagenet tells more); data/images/imagenet/train/n01443537 has 6 other images, e.g. n01443537_17.JPEG",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_wrong_data_is_one_line_and_makes_nothing(what, tmp_path):
    spoil, expected = SPOILED[what]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"datasets": {"imagenet": imagenet_lt(tmp_path)}}))
    spoil(tmp_path)
    run = start(tmp_path, "subsample", "imagenet", "--out", "d.npz")
    assert run.wait() == 2 and not (tmp_path / "d.npz").exists()
    assert expected in run.err and len(run.err.splitlines()) == 1


def test_cuts_must_leave_a_tail(imagenet):
    assert "datasets.d.cuts: [1, 4] leaves no tail among 4 classes" in told(lambda: make(imagenet | {"cuts": [1, 4]}))


# ---- what was before


def test_the_datasets_of_before_are_the_same():
    """digest of digits_if20 as in the results that are in git."""
    block = params.load_all(ROOT)["datasets"]["digits_if20"]
    data = make_longtail("digits_if20", params.build(DatasetConfig, block, "datasets.digits_if20"))
    assert data.digest == "4e6431cdbc82d3e209c8a8e2f97a0125ad579574157ab6ea4b82c3da780b7f02"
    assert data.class_map is None


def test_letters_that_the_figures_font_lacks_are_told():
    assert font_notes(["ant", "Ähre", "жук", "αβγ"]) == []
    assert font_notes(["ant", "猫", "жук", "犬", "鳥", "魚"]) == [
        "figures show boxes for letters of 4 class names ('猫', '犬', '鳥', ...): DejaVu Sans has none for them"
    ]
