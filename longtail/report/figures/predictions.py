"""Test images and what several networks say of them (DiVE Fig. 9): those on which a student alone is right, beside them
those on which it alone is wrong, as either kind can be found for any two networks. Files:
stages/compare_predictions.py."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from longtail.report.figures.study_figures import Rows
from longtail.report.figures.style import COLORS, TEXT, Drawing, new_figure
from longtail.report.study import Item

KEYS = ("networks", "query", "right_alone", "label", "answer", "label_name", "answer_name", "picture")
HEADER = ("label", "test_image", "class", "network", "answer", "right")
WORDS = {True: (COLORS[0], "bold"), False: (COLORS[1], "normal")}  # right or not: colour and weight
LINE, LETTERS, SMALL = 0.22, 15, 6  # height of a line, of a picture's side; the longest name of a class; points
BESIDE, ABOVE, EMPTY = 1.3, 0.3, 0.1  # inches beside and above pictures, and in their place where there are none


def predictions(
    series: Mapping[str, Mapping[str, np.ndarray]], counts: Mapping[str, Rows], items: Sequence[Item]
) -> Drawing | None:
    """Two panels a student, the images on which it alone is right and alone wrong; beneath an image its class and each
    network's answer. {label of a student: predictions.npz}; {label: counts.csv}, which the note tells; items: the
    networks' entries and labels."""
    if not series:
        return None
    names = {item.name: item.label for item in items}
    panels = [
        (label, s, kind, np.flatnonzero(s["right_alone"] == kind)) for label, s in series.items() for kind in WORDS
    ]
    across = max(6, *(len(those) for *_, those in panels))
    side = (TEXT - BESIDE) / across
    full = [side * (1 + LINE * (1 + len(s["networks"]))) if len(those) else EMPTY for _, s, _, those in panels]
    heights = [ABOVE + height for height in full]
    figure, axes = new_figure(rows=len(panels), width=TEXT, height=sum(heights), height_ratios=heights)
    out = []
    for (ax,), (label, s, kind, those) in zip(axes, panels, strict=True):
        of = [names.get(name, name) for name in s["networks"].tolist()]
        lines = 1 + LINE * (0.5 + np.arange(1 + len(of)))
        for column, i in enumerate(those):
            ax.imshow(s["picture"][i], extent=(column + 0.05, column + 0.95, 0.95, 0.05), interpolation="nearest")
            _word(ax, column, lines[0], s["label_name"][i])
            right = s["answer"][:, i] == s["label"][i]
            for name, y, said, hit in zip(of, lines[1:], s["answer_name"][:, i].tolist(), right.tolist(), strict=True):
                _word(ax, column, y, said, *WORDS[hit])
                out.append((label, int(s["query"][i]), str(s["label_name"][i]), name, said, int(hit)))
        ax.set_title(f"{label}: alone {'right' if kind else 'wrong'}{'' if len(those) else ' on no image'}", loc="left")
        ax.set(xlim=(0, across), ylim=(lines[-1] + LINE / 2, 0), xticks=[])
        ax.set_yticks(lines, ["class", *(textwrap.fill(name, 24) for name in of)], fontsize=SMALL)
        ax.tick_params(length=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        if len(those):
            ax.set(aspect="equal", anchor="W")
        else:
            ax.set_yticks([])
    note = " ".join(_told(label, rows, series[label]["right_alone"]) for label, rows in counts.items())
    return Drawing(figure, HEADER, out, note)


def _word(ax, column: int, y: float, name: str, color: str = "black", weight: str = "normal") -> None:
    text = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
    ax.text(column + 0.5, y, text, ha="center", va="center", fontsize=SMALL, color=color, weight=weight)


def _told(label: str, rows: Rows, drawn: np.ndarray) -> str:
    """How many images of both kinds there are with the first seed, how many of them are drawn; the mean over seeds."""
    columns = ("images", "right_alone", "wrong_alone")
    (images, *_), right, wrong = ([int(row[column]) for row in rows] for column in columns)

    def of(number: int, pictures: int) -> str:
        return f"{number} ({'all' if pictures == number else f'the first {pictures}'} shown)" if number else "none"

    several = (
        f" Mean over {len(rows)} seeds: right on {np.mean(right):.1f}, wrong on {np.mean(wrong):.1f}."
        if len(rows) > 1
        else ""
    )
    told = of(right[0], int(drawn.sum())), of(wrong[0], int((~drawn).sum()))
    return f"{label}, {images:,} test images: alone right on {told[0]}, alone wrong on {told[1]}.{several}"
