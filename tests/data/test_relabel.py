from __future__ import annotations

import numpy as np
import pytest

from longtail.data.list_sources import frequency_rank, natural_labels
from longtail.data.long_tail import author_groups, count_groups


def test_rank_by_hand():
    counts = np.array([3, 6, 3, 1, 6])
    assert frequency_rank(counts).tolist() == [2, 0, 3, 4, 1]  # equal counts in natural order
    assert natural_labels(frequency_rank(counts)).tolist() == [1, 4, 0, 2, 3]


def test_ties_keep_the_natural_order_however_many_there_are():
    """METHODS trap 6: NumPy's default sort is not stable on more than a few elements."""
    counts = np.random.default_rng(0).integers(1, 6, 8142)
    order = natural_labels(frequency_rank(counts))
    by_hand = sorted(range(len(counts)), key=lambda label: (-counts[label], label))
    assert order.tolist() == by_hand
    assert (np.argsort(-counts) != by_hand).any()  # the published way


def test_a_round_trip_of_labels_and_of_a_natural_teachers_columns():
    """METHODS trap 5."""
    random = np.random.default_rng(1)
    counts = random.integers(1, 50, 40)
    class_map = frequency_rank(counts)
    natural = random.integers(0, 40, 500)
    ours = class_map[natural]
    assert (natural_labels(class_map)[ours] == natural).all()
    assert (np.diff(counts[natural_labels(class_map)]) <= 0).all()
    teacher = np.eye(40)[natural]  # a perfect teacher, in natural labels
    assert (teacher[:, natural_labels(class_map)].argmax(1) == ours).all()
    assert (teacher.argmax(1) != ours).mean() > 0.9  # what forgetting it costs


def imagenet_like() -> np.ndarray:
    """1000 counts with what METHODS 1.2 and 1.3 tell of ImageNet-LT's: 385 above 100, six of exactly 100, 136 below 20,
    ten of 20, largest 1280, 1246, 1173, smallest 5, 115,846 in all, and 23 images at ranks 834 and 835."""
    head = np.array([1280, 1246, 1173] + [110] * 382)
    mid = np.array([100] * 6 + [50] * 440 + [23] * 6 + [22] * 17 + [20] * 10)
    tail = np.array([19] * 67 + [5] * 69)
    counts = np.concatenate([head, mid, tail])
    missing, room = 115_846 - counts.sum(), slice(3, 385)  # what is left, over the head
    counts[room] += missing // 382
    counts[3 : 3 + missing % 382] += 1
    return counts


def test_group_rules_of_imagenet_lt():
    counts = imagenet_like()
    assert (len(counts), counts.sum(), counts.max(), counts.min()) == (1000, 115_846, 1280, 5)
    assert ((counts <= 20).sum(), (counts < 20).sum(), (counts == 100).sum()) == (146, 136, 6)
    assert counts[384] > 100 and set(counts[385:391].tolist()) == {100} and counts[834] == counts[835] == 23
    natural = np.random.default_rng(2).permutation(counts)
    ranked = natural[natural_labels(frequency_rank(natural))]
    assert (ranked == counts).all()
    assert np.bincount(count_groups(ranked)).tolist() == [385, 479, 136]
    assert np.bincount(author_groups(1000, (390, 835))).tolist() == [390, 445, 165]
    cut = author_groups(1000, (390, 835))  # both cuts lie inside a tie: which classes are head depends on its order
    assert cut[389] != cut[390] and ranked[389] == ranked[390] == 100
    assert cut[834] != cut[835] and ranked[834] == ranked[835]


@pytest.mark.parametrize(
    ("classes", "cuts", "many", "few", "by_index"),
    [
        (8142, (842, 4543), 842, 3224, [842, 3701, 3599]),  # iNaturalist 2018: the index rule's tail is <= 20
        (365, (131, 288), 131, 71, [131, 157, 77]),  # Places-LT, MiSLAS
    ],
)
def test_group_rules_of_the_others(classes, cuts, many, few, by_index):
    """METHODS 1.2."""
    counts = np.concatenate([np.full(many, 101), np.full(classes - many - few, 20), np.full(few, 19)])
    assert np.bincount(count_groups(counts)).tolist() == [many, classes - many - few, few]
    assert np.bincount(author_groups(classes, cuts)).tolist() == by_index
