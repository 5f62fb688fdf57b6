from __future__ import annotations

import numpy as np
import pytest

from longtail.base import rng


def words(*hexadecimal: str) -> np.ndarray:
    return np.array([int(h, 16) for h in hexadecimal], np.uint32)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Random123's kat_vectors, philox4x32 10
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_known_answers(counter, key, expected):
    key = tuple(int(k, 16) for k in key.split())
    np.testing.assert_array_equal(rng.philox4x32(words(*counter.split()), key), words(*expected.split()))


def test_draws_do_not_depend_on_which_positions_or_how_many_words_are_asked_for():
    whole = rng.draws(3, "view", 7, np.arange(50), 23)
    np.testing.assert_array_equal(rng.draws(3, "view", 7, [41, 8], 23), whole[[41, 8]])
    np.testing.assert_array_equal(rng.draws(3, "view", 7, [41], 5), whole[[41], :5])


def test_draws_differ_by_seed_stream_epoch_and_position():
    cases = [(0, "view", 0, 0), (1, "view", 0, 0), (0, "mix", 0, 0), (0, "view", 1, 0), (0, "view", 0, 1)]
    assert len({tuple(rng.draws(s, stream, e, [p], 4)[0]) for s, stream, e, p in cases}) == len(cases)


def test_below_is_uniform_and_stays_below():
    values = rng.below(rng.draws(0, "view", 0, np.arange(30000), 1)[:, 0], 15)
    counts = np.bincount(values, minlength=15)
    assert counts.size == 15
    assert ((counts - 2000) ** 2 / 2000).sum() < 36.1  # chi-squared, 14 degrees of freedom: 0.1 % point
    assert rng.below(np.array([0xFFFFFFFF], np.uint32), 7)[0] == 6


def test_unit_is_exact_and_below_one():
    assert rng.unit(np.array([0, 1, 0x80000000], np.uint32)).tolist() == [0.0, 2.0**-32, 0.5]
    assert rng.unit(np.array([0xFFFFFFFF], np.uint32))[0] < 1


def test_permutation_is_a_permutation_that_changes_with_epoch():
    first, second = (rng.permutation(0, "order", epoch, 1000) for epoch in (0, 1))
    assert sorted(first) == list(range(1000))
    assert (first == second).sum() < 20
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("table", "mean", "variance"),
    [
        (rng.normal_table(), 0.0, 1.0),
        (rng.beta_table(0.8), 0.5, 1 / (4 * (2 * 0.8 + 1))),
        (rng.beta_table(1.0), 0.5, 1 / 12),
        # log-uniform on [a, b]: mean (b - a) / ln(b/a), second moment (b^2 - a^2) / (2 ln(b/a))
        (rng.log_uniform_table(0.5, 2.0), 1.5 / np.log(4), 3.75 / (2 * np.log(4)) - (1.5 / np.log(4)) ** 2),
    ],
)
def test_tables_have_the_moments_of_their_distribution(table, mean, variance):
    assert len(table) == 65536 and (np.diff(table) >= 0).all()
    assert table.mean() == pytest.approx(mean, abs=1e-6)
    assert table.var() == pytest.approx(variance, abs=3e-4)


def test_normal_table_quantiles():
    table = rng.normal_table()
    assert table[int(0.975 * 65536)] == pytest.approx(1.959964, abs=2e-4)
    np.testing.assert_array_equal(table, -table[::-1])
