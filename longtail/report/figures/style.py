"""One style for every figure (longtail.mplstyle), and saving that gives the same bytes from the same data."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.style.use("longtail.report.figures.longtail")  # longtail.mplstyle, beside this file
COLORS = tuple(matplotlib.rcParams["axes.prop_cycle"].by_key()["color"])
GREYS = ("#8a8a8a", "#b9b9b9", "#5c5c5c", "#d6d6d6")
PRINTED = {"linestyle": (0, (4, 3)), "linewidth": 0.8}  # a thin dashed line
COLUMN, TEXT = 3.35, 6.9  # inches across: one column of a journal's page, all of it


def new_figure(columns: int = 1, rows: int = 1, width: float = COLUMN, height: float = 2.35, **kwargs):
    """Figure and axes [rows, columns]; width and height of the whole figure in inches."""
    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **kwargs)


def legend_above(figure: Figure, *entries, columns: int = 3) -> None:
    """A legend above the axes, in as many columns as fit the figure; entries: handles and labels, else all of it."""
    for number in range(columns, 0, -1):
        legend = figure.legend(*entries, loc="outside upper center", ncols=number)
        if number == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def colors_of(students: Sequence[str], teachers: Sequence[str]) -> dict[str, str]:
    """One colour a label, the same in all figures of a study; teachers are grey."""
    named = {label: COLORS[i % len(COLORS)] for i, label in enumerate(students)}
    return {label: GREYS[i % len(GREYS)] for i, label in enumerate(teachers)} | named


def printed_style(label: str, colors: Mapping[str, str]) -> dict:
    """How a printed curve is drawn: thin, dashed, in the colour of our entry of that label, else black."""
    return {**PRINTED, "color": colors.get(label, "black")}


def line_with_band(ax: Axes, x, mean, stderr, **style) -> None:
    """A line, and a band of one standard error around it (none where it is missing)."""
    (line,) = ax.plot(x, mean, **style)
    if any(s is not None and s > 0 for s in stderr):
        low = [m - (s or 0) for m, s in zip(mean, stderr, strict=True)]
        high = [m + (s or 0) for m, s in zip(mean, stderr, strict=True)]
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def save(figure: Figure, header: Sequence[str], rows: Sequence[Sequence], stem: Path) -> None:
    """stem.pdf, stem.svg, stem.png, and the numbers drawn as stem.csv; no dates or versions inside, so bytes repeat."""
    figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
    plt.close(figure)
    with open(stem.with_suffix(".csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
