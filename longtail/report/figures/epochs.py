"""Figures over the epochs of training: distance of CLS and DIST, training loss, test accuracy.

As those of study_figures.py: each takes {label: rows of a CSV} in the study's order and a colour for each label, and
gives None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping

from longtail.report.figures.study_figures import Colors, Drawing, Rows, over_seeds
from longtail.report.figures.style import legend_above, line_with_band, new_figure, printed_style

HEADER = ("label", "epoch", "mean", "stderr", "n")


def cls_dist_distance(series: Mapping[str, Rows], colors: Colors, printed: Mapping[str, list]) -> Drawing | None:
    """Distance of CLS and DIST; {label: cls_dist_distance.csv}. printed: {label: [(epoch, value)]}."""
    drawn = over_epochs(series, "distance", "1 − cosine(CLS, DIST)", colors, printed)
    if drawn:
        drawn.figure.axes[0].set_ylim(bottom=0)
    return drawn


def training_loss(series: Mapping[str, Rows], colors: Colors) -> Drawing | None:
    """Mean loss over an epoch's training views; {label: curves.csv}."""
    return over_epochs(series, "loss", "Training loss", colors)


def test_accuracy(series: Mapping[str, Rows], colors: Colors) -> Drawing | None:
    """Top-1 of the averaged head at the epochs that were evaluated; {label: curves.csv}."""
    return over_epochs(series, "test_top1_avg", "Top-1 on the test set (%)", colors)


def over_epochs(
    series: Mapping[str, Rows], column: str, ylabel: str, colors: Colors, printed: Mapping[str, list] | None = None
) -> Drawing | None:
    """A line for each label, a band of one standard error; rows where the column is empty are left out."""
    filled = {label: [row for row in rows if row[column]] for label, rows in series.items()}
    filled = {label: rows for label, rows in filled.items() if rows}  # a plain ViT has no distance
    if not filled:
        return None
    figure, ((ax,),) = new_figure()
    out = []
    for label, found in filled.items():
        points = over_seeds(found, ("epoch",), column)
        x = [int(epoch) for (epoch,) in points]
        mean, stderr, n = zip(*points.values(), strict=True)
        line_with_band(ax, x, mean, stderr, color=colors[label], label=label, marker="." if len(x) < 40 else None)
        out += [(label, *point) for point in zip(x, mean, stderr, n, strict=True)]
    for label, curve in (printed or {}).items():
        ax.plot(*zip(*curve, strict=True), label=f"{label} (printed)", **printed_style(label, colors))
        out += [(f"{label} (printed)", x, value, "", "") for x, value in curve]
    ax.set(xlabel="Epoch", ylabel=ylabel)
    ax.set_xlim(left=0)
    legend_above(figure)
    return Drawing(figure, HEADER, out)
