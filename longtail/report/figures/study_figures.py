"""The figures of a study: each a function of what was measured, giving a matplotlib figure and the rows it drew.

Every function takes series in the study's order, {label: data}, and a look for each label. What was not run is not in
them; None = nothing to draw.

Figures over the epochs of training: distance of CLS and DIST, training loss, test accuracy.

As those of study_figures.py: each takes {label: rows of a CSV} in the study's order and a look for each label, and
gives None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from longtail.evaluation.metrics import AUTHOR_GROUPS, summarise
from longtail.report.figures.rollout import wrapped
from longtail.report.figures.style import (
    PANEL,
    TEXT,
    Drawing,
    Look,
    barred,
    legend_above,
    line_with_band,
    lined,
    look,
    new_figure,
    printed_style,
    shown,
)

Rows = list[dict[str, str]]  # a CSV
Looks = Mapping[str, Look]
DOMAINS = {"in": ("in distribution", look(0)), "out": ("out of distribution", look(1))}
HEADS = {"cls": "CLS, from labels", "dist": "DIST, from the teacher", "avg": "their average"}
READ_OFF = "Thin dashed: read off the printed figure."


def over_seeds(rows: Rows, keys: Sequence[str], value: str) -> dict[tuple[str, ...], tuple[float, float | None, int]]:
    """{key values: (mean, standard error, n)} of a column over seeds, in the order of the rows."""
    found: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        found.setdefault(tuple(row[k] for k in keys), []).append(float(row[value]))
    summaries = {key: summarise(values) for key, values in found.items()}
    return {key: (s["mean"], s["stderr"], s["n"]) for key, s in summaries.items()}


def groups(metrics: Mapping[str, dict], looks: Looks) -> Drawing | None:
    """Bars of head, mid and tail accuracy (averaged head, last epoch); {label: metrics file}."""
    if not metrics:
        return None
    figure, ((ax,),) = new_figure(width=PANEL if len(metrics) <= 4 else TEXT)
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
            ax.bar(x, mean, width * 0.92, label=shown(label) if g == 0 else None, **barred(looks[label]))
            _spread(ax, x, width, mean, stderr, [s["last"]["avg"][group] for s in found["seeds"].values()])
    ax.set_xticks(range(3), [g.capitalize() for g in AUTHOR_GROUPS])
    ax.set(ylabel="Accuracy (%)", ylim=(0, 100))
    ax.tick_params(axis="x", length=0)
    legend_above(figure, columns=4)
    return Drawing(figure, ("label", "group", "mean", "stderr", "n"), rows)


def _spread(ax: Axes, x: float, width: float, mean: float, stderr: float | None, seeds: Sequence[float]) -> None:
    """Over a bar: its standard error, and a dot for each seed. Nothing where there is one seed."""
    if len(seeds) > 1:
        ax.errorbar(x, mean, stderr, color="#222222", linewidth=0.8, capsize=1.5)
        ax.plot(np.full(len(seeds), x) + width * 0.2, seeds, ".", color="#222222", markersize=2, alpha=0.7)


def experts(metrics: Mapping[str, dict]) -> Drawing | None:
    """Bars of head, mid and tail accuracy for CLS, DIST and their average at the last epoch, a panel for each network
    that has both heads; {label: metrics file}."""
    metrics = {label: found for label, found in metrics.items() if "dist" in found["summary"]["last"]}
    if not metrics:
        return None
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    width = PANEL if columns == 1 else TEXT
    figure, axes = new_figure(columns, lines, width, 0.6 + 2.2 * lines, sharey=True)
    for ax in axes.flat[len(metrics) :]:
        ax.set_visible(False)
    rows = []
    for ax, (label, found) in zip(axes.flat, metrics.items(), strict=False):
        for i, (head, name) in enumerate(HEADS.items()):
            for g, group in enumerate(AUTHOR_GROUPS):
                mean, stderr, n = (found["summary"]["last"][head][group][k] for k in ("mean", "stderr", "n"))
                if mean is None:
                    continue
                rows.append((label, head, group, mean, stderr, n))
                x, width = g + (i - 1) * 0.27, 0.27
                ax.bar(x, mean, width * 0.92, label=None if g else name, **barred(look(i)))
                _spread(ax, x, width, mean, stderr, [s["last"][head][group] for s in found["seeds"].values()])
        ax.set_xticks(range(3), [g.capitalize() for g in AUTHOR_GROUPS])
        ax.set(title=wrapped(shown(label), 30), ylim=(0, 100))
        ax.tick_params(axis="x", length=0)
    for line in axes:
        line[0].set_ylabel("Accuracy (%)")
    legend_above(figure, *axes[0][0].get_legend_handles_labels())
    return Drawing(figure, ("label", "head", "group", "mean", "stderr", "n"), rows)


def entropy(histograms: Mapping[str, Rows], means: Mapping[str, Rows]) -> Drawing | None:
    """A panel for each teacher: histogram of entropy in and out of distribution; {label: entropy.csv}, entropy_mean.

    On a logarithmic axis: in distribution, a teacher is certain of nearly all images.
    """
    if not histograms:
        return None
    width = PANEL if len(histograms) == 1 else TEXT
    figure, axes = new_figure(columns=len(histograms), width=width, sharey=True, sharex=True)
    rows, ends = [], [0.0]
    for ax, (label, bins) in zip(axes[0], histograms.items(), strict=True):
        for domain, (text, its) in DOMAINS.items():
            of_domain = [row for row in bins if row["domain"] == domain]
            edges, shares = _shares(of_domain)
            if not shares:
                continue
            color = its["color"]
            seeds = list(dict.fromkeys(row.get("seed") for row in of_domain))
            for seed in seeds if len(seeds) > 1 else ():
                own, of_seed = _shares([row for row in of_domain if row.get("seed") == seed])
                ax.stairs(of_seed, own, color=color, linewidth=0.5, alpha=0.6)
            ax.stairs(shares, edges, fill=True, color=color, alpha=0.3)
            ax.stairs(shares, edges, color=color, linewidth=1.3, linestyle=its["linestyle"], label=text)
            ends += [edge for edge, share in zip(edges[1:], shares, strict=True) if share]
            rows += [(label, domain, *bin_) for bin_ in zip(edges[:-1], edges[1:], shares, strict=True)]
            own = [(float(r["mean_nats"]), float(r["n"])) for r in means.get(label, ()) if r["domain"] == domain]
            if own:
                mean = sum(m * n for m, n in own) / sum(n for _, n in own)
                ax.axvline(mean, color=color, linewidth=1, linestyle=(0, (1, 1)))
        ax.set(title=label, xlabel="Entropy (nats)", yscale="log")
    if max(ends):
        axes[0][0].set_xlim(0, 1.03 * max(ends))
    axes[0][0].set_ylabel("Images (%)")
    axes[0][0].yaxis.set_major_formatter("{x:g}")
    axes[0][0].yaxis.set_minor_formatter("")  # matplotlib's own is mathematics, which no text is here
    legend_above(figure, *axes[0][0].get_legend_handles_labels())
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


def attention_distance(
    series: Mapping[str, Rows], images: str, looks: Looks, printed: Mapping[str, list]
) -> Drawing | None:
    """Mean attention distance of the sorted heads of blocks 1 (solid, full markers) and 2 (dashed, hollow), with a
    band of one standard error; {label: its csv}.

    images: `test` or `train`, the tail classes' images to draw. printed: {label: [(block from 1, head, value)]}.
    """
    series = {label: [row for row in rows if row["images"] == images] for label, rows in series.items()}
    series = {label: rows for label, rows in series.items() if rows}
    if not series:
        return None
    figure, ((ax,),) = new_figure()
    out = []
    for label, found in series.items():
        points = over_seeds(found, ("block", "head"), "distance_px")
        for block, style in (("0", {"linestyle": "-"}), ("1", {"linestyle": (0, (4, 2)), "markerfacecolor": "white"})):
            heads = [(int(head) + 1, mean, stderr) for (b, head), (mean, stderr, _) in points.items() if b == block]
            if heads:
                name = shown(label) if block == "0" else None
                line_with_band(ax, *zip(*heads, strict=True), label=name, **lined(looks[label]) | style)
        out += [(label, int(block), int(head), *value) for (block, head), value in points.items()]
    for label, points in printed.items():
        style = printed_style(label, looks)
        for block, line in ((1, style["linestyle"]), (2, (0, (1, 1.5)))):
            heads = [(head + 1, value) for b, head, value in points if b == block]
            name = f"{label} (printed)" if block == 1 else None
            ax.plot([h for h, _ in heads], [v for _, v in heads], label=shown(name), **{**style, "linestyle": line})
        out += [(f"{label} (printed)", int(block) - 1, int(head), value, "", "") for block, head, value in points]
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="Head, sorted by distance", ylabel="Mean attention distance (px)")
    legend_above(figure)
    read_off = "Thin: read off the printed figure, block 1 dashed, block 2 dotted." if printed else ""
    return Drawing(figure, ("label", "block", "head", "mean_px", "stderr", "n"), out, read_off)


def feature_rank(series: Mapping[str, Rows], looks: Looks, printed: Mapping[str, list]) -> Drawing | None:
    """Rank by block, a panel for each token (DIST, CLS); {label: feature_rank.csv}, printed: {label: [(block, value)]}.

    Drawn with the tail's tokens centred by the mean of all classes; the other variant is in the CSV (METHODS 4.3).
    """
    tokens = [t for t in ("dist", "cls") if any(row["token"] == t for rows in series.values() for row in rows)]
    if not tokens:
        return None
    width = PANEL if len(tokens) == 1 else TEXT
    figure, axes = new_figure(columns=len(tokens), width=width, sharey=True, sharex=True)
    out = []
    for ax, token in zip(axes[0], tokens, strict=True):
        for label, found in series.items():
            points = over_seeds([r for r in found if r["token"] == token], ("centring", "block"), "rank")
            out += [(label, token, c, int(block), *value) for (c, block), value in points.items()]
            blocks = [(int(block) + 1, *value) for (c, block), value in points.items() if c == "both"]
            if blocks:
                x, mean, stderr, _ = zip(*blocks, strict=True)
                line_with_band(ax, x, mean, stderr, label=shown(label), **lined(looks[label]))
        if token == "dist":
            for label, curve in printed.items():
                x, values = [b + 1 for b, _ in curve], [v for _, v in curve]
                ax.plot(x, values, label=shown(f"{label} (printed)"), **printed_style(label, looks))
                out += [(f"{label} (printed)", token, "", int(b), v, "", "") for b, v in curve]
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(title=f"{token.upper()} token", xlabel="Block")
    axes[0][0].set_ylim(bottom=0)  # of both, when all is drawn: it ends the axis' growing
    axes[0][0].set_ylabel("Rank")
    labelled = {text: handle for ax in axes[0] for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    order = [shown(label) for label in series]
    names = sorted(labelled, key=lambda name: order.index(name) if name in order else len(order))
    handles = [labelled[name] for name in names]
    legend_above(figure, handles, names, columns=4)
    read_off = READ_OFF if printed and "dist" in tokens else ""
    return Drawing(figure, ("label", "token", "centring", "block", "mean", "stderr", "n"), out, read_off)


HEADER = ("label", "epoch", "mean", "stderr", "n")


def cls_dist_distance(series: Mapping[str, Rows], looks: Looks, printed: Mapping[str, list]) -> Drawing | None:
    """Distance of CLS and DIST; {label: cls_dist_distance.csv}. printed: {label: [(epoch, value)]}."""
    drawn = over_epochs(series, "distance", "1 − cosine(CLS, DIST)", looks, printed)
    if drawn:
        drawn.figure.axes[0].set_ylim(bottom=0)
    return drawn


def training_loss(series: Mapping[str, Rows], looks: Looks) -> Drawing | None:
    """Mean loss over an epoch's training views; {label: curves.csv}."""
    return over_epochs(series, "loss", "Training loss", looks)


def test_accuracy(series: Mapping[str, Rows], looks: Looks) -> Drawing | None:
    """Top-1 of the averaged head at the epochs that were evaluated; {label: curves.csv}."""
    return over_epochs(series, "test_top1_avg", "Top-1 on the test set (%)", looks)


def over_epochs(
    series: Mapping[str, Rows], column: str, ylabel: str, looks: Looks, printed: Mapping[str, list] | None = None
) -> Drawing | None:
    """A line for each label, a band of one standard error; rows where the column is empty are left out. Histories
    count epochs from 0; drawn, and in the CSV, they count from 1, as printed curves do."""
    filled = {label: [row for row in rows if row[column]] for label, rows in series.items()}
    filled = {label: rows for label, rows in filled.items() if rows}  # a plain ViT has no distance
    if not filled:
        return None
    figure, ((ax,),) = new_figure()
    out = []
    for label, found in filled.items():
        points = over_seeds(found, ("epoch",), column)
        x = [int(epoch) + 1 for (epoch,) in points]
        mean, stderr, n = zip(*points.values(), strict=True)
        its = lined(looks[label], len(x), list(filled).index(label))
        line_with_band(ax, x, mean, stderr, label=shown(label), **its)
        out += [(label, *point) for point in zip(x, mean, stderr, n, strict=True)]
    for label, curve in (printed or {}).items():
        ax.plot(*zip(*curve, strict=True), label=shown(f"{label} (printed)"), **printed_style(label, looks))
        out += [(f"{label} (printed)", x, value, "", "") for x, value in curve]
    ax.set(xlabel="Epoch", ylabel=ylabel)
    ax.set_xlim(left=0)
    legend_above(figure)
    return Drawing(figure, HEADER, out, READ_OFF if printed else "")
