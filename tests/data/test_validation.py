"""Images on which an epoch is chosen: a hold-out of the training images, or the source's own list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longtail.base import params
from longtail.base.errors import UserError
from longtail.data.config import DatasetConfig
from longtail.data.heldout import held_out
from longtail.data.long_tail import LongTail, hold_out
from longtail.data.made_data import made_data
from longtail.data.sources import make_longtail
from tests.helpers.disk_datasets import imagenet_lt
from tests.helpers.small import DATASET

DIGITS = DATASET | {"n_max": 40, "imbalance_factor": 40.0, "test_per_class": 2}  # the last class keeps one image


def config(block: dict, **validation) -> DatasetConfig:
    return params.build(DatasetConfig, block | ({"validation": validation} if validation else {}), "datasets.d")


def test_half_of_a_class_at_most_is_held_out_and_a_single_image_stays():
    """Of 1, 2, 5 and 40 images, asked for 3: none, one, two and three."""
    labels = np.repeat(np.arange(4), [1, 2, 5, 40])
    held = hold_out(labels, 3, seed=0)
    assert np.bincount(labels[held], minlength=4).tolist() == [0, 1, 2, 3]
    assert len(set(held.tolist())) == len(held) and held.tolist() == hold_out(labels, 3, seed=0).tolist()
    assert held.tolist() != hold_out(labels, 3, seed=1).tolist()
    with pytest.raises(ValueError, match="no class has two images"):
        hold_out(np.arange(3), 3, seed=0)


def test_a_hold_out_leaves_training_counts_and_every_other_image_as_they_were():
    whole, data = (make_longtail("d", config(DIGITS, **asked)) for asked in ({}, {"per_class": 6}))
    assert whole.val_labels is None and whole.class_counts[-1] == data.class_counts[-1] == 1
    taken = np.minimum(6, whole.class_counts // 2)
    assert data.class_counts.tolist() == (whole.class_counts - taken).tolist()  # what weights and priors are made of
    assert np.bincount(data.train_labels).tolist() == data.class_counts.tolist()
    assert np.bincount(data.val_labels, minlength=10).tolist() == taken.tolist()
    assert sorted([*data.train_index, *data.val_index]) == sorted(whole.train_index)  # none of the test set, none lost
    place = {source: row for row, source in enumerate(whole.train_index.tolist())}
    for index, images in ((data.train_index, data.train_images), (data.val_index, data.val_images)):
        assert np.array_equal(whole.train_images[[place[i] for i in index.tolist()]], images)
    assert np.array_equal(whole.test_images, data.test_images)
    assert data.count_groups.tolist() == np.where(data.class_counts >= 20, 1, 2).tolist()  # of the counts that are left
    assert made_data("d", config(DIGITS, per_class=6)).class_counts.tolist() == data.class_counts.tolist()
    unused = held_out(data, config(DIGITS, per_class=6), 10_000)
    assert len(unused.labels) == len(held_out(whole, config(DIGITS), 10_000).labels)


def test_a_file_with_a_hold_out_is_read_back_and_checked(tmp_path):
    made = make_longtail("d", config(DIGITS, per_class=6))
    path = tmp_path / "d.npz"
    made.save(path)
    read = LongTail.load(path)
    assert read.digest == made.digest != make_longtail("d", config(DIGITS)).digest
    assert np.array_equal(read.val_images, made.val_images) and read.val_labels.tolist() == made.val_labels.tolist()


@pytest.fixture
def imagenet(tmp_path, monkeypatch) -> dict:
    monkeypatch.chdir(tmp_path)
    return imagenet_lt(tmp_path)


def test_a_list_of_its_own_takes_nothing_from_the_training_set(imagenet, tmp_path):
    whole, data = (make_longtail("d", config(imagenet, **asked)) for asked in ({}, {"listed": True}))
    assert (
        np.array_equal(whole.train_labels, data.train_labels)
        and whole.class_counts.tolist() == data.class_counts.tolist()
    )
    listed = dict(line.split() for line in Path(imagenet["raw"], "ImageNet_LT_val.txt").read_text().splitlines())
    named = {file.decode(): label for file, label in zip(data.val_images.files, data.val_labels.tolist(), strict=True)}
    assert named == {file: data.class_map[int(label)] for file, label in listed.items()}  # by frequency rank
    path = tmp_path / "d.npz"
    data.save(path)
    assert LongTail.load(path).val_images[0].shape == data.val_images[0].shape


def test_a_hold_out_of_listed_images(imagenet):
    whole, data = (make_longtail("d", config(imagenet, **asked)) for asked in ({}, {"per_class": 1}))
    assert (whole.class_counts - data.class_counts).tolist() == np.minimum(1, whole.class_counts // 2).tolist()
    assert sorted([*data.train_images.files, *data.val_images.files]) == sorted(whole.train_images.files)


@pytest.mark.parametrize("other", ["train", "test"])
def test_an_image_that_another_list_has_too_is_refused(imagenet, other):
    raw = Path(imagenet["raw"])
    first = (raw / f"ImageNet_LT_{other}.txt").read_text().splitlines()[0]
    path = raw / "ImageNet_LT_val.txt"
    path.write_text("\n".join([first, *path.read_text().splitlines()[1:]]) + "\n")
    with pytest.raises(UserError, match=f"ImageNet_LT_val.txt: .* is in ImageNet_LT_{other}.txt too; choose the epoch"):
        make_longtail("d", config(imagenet, listed=True))


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ({"per_class": 3, "listed": True}, "one of them"),
        ({"listed": False}, "one of them"),
        ({"per_class": 0}, "per_class 0 is below 1"),
        ({"listed": True}, "takes the list `files.val`, which there is none of"),
    ],
)
def test_a_wrong_block_is_refused(validation, message):
    with pytest.raises(UserError, match=message):
        config(DIGITS, **validation)
