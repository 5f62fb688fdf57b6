"""CBD's figures: accuracy over a setting (Figs 2 and 3), nearest training images as pictures (Fig. 4); and ours, how
far a student's features lie from its teachers'.

As those of study_figures.py: each takes what was measured, {label: …}, in the study's order and gives None where there
is nothing to draw. Files of the latter two: stages/compare_features.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from longtail.report.figures.study_figures import Rows, over_seeds
from longtail.report.figures.style import (
    COLORS,
    PANEL,
    TEXT,
    Drawing,
    barred,
    legend_above,
    lined,
    look,
    new_figure,
    shown,
)
from longtail.report.panels import Sweep

ACROSS = 2  # panels of a sweep beside one another
FEATURES = ("teacher", "student")
PARTS = ("place", "label", "cosine", "picture")
NEIGHBOUR_KEYS = ("group", "query", "label", "picture", *(f"{of}_{part}" for of in FEATURES for part in PARTS))
GAP, MARGIN = 0.3, 0.07  # of a picture's side: between the test image, the teacher's and the student's; around each
FRAMES = {True: (COLORS[0], "solid"), False: (COLORS[1], (0, (3, 1.5)))}  # of the test image's class?
LEFT, ABOVE = 0.75, 0.55  # inches beside and above the pictures of a student
IMAGES = {"train": "Training images", "test": "Test images"}


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
    width = PANEL if columns == 1 else TEXT
    figure, axes = new_figure(columns=columns, rows=rows, width=width, height=0.5 + 2.1 * rows)
    out, handles = [], {}
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (of, lines) in zip(axes.flat, panels, strict=False):
        for label, points in lines.items():
            at = [value for value, _ in points]
            found = [metrics["summary"]["last"]["avg"]["top1"] for _, metrics in points]
            its = lined(look(labels.index(label))) | {"capsize": 2}
            spread = [point["stderr"] or 0.0 for point in found]
            handles[label] = ax.errorbar(at, [point["mean"] for point in found], spread, label=shown(label), **its)
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


def neighbours(series: Mapping[str, Mapping[str, np.ndarray]], shares: Mapping[str, Rows]) -> Drawing | None:
    """A line for each test image: itself, its neighbours under the teacher, those under the student. {label of a
    student: neighbours.npz}; {label: neighbours.csv}, of which the note tells the share of the right class."""
    if not series:
        return None
    across = [1 + 2 * (GAP + s["teacher_label"].shape[1]) for s in series.values()]
    side = (TEXT - LEFT) / max(across)
    lines = [len(s["label"]) for s in series.values()]
    heights = [side * number + ABOVE for number in lines]
    figure, axes = new_figure(rows=len(series), width=TEXT, height=sum(heights), height_ratios=heights)
    out = []
    for (ax,), (label, s) in zip(axes, series.items(), strict=True):
        k = s["teacher_label"].shape[1]
        starts = {"teacher": 1 + GAP, "student": 1 + GAP + k + GAP}
        for row, picture in enumerate(s["picture"]):
            _put(ax, picture, 0, row)
            group, own = str(s["group"][row]), int(s["label"][row])
            for of, start in starts.items():
                for rank in range(k):
                    its, cosine = int(s[f"{of}_label"][row, rank]), float(s[f"{of}_cosine"][row, rank])
                    _put(ax, s[f"{of}_picture"][row, rank], start + rank, row)
                    _frame(ax, start + rank, row, its, its == own)
                    places = int(s["query"][row]), int(s[f"{of}_place"][row, rank])
                    out.append((label, group, own, places[0], of, rank + 1, places[1], its, int(its == own), cosine))
        ax.set(xlim=(0, max(across)), ylim=(len(s["label"]), 0), aspect="equal", anchor="W")
        named = zip(s["group"], s["label"], strict=True)
        ax.set_yticks(np.arange(len(s["label"])) + 0.5, [f"{group}\nclass {int(c)}" for group, c in named])
        titles = ("test image", "nearest under the teacher", "nearest under the student")
        ax.set_xticks([0.5, *(start + k / 2 for start in starts.values())], titles)
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.set_title(shown(label), loc="left")
    note = " ".join(["Share of the test image's class among the nearest, mean over seeds:", *_told(series, shares)])
    header = ("label", "group", "class", "query", "features", "rank", "training_image", "its_class", "right", "cosine")
    return Drawing(figure, header, out, note if shares else "")


def _put(ax, picture: np.ndarray, x: float, y: float) -> None:
    extent = (x + MARGIN, x + 1 - MARGIN, y + 1 - MARGIN, y + MARGIN)
    ax.imshow(picture, extent=extent, interpolation="nearest")


def _frame(ax, x: float, y: float, label: int, right: bool) -> None:
    """Colour and line say whether it is right, a number which class it is where it is not."""
    color, line = FRAMES[right]
    at, size = (x + MARGIN / 2, y + MARGIN / 2), 1 - MARGIN
    ax.add_patch(Rectangle(at, size, size, fill=False, edgecolor=color, linewidth=1.2, linestyle=line))
    if not right:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        corner = {"ha": "right", "va": "bottom", "fontsize": 5, "color": color, "bbox": box}
        ax.text(x + 1 - 1.6 * MARGIN, y + 1 - 1.6 * MARGIN, str(label), **corner)


def _told(series: Mapping[str, Mapping], shares: Mapping[str, Rows]) -> list[str]:
    """A sentence a student: % over the whole test set, and what its classes allow where that is less than all."""
    found = []
    for label in series:
        if label not in shares:
            continue
        rows = shares[label]
        share = over_seeds(rows, ("features", "group"), "share")
        groups = list(dict.fromkeys(row["group"] for row in rows if row["group"] != "all"))
        of = [
            f"{features} {100 * share[features, 'all'][0]:.1f} % "
            f"({', '.join(f'{group} {100 * share[features, group][0]:.1f}' for group in groups)})"
            for features in FEATURES
        ]
        most = {row["group"]: 100 * float(row["most"]) for row in rows}
        low = [f"{group} {most[group]:.1f}" for group in groups if most[group] < 100]
        at_most = f"; small classes allow at most {', '.join(low)}" if low else ""
        found.append(f"{label}, {rows[0]['k']} nearest: {', '.join(of)}{at_most}.")
    return found


def feature_drift(series: Mapping[str, Rows]) -> Drawing | None:
    """Bars of the groups' drift, a panel for training and one for test images; {label of a student: drift.csv}."""
    if not series:
        return None
    figure, axes = new_figure(columns=len(IMAGES), width=TEXT, sharey=True)
    width, out = 0.82 / len(series), []
    for ax, (images, title) in zip(axes[0], IMAGES.items(), strict=True):
        groups = []
        for i, (label, rows) in enumerate(series.items()):
            drift = over_seeds([row for row in rows if row["images"] == images], ("group",), "drift")
            groups += [group for (group,) in drift if group not in ("all", *groups)]
            for group in groups:
                mean, stderr, n = drift.get((group,), (None, None, 0))
                if mean is None:
                    continue
                x = groups.index(group) + (i - (len(series) - 1) / 2) * width
                name = None if group != groups[0] else shown(label)
                ax.bar(x, mean, width * 0.92, label=name, **barred(look(i)))
                if stderr:
                    ax.errorbar(x, mean, stderr, color="#222222", linewidth=0.8, capsize=1.5)
                out.append((label, images, group, mean, stderr, n))
        ax.set_xticks(range(len(groups)), [group.capitalize() for group in groups])
        ax.tick_params(axis="x", length=0)
        ax.set_title(title)
    axes[0][0].set_ylabel("1 − cosine")
    legend_above(figure, *axes[0][0].get_legend_handles_labels(), columns=4)
    return Drawing(figure, ("label", "images", "group", "mean", "stderr", "n"), out)
