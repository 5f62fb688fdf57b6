"""The charts of a run's page: each a panel and the rows it drew, from plain numbers (accuracies in %).

Series differ in colour, marker and line, so that no chart rests on colour alone. Text and lines are in INK, which
longtail/report/figures/svg.py turns into the page's text colour. None = not measured, and not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from longtail.report.figures.style import (
    COLORS,
    COLUMN,
    DASHES,
    INK,
    MANY,
    MARKERS,
    Drawing,
    legend_above,
    line_with_band,
    new_figure,
)

Series = Mapping[str, Sequence]  # {"mean": [...], "stderr": [...]}, of one length
LOOKS = tuple({"color": c, "marker": m, "linestyle": d} for c, m, d in zip(COLORS, MARKERS, DASHES, strict=False))
WRITTEN = 12  # classes up to which the cells of a matrix have room for a number
DARKEST = 0.7  # opacity of a full cell: the number in it stays readable on white and on black


def panel(width: float = COLUMN, height: float = 2.45) -> tuple[Figure, Axes]:
    """One axes in the house style, its lines in INK; inches."""
    figure, ((ax,),) = new_figure(width=width, height=height)
    ax.tick_params(which="both", color=INK, labelcolor=INK)
    ax.spines[:].set_edgecolor(INK)
    ax.grid(axis="y", color=INK, alpha=0.15)
    return figure, ax


def legend(figure: Figure, ax: Axes) -> None:
    """Above the axes; none where there is one series."""
    entries = ax.get_legend_handles_labels()
    if len(entries[1]) > 1:
        legend_above(figure, *entries, columns=4)


def per_class(names: Sequence[str], counts: Sequence[int], accuracy: Mapping[str, Series]) -> Drawing:
    """Accuracy of each class against its number of training images, {head: series of C}; most images on the left."""
    figure, ax = panel()
    order = sorted(range(len(names)), key=lambda k: -counts[k])
    for (head, values), look in zip(accuracy.items(), LOOKS, strict=False):
        known = [(counts[k], values["mean"][k]) for k in order if values["mean"][k] is not None]
        joined = {"linestyle": "none"} if len(names) > MANY else {"linewidth": 0.8}
        size = {"markersize": 2.2 if len(names) > MANY else 4.5, "alpha": 0.8}
        ax.plot([n for n, _ in known], [a for _, a in known], label=head, **look | joined | size)
    ax.set_xscale("log")
    ticks = [t for e in range(6) for t in (10**e, 3 * 10**e) if min(counts) / 1.5 <= t <= max(counts) * 1.5]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.minorticks_off()
    ax.set(xlabel="Training images of the class (log)", ylabel="Accuracy (%)", ylim=(-3, 103))
    ax.invert_xaxis()
    legend(figure, ax)
    header = ["Class", "Training images", *(text for head in accuracy for text in (head, "s.e."))]
    rows = [(names[k], counts[k], *(v[of][k] for v in accuracy.values() for of in ("mean", "stderr"))) for k in order]
    return Drawing(figure, header, rows)


def groups(summary: Mapping[str, Mapping[str, dict]], seeds: Mapping[str, Mapping[str, Sequence]]) -> Drawing:
    """Bars of {group: {head: {mean, stderr, n}}}; dots of {group: {head: values of the seeds}}, where there are any."""
    figure, ax = panel()
    rows = []
    for g, (group, heads) in enumerate(summary.items()):
        width = 0.8 / len(heads)
        for i, (head, value) in enumerate(heads.items()):
            mean, stderr, n = (value[k] for k in ("mean", "stderr", "n"))
            if mean is None:
                continue
            x = g + (i - (len(heads) - 1) / 2) * width
            ax.bar(x, mean, width * 0.9, color=LOOKS[i]["color"], label=head if g == 0 else None)
            dots = [v for v in seeds.get(group, {}).get(head, ()) if v is not None]
            if n > 1:
                ax.errorbar(x, mean, stderr, color=INK, linewidth=1, capsize=2)
                ax.plot(np.full(len(dots), x + width * 0.25), dots, ".", color=INK, markersize=3.5)
            rows.append((group, head, mean, stderr, n, ", ".join(f"{v:.2f}" for v in dots)))
    ax.set_xticks(range(len(summary)), [g.capitalize() for g in summary])
    ax.tick_params(axis="x", length=0)
    ax.set(ylabel="Accuracy (%)", ylim=(0, 103))
    legend(figure, ax)
    return Drawing(figure, ("Group", "Output", "Accuracy", "s.e.", "Seeds", "Each seed"), rows)


def matrix(names: Sequence[str], shares: np.ndarray, width: float = 3.1) -> Drawing:
    """% of each true class or group (row) predicted as each (column), float [C, C]; a row of NaN has no test images."""
    figure, ax = panel(width, width * 0.92)
    cells = np.empty((*shares.shape, 4))
    cells[..., :3], cells[..., 3] = to_rgb(COLORS[0]), DARKEST * np.nan_to_num(shares) / 100.0
    ax.imshow(cells, interpolation="nearest", aspect="equal")
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.set(xlabel="Predicted", ylabel="True")
    if len(names) <= WRITTEN:
        for (i, j), share in np.ndenumerate(shares):
            if share >= 0.5:  # not NaN either
                ax.text(j, i, f"{share:.0f}", ha="center", va="center", fontsize=7, color=INK)
        ax.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 6 else 0)
        ax.set_yticks(range(len(names)), names)
        ax.tick_params(length=0)
    rows = [(name, *(None if np.isnan(v) else float(v) for v in row)) for name, row in zip(names, shares, strict=True)]
    return Drawing(figure, ("True", *names), rows)


def reliability(bins: Mapping[str, Mapping[str, Sequence]]) -> Drawing:
    """Accuracy against confidence, {head: {count, confidence, accuracy}}, the latter in % and None in an empty bin.

    A marker's area grows with the bin's share of the images.
    """
    figure, ax = panel(2.45, 2.45)
    ax.plot([0, 100], [0, 100], color=INK, linewidth=0.8, alpha=0.5, linestyle=(0, (3, 2)))
    rows = []
    for (head, found), look in zip(bins.items(), LOOKS, strict=False):
        full = [b for b in zip(found["confidence"], found["accuracy"], found["count"], strict=True) if b[2]]
        x, y, count = zip(*full, strict=True) if full else ((), (), ())
        ax.plot(x, y, color=look["color"], linestyle=look["linestyle"], linewidth=1, alpha=0.45)
        area = [8 + 120 * n / sum(count) for n in count]
        ax.scatter(x, y, area, color=look["color"], marker=look["marker"], alpha=0.75, linewidth=0, label=head)
        rows += [(head, *own) for own in full]
    ax.set(xlabel="Confidence (%)", ylabel="Accuracy (%)", xlim=(0, 103), ylim=(-3, 103))
    legend(figure, ax)
    for handle in (h for drawn in figure.legends for h in drawn.legend_handles):
        handle.set_sizes([18])
    return Drawing(figure, ("Output", "Mean confidence", "Accuracy", "Images"), rows)


def lines(
    x: Sequence,
    series: Mapping[str, Series],
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, tuple[Sequence[float], Any]] | None = None,
) -> Drawing:
    """A line and a band of one standard error for each label, {label: series as long as x}; gaps are joined.

    x: numbers, or names, which are drawn evenly spaced. marks: vertical lines, {label: (places, line style)}.
    """
    figure, ax = panel()
    named = isinstance(x[0], str)
    places = list(range(len(x))) if named else x
    for (label, values), look in zip(series.items(), LOOKS, strict=False):
        points = [p for p in zip(places, values["mean"], values["stderr"], strict=True) if p[1] is not None]
        if points:
            size = 3.5 if len(points) < MANY else 0
            line_with_band(ax, *zip(*points, strict=True), label=label, markersize=size, **look)
    for label, (at, style) in (marks or {}).items():
        for i, place in enumerate(at):
            ax.axvline(place, color=INK, linewidth=1, linestyle=style, label=None if i else label)
    if named:
        ax.set_xticks(places, x, rotation=90 if max(map(len, x)) > 4 else 0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    legend(figure, ax)
    rows = [(at, *(v[of][i] for v in series.values() for of in ("mean", "stderr"))) for i, at in enumerate(x)]
    return Drawing(figure, [xlabel, *(text for label in series for text in (label, "s.e."))], rows)
