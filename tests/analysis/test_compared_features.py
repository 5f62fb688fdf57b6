"""Drift and nearest neighbours in float64 by hand and by brute force, ties in the order of the training set."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from longtail.analysis import compared_features as cf
from longtail.base import params
from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail
from longtail.data.sources import DatasetConfig, make_longtail
from tests.training.test_teacher import CPU, DIGITS, config_of

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def f64(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.fixture(scope="module")
def data() -> LongTail:
    return make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))


class Linear(nn.Module):
    """A network whose features are a product of the pixels, of a length of its own."""

    def __init__(self, width: int, seed: int, length: float) -> None:
        super().__init__()
        drawn = np.random.default_rng(seed).normal(size=(3 * 8 * 8, width)) * length
        self.weight = nn.Parameter(torch.from_numpy(drawn.astype(np.float32)), requires_grad=False)

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight


def pair_of(device: torch.device = CPU) -> cf.Pair:
    """Two teachers, one of features a hundred times as long as the other's, and a student of their joined width."""
    student, *sources = (Linear(*of).to(device) for of in ((12, 0, 1.0), (4, 1, 100.0), (8, 2, 1.0)))
    return cf.Pair(student, tuple(sources), config_of(normalization="none"), device)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).sum(1, keepdims=True))


def by_brute_force(pair: cf.Pair, images: np.ndarray, each=unit) -> tuple[np.ndarray, np.ndarray]:
    """Unit features of the teachers together and of the student, float64. each: what is done to a teacher's own."""
    x = (images.transpose(0, 3, 1, 2).astype(np.float64) / 255).reshape(len(images), -1)
    student, *sources = (of.weight.cpu().numpy().astype(np.float64) for of in (pair.student, *pair.sources))
    return unit(np.concatenate([each(x @ of) for of in sources], 1)), unit(x @ student)


def test_drift_and_neighbours_of_two_teachers_are_those_of_float64(data):
    """Each teacher's feature counts alike: a single normalisation would hear the longer one alone."""
    pair = pair_of()
    found = cf.compare(pair, data, 3)
    train, test = (by_brute_force(pair, images) for images in (data.train_images, data.test_images))
    for images, (target, student) in (("train", train), ("test", test)):
        np.testing.assert_allclose(found.drift[images], 1 - (target * student).sum(1), atol=2e-6)
    for features, queries, known in zip(cf.FEATURES, test, train, strict=True):
        cosines = queries @ known.T
        order = np.argsort(-cosines, 1, kind="stable")[:, :3]
        places, near = found.nearest[features]
        np.testing.assert_allclose(near, np.take_along_axis(cosines, order, 1), atol=2e-6)
        np.testing.assert_allclose(np.take_along_axis(cosines, places, 1), near, atol=2e-6)
        assert (places == order).mean() > 0.99  # but for cosines that float32 takes for equal
    target, student = by_brute_force(pair, data.train_images, each=lambda feature: feature)
    assert np.abs(1 - (target * student).sum(1) - found.drift["train"]).max() > 0.01


@needs_cuda
def test_cuda_finds_what_the_processor_finds(data):
    torch.backends.cuda.matmul.allow_tf32 = False
    ours, its = (cf.compare(pair_of(torch.device(name)), data, 3) for name in ("cpu", "cuda"))
    for images in ("train", "test"):
        np.testing.assert_allclose(its.drift[images], ours.drift[images], atol=1e-5)
    for features in cf.FEATURES:
        np.testing.assert_allclose(its.nearest[features][1], ours.nearest[features][1], atol=1e-5)
        assert (its.nearest[features][0] == ours.nearest[features][0]).mean() > 0.99


@pytest.mark.parametrize("parts", [[5], [2, 2, 1], [1, 1, 1, 1, 1]])
@pytest.mark.parametrize("rows", [1, 4096])
def test_of_equal_cosines_the_first_image_is_nearer(parts, rows, monkeypatch):
    """Images 1, 2 and 4 lie in the first query's direction, 0 across it, 3 at a cosine of .6."""
    monkeypatch.setattr(cf, "ROWS", rows)
    nearest = cf.Nearest(f64((1, 0), (0, 1)), 4)
    for part in f64((0, 1), (1, 0), (1, 0), (0.6, 0.8), (1, 0)).split(parts):
        nearest.add(part)
    places, cosines = nearest.found()
    assert places.tolist() == [[1, 2, 4, 3], [0, 3, 1, 2]]
    np.testing.assert_allclose(cosines, [[1, 1, 1, 0.6], [1, 0.8, 0, 0]], atol=1e-15)


def test_more_neighbours_than_images(data):
    nearest = cf.Nearest(f64((1, 0)), 3)
    nearest.add(f64((1, 0), (0, 1)))
    with pytest.raises(ValueError, match="3 nearest of 2 images"):
        nearest.found()
    few = replace(data, train_labels=data.train_labels[:2])
    with pytest.raises(UserError, match="dataset tiny has 2 training images, 3 nearest are asked for"):
        cf.compare(pair_of(), few, 3)


def test_means_of_classes_and_groups():
    """Classes .2 (of two images), .6, none and 1; groups of classes 0 and 1, of 2, which has no image, and of 3."""
    means, averages = cf.by_group(np.array([0.1, 0.3, 0.6, 1.0]), np.array([0, 0, 1, 3]), np.array([0, 0, 1, 2]))
    assert means.tolist() == pytest.approx([0.2, 0.6, math.nan, 1.0], nan_ok=True)
    assert averages[0] == pytest.approx(0.6) and averages[1] == pytest.approx(0.4)
    assert averages[2] is None and averages[3] == 1


def test_share_of_the_right_class_and_what_a_small_class_allows():
    places, labels = np.array([[0, 1, 2], [3, 2, 1]]), np.array([0, 1])
    assert cf.right_share(places, np.array([0, 0, 1, 1]), labels).tolist() == pytest.approx([2 / 3, 2 / 3])
    assert cf.most_right(np.array([9, 2]), labels, 3).tolist() == pytest.approx([1, 2 / 3])


def test_queries_are_the_first_images_of_each_groups_classes_in_turn():
    labels, groups = np.array([3, 1, 0, 0, 1, 3, 2]), np.array([0, 0, 1, 2])
    assert cf.queries(labels, groups, 3).tolist() == [2, 1, 3, 6, 0, 5]
    assert cf.queries(labels, np.zeros(4, np.int64), 2).tolist() == [2, 1]
