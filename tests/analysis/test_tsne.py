"""Which classes and images a map of features shows, and that it keeps groups apart."""

from __future__ import annotations

import numpy as np
import pytest

from longtail.analysis.tsne import chosen_images, one_of_each_group, tsne


def test_one_class_of_each_frequency_group():
    """100 classes in reverse order of frequency: the fifth of the ten most frequent, of the next ten, …"""
    counts = np.arange(1, 101)
    assert one_of_each_group(counts) == [100 - 10 * g - 5 for g in range(10)]
    assert one_of_each_group([5, 50, 7]) == [1, 2, 0]  # fewer than ten: all, the most frequent first
    uneven = one_of_each_group(range(12, 0, -1), 10)  # groups of 2, 2, 1, …
    assert uneven == [0, 2, 4, 5, 6, 7, 8, 9, 10, 11]


def test_images_of_a_class_are_its_first():
    labels = np.array([1, 0, 1, 1, 0, 2])
    assert chosen_images(labels, [1, 2], 2).tolist() == [0, 2, 5]


def test_a_map_repeats_and_keeps_apart_what_is_apart():
    drawn = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    drawn[20:] += 20
    places = tsne(drawn)
    assert places.shape == (40, 2) and np.array_equal(places, tsne(drawn))
    first, second = places[:20], places[20:]
    spread = max(np.linalg.norm(part - part.mean(0), axis=1).max() for part in (first, second))
    assert np.linalg.norm(first.mean(0) - second.mean(0)) > 2 * spread
    with pytest.raises(ValueError, match="at least 4 images, found 3"):
        tsne(drawn[:3])
