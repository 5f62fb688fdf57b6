"""The rules of judgement by hand, without any file."""

from __future__ import annotations

import subprocess
import sys

import pytest

from longtail.report.claims import rules
from longtail.report.claims.rules import BOTH, expected_false, holm, side, told, uninformative, verdict
from tests.helpers.root import ROOT


@pytest.mark.parametrize(
    ("seeds", "interval", "covers", "expected"),
    [
        (3, (0.1, 9.0), BOTH, "holds"),
        (3, (-9.0, -0.1), BOTH, "does not hold"),
        (3, (-0.1, 9.0), BOTH, "undecided"),
        (3, (0.0, 9.0), BOTH, "undecided"),
        (9, (5.0, 9.0), "training seeds", "undecided"),
        (9, (5.0, 9.0), "test images", "undecided"),
        (9, None, "", "undecided"),
        (2, (5.0, 9.0), BOTH, "two runs"),
        (1, (5.0, 9.0), "test images", "one run"),
    ],
)
def test_a_verdict_needs_three_seeds_and_both_sources(seeds, interval, covers, expected):
    assert verdict(seeds, interval, covers) == expected


def test_nothing_is_judged_of_no_seed():
    with pytest.raises(ValueError, match="nothing was run"):
        verdict(0, (1.0, 2.0), BOTH)


def test_what_is_no_verdict_says_where_it_points():
    assert [side(d) for d in (2.0, -1e-9, 0.0, None)] == ["claimed", "other", "", ""]
    assert told("undecided", -2.0) == "undecided, points the other way"
    assert told("one run", 2.0) == "one run, points the claimed way" and told("two runs", 0.0).endswith("neither way")
    assert told("undecided", None) == "undecided" and told("holds", 2.0) == "holds"
    assert told("not informative", 2.0) == "not informative"


@pytest.mark.parametrize(
    ("metric", "chance", "over_all", "expected"),
    [
        ((1.83, 0.0), 10.0, (43.0, 44.0), "neither side is above chance (10 %)"),
        ((10.0, 10.0), 10.0, (43.0, 44.0), "neither side is above chance (10 %)"),
        ((39.6, 0.0), 10.0, (43.0, 44.0), ""),  # one side above chance, the other at zero
        ((0.0, 39.6), 10.0, (43.0, 44.0), ""),
        ((39.6, 0.0), 10.0, (9.0, 10.0), "neither side is above chance over all classes (10 %)"),
        ((3.0, 2.0), None, (43.0, 8.0), ""),  # no accuracy: calibration, and one side has learnt
        ((3.0, 2.0), None, (10.0, 8.0), "neither side is above chance over all classes (10 %)"),
        ((3.0, 2.0), None, None, ""),
    ],
)
def test_chance_tells_nothing(metric, chance, over_all, expected):
    assert uninformative(metric, chance, over_all, 10.0) == expected


def test_holm_by_hand():
    """Four: .01 * 4, .02 * 3, .04 * 2, .04 * 1; never below the one before, never above 1."""
    assert holm([0.04, 0.01, 0.04, 0.02]) == pytest.approx([0.08, 0.04, 0.08, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0] and holm([]) == [] and holm([0.03]) == [0.03]


def test_false_verdicts_to_expect():
    assert expected_false(40) == pytest.approx(2.0)


def test_every_verdict_is_ranked_and_counted_once():
    assert len(set(rules.WORST_FIRST)) == len(rules.WORST_FIRST) and set(rules.WORST_FIRST) == set(rules.COUNTED)


def test_rules_load_nothing():
    """Tables take the least number of seeds from here, and load neither NumPy nor SciPy for it."""
    code = "import longtail.report.claims.rules, sys; sys.exit(any(m in sys.modules for m in ('numpy', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
