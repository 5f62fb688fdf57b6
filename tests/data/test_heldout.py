from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from longtail.base import params
from longtail.base.errors import UserError
from longtail.data import sources
from longtail.data.config import DatasetConfig
from longtail.data.heldout import first_of_each, held_out
from longtail.data.long_tail import LongTail
from longtail.data.sources import Source, make_longtail
from tests.helpers.disk_datasets import imagenet_lt
from tests.helpers.small import DATASET

LABELS = np.array([2, 0, 1, 0, 2, 1, 0, 1, 2, 0, 1, 2])  # four images a class, one after another


def config(**changes) -> DatasetConfig:
    values = DATASET | {"cuts": [1, 2], "n_max": None, "imbalance_factor": 4.0} | changes
    return params.build(DatasetConfig, values, "datasets.d")


def numbered(config, name) -> Source:
    """Image i of the training set is filled with i, of the test set with 100 + i."""

    def images(positions):
        return np.broadcast_to(np.asarray(positions, np.uint8)[:, None, None, None], (len(positions), 2, 2, 3)).copy()

    return Source(["a", "b", "c"], LABELS, np.arange(3), images, lambda positions: images(100 + positions))


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "digits", numbered)


def numbers(images) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_what_the_subset_left_out_in_the_order_of_the_source(source):
    """Factor 4: classes keep 4, 2 and 1 of their 4 images."""
    data = make_longtail("d", config())
    assert data.class_counts.tolist() == [4, 2, 1]
    held = held_out(data, config(), 100)
    kept = set(numbers(data.train_images))
    assert numbers(held.images) == [i for k in (1, 2) for i in range(12) if LABELS[i] == k and i not in kept]
    assert held.labels.tolist() == [1, 1, 2, 2, 2] and held.labels.dtype == np.int64
    assert held.origin == "training images that the long-tailed subset leaves out"

    two = held_out(data, config(), 2)
    assert numbers(two.images) == numbers(held.images)[:4] and two.labels.tolist() == [1, 1, 2, 2]


def test_a_balanced_set_leaves_nothing(source):
    data = make_longtail("d", config(imbalance_factor=1.0))
    held = held_out(data, config(imbalance_factor=1.0), 100)
    assert len(held.labels) == len(held.images) == 0


def test_digits_are_shared_out_between_training_test_and_held_out():
    """Every one of scikit-learn's images is in exactly one of the three, under its own label."""
    from sklearn.datasets import load_digits

    entry = config(n_max=130, imbalance_factor=20.0, test_per_class=40, cuts=[3, 7])
    data = make_longtail("d", entry)
    held = held_out(data, entry, 10_000)
    splits = ((data.train_images, data.train_labels), (data.test_images, data.test_labels), (held.images, held.labels))
    found = sorted(
        (i[..., 0].tobytes(), int(k)) for images, labels in splits for i, k in zip(images, labels, strict=True)
    )
    raw = load_digits()
    grey = np.round(raw.images * (255 / 16)).astype(np.uint8)
    assert found == sorted((i.tobytes(), int(k)) for i, k in zip(grey, raw.target, strict=True))
    left = np.bincount(raw.target) - 40 - data.class_counts
    assert np.bincount(held.labels).tolist() == left.tolist()
    assert np.bincount(held_out(data, entry, 60).labels).tolist() == np.minimum(left, 60).tolist()


def test_first_of_each():
    assert first_of_each(np.array([3, 1, 3, 1, 1, 3]), 2).tolist() == [1, 3, 0, 2]
    assert first_of_each(np.zeros(0, np.int64), 2).tolist() == []


def told(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_raw_data_is_told_as_by_subsample(source, tmp_path):
    data = make_longtail("d", config())
    entry = config(source="cifar10", raw=str(tmp_path), test_per_class=None)
    said = told(lambda: held_out(data, entry, 5))
    assert said == told(lambda: make_longtail("d", entry)) and "missing; unpack the official archive" in said


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, class_names=["a", "c", "b"]),
        lambda s: replace(s, train_labels=s.train_labels[::-1].copy()),
        lambda s: replace(s, train_labels=s.train_labels[:6]),
        lambda s: replace(s, train=lambda positions: s.train(np.asarray(positions) + 1)),
    ],
)
def test_a_source_that_has_changed_is_refused(source, monkeypatch, change):
    data = make_longtail("d", config())
    monkeypatch.setitem(sources.SOURCES, "digits", lambda entry, name: change(numbered(entry, name)))
    said = told(lambda: held_out(data, config(), 5))
    assert said == "datasets.d: its source holds other images now; make it again with subsample"


# --- lists


@pytest.fixture
def listed(tmp_path, monkeypatch) -> tuple[LongTail, dict]:
    monkeypatch.chdir(tmp_path)
    block = imagenet_lt(tmp_path)
    return make_longtail("imagenet", params.build(DatasetConfig, block, "datasets.imagenet")), block


def of(block: dict, **files) -> DatasetConfig:
    return params.build(DatasetConfig, block | {"files": block["files"] | files}, "datasets.imagenet")


def test_of_lists_the_validation_split_in_the_datasets_classes(listed, tmp_path):
    """One image a synset; a line that the training or the test list has too is left out."""
    data, block = listed
    path = tmp_path / block["raw"] / block["files"]["val"]
    used = [data.train_images.files[0].decode(), data.test_images.files[-1].decode()]
    path.write_text("".join(f"{file} 0\n" for file in used) + path.read_text())
    held = held_out(data, of(block), 5)
    assert held.labels.tolist() == [0, 1, 2, 3] and held.origin == "validation list ImageNet_LT_val.txt"
    folders = [file.decode().split("/")[1] for file in held.images.files]
    assert folders == list(data.class_names) and folders != sorted(folders)  # numbered by frequency
    assert not {f.decode() for f in held.images.files} & set(used)
    assert held.images[0].shape == (*held.images.sizes[0], 3) and held.images[0].dtype == np.uint8


def test_lists_without_a_validation_split_have_nothing(listed):
    data, block = listed
    held = held_out(data, of(block, val=None), 5)
    assert len(held.labels) == len(held.images) == 0 and held.origin == "the source has no validation list"


def test_a_missing_list_or_image_is_named(listed, tmp_path):
    data, block = listed
    assert "gone.txt: no such list" in told(lambda: held_out(data, of(block, val="gone.txt"), 5))
    name = (tmp_path / block["raw"] / block["files"]["val"]).read_text().split()[0]
    (tmp_path / block["files"]["images"] / name).unlink()
    assert f"{name}: no such file" in told(lambda: held_out(data, of(block), 5))
