"""Views of CBD: jitter for some images, noise, no antialias (METHODS 7.2); balanced epochs."""

from __future__ import annotations

import numpy as np
import pytest

from longtail.base import params
from longtail.base.errors import UserError
from longtail.views.epoch import balanced_copies, class_balanced
from longtail.views.eval_views import eval_pixels
from longtail.views.ops.photometric import bilinear, noisy
from longtail.views.recipe import LargeViewRecipe
from longtail.views.teacher_views import LargeViews, large_draws
from tests.views.test_large_views import VIEW

PLAIN = VIEW | {"jitter": [0.0] * 4, "gray_prob": 0.0, "blur_prob": 0.0, "rand_ops": 0}
IMAGE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)


def of(**changes) -> LargeViewRecipe:
    return params.build(LargeViewRecipe, PLAIN | changes, "views")


def by_hand(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Float64: centres of pixels at halves, the four nearest, the border repeated."""
    h, w = image.shape[:2]
    y, x = (np.arange(height) + 0.5) * h / height - 0.5, (np.arange(width) + 0.5) * w / width - 0.5
    padded = np.pad(image.astype(np.float64), ((1, 2), (1, 2), (0, 0)), "edge")
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    out = np.zeros((height, width, 3))
    for down in (0, 1):
        for right in (0, 1):
            share_y = 1 - abs(y - (top + down))
            share_x = 1 - abs(x - (left + right))
            out += share_y[:, None, None] * share_x[:, None] * padded[top + down + 1][:, left + right + 1]
    return out


@pytest.mark.parametrize("size", [(20, 20), (8, 13), (64, 80), (37, 53)])
def test_bilinear_reads_the_four_nearest_pixels(size):
    found, expected = bilinear(IMAGE, *size), by_hand(IMAGE, *size)
    assert np.abs(found - expected).max() <= 0.5 + 1e-4
    if size == (37, 53):
        np.testing.assert_array_equal(found, IMAGE)


def test_views_and_test_views_without_antialias():
    """A third of the side: every third pixel, where Pillow's own resize averages."""
    image = np.random.default_rng(1).integers(0, 256, (1, 36, 36, 3), np.uint8)
    whole = {"size": 12, "crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0], "hflip": 0.0}
    for antialias in (True, False):
        views = LargeViews({"teacher_view": of(**whole, antialias=antialias)}, image, 0)
        made = np.empty((1, 1, 12, 12, 3), np.uint8)
        views.into(made, 0, np.arange(1), np.zeros(1, np.int64))
        tested = eval_pixels(image, 12, 12, bilinear=True, antialias=antialias).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(made[0], tested)
        assert np.array_equal(made[0], image[:, 1::3, 1::3]) != antialias


def test_jitter_is_drawn_for_a_share_of_the_images():
    """CBD: strength 1 of .8, .8, .8, .2, for .8 of the images."""
    positions, strengths = np.arange(4000), [0.8, 0.8, 0.8, 0.2]
    some = large_draws(of(jitter=strengths, jitter_prob=0.8), 0, "teacher_view", 0, positions, 32, 32)
    every = large_draws(of(jitter=strengths), 0, "teacher_view", 0, positions, 32, 32)
    jittered = (some.order >= 0).all(1)
    assert jittered.mean() == pytest.approx(0.8, abs=0.03) and (some.order[~jittered] == -1).all()
    np.testing.assert_array_equal(some.order[jittered], every.order[jittered])
    low, high = every.factor.min(0), every.factor.max(0)
    np.testing.assert_allclose(low, [0.2, 0.2, 0.2, -0.2], atol=0.002)
    np.testing.assert_allclose(high, [1.8, 1.8, 1.8, 0.2], atol=0.002)


def test_noise_has_its_standard_deviation_and_another_at_each_position():
    grey = np.full((2, 16, 16, 3), 128, np.uint8)
    views = LargeViews({"teacher_view": of(size=16, noise=0.04)}, grey, 3)
    made = np.empty((1, 40, 16, 16, 3), np.uint8)
    views.into(made, 1, np.arange(40), np.zeros(40, np.int64))
    differ = made[0].astype(np.float64) - 128
    assert differ.mean() == pytest.approx(0, abs=0.2)
    assert differ.std() == pytest.approx(np.hypot(255 * 0.04, np.sqrt(1 / 12)), rel=0.01)
    assert not np.array_equal(made[0, 0], made[0, 1])
    again = np.empty((1, 1, 16, 16, 3), np.uint8)
    views.into(again, 1, np.arange(7, 8), np.ones(1, np.int64))
    np.testing.assert_array_equal(again[0, 0], made[0, 7])
    edge = noisy(np.array([[[0, 255, 10]]], np.uint8), np.array([-9.0, 9.0, 1.0], np.float32), 0.01)
    assert edge.tolist() == [[[0, 255, 13]]]  # 10 + 2.55, rounded


def test_wrong_numbers_are_one_line():
    for changes, said in (({"noise": 1.0}, "views: noise: 1.0"), ({"jitter_prob": 2.0}, "jitter_prob is a prob")):
        with pytest.raises(UserError, match=said):
            of(**changes)


# ---- balanced epochs


def test_copies_by_hand():
    """n = (8, 3, 1): N = 12, r = 12 / (3·n) = .5, 1.3333, 4; four of each class on average, the last exactly."""
    labels = np.repeat([0, 1, 2], [8, 3, 1])
    epochs = [balanced_copies(0, epoch, labels, 12) for epoch in range(3000)]
    orders = [np.bincount(order, minlength=12) for order in epochs]
    expected = np.repeat([0.5, 4 / 3, 4.0], [8, 3, 1])
    np.testing.assert_allclose(np.mean(orders, 0), expected, atol=0.2)  # an epoch is cut or filled to 12
    whole = [balanced_copies(0, epoch, labels, 100)[:30] for epoch in range(50)]
    assert all(len(np.unique(order)) >= 4 for order in whole)
    np.testing.assert_array_equal(balanced_copies(0, 7, labels, 12), epochs[7])
    assert not np.array_equal(epochs[7], epochs[8])


def test_copies_are_whole_parts_and_one_more_by_chance():
    """Of 1,000 images in classes of 700, 200 and 100: .476, 1.667 and 3.333 copies, N of them within a few."""
    labels = np.repeat([0, 1, 2], [700, 200, 100])
    times = np.bincount(balanced_copies(1, 0, labels, 940), minlength=1000)
    assert times[:700].max() == 1 and set(times[900:].tolist()) <= {1, 2, 3, 4}
    for size in (1000, 937):
        assert len(balanced_copies(1, 0, labels, size)) == size
    shares = np.mean([np.bincount(labels[balanced_copies(1, e, labels, 1000)]) for e in range(200)], 0) / 1000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.005)
    drawn = np.mean([np.bincount(labels[class_balanced(1, e, labels)]) for e in range(200)], 0) / 1000
    np.testing.assert_allclose(drawn, 1 / 3, atol=0.005)
