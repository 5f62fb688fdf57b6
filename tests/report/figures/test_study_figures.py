"""What the figures draw, from small CSVs worked by hand."""

from __future__ import annotations

import html
import math

import numpy as np
import pytest

from longtail.report.figures import study_figures
from longtail.report.figures.rollout import Said, reconstructions, rollout, rollout_mean, taught
from longtail.report.figures.style import look

LOOKS = {label: {"color": color, "marker": "o", "linestyle": "-"} for label, color in (("A", "red"), ("B", "blue"))}


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
    drawn = study_figures.cls_dist_distance(series, LOOKS, curves)
    ours, printed, of_a = drawn.figure.axes[0].lines
    assert (ours.get_label(), printed.get_label()) == ("A", "paper (printed)")
    assert (printed.get_color(), of_a.get_color()) == ("black", "red")  # of the entry it stands beside
    assert printed.get_linewidth() < ours.get_linewidth() and printed.is_dashed() and not ours.is_dashed()
    assert drawn.rows[2] == ("paper (printed)", 100.0, 0.012, "", "")
    assert drawn.note == "Thin dashed: read off the printed figure."  # and nothing of it where none is drawn
    assert not study_figures.cls_dist_distance(series, LOOKS, {}).note
    assert study_figures.cls_dist_distance({"plain ViT": []}, LOOKS, curves) is None


def test_curves_leave_out_epochs_that_were_not_evaluated():
    keys = "seed epoch loss test_top1_avg"
    seeds = rows(keys, (0, 0, 2.0, ""), (0, 1, 1.0, 50.0), (1, 0, 4.0, ""), (1, 1, 2.0, 60.0))
    series = {"A": seeds, "B": rows(keys, (0, 0, 3.0, ""))}
    loss = study_figures.training_loss(series, LOOKS)
    assert loss.rows == [("A", 1, 3.0, 1.0, 2), ("A", 2, 1.5, 0.5, 2), ("B", 1, 3.0, None, 1)]
    accuracy = study_figures.test_accuracy(series, LOOKS)
    assert accuracy.rows == [("A", 2, 55.0, 5.0, 2)]
    assert [line.get_label() for line in accuracy.figure.axes[0].lines] == ["A"]


def test_attention_distance_draws_two_blocks_of_all():
    shift = {"test": 0, "train": 100}
    values = [(0, i, b, h, 10 * b + h + shift[i]) for i in shift for b in range(3) for h in range(2)]
    series = {"A": rows("seed images block head distance_px", *values)}
    read_off = {"A": [(1, 0, 5.0), (1, 1, 6.0), (2, 0, 7.0)]}
    drawn = study_figures.attention_distance(series, "test", LOOKS, read_off)
    first, second, *printed = drawn.figure.axes[0].lines
    assert (first.get_markerfacecolor(), second.get_markerfacecolor()) == ("red", "white")
    assert "read off" in drawn.note
    assert (list(first.get_ydata()), list(second.get_ydata())) == ([0, 1], [10, 11])
    assert second.is_dashed() and not first.is_dashed()
    assert [(list(p.get_xdata()), list(p.get_ydata())) for p in printed] == [([1, 2], [5, 6]), ([1], [7])]
    assert all(p.is_dashed() and p.get_color() == "red" and p.get_linewidth() < 1 for p in printed)
    assert len(drawn.rows) == 6 + 3
    on_train = study_figures.attention_distance(series, "train", LOOKS, {})
    assert [list(line.get_ydata()) for line in on_train.figure.axes[0].lines] == [[100, 101], [110, 111]]
    assert study_figures.attention_distance(series, "val", LOOKS, read_off) is None


def test_an_entry_without_attention_is_left_out():
    """A CNN's files have a header alone."""
    assert study_figures.attention_distance({"CNN": []}, "test", {"CNN": look(0)}, {}) is None
    assert study_figures.feature_rank({"CNN": []}, {"CNN": look(0)}, {}) is None
    assert study_figures.cls_dist_distance({"CNN": []}, {"CNN": look(0)}, {}) is None


def test_feature_rank_draws_the_centred_variant_and_keeps_both():
    values = [
        (0, t, b, c, 10 * b + (c == "both")) for t in ("cls", "dist") for b in (0, 1) for c in ("both", "all_only")
    ]
    drawn = study_figures.feature_rank(
        {"A": rows("seed token block centring rank", *values)}, LOOKS, {"paper": [(0, 187.0), (1, 238.0)]}
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
    said = Said(("0",) * 7 + ("horse", "8"), {"B": {"cls": [7, 7], "dist": [8, 8], "avg": [7, 8]}})
    drawn = rollout(series, said)
    *grid, bar = drawn.figure.axes
    assert len(grid) == 2 * (1 + 1 + 2) and bar.get_ylabel() == "attention, over the map's maximum"
    assert [ax.get_ylabel() for ax in grid[::4]] == ["horse", "class 8"]
    beneath = [ax.get_xlabel() for ax in grid]
    assert beneath == ["", "", "✓ horse", "✗ class 8", "", "", "✗ horse", "✓ class 8"]  # of A nothing is known
    assert {row[:5] for row in drawn.rows if row[0] == "B"} >= {("B", "cls", 0, 7, 7), ("B", "dist", 0, 7, 8)}
    assert {row[:2] for row in drawn.rows} == {("A", "cls"), ("B", "cls"), ("B", "dist")}
    assert len(drawn.rows) == 2 * 3 * 9
    mean = rollout_mean(series, said)
    assert len(mean.figure.axes) == 2 * (1 + 2) + 1
    assert [ax.get_xlabel() for ax in mean.figure.axes[:6]] == ["", "", "✓ horse", "", "", "✓ class 8"]
    assert {(label, token, value) for label, token, *_, value in mean.rows} == {("A", "cls", 0.5), ("B", "cls+dist", 1)}


def test_reconstructions_have_three_lines_for_each_pretraining():
    pictures = {name: np.full((2, 6, 6, 3), level, np.uint8) for name, level in (("images", 90), ("masked", 128))}
    series = {"A": pictures | {"reconstructed": np.full((2, 6, 6, 3), 70, np.uint8), "labels": np.array([7, 8])}}
    drawn = reconstructions(series | {"B": series["A"]})
    assert len(drawn.figure.axes) == 2 * 3 * 2
    assert drawn.rows == [(label, k, 7 + k, 20.0) for label in "AB" for k in range(2)]
    assert [ax.get_ylabel() for ax in drawn.figure.axes[:6:2]] == ["images", "masked", "reconstructed"]
    assert [ax.get_title() for ax in drawn.figure.axes[:2]] == ["class 7", "class 8"]


def test_what_a_student_is_taught_has_labels_above_and_answers_beneath():
    """A line of images, one of views for each cache; .7 of class 7, .3 of class 8, and the teacher 90 % sure of 8."""
    pictures = {"images": np.full((2, 6, 6, 3), 90, np.uint8), "views": np.full((2, 9, 9, 3), 128, np.uint8)}
    answers = {"answers": np.array([8, 8]), "probabilities": np.array([0.9, 0.5])}
    labels = {"labels": np.array([7, 8]), "partners": np.array([8, 8]), "shares": np.array([0.7, 0.4])}
    series = {"A": pictures | labels | answers}
    drawn = taught(series | {"B": series["A"]}, Said(("",) * 7 + ("cat", "dog")))
    titles = [ax.get_title() for ax in drawn.figure.axes]
    assert titles == ["cat", "dog", *["70% cat,\n30% dog", "dog"] * 2]
    beneath = [ax.get_xlabel() for ax in drawn.figure.axes]
    assert beneath == ["", "", *["teacher: dog (90%)", "teacher: dog (50%)"] * 2]
    assert drawn.rows == [(label, *row) for label in "AB" for row in ((7, 8, 0.7, 8, 0.9), (8, 8, 0.4, 8, 0.5))]


def test_the_experts_of_networks_that_have_two():
    """Means and standard errors of two seeds by hand: (60 + 64) / 2 and 4 / 2; a network of one head is left out, and
    so is a group without a class."""

    def found(*heads):
        each = {"head": (62.0, 2.0), "mid": (50.0, 0.0), "tail": (None, None)}
        summary = {h: {g: {"mean": m, "stderr": s, "n": 2} for g, (m, s) in each.items()} for h in heads}
        seeds = {str(i): {"last": {h: {"head": 60.0 + 4 * i, "mid": 50.0} for h in heads}} for i in (0, 1)}
        return {"summary": {"last": summary}, "seeds": seeds}

    drawn = study_figures.experts({"plain": found("avg"), "A": found("avg", "cls", "dist")})
    rows = [
        ("A", head, group, *v) for head in ("cls", "dist", "avg") for group, v in (("head", (62, 2)), ("mid", (50, 0)))
    ]
    assert drawn.rows == [(*row, 2) for row in rows]
    (ax,) = drawn.figure.axes
    assert ax.get_title() == "A" and [round(bar.get_height()) for bar in ax.patches] == [62, 50] * 3
    hatches = [bar.get_hatch() for bar in ax.patches[::2]]
    assert len(set(hatches)) == 3  # told apart without colour
    dots = [list(line.get_ydata()) for line in ax.lines if line.get_marker() == "."]
    assert dots == [[60, 64], [50, 50]] * 3
    assert study_figures.experts({"plain": found("avg")}) is None


def test_nothing_was_run():
    assert reconstructions({}) is None and taught({}) is None
    assert study_figures.groups({}, LOOKS) is None and study_figures.entropy({}, {}) is None and rollout({}) is None
    assert study_figures.attention_distance({}, "test", LOOKS, {}) is None and rollout_mean({}) is None
    assert study_figures.training_loss({}, LOOKS) is None and study_figures.test_accuracy({}, LOOKS) is None
    assert study_figures.feature_rank({}, LOOKS, {}) is None


ODD = ("$5 & $10_", "_b <i>50%<i>", "c #1 $x_{$", "\\alpha^2")


def drawn(figure, path) -> str:
    """The text of an SVG of the figure."""
    figure.savefig(path)
    return html.unescape(path.read_text(encoding="utf-8"))


def test_labels_are_drawn_as_they_are_written(tmp_path):
    """No mathematics, no markup, and none left out of the legend; also in PDF and PNG nothing fails."""
    series = {label: rows("seed epoch loss", (0, 1, 2.0), (0, 2, 1.0)) for label in ODD}
    looks = dict.fromkeys(ODD, look(0))
    drawing = study_figures.training_loss(series, looks)
    text = drawn(drawing.figure, tmp_path / "a.svg")
    assert all(label in text for label in ODD)
    for suffix in ("pdf", "png"):
        drawing.figure.savefig(tmp_path / f"a.{suffix}")
    bins = rows("domain bin_left bin_right count", ("in", 0, 0.1, 3), ("in", 0.1, 0.2, 4), ("out", 0, 0.1, 9))
    text = drawn(study_figures.entropy({ODD[0]: bins}, {}).figure, tmp_path / "b.svg")
    assert ODD[0] in text and "mathdefault" not in text  # nor a tick that was to be mathematics
