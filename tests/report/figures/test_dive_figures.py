"""What DiVE's figures draw, from small CSVs worked by hand."""

from __future__ import annotations

import pytest

from longtail.report.figures import dive_figures as dive
from tests.report.figures.test_study_figures import rows

KEYS = "seed tau power group examples"


@pytest.fixture(autouse=True)
def close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def averages(*factors: float) -> list[dict[str, str]]:
    """groups.csv of a seed for each factor: INPUT 8, 4, 2; at (tau, power) the factor · tau / power for few."""
    found = []
    for seed, factor in enumerate(factors):
        found += [(seed, 0.0, 1.0, group, v) for group, v in zip(dive.GROUPS, (8, 4, 2), strict=True)]
        for power in dive.POWERS:
            for tau in (*dive.TAUS, *dive.MORE_TAUS):
                values = zip(dive.GROUPS, (8 - factor, 4, factor * tau / power), strict=True)
                found += [(seed, tau, power, group, v) for group, v in values]
    return rows(KEYS, *found)


def test_groups_at_temperature_one_beside_the_labels():
    drawn = dive.virtual_examples({"A": averages(1, 3), "B": averages(2)})
    assert drawn.rows[:3] == [
        ("INPUT", "many", 8.0, 0.0, 2),
        ("INPUT", "medium", 4.0, 0.0, 2),
        ("INPUT", "few", 2.0, 0.0, 2),
    ]
    assert drawn.rows[3] == ("A", "many", 6.0, 1.0, 2) and drawn.rows[-1] == ("B", "few", 2.0, None, 1)
    assert [bar.get_height() for bar in drawn.figure.axes[0].patches] == [r[2] for r in drawn.rows]
    no_few = [row for row in averages(1) if row["group"] != "few"]  # as CIFAR-100-LT at an imbalance factor of 10
    assert {row[1] for row in dive.virtual_examples({"A": no_few}).rows} == {"many", "medium"}
    assert dive.virtual_examples({}) is None


def test_temperature_and_power_and_what_the_rule_takes():
    rule = rows("seed power tau", (0, 0.5, 3.0), (0, 1.0, 6.0), (1, 0.5, 3.0), (1, 1.0, ""))
    drawn = dive.virtual_examples_settings({"A": averages(1, 3)}, {"A": rule})
    assert drawn.note == (
        "The rule of thumb takes for A: with no power temperature 6 (seed 0) and none of 1 to 10 (seed 1);"
        " with power 1/2 temperature 3."
    )
    found = {row[1:4]: row[4] for row in drawn.rows}
    assert found[0.0, "", "few"] == 2 and found[3.0, 0.5, "few"] == 12 and found[6.0, 1.0, "few"] == 12
    plain, power = drawn.figure.axes
    assert (plain.get_title(), power.get_title()) == ("A, no power", "A, power 1/2")
    shaded = [[p.get_x() for p in ax.patches if p.get_width() == 1] for ax in (plain, power)]
    assert shaded == [[5.5], [2.5]]  # after INPUT, temperatures 1, 2, …
    assert [t.get_text() for t in plain.get_xticklabels()] == ["Input", *map(str, range(1, 11)), "20"]


def test_curves_are_sorted_and_smoothed_over_a_twentieth():
    assert [dive.width_of(n) for n in (10, 100, 1000)] == [1, 5, 51]
    of_class = [
        (s, t, 1.0, k, n, (s + 1) * n + t) for s in (0, 1) for t in (0.0, 2.0) for k, n in ((0, 2), (1, 9), (2, 4))
    ]
    series = {"A": rows("seed tau power class images examples", *of_class)}
    drawn = dive.virtual_example_curves(series)
    assert drawn.rows[:3] == [("INPUT", 1, 13.5, 4.5, 2), ("INPUT", 2, 6.0, 2.0, 2), ("INPUT", 3, 3.0, 1.0, 2)]
    assert drawn.rows[3] == ("A", 1, 15.5, 4.5, 2)
    assert drawn.figure.axes[0].get_yscale() == "log"
    every = [(0, t, 1.0, 0, 5, 5.0 + t) for t in (0.0, *dive.CURVE_TAUS)]
    of_tau = dive.virtual_example_curves_tau({"A": rows("seed tau power class images examples", *every)})
    assert [row[3] for row in of_tau.rows] == [5.0, 6.0, 7.0, 8.0, 11.0, 15.0, 25.0]
    assert of_tau.rows[4][:2] == ("A", "τ = 6")


def test_a_map_for_each_and_a_mark_for_each_class():
    places = rows("class images x y", (3, 90, 1, 2), (3, 90, 2, 2), (0, 5, 7, 8))
    drawn = dive.tsne({label: places for label in "ABCD"})
    assert [ax.get_title() for ax in drawn.figure.axes if ax.get_visible()] == list("ABCD")
    assert [t.get_text() for t in drawn.figure.legends[0].get_texts()] == ["90", "5"]
    assert drawn.rows[:3] == [("A", 3, 90, 1.0, 2.0), ("A", 3, 90, 2.0, 2.0), ("A", 0, 5, 7.0, 8.0)]


def test_two_classes_by_hand():
    """R of the paper: (n_t + eps n_h) / (n_h - eps n_h); 5000 and 500 images, eps .2: 1500 / 4000."""
    assert dive.ratio(5000, 500, 0.0) == 0.1 and dive.ratio(5000, 500, 0.2) == pytest.approx(0.375, abs=1e-12)

    def metrics(*accuracies: float) -> dict:
        seeds = {str(s): {"last": {"avg": {"top1": a, "head": a + 1, "tail": a - 1}}} for s, a in enumerate(accuracies)}
        groups = {"author": {"head": [0], "mid": [], "tail": [1]}}
        return {"groups": groups, "class_counts": [5000, 500], "seeds": seeds}

    drawn = dive.head_smoothing({"Two": [(0.0, metrics(80, 84)), (0.2, metrics(90))], "Not run": []})
    assert drawn.rows[0] == ("Two", 0.0, 0.1, "top1", 82.0, pytest.approx(8**0.5), 2)
    assert drawn.rows[-1] == ("Two", 0.2, pytest.approx(0.375), "tail", 89.0, "", 1)
    (ax,) = drawn.figure.axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0\nR 0.1", "0.2\nR 0.38"]
    assert dive.head_smoothing({"Not run": []}) is None
