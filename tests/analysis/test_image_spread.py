"""Standard errors over images of what a student attends to and of its features' rank, against plain calculations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from longtail.analysis import image_spread
from longtail.analysis.attention import basis_of, mean_attention_distance, rank_in
from longtail.analysis.image_spread import (
    _ranks,
    _resampled,
    attention_spread,
    distances_by_image,
    rank_spread,
    standard_error,
)


def test_of_a_mean():
    """1, 2, 6: variance 7, of the mean 7/3."""
    assert standard_error(np.array([1.0, 2.0, 6.0])) == pytest.approx((7 / 3) ** 0.5)


def test_the_mean_over_images_is_the_distance_that_is_reported():
    probs = torch.rand(5, 3, 11, 11, generator=torch.Generator().manual_seed(0)).softmax(-1)
    found = distances_by_image(probs, grid=3, patch_size=8, special=2)
    assert torch.allclose(found.mean(0).double(), mean_attention_distance(probs, 3, 8, 2), atol=1e-5)


@dataclass
class Shape:
    grid: int = 1
    patch_size: int = 1


class Looking:
    """A student of one block and two heads; what each image's heads see is told."""

    shape, special, model = Shape(), 1, None

    def batches(self, images):
        yield images


def test_the_heads_of_a_block_and_its_most_local_one(monkeypatch):
    """Heads see 1, 3 (mean 2) and 10, 20 (mean 15): means of the heads 5.5 and 11.5; the local one is the first."""
    told = torch.tensor([[1.0, 10.0], [3.0, 20.0]])
    monkeypatch.setattr(image_spread, "attention_probabilities", lambda model, x: [None])
    monkeypatch.setattr(image_spread, "distances_by_image", lambda maps, *shape: told)
    every, local = attention_spread(Looking(), np.zeros(2), "test")
    assert (every.stderr, every.rows, every.block, every.images, every.n) == (pytest.approx(3.0), "mean", 0, "test", 2)
    assert (local.stderr, local.rows) == (pytest.approx(1.0), "min")


def test_images_are_drawn_within_their_classes():
    labels = np.array([0, 0, 0, 1, 1])
    drawn = _resampled(labels, seed=0)
    assert (drawn[:, :3].sum(1) == 3).all() and (drawn[:, 3:].sum(1) == 2).all()
    assert drawn.std(0).min() > 0.4 and np.array_equal(drawn, _resampled(labels, seed=0))


def test_ranks_of_many_sets_are_those_of_each():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)) * [9, 5, 3, 1, 0.5, 0.1]
    basis = basis_of(features)
    sets = [features[rng.integers(0, 40, 12)] for _ in range(20)]
    energy = np.stack([np.square((of - basis.mean) @ basis.vectors.T).sum(0) for of in sets])
    assert _ranks(energy).tolist() == [rank_in(basis, of, centre_min=True) for of in sets]


def test_a_rank_that_every_image_has_does_not_move(monkeypatch):
    """Tail images that are all alike but for their sign: one direction, whatever is drawn."""
    rng = np.random.default_rng(0)
    one = np.zeros((30, 4))
    one[:10, 0], one[10:] = np.tile([5.0, -5.0], 5), rng.normal(size=(20, 4))
    one -= one.mean(0)
    monkeypatch.setattr(image_spread, "tokens_of_blocks", lambda student, images: one[None, :, None].astype(np.float32))
    found = rank_spread(Looking(), one, np.arange(10), np.zeros(30, int), seed=0)
    assert [(line.token, line.centring) for line in found] == [("cls", "both"), ("cls", "all_only")]
    wide = rank_spread(Looking(), one, np.arange(10, 30), np.zeros(30, int), seed=0)
    assert found[0].n == 10 and wide[0].n == 20 and found[0].stderr <= wide[0].stderr
