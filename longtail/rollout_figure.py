"""The grid of attention rollout maps (Fig. 5): one row an image, one column a token of an experiment."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from longtail.figures import Drawing
from longtail.plots import new_figure

SHOWN = 4  # images


def rollout(series: Mapping[str, Mapping[str, np.ndarray]]) -> Drawing | None:
    """{label: rollout.npz}: images uint8 [K, H, W, 3], maps float [K, T, g, g] in 0..1, tokens [T], labels [K]."""
    if not series:
        return None
    first = next(iter(series.values()))
    shown = min(SHOWN, len(first["images"]))
    same = {k: s for k, s in series.items() if np.array_equal(s["labels"], first["labels"])}  # of the same images
    columns = [(label, t, str(token)) for label, s in same.items() for t, token in enumerate(s["tokens"])]
    figure, axes = new_figure(columns=1 + len(columns), rows=shown, width=1.25, height=1.25)
    rows = []
    for k in range(shown):
        for ax in axes[k]:
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            ax.spines[:].set_visible(False)
        image = first["images"][k]
        extent = (0, image.shape[1], image.shape[0], 0)
        axes[k][0].imshow(image, extent=extent, interpolation="nearest")
        axes[k][0].set_ylabel(f"class {int(first['labels'][k])}")
        for ax, (label, t, token) in zip(axes[k][1:], columns, strict=True):
            attention = np.asarray(same[label]["maps"][k][t], np.float64)
            ax.imshow(image.mean(-1), extent=extent, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.imshow(attention, extent=extent, cmap="inferno", alpha=0.65, vmin=0, vmax=1, interpolation="bilinear")
            rows += [
                (label, token, k, int(first["labels"][k]), y, x, float(a)) for (y, x), a in np.ndenumerate(attention)
            ]
    axes[0][0].set_title("image", fontsize=7.5)
    for ax, (label, _, token) in zip(axes[0][1:], columns, strict=True):
        ax.set_title(f"{label}\n{token.upper()}", fontsize=7.5)
    return Drawing(figure, ("label", "token", "image", "class", "row", "column", "attention"), rows)
