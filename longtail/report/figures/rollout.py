"""Grids of pictures: attention rollout maps, a column for each token of an experiment (Fig. 5) or for their mean (Fig.
S.2); and what masked autoencoders reconstruct, a line for each kind of picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np

from longtail.report.figures.style import TEXT, Drawing, new_figure

SHOWN = 4  # images
Columns = list[tuple[str, str, np.ndarray]]  # label, what the maps are of, maps [K, g, g] in 0..1


def rollout(series: Mapping[str, Mapping[str, np.ndarray]]) -> Drawing | None:
    """{label: rollout.npz}: images uint8 [K, H, W, 3], maps float [K, T, g, g] in 0..1, tokens [T], labels [K]."""
    shown = _of_the_same_images(series)
    maps = [(label, str(token), s["maps"][:, t]) for label, s in shown.items() for t, token in enumerate(s["tokens"])]
    return _grid(shown, maps)


def rollout_mean(series: Mapping[str, Mapping[str, np.ndarray]]) -> Drawing | None:
    """{label: rollout.npz}: also average float [K, g, g] in 0..1, of an image's tokens together."""
    shown = _of_the_same_images(series)
    return _grid(shown, [(label, "+".join(map(str, s["tokens"])), s["average"]) for label, s in shown.items()])


def _of_the_same_images(series: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Mapping[str, np.ndarray]]:
    """Those whose images are the first one's; a column of other images would be no comparison."""
    first = next(iter(series.values()), None)
    return {label: s for label, s in series.items() if np.array_equal(s["labels"], first["labels"])}


def _grid(series: Mapping[str, Mapping[str, np.ndarray]], columns: Columns) -> Drawing | None:
    """One row an image, one column a map; None where there is nothing."""
    if not series:
        return None
    images, labels = (next(iter(series.values()))[key] for key in ("images", "labels"))
    number, lines = 1 + len(columns), min(SHOWN, len(images))
    side = min(1.1, TEXT / number)  # inches of a map
    titles = [f"{wrapped(label, int(17 * side))}\n{token.upper()}" for label, token, _ in columns]
    above = 0.14 * max(title.count("\n") + 1 for title in titles)  # the titles of the first line
    figure, axes = new_figure(columns=number, rows=lines, width=side * number, height=side * lines + above)
    out = []
    for k, line in enumerate(axes):
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            ax.spines[:].set_visible(False)
        image = images[k]
        extent = (0, image.shape[1], image.shape[0], 0)
        line[0].imshow(image, extent=extent, interpolation="nearest")
        line[0].set_ylabel(f"class {int(labels[k])}", fontsize=7)
        for ax, (label, token, maps) in zip(line[1:], columns, strict=True):
            attention = np.asarray(maps[k], np.float64)
            ax.imshow(image.mean(-1), extent=extent, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.imshow(attention, extent=extent, cmap="inferno", alpha=0.65, vmin=0, vmax=1, interpolation="bilinear")
            out += [(label, token, k, int(labels[k]), y, x, float(a)) for (y, x), a in np.ndenumerate(attention)]
    axes[0][0].set_title("image", fontsize=7)
    for ax, title in zip(axes[0][1:], titles, strict=True):
        ax.set_title(title, fontsize=7)
    return Drawing(figure, ("label", "token", "image", "class", "row", "column", "attention"), out)


def wrapped(label: str, width: int) -> str:
    """A label in lines that fit above a column."""
    return "\n".join(textwrap.wrap(label, width))


PICTURES = ("images", "masked", "reconstructed")


def reconstructions(series: Mapping[str, Mapping[str, np.ndarray]]) -> Drawing | None:
    """{label of a pretraining: reconstructions.npz}: three uint8 [K, S, S, 3] and labels [K]. Three lines of pictures
    for each; None where there is nothing. Numbers: mean absolute difference of an image from its reconstruction."""
    if not series:
        return None
    columns = max(len(s["labels"]) for s in series.values())
    side = TEXT / columns
    lines = len(PICTURES) * len(series)
    figure, axes = new_figure(columns=columns, rows=lines, width=TEXT, height=side * lines + 0.2)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
    out = []
    for number, (label, s) in enumerate(series.items()):
        for line, name in enumerate(PICTURES, len(PICTURES) * number):
            for k, picture in enumerate(s[name]):
                axes[line][k].imshow(picture, interpolation="nearest")
            axes[line][0].set_ylabel(name, fontsize=7)
        axes[len(PICTURES) * number][0].set_title(label, fontsize=7, loc="left")
        apart = np.abs(s["images"].astype(np.float64) - s["reconstructed"]).mean((1, 2, 3))
        out += [(label, k, int(s["labels"][k]), round(float(apart[k]), 4)) for k in range(len(apart))]
    return Drawing(figure, ("label", "image", "class", "mean_absolute_difference"), out)
