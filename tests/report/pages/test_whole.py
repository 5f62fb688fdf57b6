"""How near print and how surely better, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from longtail.report.pages.whole import DELTAS, REPLICATES, Profile, improvement, profile, whole
from tests.helpers.claims import claim, ledger, put


def test_the_share_of_cells_within_delta():
    """Gaps .5, 2 | 4: a third within 1 point, two thirds within 2, all within 4."""
    found = profile([[0.5, 2.0], [4.0]])
    assert (found.cells, found.runs) == (3, 2)
    at = {delta: found.shares[DELTAS.index(delta)] for delta in (0.0, 0.5, 1.0, 2.0, 3.75, 4.0, 10.0)}
    assert list(at.values()) == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert all(low <= share <= high for low, share, high in zip(found.low, found.shares, found.high, strict=True))
    assert found.low[DELTAS.index(2.0)] == 0 and found.high[DELTAS.index(2.0)] == 1  # one run or the other
    assert (
        found.line.startswith("0.0,120.0 ") and found.line.endswith(" 300.0,0.0") and found.at(2.0) == "67 % (0 to 100)"
    )


def test_nothing_to_hold_against_print():
    assert profile([]) == Profile(0, 0)


def test_the_probability_of_improvement_by_hand():
    """Of 3 x 3 pairs 7 are won, one is drawn and one lost: 7.5 / 9; a second study won in full: the mean of both."""
    one = [np.array([5.0, 6.0, 7.0]), np.array([1.0, 5.0, 5.5])]
    assert improvement([one])[0] == pytest.approx(7.5 / 9)
    sure = [np.array([5.0, 6.0, 7.0]), np.array([1.0, 2.0, 3.0])]
    assert improvement([sure]) == (1.0, 1.0, 1.0)
    both = improvement([one, sure])
    assert both[0] == pytest.approx((7.5 / 9 + 1) / 2) and both[1] < both[0] <= both[2] == 1.0
    assert improvement([one]) == improvement([one]) and REPLICATES >= 1000


def test_methods_are_those_of_the_claims_and_few_seeds_are_left_out(tmp_path):
    put(tmp_path, "a", [80.0, 81.0, 82.0])
    put(tmp_path, "b", [70.0, 71.0, 73.0])
    put(tmp_path, "c", [70.0])
    pair = {"study": "s", "higher": {"entry": "a"}, "lower": {"entry": "c"}}
    found = ledger([claim({"entry": "a"}, {"entry": "b"}, id="beats-vit", miniature=[pair])], tmp_path)
    made = whole([], found, tmp_path)
    (only,) = made.improvements
    assert (only.name, only.miniature, only.probability, only.studies, only.seeds) == (
        "DeiT-LT over ViT",
        False,
        1.0,
        1,
        3,
    )
    assert made.left_out == 1 and made.profile.cells == 0
