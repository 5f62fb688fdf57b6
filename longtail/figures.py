"""The figures of a study: each a function of what was measured, giving a matplotlib figure and the rows it drew.

Every function takes series in the study's order, {label: data}, and a colour for each label. What was not run is not in
them; None = nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from longtail.metrics import AUTHOR_GROUPS, summarise
from longtail.plots import COLORS, PRINTED, line_with_band, new_figure

Rows = list[dict[str, str]]  # a CSV
Colors = Mapping[str, str]
DOMAINS = {"in": ("in distribution", COLORS[0]), "out": ("out of distribution", COLORS[1])}


class Drawing(NamedTuple):
    """A figure, and the CSV behind it."""

    figure: Figure
    header: Sequence[str]
    rows: list[Sequence]


def over_seeds(rows: Rows, keys: Sequence[str], value: str) -> dict[tuple[str, ...], tuple[float, float | None, int]]:
    """{key values: (mean, standard error, n)} of a column over seeds, in the order of the rows."""
    found: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        found.setdefault(tuple(row[k] for k in keys), []).append(float(row[value]))
    summaries = {key: summarise(values) for key, values in found.items()}
    return {key: (s["mean"], s["stderr"], s["n"]) for key, s in summaries.items()}


def groups(metrics: Mapping[str, dict], colors: Colors) -> Drawing | None:
    """Bars of head, mid and tail accuracy (averaged head, last epoch); {label: metrics file}."""
    if not metrics:
        return None
    figure, ((ax,),) = new_figure(width=5.8)
    width = 0.82 / len(metrics)
    rows = []
    for i, (label, found) in enumerate(metrics.items()):
        summary = found["summary"]["last"]["avg"]
        for g, group in enumerate(AUTHOR_GROUPS):
            mean, stderr, n = (summary[group][k] for k in ("mean", "stderr", "n"))
            if mean is None:
                continue
            rows.append((label, group, mean, stderr, n))
            x = g + (i - (len(metrics) - 1) / 2) * width
            ax.bar(x, mean, width * 0.92, color=colors[label], label=label if g == 0 else None)
            seeds = [s["last"]["avg"][group] for s in found["seeds"].values()]
            if n > 1:
                ax.errorbar(x, mean, stderr, color="#222222", linewidth=1, capsize=2)
                ax.plot(np.full(n, x) + width * 0.2, seeds, ".", color="#222222", markersize=2.5, alpha=0.7)
    ax.set_xticks(range(3), [g.capitalize() for g in AUTHOR_GROUPS])
    ax.set(ylabel="Accuracy (%)", ylim=(0, 100))
    ax.tick_params(axis="x", length=0)
    figure.legend(loc="outside upper center", ncols=min(3, len(metrics)))
    return Drawing(figure, ("label", "group", "mean", "stderr", "n"), rows)


def entropy(histograms: Mapping[str, Rows], means: Mapping[str, Rows]) -> Drawing | None:
    """A panel for each teacher: histogram of entropy in and out of distribution; {label: entropy.csv}, entropy_mean."""
    if not histograms:
        return None
    figure, axes = new_figure(columns=len(histograms), width=3.6, height=2.9, sharey=True, sharex=True)
    rows = []
    for ax, (label, bins) in zip(axes[0], histograms.items(), strict=True):
        for domain, (text, color) in DOMAINS.items():
            edges, shares = _shares([row for row in bins if row["domain"] == domain])
            if not shares:
                continue
            ax.stairs(shares, edges, fill=True, color=color, alpha=0.35)
            ax.stairs(shares, edges, color=color, linewidth=1.2, label=text)
            rows += [(label, domain, *bin_) for bin_ in zip(edges[:-1], edges[1:], shares, strict=True)]
            own = [(float(r["mean_nats"]), float(r["n"])) for r in means.get(label, ()) if r["domain"] == domain]
            if own:
                mean = sum(m * n for m, n in own) / sum(n for _, n in own)
                ax.axvline(mean, color=color, linewidth=1.2, linestyle=(0, (1, 1)))
        ax.set(title=label, xlabel="Entropy (nats)")
        ax.set_xlim(left=0)
    axes[0][0].set_ylabel("Images (%)")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return Drawing(figure, ("label", "domain", "bin_left", "bin_right", "percent"), rows)


def _shares(bins: Rows) -> tuple[list[float], list[float]]:
    """Bin edges and % of images in each bin, seeds added up; both empty when there is no image."""
    counts: dict[tuple[float, float], float] = {}
    for row in bins:
        bin_ = float(row["bin_left"]), float(row["bin_right"])
        counts[bin_] = counts.get(bin_, 0.0) + float(row["count"])
    total = sum(counts.values())
    if not total:
        return [], []
    return [*(left for left, _ in counts), list(counts)[-1][1]], [100.0 * c / total for c in counts.values()]


def cls_dist_distance(series: Mapping[str, Rows], colors: Colors, printed: Mapping[str, list]) -> Drawing | None:
    """Distance of CLS and DIST by epoch; {label: cls_dist_distance.csv}. printed: {label: [(epoch, value)]}."""
    series = {label: rows for label, rows in series.items() if rows}  # a plain ViT has no DIST
    if not series:
        return None
    figure, ((ax,),) = new_figure()
    rows = []
    for label, found in series.items():
        points = over_seeds(found, ("epoch",), "distance")
        x = [int(epoch) for (epoch,) in points]
        mean, stderr, n = zip(*points.values(), strict=True)
        line_with_band(ax, x, mean, stderr, color=colors[label], label=label)
        rows += [(label, *point) for point in zip(x, mean, stderr, n, strict=True)]
    for label, curve in printed.items():
        ax.plot(*zip(*curve, strict=True), label=f"{label} (printed)", **PRINTED)
        rows += [(f"{label} (printed)", x, value, "", "") for x, value in curve]
    ax.set(xlabel="Epoch", ylabel="1 − cosine(CLS, DIST)")
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    ax.legend()
    return Drawing(figure, ("label", "epoch", "mean", "stderr", "n"), rows)


def attention_distance(series: Mapping[str, Rows], colors: Colors) -> Drawing | None:
    """Mean attention distance of the sorted heads of blocks 1 (solid) and 2 (dashed), {label: its csv}."""
    series = {label: rows for label, rows in series.items() if rows}  # a CNN has no attention
    if not series:
        return None
    figure, ((ax,),) = new_figure()
    rows = []
    for label, found in series.items():
        points = over_seeds(found, ("block", "head"), "distance_px")
        for block, style in (("0", "-"), ("1", (0, (4, 2)))):
            heads = [(int(head) + 1, mean) for (b, head), (mean, _, _) in points.items() if b == block]
            name = label if block == "0" else None
            style = {"linestyle": style, "color": colors[label], "marker": "o", "markersize": 3.5}
            ax.plot([h for h, _ in heads], [m for _, m in heads], label=name, **style)
        rows += [(label, int(block), int(head), *value) for (block, head), value in points.items()]
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="Head, sorted by distance", ylabel="Mean attention distance (px)")
    figure.legend(loc="outside upper center", ncols=min(3, len(series)))
    return Drawing(figure, ("label", "block", "head", "mean_px", "stderr", "n"), rows)


def feature_rank(series: Mapping[str, Rows], colors: Colors, printed: Mapping[str, list]) -> Drawing | None:
    """Rank by block, a panel for each token (DIST, CLS); {label: feature_rank.csv}, printed: {label: [(block, value)]}.

    Drawn with the tail's tokens centred by the mean of all classes; the other variant is in the CSV (METHODS 4.3).
    """
    tokens = [t for t in ("dist", "cls") if any(row["token"] == t for rows in series.values() for row in rows)]
    if not tokens:
        return None
    figure, axes = new_figure(columns=len(tokens), width=4.0, sharey=True, sharex=True)
    out = []
    for ax, token in zip(axes[0], tokens, strict=True):
        for label, found in series.items():
            points = over_seeds([r for r in found if r["token"] == token], ("centring", "block"), "rank")
            out += [(label, token, c, int(block), *value) for (c, block), value in points.items()]
            blocks = [(int(block) + 1, *value) for (c, block), value in points.items() if c == "both"]
            if blocks:
                x, mean, stderr, _ = zip(*blocks, strict=True)
                line_with_band(ax, x, mean, stderr, label=label, color=colors[label], marker="o", markersize=3.5)
        if token == "dist":
            for label, curve in printed.items():
                ax.plot([b + 1 for b, _ in curve], [v for _, v in curve], label=f"{label} (printed)", **PRINTED)
                out += [(f"{label} (printed)", token, "", int(b), v, "", "") for b, v in curve]
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(title=f"{token.upper()} token", xlabel="Block")
        ax.set_ylim(bottom=0)
    axes[0][0].set_ylabel("Rank")
    labelled = {text: handle for ax in axes[0] for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    names = sorted(labelled, key=lambda name: list(series).index(name) if name in series else len(series))
    handles = [labelled[name] for name in names]
    figure.legend(handles, names, loc="outside upper center", ncols=min(3, len(names)))
    return Drawing(figure, ("label", "token", "centring", "block", "mean", "stderr", "n"), out)
