"""What the figures draw, from small CSVs worked by hand."""

from __future__ import annotations

import html
import math

import numpy as np
import pytest

from longtail.report.figures import study_figures
from longtail.report.figures.rollout import reconstructions, rollout, rollout_mean

COLORS = {"A": "red", "B": "blue"}


@pytest.fixture(autouse=True)
def close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def rows(keys: str, *values: tuple) -> list[dict[str, str]]:
    return [dict(zip(keys.split(), map(str, v), strict=True)) for v in values]


def test_mean_and_standard_error_over_seeds():
    found = study_figures.over_seeds(rows("seed x v", (0, 1, 2.0), (0, 2, 5), (1, 1, 4.0), (2, 1, 9.0)), ("x",), "v")
    assert found == {("1",): (5.0, round(math.sqrt(13) / math.sqrt(3), 4), 3), ("2",): (5.0, None, 1)}


def test_entropy_is_in_percent_of_each_domain_over_all_seeds():
    """Two seeds: bin 1 has 1 + 2 of 10 images, bin 2 has 7; out of distribution another total."""
    keys = "seed domain bin_left bin_right count"
    bins = rows(
        keys, (0, "in", 0, 1, 1), (0, "in", 1, 2, 4), (1, "in", 0, 1, 2), (1, "in", 1, 2, 3), (0, "out", 0, 1, 5)
    )
    means = rows("seed domain mean_nats n", (0, "in", 1.0, 1), (1, "in", 4.0, 2))
    drawn = study_figures.entropy({"A": bins}, {"A": means})
    assert drawn.rows == [("A", "in", 0, 1, 30.0), ("A", "in", 1, 2, 70.0), ("A", "out", 0, 1, 100.0)]
    (line,) = drawn.figure.axes[0].lines
    assert line.get_xdata()[0] == 3.0  # (1*1 + 4*2) / 3


def test_entropy_ends_where_the_last_image_is():
    bins = rows("domain bin_left bin_right count", ("in", 0, 1, 99), ("in", 1, 2, 1), ("in", 2, 3, 0))
    ax = study_figures.entropy({"A": bins}, {}).figure.axes[0]
    assert 2 < ax.get_xlim()[1] < 2.5 and ax.get_yscale() == "log" and ax.get_ylim()[0] < 1 < 99 < ax.get_ylim()[1]


def test_printed_curve_is_thin_dashed_and_behind_nothing_of_ours():
    series = {"A": rows("seed epoch distance", (0, 0, 0.1), (0, 1, 0.2)), "plain ViT": []}
    curves = {"paper": [(100.0, 0.012)], "A": [(1.0, 0.1)]}
    drawn = study_figures.cls_dist_distance(series, COLORS, curves)
    ours, printed, of_a = drawn.figure.axes[0].lines
    assert (ours.get_label(), printed.get_label()) == ("A", "paper (printed)")
    assert (printed.get_color(), of_a.get_color()) == ("black", "red")  # of the entry it stands beside
    assert printed.get_linewidth() < ours.get_linewidth() and printed.is_dashed() and not ours.is_dashed()
    assert drawn.rows[2] == ("paper (printed)", 100.0, 0.012, "", "")
    assert study_figures.cls_dist_distance({"plain ViT": []}, COLORS, curves) is None


def test_curves_leave_out_epochs_that_were_not_evaluated():
    keys = "seed epoch loss test_top1_avg"
    seeds = rows(keys, (0, 0, 2.0, ""), (0, 1, 1.0, 50.0), (1, 0, 4.0, ""), (1, 1, 2.0, 60.0))
    series = {"A": seeds, "B": rows(keys, (0, 0, 3.0, ""))}
    loss = study_figures.training_loss(series, COLORS)
    assert loss.rows == [("A", 1, 3.0, 1.0, 2), ("A", 2, 1.5, 0.5, 2), ("B", 1, 3.0, None, 1)]
    accuracy = study_figures.test_accuracy(series, COLORS)
    assert accuracy.rows == [("A", 2, 55.0, 5.0, 2)]
    assert [line.get_label() for line in accuracy.figure.axes[0].lines] == ["A"]


def test_attention_distance_draws_two_blocks_of_all():
    shift = {"test": 0, "train": 100}
    values = [(0, i, b, h, 10 * b + h + shift[i]) for i in shift for b in range(3) for h in range(2)]
    series = {"A": rows("seed images block head distance_px", *values)}
    read_off = {"A": [(1, 0, 5.0), (1, 1, 6.0), (2, 0, 7.0)]}
    drawn = study_figures.attention_distance(series, "test", COLORS, read_off)
    first, second, *printed = drawn.figure.axes[0].lines
    assert (list(first.get_ydata()), list(second.get_ydata())) == ([0, 1], [10, 11])
    assert second.is_dashed() and not first.is_dashed()
    assert [(list(p.get_xdata()), list(p.get_ydata())) for p in printed] == [([1, 2], [5, 6]), ([1], [7])]
    assert all(p.is_dashed() and p.get_color() == "red" and p.get_linewidth() < 1 for p in printed)
    assert len(drawn.rows) == 6 + 3
    on_train = study_figures.attention_distance(series, "train", COLORS, {})
    assert [list(line.get_ydata()) for line in on_train.figure.axes[0].lines] == [[100, 101], [110, 111]]
    assert study_figures.attention_distance(series, "val", COLORS, read_off) is None


def test_an_entry_without_attention_is_left_out():
    """A CNN's files have a header alone."""
    assert study_figures.attention_distance({"CNN": []}, "test", {"CNN": "red"}, {}) is None
    assert study_figures.feature_rank({"CNN": []}, {"CNN": "red"}, {}) is None
    assert study_figures.cls_dist_distance({"CNN": []}, {"CNN": "red"}, {}) is None


def test_feature_rank_draws_the_centred_variant_and_keeps_both():
    values = [
        (0, t, b, c, 10 * b + (c == "both")) for t in ("cls", "dist") for b in (0, 1) for c in ("both", "all_only")
    ]
    drawn = study_figures.feature_rank(
        {"A": rows("seed token block centring rank", *values)}, COLORS, {"paper": [(0, 187.0), (1, 238.0)]}
    )
    dist, cls = drawn.figure.axes[:2]
    assert (dist.get_title(), cls.get_title()) == ("DIST token", "CLS token")
    assert [list(line.get_ydata()) for line in dist.lines] == [[1, 11], [187, 238]]
    assert [list(line.get_ydata()) for line in cls.lines] == [[1, 11]]
    assert len(drawn.rows) == 8 + 2
    assert cls.get_ylim()[0] == 0 and cls.get_ylim()[1] > 238  # one axis for both, over all that is drawn


def test_rollout_has_a_column_for_each_token_of_each_entry():
    def maps(tokens, labels=(7, 8)):
        shape = (2, len(tokens), 3, 3)
        images = np.zeros((2, 6, 6, 3), np.uint8)
        average = np.full((2, 3, 3), len(tokens) / 2)
        named = {"tokens": np.array(tokens), "labels": np.array(labels), "average": average}
        return {"images": images, "maps": np.ones(shape), **named}

    series = {"A": maps(["cls"]), "B": maps(["cls", "dist"]), "other images": maps(["cls"], (7, 9))}
    drawn = rollout(series)
    assert len(drawn.figure.axes) == 2 * (1 + 1 + 2)
    assert {row[:2] for row in drawn.rows} == {("A", "cls"), ("B", "cls"), ("B", "dist")}
    assert len(drawn.rows) == 2 * 3 * 9
    mean = rollout_mean(series)
    assert len(mean.figure.axes) == 2 * (1 + 2)
    assert {(label, token, value) for label, token, *_, value in mean.rows} == {("A", "cls", 0.5), ("B", "cls+dist", 1)}


def test_reconstructions_have_three_lines_for_each_pretraining():
    pictures = {name: np.full((2, 6, 6, 3), level, np.uint8) for name, level in (("images", 90), ("masked", 128))}
    series = {"A": pictures | {"reconstructed": np.full((2, 6, 6, 3), 70, np.uint8), "labels": np.array([7, 8])}}
    drawn = reconstructions(series | {"B": series["A"]})
    assert len(drawn.figure.axes) == 2 * 3 * 2
    assert drawn.rows == [(label, k, 7 + k, 20.0) for label in "AB" for k in range(2)]
    assert [ax.get_ylabel() for ax in drawn.figure.axes[:6:2]] == ["images", "masked", "reconstructed"]


def test_nothing_was_run():
    assert reconstructions({}) is None
    assert study_figures.groups({}, COLORS) is None and study_figures.entropy({}, {}) is None and rollout({}) is None
    assert study_figures.attention_distance({}, "test", COLORS, {}) is None and rollout_mean({}) is None
    assert study_figures.training_loss({}, COLORS) is None and study_figures.test_accuracy({}, COLORS) is None
    assert study_figures.feature_rank({}, COLORS, {}) is None


ODD = ("$5 & $10_", "_b <i>50%<i>", "c #1 $x_{$", "\\alpha^2")


def drawn(figure, path) -> str:
    """The text of an SVG of the figure."""
    figure.savefig(path)
    return html.unescape(path.read_text(encoding="utf-8"))


def test_labels_are_drawn_as_they_are_written(tmp_path):
    """No mathematics, no markup, and none left out of the legend; also in PDF and PNG nothing fails."""
    series = {label: rows("seed epoch loss", (0, 1, 2.0), (0, 2, 1.0)) for label in ODD}
    colors = dict.fromkeys(ODD, "red")
    drawing = study_figures.training_loss(series, colors)
    text = drawn(drawing.figure, tmp_path / "a.svg")
    assert all(label in text for label in ODD)
    for suffix in ("pdf", "png"):
        drawing.figure.savefig(tmp_path / f"a.{suffix}")
    bins = rows("domain bin_left bin_right count", ("in", 0, 0.1, 3), ("in", 0.1, 0.2, 4), ("out", 0, 0.1, 9))
    text = drawn(study_figures.entropy({ODD[0]: bins}, {}).figure, tmp_path / "b.svg")
    assert ODD[0] in text and "mathdefault" not in text  # nor a tick that was to be mathematics
