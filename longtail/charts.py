"""The charts of a run's page: each a panel with the rows it drew, from plain numbers (accuracies in %).

Heads differ in colour, marker and line, so that no chart rests on colour alone; lines and text are in INK, which
longtail/svg.py turns into the page's text colour. None = not measured, and not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from longtail.figures import Drawing
from longtail.plots import COLORS, line_with_band, new_figure
from longtail.svg import INK

HEADS = {"cls": "CLS", "dist": "DIST", "avg": "Average"}
LOOK = {
    "cls": {"color": COLORS[0], "marker": "o", "linestyle": "-"},
    "dist": {"color": COLORS[1], "marker": "s", "linestyle": (0, (4, 2))},
    "avg": {"color": COLORS[2], "marker": "D", "linestyle": (0, (1, 1.2))},
}
OTHERS = (  # lines that are not heads
    {"color": COLORS[0], "marker": "o", "linestyle": "-"},
    {"color": COLORS[1], "marker": "s", "linestyle": (0, (4, 2))},
    {"color": COLORS[2], "marker": "D", "linestyle": (0, (1, 1.2))},
    {"color": COLORS[3], "marker": "^", "linestyle": (0, (4, 1.5, 1, 1.5))},
)
WRITTEN = 12  # classes of a matrix whose cells still have room for a number
DARKEST = 0.7  # opacity of a full cell: the number in it stays readable on white and on black


def panel(width: float = 3.7, height: float = 2.7) -> tuple[Figure, Axes]:
    """One axes in the house style, its lines in INK; inches."""
    figure, ((ax,),) = new_figure(width=width, height=height)
    ax.tick_params(which="both", color=INK, labelcolor=INK)
    ax.spines[:].set_edgecolor(INK)
    ax.grid(axis="y", color=INK, alpha=0.15)
    return figure, ax


def legend(figure: Figure, ax: Axes) -> None:
    """Above the axes, in one line where it fits; none where there is one series."""
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) > 1:
        columns = 4 if sum(map(len, labels)) < 24 else 2
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, columnspacing=1.2, handlelength=2.4)


def per_class(names: Sequence[str], counts: Sequence[int], accuracy: Mapping[str, Sequence[dict]]) -> Drawing:
    """Accuracy of each class against its number of training images; accuracy: {head: [{mean, stderr}] of C}."""
    figure, ax = panel()
    small = len(names) > 30
    for head, values in accuracy.items():
        known = [(n, v["mean"]) for n, v in zip(counts, values, strict=True) if v["mean"] is not None]
        look = {**LOOK[head], "linestyle": "none" if small else LOOK[head]["linestyle"], "linewidth": 0.8}
        size = {"markersize": 2.2 if small else 4.5, "alpha": 0.8}
        ax.plot(*zip(*known, strict=True), label=HEADS[head], **look, **size)
    ax.set_xscale("log")
    ticks = [t for e in range(6) for t in (10**e, 3 * 10**e) if min(counts) / 1.5 <= t <= max(counts) * 1.5]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.minorticks_off()
    ax.set(xlabel="Training images of the class", ylabel="Accuracy (%)", ylim=(-3, 103))
    ax.invert_xaxis()
    legend(figure, ax)
    header = ["class", "images", *(f"{HEADS[h]} {what}" for h in accuracy for what in ("(%)", "s.e."))]
    cells = [[v[k] for h in accuracy for k in ("mean", "stderr") for v in (accuracy[h][i],)] for i in range(len(names))]
    rows = [(name, n, *own) for name, n, own in zip(names, counts, cells, strict=True)]
    return Drawing(figure, header, rows)


def groups(summary: Mapping[str, Mapping[str, dict]], seeds: Mapping[str, Mapping[str, Sequence]]) -> Drawing:
    """Bars by class group; summary: {group: {head: {mean, stderr, n}}}, seeds: {group: {head: values}}."""
    figure, ax = panel()
    heads = list(next(iter(summary.values())))
    width, rows = 0.8 / len(heads), []
    for g, (group, of) in enumerate(summary.items()):
        for i, head in enumerate(heads):
            mean, stderr, n = (of[head][k] for k in ("mean", "stderr", "n"))
            if mean is None:
                continue
            x = g + (i - (len(heads) - 1) / 2) * width
            ax.bar(x, mean, width * 0.9, color=LOOK[head]["color"], label=HEADS[head] if g == 0 else None)
            if n > 1:
                ax.errorbar(x, mean, stderr, color=INK, linewidth=1, capsize=2)
                dots = [v for v in seeds[group][head] if v is not None]
                ax.plot(np.full(len(dots), x + width * 0.25), dots, ".", color=INK, markersize=3.5)
            rows.append((group, HEADS[head], mean, stderr, n, ", ".join(f"{v:.2f}" for v in seeds[group][head])))
    ax.set_xticks(range(len(summary)), [g.capitalize() for g in summary])
    ax.tick_params(axis="x", length=0)
    ax.set(ylabel="Accuracy (%)", ylim=(0, 103))
    legend(figure, ax)
    return Drawing(figure, ("group", "head", "accuracy (%)", "s.e.", "seeds", "each seed"), rows)


def matrix(names: Sequence[str], shares: np.ndarray, width: float = 3.4) -> Drawing:
    """% of each true class or group (row) that was predicted as each (column), float [C, C]; NaN: no test images."""
    figure, ax = panel(width, width * 0.92)
    color = np.array([*to_rgb(COLORS[0]), 0.0])
    cells = np.broadcast_to(color, (*shares.shape, 4)).copy()
    cells[..., 3] = DARKEST * np.nan_to_num(shares) / 100.0
    ax.imshow(cells, interpolation="nearest", aspect="equal")
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.set(xlabel="Predicted", ylabel="True")
    if len(names) <= WRITTEN:
        for (i, j), share in np.ndenumerate(shares):
            if share >= 0.5:
                ax.text(j, i, f"{share:.0f}", ha="center", va="center", fontsize=8, color=INK)
        slanted = 90 if max(map(len, names)) > 6 else 0
        ax.set_xticks(range(len(names)), names, rotation=slanted)
        ax.set_yticks(range(len(names)), names)
        ax.tick_params(length=0)
    rows = [(name, *(None if np.isnan(v) else float(v) for v in row)) for name, row in zip(names, shares, strict=True)]
    return Drawing(figure, ("true class", *names), rows)


def reliability(bins: Mapping[str, Mapping[str, Sequence]]) -> Drawing:
    """Accuracy against confidence; bins: {head: {count, confidence, accuracy}}, % in each bin, None where empty.

    A marker's area is the bin's share of the images.
    """
    figure, ax = panel(2.9, 2.8)
    ax.plot([0, 100], [0, 100], color=INK, linewidth=0.8, alpha=0.5, linestyle=(0, (3, 2)))
    rows = []
    for head, found in bins.items():
        total = sum(found["count"])
        full = [b for b in zip(found["confidence"], found["accuracy"], found["count"], strict=True) if b[2]]
        if not full:
            continue
        x, y, count = zip(*full, strict=True)
        look = LOOK[head]
        ax.plot(x, y, color=look["color"], linestyle=look["linestyle"], linewidth=1.1)
        area = [10 + 150 * n / total for n in count]
        ax.scatter(x, y, area, color=look["color"], marker=look["marker"], alpha=0.75, linewidth=0, label=HEADS[head])
        rows += [(HEADS[head], *own) for own in full]
    ax.set(xlabel="Confidence (%)", ylabel="Accuracy (%)", xlim=(0, 103), ylim=(-3, 103))
    legend(figure, ax)
    for handle in (h for drawn in figure.legends for h in drawn.legend_handles):
        handle.set_sizes([22])
    return Drawing(figure, ("head", "mean confidence (%)", "accuracy (%)", "images"), rows)


def lines(
    x: Sequence,
    series: Mapping[str, Sequence[dict]],
    looks: Mapping[str, Mapping],
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, tuple[float, Any]] | None = None,
) -> Drawing:
    """A line and a band of one s.e. for each label, {label: [{mean, stderr}] of len(x)}; gaps are joined.

    x: numbers, or names, which are drawn evenly spaced. marks: vertical lines, {label: (x, line style)}.
    """
    figure, ax = panel()
    named = isinstance(x[0], str)
    places = list(range(len(x))) if named else list(x)
    for label, values in series.items():
        known = [(place, v["mean"], v["stderr"]) for place, v in zip(places, values, strict=True)]
        known = [point for point in known if point[1] is not None]
        if known:
            size = 3.5 if len(known) < 40 else 0
            line_with_band(ax, *zip(*known, strict=True), label=label, **looks[label], markersize=size)
    for label, (place, style) in (marks or {}).items():
        ax.axvline(place, color=INK, linewidth=1, linestyle=style, label=label)
    if named:
        ax.set_xticks(places, x, rotation=90 if max(map(len, x)) > 4 else 0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    legend(figure, ax)
    header = [xlabel.lower(), *(f"{label} {what}".strip() for label in series for what in ("", "s.e."))]
    cells = [[v[i][k] for v in series.values() for k in ("mean", "stderr")] for i in range(len(x))]
    return Drawing(figure, header, [(place, *own) for place, own in zip(x, cells, strict=True)])
