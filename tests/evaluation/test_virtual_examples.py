"""V_k by hand, its groups, and the rule of thumb on a case like the paper's (METHODS 6.2)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from longtail.evaluation.virtual_examples import (
    POWERS,
    TAUS,
    group_averages,
    rule_of_thumb,
    smoothed,
    virtual_examples,
)
from longtail.losses import dive

Z = np.array([[3.0, 1.0, -1.0], [0.0, 2.0, 1.0]])


def by_hand(tau: float) -> list[float]:
    total = [0.0] * 3
    for row in Z.tolist():
        terms = [math.exp(z / tau) for z in row]
        total = [t + e / sum(terms) for t, e in zip(total, terms, strict=True)]
    return total


def test_sums_over_images_by_hand():
    for tau in (1.0, 3.0, 20.0):
        assert virtual_examples(Z, tau) == pytest.approx(by_hand(tau), rel=1e-12)
        assert virtual_examples(Z, tau).sum() == pytest.approx(len(Z), rel=1e-12)
    assert virtual_examples(Z, 3.0, 0.5) == pytest.approx(by_hand(6.0), rel=1e-12)  # power: tau / p
    assert virtual_examples(Z[:1], 3.0, 0.5) == pytest.approx([0.448440864, 0.321321920, 0.230237216], abs=1e-9)
    assert virtual_examples(Z / 30, 3.0, logit_scale=30.0) == pytest.approx(by_hand(3.0), rel=1e-12)
    assert virtual_examples(1000 * Z, 1.0) == pytest.approx([1, 1, 0], abs=1e-12)  # nothing overflows


@pytest.mark.parametrize(("tau", "power"), [(1.0, 1.0), (3.0, 0.5), (6.0, 1.0)])
def test_what_is_counted_is_what_a_student_is_taught(tau, power):
    taught = dive.virtual_examples(torch.from_numpy(Z), tau, power).exp().sum(0)
    np.testing.assert_allclose(virtual_examples(Z, tau, power), taught.numpy(), rtol=1e-12)


def test_groups_and_smoothing_by_hand():
    values, groups = np.array([8.0, 4.0, 3.0, 2.0, 1.0]), np.array([0, 0, 1, 2, 2])
    assert group_averages(values, groups) == (6.0, 3.0, 1.5)
    assert group_averages(values[:3], groups[:3]) == (6.0, 3.0, None)  # no few-shot class: none, not 0
    counts = np.array([1, 5, 2, 4, 3])  # from the most frequent on: 4, 2, 1, 3, 8
    assert smoothed(values, counts, 3).tolist() == pytest.approx([3, 7 / 3, 2, 4, 5.5])
    assert smoothed(values, counts, 1).tolist() == [4, 2, 1, 3, 8]
    with pytest.raises(ValueError, match="odd, found 2"):
        smoothed(values, counts, 2)


def test_labels_themselves_are_the_input_distribution():
    """INPUT of Fig. 1 at an imbalance factor of 100: 252.11, 49.09, 10.17, flat 108.47."""
    counts = np.array([int(500 * 0.01 ** (i / 99)) for i in range(100)])
    groups = np.where(counts > 100, 0, np.where(counts >= 20, 1, 2))
    one_hot = 1000 * np.eye(100)[np.repeat(np.arange(100), counts)]
    assert group_averages(virtual_examples(one_hot, 1.0), groups) == pytest.approx((252.11, 49.09, 10.17), abs=5e-3)
    assert group_averages(virtual_examples(0 * one_hot, 1.0), groups) == pytest.approx((108.47,) * 3, abs=1e-9)


def like_the_papers() -> dict[tuple[float, float], tuple[float | None, ...]]:
    """A teacher that is sure of an image's own class and whose second guess are the rare ones: softened, many-shot
    classes lose to few-shot ones, from temperature 6 on."""
    counts = np.array([100] * 3 + [40] * 3 + [10] * 3)
    groups, labels = np.repeat([0, 1, 2], 3), np.repeat(np.arange(9), counts)
    z = np.tile(np.where(groups == 2, 6.0, 0.0), (len(labels), 1))
    z[np.arange(len(labels)), labels] = SURE
    return {(tau, power): group_averages(virtual_examples(z, tau, power), groups) for tau in TAUS for power in POWERS}


SURE = 13.0


def test_the_rule_takes_six_or_three_with_a_power():
    averages = like_the_papers()
    few_above = {tau for (tau, power), (many, _, few) in averages.items() if power == 1 and few > many}
    assert few_above == {6.0, 7.0, 8.0, 9.0, 10.0}
    assert rule_of_thumb(averages) == {1.0: 6.0, 0.5: 3.0}


def test_the_rule_may_find_none_and_needs_both_groups():
    sure = {key: (9.0, 5.0, 1.0) for key in like_the_papers()}
    assert rule_of_thumb(sure) == {
        1.0: None,
        0.5: None,
    }  # an over-trained teacher: told, nothing more is tried
    with pytest.raises(ValueError, match="a group has none"):
        rule_of_thumb({(1.0, 1.0): (9.0, 5.0, None)})
