"""One style for every figure: how series are told apart, how axes and legends are laid out. svg.py and files.py write
what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

matplotlib.use("Agg")

matplotlib.style.use("longtail.report.figures.longtail")  # longtail.mplstyle, beside this file
matplotlib.rcParams["figure.max_open_warning"] = 0  # all figures of a study are drawn before the first is saved
COLORS = tuple(matplotlib.rcParams["axes.prop_cycle"].by_key()["color"])
GREYS = ("#8a8a8a", "#b9b9b9", "#5c5c5c", "#d6d6d6")
INK = "#000000"  # of text and axes; becomes the text colour of a page
MARKERS = "osD^vPX*"
DASHES = ("-", (0, (4, 2)), (0, (1, 1.2)), (0, (4, 1.5, 1, 1.5)))
HATCHES = ("", "////", "\\\\\\\\", "xxxx", "----", "||||", "++++", "//")
PRINTED = {"linestyle": (0, (4, 3)), "linewidth": 0.8}  # a thin dashed line without markers
# inches across: one column of a journal's page, one and a half, all of it; nothing is narrower than its panels need
COLUMN, PANEL, TEXT = 3.35, 4.72, 6.9
MANY = 40  # points from which a line has a marker here and there alone
MARKED = 8  # of those

Look = Mapping[str, object]  # color, marker, linestyle and hatch of a series


def look(i: int) -> dict[str, object]:
    """How the series of that number, from 0, is drawn. The first four differ in colour for any colour vision, in
    marker, dashes and hatch; the first eight in colour, marker and hatch."""
    return {
        "color": COLORS[i % len(COLORS)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": DASHES[i % len(DASHES)],
        "hatch": HATCHES[i % len(HATCHES)],
    }


def lined(of: Look, points: int = 0, place: int = 0) -> dict[str, object]:
    """Of a look what a line takes. points: of the line; one of many has few markers, from another place for each
    series, so that they do not cover one another."""
    step = -(-points // MARKED)
    few = {} if points < MANY else {"markevery": (place * step // 4 % step, step)}
    return {key: of[key] for key in ("color", "marker", "linestyle") if key in of} | few


def barred(of: Look) -> dict[str, object]:
    """Of a look what a bar takes: its colour, hatched in white."""
    return {"color": of["color"], "hatch": of.get("hatch", ""), "edgecolor": "white", "linewidth": 0}


def new_figure(columns: int = 1, rows: int = 1, width: float = PANEL, height: float = 2.9, **kwargs):
    """Figure and axes [rows, columns]; width and height of the whole figure in inches."""
    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **kwargs)


def legend_above(figure: Figure, *entries, columns: int = 3) -> None:
    """A legend above the axes, in as many columns as fit the figure, also in letters somewhat wider than here; entries:
    handles and labels, else all of it."""
    for number in range(columns, 0, -1):
        legend = figure.legend(*entries, loc="outside upper center", ncols=number)
        if number == 1 or legend.get_window_extent().width <= 0.95 * figure.bbox.width:
            return
        legend.remove()


def shown(label: str | None) -> str | None:
    """A label for a legend, which leaves out those that begin with _: an invisible letter goes before it."""
    return f"\u200b{label}" if label and label.startswith("_") else label


def looks_of(students: Sequence[str], teachers: Sequence[str]) -> dict[str, dict[str, object]]:
    """One look a label, the same in all figures of a study; teachers are grey."""
    named = {label: look(i) for i, label in enumerate(students)}
    grey = {label: look(i) | {"color": GREYS[i % len(GREYS)]} for i, label in enumerate(teachers)}
    return grey | named


def printed_style(label: str, looks: Mapping[str, Look]) -> dict[str, object]:
    """How a printed curve is drawn: thin, dashed, in the colour of our entry of that label, else black."""
    return {**PRINTED, "color": looks[label]["color"] if label in looks else "black"}


def line_with_band(ax: Axes, x, mean, stderr, **style) -> None:
    """A line, and a band of one standard error around it (none where it is missing)."""
    (line,) = ax.plot(x, mean, **style)
    if any(s is not None and s > 0 for s in stderr):
        low = [m - (s or 0) for m, s in zip(mean, stderr, strict=True)]
        high = [m + (s or 0) for m, s in zip(mean, stderr, strict=True)]
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def lay_out(figure: Figure, canvas: type[FigureCanvasBase]) -> None:
    """Place the axes once and for all, for text as wide as on that canvas. Left to itself, every savefig does it again
    and draws the whole figure in vain for it."""
    if engine := figure.get_layout_engine():  # else it has been laid out
        canvas(figure)
        engine.execute(figure)
        figure.set_layout_engine(None)


class Drawing(NamedTuple):
    """A figure, the CSV behind it, and what the caption says of these numbers alone."""

    figure: Figure
    header: Sequence[str]
    rows: Sequence[Sequence]
    note: str = ""
