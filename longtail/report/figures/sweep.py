"""Accuracy over a setting of a method: CBD Figs 2 and 3, and what else a study's `sweeps` name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from longtail.report.figures.style import COLORS, COLUMN, TEXT, Drawing, legend_above, new_figure, shown
from longtail.report.panels import Sweep

ACROSS = 2  # panels beside one another


def sweep(sweeps: Sequence[Sweep], entries: Mapping[str, dict]) -> Drawing | None:
    """A panel for each sweep, a line for each kind of teacher: top-1 of the averaged head at the last epoch, mean and
    standard error over seeds. entries: {teacher: metrics file} of those that were run; others are left out, and None is
    given where that is all."""
    panels = []
    for of in sweeps:
        lines = {line.label: [(v, entries[name]) for v, name in line.teachers if name in entries] for line in of.lines}
        if any(lines.values()):
            panels.append((of, {label: points for label, points in lines.items() if points}))
    if not panels:
        return None
    labels = list(dict.fromkeys(line.label for of in sweeps for line in of.lines))
    columns = min(ACROSS, len(panels))
    rows = -(-len(panels) // columns)
    width = COLUMN if columns == 1 else TEXT
    figure, axes = new_figure(columns=columns, rows=rows, width=width, height=0.5 + 2.1 * rows)
    out, handles = [], {}
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (of, lines) in zip(axes.flat, panels, strict=False):
        for label, points in lines.items():
            at = [value for value, _ in points]
            found = [metrics["summary"]["last"]["avg"]["top1"] for _, metrics in points]
            look = {"color": COLORS[labels.index(label) % len(COLORS)], "marker": "o", "markersize": 3, "capsize": 2}
            spread = [point["stderr"] or 0.0 for point in found]
            handles[label] = ax.errorbar(at, [point["mean"] for point in found], spread, label=shown(label), **look)
            several = zip(at, found, strict=True)
            out += [(of.title, of.setting, label, v, p["mean"], p["stderr"], p["n"]) for v, p in several]
        if of.log:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
        ax.set_title(shown(of.title))
        ax.set_xlabel(of.setting)
    for line in axes:
        line[0].set_ylabel("Accuracy (%)")
    named = [label for label in labels if label in handles]
    legend_above(figure, [handles[label] for label in named], [shown(label) for label in named], columns=4)
    return Drawing(figure, ("panel", "setting", "label", "value", "mean", "stderr", "n"), out)
