"""One style for every figure, and saving that gives the same bytes from the same data."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# eight of Okabe and Ito's kind, distinguishable with colour-vision deficiency; then more, for studies of many entries
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#6A3D9A")
COLORS += ("#B2182B", "#1B7837", "#E7298A", "#00868B", "#B3A100", "#7A5195", "#A65E2E", "#4D4D4D")
GREYS = ("#8a8a8a", "#b9b9b9", "#5c5c5c", "#d6d6d6")
PRINTED = {"linestyle": (0, (4, 3)), "linewidth": 0.9}  # a thin dashed line
STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "figure.dpi": 100,
    "savefig.dpi": 180,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.06,
    "pdf.fonttype": 42,  # text stays text
}
matplotlib.rcParams.update(STYLE)


def new_figure(columns: int = 1, rows: int = 1, width: float = 5.2, height: float = 3.2, **kwargs):
    """Figure and axes [rows, columns] in the house style; width and height in inches are those of one panel."""
    size = width * columns, height * rows
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **kwargs)


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
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)


def save(figure: Figure, header: Sequence[str], rows: Sequence[Sequence], stem: Path) -> None:
    """stem.pdf, stem.png, and the numbers drawn as stem.csv; no dates or versions inside, so bytes repeat."""
    figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})
    figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
    plt.close(figure)
    with open(stem.with_suffix(".csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
