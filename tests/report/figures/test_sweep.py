"""Accuracy over a setting, drawn from made-up metrics."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from longtail.report.figures.cbd_figures import sweep
from longtail.report.panels import Sweep, SweepLine
from tests.helpers.reporting import metrics_file


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


SWEEPS = (
    Sweep("First", "alpha", (SweepLine("A", ((0.0, "a0"), (0.5, "a5"))), SweepLine("B", ((0.5, "b5"), (0.9, "b9"))))),
    Sweep("Second", "beta", (SweepLine("B", ((0.1, "b5"), (10.0, "b9"))),), log=True),
    Sweep("Not run", "beta", (SweepLine("A", ((1.0, "x"),)),)),
)


def test_a_panel_for_each_sweep_and_a_line_for_each_kind_over_what_was_run():
    """Mean and std(ddof=1)/sqrt(n): of 80 and 84 it is 82 and 2."""
    runs = {"a0": [80.0, 84.0], "a5": [90.0, 90.0], "b5": [70.0]}
    drawn = sweep(SWEEPS, {name: metrics_file(name, "teacher", values) for name, values in runs.items()})
    assert drawn.header == ("panel", "setting", "label", "value", "mean", "stderr", "n")
    assert drawn.rows == [
        ("First", "alpha", "A", 0.0, 82.0, 2.0, 2),
        ("First", "alpha", "A", 0.5, 90.0, 0.0, 2),
        ("First", "alpha", "B", 0.5, 70.0, None, 1),
        ("Second", "beta", "B", 0.1, 70.0, None, 1),
    ]
    first, second = (ax for ax in drawn.figure.axes if ax.get_visible())
    assert (first.get_xscale(), second.get_xscale()) == ("linear", "log")
    assert (first.get_xlabel(), second.get_title()) == ("alpha", "Second")
    lines = [
        [line.get_xydata().tolist() for line in ax.lines if line.get_marker() in ("o", "s")] for ax in (first, second)
    ]
    assert lines == [[[[0.0, 82.0], [0.5, 90.0]], [[0.5, 70.0]]], [[[0.1, 70.0]]]]
    colors = [ax.lines[-1].get_color() for ax in (first, second)]
    assert colors[0] == colors[1] != first.lines[0].get_color()  # B in both panels
    assert [text.get_text() for text in drawn.figure.legends[0].get_texts()] == ["A", "B"]


def test_nothing_run_or_nothing_named_is_no_figure():
    assert sweep(SWEEPS, {}) is None and sweep((), {"a0": metrics_file("a0", "teacher", [80.0])}) is None
