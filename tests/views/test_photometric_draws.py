"""Distributions against torchvision's own samplers and literal loops; fixed seeds, p-values above .001."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision import transforms

from longtail.base import rng
from longtail.views import draws
from longtail.views.draws import JITTER_WORDS
from longtail.views.ops import autoaugment

N = 20_000


def words(n: int, seed: int = 0, count: int = N) -> np.ndarray:
    return rng.draws(seed, "view", 0, np.arange(count), n)


@pytest.fixture(scope="module")
def torchvisions():
    """4,000 draws of ColorJitter(.4, .4, .4, .1): (orders [n, 4], factors [n, 4])."""
    torch.manual_seed(0)
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    ranges = jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
    drawn = [jitter.get_params(*ranges) for _ in range(4000)]
    return np.stack([d[0].numpy() for d in drawn]), np.array([d[1:] for d in drawn])


def test_jitter_has_torchvisions_distribution(torchvisions):
    order, factors = draws.jitter(words(JITTER_WORDS), (0.4, 0.4, 0.4, 0.1))
    theirs = torchvisions
    number = {p: i for i, p in enumerate(itertools.permutations(range(4)))}
    counts = [np.bincount([number[tuple(o)] for o in orders.tolist()], minlength=24) for orders in (order, theirs[0])]
    assert stats.chisquare(counts[0]).pvalue > 0.001
    assert stats.chi2_contingency(np.stack(counts)).pvalue > 0.001
    for part, (low, width) in enumerate([(0.6, 0.8)] * 3 + [(-0.1, 0.2)]):
        assert stats.kstest(factors[:, part], "uniform", (low, width)).pvalue > 0.001
        assert stats.ks_2samp(factors[:, part], theirs[1][:, part]).pvalue > 0.001
    assert np.abs(np.corrcoef(np.column_stack([factors, order]).T) - np.eye(8))[:4].max() < 0.03


def test_jitter_applies_with_its_probability_to_all_parts_or_none():
    order, _ = draws.jitter(words(JITTER_WORDS), (0.4, 0.4, 0.4, 0.1), probability=0.8)
    applied = (order >= 0).all(1)
    assert ((order >= 0).any(1) == applied).all()
    assert stats.binomtest(int(applied.sum()), N, 0.8).pvalue > 0.001


def test_a_part_without_strength_is_left_out_and_moves_no_other():
    with_hue, factors = draws.jitter(words(JITTER_WORDS), (0.4, 0.4, 0.4, 0.1))
    without, same = draws.jitter(words(JITTER_WORDS), (0.4, 0.4, 0.4, 0.0))
    np.testing.assert_array_equal(without, np.where(with_hue == 3, -1, with_hue))
    np.testing.assert_array_equal(same[:, :3], factors[:, :3])


def test_blend_factors_are_never_negative():
    _, factors = draws.jitter(words(JITTER_WORDS), (1.5, 0.4, 0.4, 0.5))
    assert stats.kstest(factors[:, 0], "uniform", (0, 2.5)).pvalue > 0.001
    assert factors[:, 3].min() >= -0.5 and factors[:, 3].max() < 0.5


def test_uniform_is_that_of_the_published_blur():
    radius = draws.uniform(words(1)[:, 0], 0.1, 2.0)
    assert stats.kstest(radius, "uniform", (0.1, 1.9)).pvalue > 0.001
    ends = draws.uniform(np.array([0, 2**31, 2**32 - 1], np.uint32), 0.1, 2.0)
    np.testing.assert_allclose(ends, [0.1, 1.05, 2.0], atol=1e-9)


def test_corners_have_torchvisions_distribution():
    """RandomCrop(32, padding=4): all 81 places alike."""
    drawn = draws.corners(words(2), 32, 32, 32, 4)
    ours = np.bincount(drawn[:, 0] * 9 + drawn[:, 1], minlength=81)
    assert stats.chisquare(ours).pvalue > 0.001
    torch.manual_seed(0)
    padded = torch.zeros(3, 40, 40)
    theirs = np.array([transforms.RandomCrop.get_params(padded, (32, 32))[:2] for _ in range(8000)])
    assert stats.chi2_contingency(np.stack([ours, np.bincount(theirs @ (9, 1), minlength=81)])).pvalue > 0.001


def test_corners_of_an_oblong_image():
    left, top = draws.corners(words(2), 30, 50, 32, 4).T
    assert (left.min(), left.max(), top.min(), top.max()) == (0, 26, 0, 6)
    with pytest.raises(ValueError, match="a crop of 32 does not fit into 20 x 50 pixels with 4"):
        draws.corners(words(2), 20, 50, 32, 4)


def test_cutout_boxes_are_those_of_the_published_code():
    """Its rule, one view at a time: a pixel anywhere, half a side to each direction, clipped to the image."""
    drawn = words(2)
    boxes = draws.cutout_boxes(drawn, 32, 16)
    for (x, y), box in zip(drawn.tolist(), boxes.tolist(), strict=True):
        x, y = x * 32 >> 32, y * 32 >> 32
        left, right, top, bottom = max(x - 8, 0), min(x + 8, 32), max(y - 8, 0), min(y + 8, 32)
        assert box == [left, top, right - left, bottom - top]
    torch_area = np.mean([(min(c + 8, 32) - max(c - 8, 0)) for c in range(32)]) ** 2
    assert (boxes[:, 2] * boxes[:, 3]).mean() == pytest.approx(torch_area, rel=0.01)


def test_golden_draws():
    """Draws are promised to stay the same across versions and machines, as those of views/test_student_views.py."""
    order, factors = draws.jitter(words(JITTER_WORDS, 5, 300), (0.4, 0.3, 0.2, 0.1), 0.8)
    learned = autoaugment.draw(words(autoaugment.WORDS, 5, 300))
    sha = hashlib.sha256(order.astype("<i8").tobytes() + factors.astype("<f8").tobytes())
    for array in (
        learned.op,
        learned.strength,
        learned.negative,
        draws.corners(words(2, 5, 300), 40, 32, 32, 4),
    ):
        sha.update(array.astype("<i8").tobytes())
    sha.update(draws.cutout_boxes(words(2, 6, 300), 32, 16).astype("<i8").tobytes())
    sha.update(draws.uniform(words(1, 7, 300), 0.1, 2.0).astype("<f8").tobytes())
    assert sha.hexdigest() == "d93f3aa8179666c54ba4f5eca0462c84555ed5a6488790e72f1bfcc3e906495e"
