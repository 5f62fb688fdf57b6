"""DiVE's figures: virtual examples by class and group, maps of features, two classes of which the head is smoothed.

As those of study_figures.py: each takes {label: rows of a CSV} in the study's order and gives None where there is
nothing to draw. Files: stages/virtual_examples.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from longtail.evaluation.metrics import summarise
from longtail.evaluation.virtual_examples import GROUPS, MORE_TAUS, POWERS, TAUS, smoothed
from longtail.report.figures.study_figures import Rows, over_seeds
from longtail.report.figures.style import (
    COLORS,
    GREYS,
    MARKERS,
    PANEL,
    TEXT,
    Drawing,
    barred,
    legend_above,
    line_with_band,
    lined,
    look,
    new_figure,
    shown,
)

INPUT = "INPUT"  # the paper's name for the labels themselves
CURVE_TAU = 2.0  # of Fig. 4
CURVE_TAUS = (1.0, 2.0, 3.0, 6.0, 10.0, 20.0)  # of Fig. 5, of which the paper names 6 and 20
WITH = {1.0: "no power", 0.5: "power 1/2"}


def _averages(rows: Rows) -> dict[tuple[float, float, str], tuple[float, float | None, int]]:
    """{(tau, power, group): (mean, standard error, n)} over seeds; INPUT's tau is 0."""
    found = over_seeds(rows, ("tau", "power", "group"), "examples")
    return {(float(tau), float(power), group): value for (tau, power, group), value in found.items()}


def virtual_examples(series: Mapping[str, Rows]) -> Drawing | None:
    """Fig. 1: bars of the groups' averages at temperature 1, INPUT's first; {label: groups.csv}."""
    if not series:
        return None
    found = {label: _averages(rows) for label, rows in series.items()}
    bars = {INPUT: {g: v for (tau, _, g), v in next(iter(found.values())).items() if tau == 0}}
    bars |= {label: {g: v for (tau, p, g), v in of.items() if (tau, p) == (1, 1)} for label, of in found.items()}
    groups = [group for group in GROUPS if group in bars[INPUT]]
    figure, ((ax,),) = new_figure(width=PANEL if len(bars) <= 4 else TEXT)
    width, out = 0.82 / len(bars), []
    for i, (label, values) in enumerate(bars.items()):
        its = {"color": GREYS[0]} if label == INPUT else look(i - 1)
        for g, group in enumerate(groups):
            mean, stderr, n = values[group]
            x = g + (i - (len(bars) - 1) / 2) * width
            ax.bar(x, mean, width * 0.92, label=None if g else shown(label), **barred(its))
            if stderr and label != INPUT:
                ax.errorbar(x, mean, stderr, color="#222222", linewidth=0.8, capsize=1.5)
            out.append((label, group, mean, stderr, n))
    ax.set_xticks(range(len(groups)), [f"{g.capitalize()}-shot" for g in groups])
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel("Virtual examples a class")
    legend_above(figure, columns=4)
    return Drawing(figure, ("label", "group", "mean", "stderr", "n"), out)


def virtual_examples_settings(series: Mapping[str, Rows], rules: Mapping[str, Rows]) -> Drawing | None:
    """Fig. 6: bars of the groups' averages over temperature, a line of panels for each label, without and with a power;
    shaded where the rule of thumb takes it. {label: groups.csv}, {label: rule.csv}."""
    if not series:
        return None
    settings = (0.0, *TAUS, *MORE_TAUS)  # 0: INPUT
    figure, axes = new_figure(
        columns=len(POWERS), rows=len(series), width=TEXT, height=0.5 + 1.9 * len(series), sharex=True, sharey="row"
    )
    out = []
    for line, (label, rows) in zip(axes, series.items(), strict=True):
        found = _averages(rows)
        groups = [group for group in GROUPS if (0, 1, group) in found]
        width = 0.84 / len(groups)
        for ax, power in zip(line, POWERS, strict=True):
            for tau in {float(r["tau"]) for r in rules.get(label, ()) if float(r["power"]) == power and r["tau"]}:
                at = settings.index(tau)
                ax.axvspan(at - 0.5, at + 0.5, color="#000000", alpha=0.08, linewidth=0)
            for g, group in enumerate(groups):
                own = [found[tau, power if tau else 1.0, group] for tau in settings]
                x = np.arange(len(settings)) + (g - (len(groups) - 1) / 2) * width
                mean, stderr, n = zip(*own, strict=True)
                ax.bar(x, mean, width * 0.92, label=f"{group.capitalize()}-shot", **barred(look(g)))
                if max(n) > 1:
                    ax.errorbar(x, mean, [s or 0.0 for s in stderr], color="#222222", linewidth=0.6, linestyle="none")
                out += [(label, tau, power if tau else "", group, *v) for tau, v in zip(settings, own, strict=True)]
            ax.set_title(f"{label}, {WITH[power]}")
            ax.tick_params(axis="x", length=0)
            ax.set_xticks(range(len(settings)), [INPUT.capitalize() if not tau else f"{tau:g}" for tau in settings])
        line[0].set_ylabel("Virtual examples a class")
    for ax in axes[-1]:
        ax.set_xlabel("Temperature")
    legend_above(figure, *axes[0][0].get_legend_handles_labels())
    note = " ".join(_told(label, rules[label]) for label in series if label in rules)
    return Drawing(figure, ("label", "tau", "power", "group", "mean", "stderr", "n"), out, note)


def _told(label: str, rule: Rows) -> str:
    """What the rule of thumb takes, in words; seeds that agree are told together."""
    parts = []
    for power in POWERS:
        taken: dict[str, list[str]] = {}
        for row in rule:
            if float(row["power"]) == power:
                tau = f"temperature {float(row['tau']):g}" if row["tau"] else "none of 1 to 10"
                taken.setdefault(tau, []).append(row["seed"])
        several = len(taken) > 1
        told = [f"{tau} (seed{'s' * (len(of) > 1)} {', '.join(of)})" if several else tau for tau, of in taken.items()]
        parts.append(f"with {WITH[power]} {' and '.join(told)}")
    return f"The rule of thumb takes for {label}: {'; '.join(parts)}."


def width_of(classes: int) -> int:
    """Classes that a point of a smoothed curve is the mean of: about a twentieth of all, odd. The paper states none."""
    return round(classes / 20) | 1


def _curve(rows: Rows, tau: float) -> tuple[list, list, list[int]]:
    """Mean and standard error over seeds of the smoothed curve without a power, and the number of seeds at each."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    curves = []
    for seed in seeds:
        own = [r for r in rows if r["seed"] == seed and float(r["tau"]) == tau and float(r["power"]) == 1]
        counts = np.array([int(r["images"]) for r in own])
        curves.append(smoothed(np.array([float(r["examples"]) for r in own]), counts, width_of(len(own))))
    points = [summarise(list(values)) for values in zip(*(curve.tolist() for curve in curves), strict=True)]
    return [p["mean"] for p in points], [p["stderr"] for p in points], [p["n"] for p in points]


def virtual_example_curves(series: Mapping[str, Rows]) -> Drawing | None:
    """Fig. 4: smoothed curves of the sorted classes at temperature 2, INPUT's wide and grey; {label: classes.csv}."""
    if not series:
        return None
    first = next(iter(series.values()))
    curves = {INPUT: _curve(first, 0.0)} | {label: _curve(rows, CURVE_TAU) for label, rows in series.items()}
    figure, ((ax,),) = new_figure()
    out = _draw_curves(ax, curves, list(curves))
    legend_above(figure)
    return Drawing(figure, ("label", "rank", "mean", "stderr", "n"), out)


def virtual_example_curves_tau(series: Mapping[str, Rows]) -> Drawing | None:
    """Fig. 5: the same at several temperatures, a panel for each label."""
    if not series:
        return None
    width = PANEL if len(series) == 1 else TEXT
    figure, axes = new_figure(columns=len(series), width=width, sharey=True, sharex=True)
    out = []
    for ax, (label, rows) in zip(axes[0], series.items(), strict=True):
        curves = {INPUT: _curve(rows, 0.0)} | {f"τ = {tau:g}": _curve(rows, tau) for tau in CURVE_TAUS}
        out += [(label, *row) for row in _draw_curves(ax, curves, list(curves))]
        ax.set_title(label)
    axes[0][0].set_ylabel("Virtual examples (log)")
    legend_above(figure, *axes[0][0].get_legend_handles_labels(), columns=4)
    return Drawing(figure, ("label", "curve", "rank", "mean", "stderr", "n"), out)


def _draw_curves(ax, curves: Mapping[str, tuple[list, list, list]], labels: Sequence[str]) -> list[tuple]:
    out = []
    for i, label in enumerate(labels):
        mean, stderr, n = curves[label]
        ranks = list(range(1, len(mean) + 1))
        its = {"color": GREYS[0], "linewidth": 2} if label == INPUT else lined(look(i - 1), len(mean), i)
        line_with_band(ax, ranks, mean, stderr, label=shown(label), **its)
        out += [(label, *row) for row in zip(ranks, mean, stderr, n, strict=True)]
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ax.set(xlabel="Class, by number of images", ylabel="Virtual examples (log)")
    return out


ACROSS = 3  # maps beside one another
APART = 8  # colours of the cycle, and markers, that anyone tells apart


def tsne(series: Mapping[str, Rows]) -> Drawing | None:
    """Fig. 8: a map of the features for each label; {label: tsne.csv}. Axes of t-SNE have no unit."""
    if not series:
        return None
    columns = min(ACROSS, len(series))
    lines = -(-len(series) // columns)
    figure, axes = new_figure(columns=columns, rows=lines, width=TEXT * columns / ACROSS, height=0.5 + 2.3 * lines)
    out = []
    for ax in axes.flat[len(series) :]:
        ax.set_visible(False)
    for ax, (label, rows) in zip(axes.flat, series.items(), strict=False):
        for i, (k, images) in enumerate(dict.fromkeys((row["class"], row["images"]) for row in rows)):
            own = [(float(row["x"]), float(row["y"])) for row in rows if row["class"] == k]
            its = {"color": COLORS[i % APART], "marker": MARKERS[(i + i // APART) % len(MARKERS)]}
            ax.scatter(*zip(*own, strict=True), 9, linewidth=0, alpha=0.8, label=f"{int(images):,}", **its)
            out += [(label, int(k), int(images), *place) for place in own]
        ax.set(xticks=[], yticks=[], title=label)
        ax.grid(False)
        ax.spines[:].set_visible(True)
    legend_above(figure, *axes.flat[0].get_legend_handles_labels(), columns=5)
    for handle in figure.legends[0].legend_handles:
        handle.set_sizes([20])
    return Drawing(figure, ("label", "class", "images", "x", "y"), out)


PARTS = {"top1": ("both", look(0)), "head": ("head class", look(1)), "tail": ("tail class", look(2))}


def ratio(head: int, tail: int, epsilon: float) -> float:
    """R, the tail's share of labels over the head's where images of the head give epsilon of theirs to the tail."""
    return (tail + epsilon * head) / (head - epsilon * head)


def head_smoothing(panels: Mapping[str, Sequence[tuple[float, dict]]]) -> Drawing | None:
    """Figs 3 and 7: accuracy over epsilon, mean and standard deviation over seeds, a panel for each pair of classes;
    {title: (epsilon, metrics file)}. R stands beneath epsilon."""
    panels = {title: points for title, points in panels.items() if points}
    if not panels:
        return None
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    width = PANEL if columns == 1 else TEXT
    figure, axes = new_figure(columns=columns, rows=lines, width=width, height=0.4 + 2.1 * lines, sharey=True)
    out = []
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (title, points) in zip(axes.flat, panels.items(), strict=False):
        ratios = []
        for epsilon, found in points:
            members, counts = found["groups"]["author"], found["class_counts"]
            ratios.append(ratio(*(sum(counts[k] for k in members[g]) for g in ("head", "tail")), epsilon))
        for part, (name, its) in PARTS.items():
            seeds = [[s["last"]["avg"][part] for s in found["seeds"].values()] for _, found in points]
            mean = [float(np.mean(values)) for values in seeds]
            spread = [float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for values in seeds]
            at = [epsilon for epsilon, _ in points]
            ax.errorbar(at, mean, spread, capsize=2, label=name, **lined(its))
            several = zip(at, ratios, mean, spread, seeds, strict=True)
            out += [(title, e, r, part, m, s if len(v) > 1 else "", len(v)) for e, r, m, s, v in several]
        at = [epsilon for epsilon, _ in points]
        ax.set_xticks(at, [f"{e:g}\nR {r:.2g}" for e, r in zip(at, ratios, strict=True)])
        ax.set_title(title)
    for line in axes:
        line[0].set_ylabel("Accuracy (%)")
    for ax in axes[-1]:
        ax.set_xlabel("Epsilon")
    legend_above(figure, *axes.flat[0].get_legend_handles_labels())
    return Drawing(figure, ("panel", "epsilon", "ratio", "classes", "mean", "sd", "n"), out)
