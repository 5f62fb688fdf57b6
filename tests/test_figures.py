"""What the figures draw, from small CSVs worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from longtail import figures
from longtail.rollout_figure import rollout

COLORS = {"A": "red", "B": "blue"}


@pytest.fixture(autouse=True)
def close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def rows(keys: str, *values: tuple) -> list[dict[str, str]]:
    return [dict(zip(keys.split(), map(str, v), strict=True)) for v in values]


def test_mean_and_standard_error_over_seeds():
    found = figures.over_seeds(rows("seed x v", (0, 1, 2.0), (0, 2, 5), (1, 1, 4.0), (2, 1, 9.0)), ("x",), "v")
    assert found == {("1",): (5.0, round(math.sqrt(13) / math.sqrt(3), 4), 3), ("2",): (5.0, None, 1)}


def test_entropy_is_in_percent_of_each_domain_over_all_seeds():
    """Two seeds: bin 1 has 1 + 2 of 10 images, bin 2 has 7; out of distribution another total."""
    keys = "seed domain bin_left bin_right count"
    bins = rows(
        keys, (0, "in", 0, 1, 1), (0, "in", 1, 2, 4), (1, "in", 0, 1, 2), (1, "in", 1, 2, 3), (0, "out", 0, 1, 5)
    )
    means = rows("seed domain mean_nats n", (0, "in", 1.0, 1), (1, "in", 4.0, 2))
    drawn = figures.entropy({"A": bins}, {"A": means})
    assert drawn.rows == [("A", "in", 0, 1, 30.0), ("A", "in", 1, 2, 70.0), ("A", "out", 0, 1, 100.0)]
    (line,) = drawn.figure.axes[0].lines
    assert line.get_xdata()[0] == 3.0  # (1*1 + 4*2) / 3


def test_printed_curve_is_thin_dashed_and_behind_nothing_of_ours():
    series = {"A": rows("seed epoch distance", (0, 0, 0.1), (0, 1, 0.2)), "plain ViT": []}
    drawn = figures.cls_dist_distance(series, COLORS, {"paper": [(100.0, 0.012)]})
    ours, printed = drawn.figure.axes[0].lines
    assert (ours.get_label(), printed.get_label()) == ("A", "paper (printed)")
    assert printed.get_linewidth() < ours.get_linewidth() and printed.is_dashed() and not ours.is_dashed()
    assert drawn.rows[-1] == ("paper (printed)", 100.0, 0.012, "", "")
    assert figures.cls_dist_distance({"plain ViT": []}, COLORS, {"paper": [(100.0, 0.012)]}) is None


def test_attention_distance_draws_two_blocks_of_all():
    series = {"A": rows("seed block head distance_px", *[(0, b, h, 10 * b + h) for b in range(3) for h in range(2)])}
    drawn = figures.attention_distance(series, COLORS)
    first, second = drawn.figure.axes[0].lines
    assert (list(first.get_ydata()), list(second.get_ydata())) == ([0, 1], [10, 11])
    assert second.is_dashed() and not first.is_dashed()
    assert len(drawn.rows) == 6


def test_an_entry_without_attention_is_left_out():
    """A CNN's files have a header alone."""
    assert figures.attention_distance({"CNN": []}, {"CNN": "red"}) is None
    assert figures.feature_rank({"CNN": []}, {"CNN": "red"}, {}) is None
    assert figures.cls_dist_distance({"CNN": []}, {"CNN": "red"}, {}) is None


def test_feature_rank_draws_the_centred_variant_and_keeps_both():
    values = [
        (0, t, b, c, 10 * b + (c == "both")) for t in ("cls", "dist") for b in (0, 1) for c in ("both", "all_only")
    ]
    drawn = figures.feature_rank(
        {"A": rows("seed token block centring rank", *values)}, COLORS, {"paper": [(0, 187.0), (1, 238.0)]}
    )
    dist, cls = drawn.figure.axes[:2]
    assert (dist.get_title(), cls.get_title()) == ("DIST token", "CLS token")
    assert [list(line.get_ydata()) for line in dist.lines] == [[1, 11], [187, 238]]
    assert [list(line.get_ydata()) for line in cls.lines] == [[1, 11]]
    assert len(drawn.rows) == 8 + 2


def test_rollout_has_a_column_for_each_token_of_each_entry():
    def maps(tokens, labels=(7, 8)):
        shape = (2, len(tokens), 3, 3)
        images = np.zeros((2, 6, 6, 3), np.uint8)
        return {"images": images, "maps": np.ones(shape), "tokens": np.array(tokens), "labels": np.array(labels)}

    drawn = rollout({"A": maps(["cls"]), "B": maps(["cls", "dist"]), "other images": maps(["cls"], (7, 9))})
    assert len(drawn.figure.axes) == 2 * (1 + 1 + 2)
    assert {row[:2] for row in drawn.rows} == {("A", "cls"), ("B", "cls"), ("B", "dist")}
    assert len(drawn.rows) == 2 * 3 * 9


def test_nothing_was_run():
    assert figures.groups({}, COLORS) is None and figures.entropy({}, {}) is None and rollout({}) is None
    assert figures.attention_distance({}, COLORS) is None and figures.feature_rank({}, COLORS, {}) is None
