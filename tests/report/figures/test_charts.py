"""The charts of a run's page: what is drawn is what the rows say, and what was not measured is not drawn."""

from __future__ import annotations

import html

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from longtail.report.figures import charts
from longtail.report.figures.style import COLORS
from longtail.report.figures.svg import to_svg


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def labelled(drawing) -> dict:
    """{label: line} of the axes."""
    return {line.get_label(): line for line in drawing.figure.axes[0].lines if not line.get_label().startswith("_")}


def series(*means, stderr=1.0) -> dict:
    return {"mean": list(means), "stderr": [None if m is None else stderr for m in means]}


def test_classes_stand_by_size_the_largest_first():
    accuracy = {"CLS": series(50.0, 90.0, None), "DIST": series(60.0, 80.0, 70.0)}
    drawing = charts.per_class(["b", "a", "c"], [30, 200, 4], accuracy)
    cls, dist = (labelled(drawing)[h] for h in ("CLS", "DIST"))
    assert list(cls.get_xdata()) == [200, 30] and list(cls.get_ydata()) == [90, 50]  # nothing for c
    assert list(dist.get_xdata()) == [200, 30, 4] and list(dist.get_ydata()) == [80, 60, 70]
    assert drawing.rows == [("a", 200, 90, 1, 80, 1), ("b", 30, 50, 1, 60, 1), ("c", 4, None, None, 70, 1)]
    ax = drawing.figure.axes[0]
    assert ax.get_xscale() == "log" and ax.get_xlim()[0] > ax.get_xlim()[1]


def test_bars_are_the_means_and_dots_the_seeds():
    summary = {
        "head": {"CLS": {"mean": 80.0, "stderr": 2.0, "n": 2}, "DIST": {"mean": 70.0, "stderr": 1.0, "n": 2}},
        "tail": {"CLS": {"mean": None, "stderr": None, "n": 0}, "DIST": {"mean": 30.0, "stderr": None, "n": 1}},
    }
    seeds = {"head": {"CLS": [78.0, 82.0], "DIST": [69.0, 71.0]}, "tail": {"CLS": [None], "DIST": [30.0]}}
    drawing = charts.groups(summary, seeds)
    ax = drawing.figure.axes[0]
    assert [bar.get_height() for bar in ax.patches] == [80, 70, 30]
    dots = [list(line.get_ydata()) for line in ax.lines if line.get_marker() == "."]
    assert dots == [[78, 82], [69, 71]]  # one seed is its own bar
    assert [row[:5] for row in drawing.rows] == [
        ("head", "CLS", 80, 2, 2),
        ("head", "DIST", 70, 1, 2),
        ("tail", "DIST", 30, None, 1),
    ]
    assert charts.groups(summary, {}).rows[0][5] == ""


def test_a_cell_is_as_dark_as_its_share_and_rows_without_images_stay_empty():
    shares = np.array([[75.0, 25.0, 0.0], [0.2, 99.8, 0.0], [np.nan] * 3])
    drawing = charts.matrix(["a", "b", "c"], shares)
    (image,) = drawing.figure.axes[0].images
    cells = np.asarray(image.get_array())
    assert cells[0, 0, 3] == pytest.approx(0.75 * charts.DARKEST) and cells[1, 1, 3] == pytest.approx(0.998 * 0.7)
    assert (cells[2, :, 3] == 0).all() and cells[0, 0, :3] == pytest.approx(to_rgb(COLORS[0]))
    texts = {t.get_position()[::-1]: t.get_text() for t in drawing.figure.axes[0].texts}
    assert texts == {(0, 0): "75", (0, 1): "25", (1, 1): "100"}  # row, column
    assert drawing.rows[0] == ("a", 75.0, 25.0, 0.0) and drawing.rows[2] == ("c", None, None, None)


def test_many_classes_have_no_numbers_in_their_cells():
    drawing = charts.matrix([str(i) for i in range(40)], np.eye(40) * 100)
    assert not drawing.figure.axes[0].texts and len(drawing.rows) == 40


def test_reliability_draws_full_bins_with_areas_by_images():
    bins = {"CLS": {"count": [0, 30, 10], "confidence": [None, 40.0, 90.0], "accuracy": [None, 20.0, 95.0]}}
    drawing = charts.reliability(bins)
    (points,) = drawing.figure.axes[0].collections
    assert points.get_offsets().tolist() == [[40, 20], [90, 95]]
    small, large = sorted(points.get_sizes())
    assert points.get_sizes()[0] == large and (large - 8) / (small - 8) == pytest.approx(3)
    assert drawing.rows == [("CLS", 40.0, 20.0, 30), ("CLS", 90.0, 95.0, 10)]
    nothing = {"count": [0], "confidence": [None], "accuracy": [None]}
    assert charts.reliability({"CLS": nothing}).rows == []


def test_lines_join_gaps_and_their_bands_are_one_standard_error():
    drawing = charts.lines(
        [0, 5, 9], {"a": series(1.0, None, 3.0, stderr=0.5), "b": series(None, None, None)}, "X", "Y"
    )
    line = labelled(drawing)["a"]
    assert list(line.get_xdata()) == [0, 9] and list(line.get_ydata()) == [1, 3]
    assert "b" not in labelled(drawing)
    (band,) = drawing.figure.axes[0].collections
    assert {tuple(p) for p in band.get_paths()[0].vertices.tolist()} == {(0, 0.5), (0, 1.5), (9, 2.5), (9, 3.5)}
    assert drawing.header == ["X", "a", "s.e.", "b", "s.e."]
    assert drawing.rows == [(0, 1, 0.5, None, None), (5, None, None, None, None), (9, 3, 0.5, None, None)]


def test_names_on_the_axis_are_evenly_spaced():
    drawing = charts.lines(["F50", "uniform", "B50"], {"a": series(1.0, 2.0, 3.0)}, "X", "Y")
    ax = drawing.figure.axes[0]
    assert list(labelled(drawing)["a"].get_xdata()) == [0, 1, 2]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["F50", "uniform", "B50"]


def test_marks_are_vertical_lines_named_once():
    marks = {"average": ([0.5], "-"), "chosen": ([0.2, 0.3], "--")}
    drawing = charts.lines([0, 1], {"a": series(1.0, 2.0)}, "X", "Y", marks)
    upright = [line for line in drawing.figure.axes[0].lines if len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in upright] == [0.5, 0.2, 0.3]
    (legend,) = drawing.figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["a", "average", "chosen"]


def test_one_series_needs_no_legend_and_no_two_look_alike():
    assert not charts.lines([0, 1], {"a": series(1.0, 2.0)}, "X", "Y").figure.legends
    for what in ("color", "marker"):
        assert len({look[what] for look in charts.LOOKS}) == len(charts.LOOKS) == 4
    assert len({str(look["linestyle"]) for look in charts.LOOKS}) == 4


def test_class_names_are_drawn_as_they_are_written():
    """The names that once ended run_pages with a ParseSyntaxException."""
    names = ["a_$5 & $10_", "b <i>50%<i>", "c #1 $x_{$"]
    text = html.unescape(to_svg(charts.matrix(names, np.eye(3) * 100).figure, "m", "matrix"))
    assert all(text.count(name) == 2 for name in names)  # on both axes
    text = html.unescape(to_svg(charts.lines(names, {"x": series(1.0, 2.0, 3.0)}, "a", "b").figure, "l", "lines"))
    assert all(name in text for name in names)
