"""Grids of pictures: attention rollout maps, a column for each token of an experiment (Fig. 5) or for their mean (Fig.
S.2); what masked autoencoders reconstruct, a line for each kind of picture; and what a student is taught."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from longtail.report.figures.style import COLORS, TEXT, Drawing, new_figure

SHOWN = 4  # images
BAR = 0.75  # inches for the colour bar
OVER = {"cmap": "inferno", "alpha": 0.65, "interpolation": "bilinear"}  # of a map over its image
Columns = list[tuple[str, str, np.ndarray]]  # label, what the maps are of, maps [K, g, g] in 0..1


@dataclass(frozen=True)
class Said:
    """What is said of the pictures of a study. predicted: {label of an entry: {token: class of each image}}, where that
    is known."""

    classes: Sequence[str] = ()  # names, by number
    predicted: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)

    def name(self, number: int) -> str:
        """A class as a figure calls it."""
        named = self.classes[number] if number < len(self.classes) else ""
        return named if named and not named.isdigit() else f"class {named or number}"


def rollout(series: Mapping[str, Mapping[str, np.ndarray]], said: Said = Said()) -> Drawing | None:
    """{label: rollout.npz}: images uint8 [K, H, W, 3], maps float [K, T, g, g] in 0..1, tokens [T], labels [K]."""
    shown = _of_the_same_images(series)
    maps = [(label, str(token), s["maps"][:, t]) for label, s in shown.items() for t, token in enumerate(s["tokens"])]
    return _grid(shown, maps, said)


def rollout_mean(series: Mapping[str, Mapping[str, np.ndarray]], said: Said = Said()) -> Drawing | None:
    """{label: rollout.npz}: also average float [K, g, g] in 0..1, of an image's tokens together."""
    shown = _of_the_same_images(series)
    return _grid(shown, [(label, "+".join(map(str, s["tokens"])), s["average"]) for label, s in shown.items()], said)


def _of_the_same_images(series: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Mapping[str, np.ndarray]]:
    """Those whose images are the first one's; a column of other images would be no comparison."""
    first = next(iter(series.values()), None)
    return {label: s for label, s in series.items() if np.array_equal(s["labels"], first["labels"])}


def _grid(series: Mapping[str, Mapping[str, np.ndarray]], columns: Columns, said: Said) -> Drawing | None:
    """One row an image, one column a map; beneath each map what that output predicts. None where there is nothing."""
    if not series:
        return None
    images, labels = (next(iter(series.values()))[key] for key in ("images", "labels"))
    number, lines = 1 + len(columns), min(SHOWN, len(images))
    side = min(1.25, (TEXT - BAR) / number)  # inches of a map
    titles = [f"{wrapped(label, int(15 * side))}\n{token.upper()}" for label, token, _ in columns]
    above = 0.15 * max(title.count("\n") + 1 for title in titles)  # the titles of the first line
    beneath = 0.17 if said.predicted else 0.02
    figure, axes = new_figure(number, lines, side * number + BAR, (side + beneath) * lines + above)
    out = []
    for k, line in enumerate(axes):
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            ax.spines[:].set_visible(False)
        image, own = images[k], int(labels[k])
        extent = (0, image.shape[1], image.shape[0], 0)
        line[0].imshow(image, extent=extent, interpolation="nearest")
        line[0].set_ylabel(said.name(own))
        for ax, (label, token, maps) in zip(line[1:], columns, strict=True):
            attention = np.asarray(maps[k], np.float64)
            ax.imshow(image.mean(-1), extent=extent, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            drawn = ax.imshow(attention, extent=extent, vmin=0, vmax=1, **OVER)
            found = said.predicted.get(label, {}).get(token if "+" not in token else "avg")
            given = "" if found is None else int(found[k])
            if given != "":
                right = given == own
                text = f"{'✓' if right else '✗'} {said.name(given)}"
                ax.set_xlabel(text, fontsize=7, labelpad=2, color=COLORS[0] if right else COLORS[1])
            cells = np.ndenumerate(attention)
            out += [(label, token, k, own, given, y, x, float(a)) for (y, x), a in cells]
    axes[0][0].set_title("image", fontsize=7.5)
    for ax, title in zip(axes[0][1:], titles, strict=True):
        ax.set_title(title, fontsize=7.5)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, aspect=30, ticks=(0, 0.5, 1))
    bar.set_label("attention, over the map's maximum")
    bar.outline.set_visible(False)
    return Drawing(figure, ("label", "token", "image", "class", "predicted", "row", "column", "attention"), out)


def wrapped(label: str, width: int) -> str:
    """A label in lines that fit above a column."""
    return "\n".join(textwrap.wrap(label, width))


PICTURES = ("images", "masked", "reconstructed")


def reconstructions(series: Mapping[str, Mapping[str, np.ndarray]], said: Said = Said()) -> Drawing | None:
    """{label of a pretraining: reconstructions.npz}: three uint8 [K, S, S, 3] and labels [K]. Three lines of pictures
    for each; None where there is nothing. Numbers: mean absolute difference of an image from its reconstruction."""
    if not series:
        return None
    columns = max(len(s["labels"]) for s in series.values())
    side = TEXT / columns
    lines = len(PICTURES) * len(series)
    figure, axes = new_figure(columns=columns, rows=lines, width=TEXT, height=side * lines + 0.3 * len(series))
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
    out = []
    for number, (label, s) in enumerate(series.items()):
        for line, name in enumerate(PICTURES, len(PICTURES) * number):
            for k, picture in enumerate(s[name]):
                axes[line][k].imshow(picture, interpolation="nearest")
            axes[line][0].set_ylabel(name)
        for ax, own in zip(axes[len(PICTURES) * number], s["labels"], strict=False):
            ax.set_title(wrapped(said.name(int(own)), 11), fontsize=7)
        if len(series) > 1:
            axes[len(PICTURES) * number][0].set_title(
                f"{label}\n{said.name(int(s['labels'][0]))}", fontsize=7, loc="left"
            )
        apart = np.abs(s["images"].astype(np.float64) - s["reconstructed"]).mean((1, 2, 3))
        out += [(label, k, int(s["labels"][k]), round(float(apart[k]), 4)) for k in range(len(apart))]
    return Drawing(figure, ("label", "image", "class", "mean_absolute_difference"), out)


TAUGHT = ("images", "views", "labels", "partners", "shares", "answers", "probabilities")


def taught(series: Mapping[str, Mapping[str, np.ndarray]], said: Said = Said()) -> Drawing | None:
    """{label of a label cache: taught.npz}: images and views uint8 [K, S, S, 3]; labels, partners (classes mixed in),
    answers (the teacher's) int [K]; shares of the own label, probabilities of the answers float [K]. A column an image,
    above each view its label; None where there is nothing."""
    if not series:
        return None
    columns = max(len(s["labels"]) for s in series.values())
    side = min(1.2, TEXT / columns)
    lines = 1 + len(series)
    figure, axes = new_figure(columns, lines, (side + 0.9) * columns, (side + 0.55) * lines)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
    out = []
    for line, (label, s) in enumerate(series.items(), 1):
        axes[line][0].set_ylabel(wrapped(label, 18))
        for k, own in enumerate(int(number) for number in s["labels"]):
            if line == 1:
                axes[0][k].imshow(s["images"][k], interpolation="nearest")
                axes[0][k].set_title(said.name(own), fontsize=7.5)
            ax, partner, answer = axes[line][k], int(s["partners"][k]), int(s["answers"][k])
            share, sure = float(s["shares"][k]), float(s["probabilities"][k])
            mixed = f"{share:.0%} {said.name(own)},\n{1 - share:.0%} {said.name(partner)}"
            ax.imshow(s["views"][k], interpolation="nearest")
            ax.set_title(said.name(own) if partner == own else mixed, fontsize=7)
            ax.set_xlabel(f"teacher: {said.name(answer)} ({sure:.0%})", fontsize=7, labelpad=2)
            out.append((label, own, partner, round(share, 4), answer, round(sure, 4)))
    axes[0][0].set_ylabel("training image")
    return Drawing(figure, ("label", "class", "mixed_with", "share", "answer", "probability"), out)
