"""A small line chart as points for an inline SVG: one thin line a seed, readable in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 110  # of the plotting area, in the SVG's units
POINTS = 200  # at most, of a line


@dataclass(frozen=True)
class Curve:
    """One quantity by epoch. lines: {seed: "x,y x,y …"}; y grows downwards, as in SVG."""

    title: str
    lines: dict[str, str]
    low: str
    high: str
    epochs: int  # the last one, counted from 1
    ends: dict[str, str]  # {seed: value at its last point}


def curve(title: str, seeds: Mapping[str, Mapping[str, Sequence[float | None]]], column: str) -> Curve | None:
    """A column of the seeds' histories, epochs without a value left out; None where no seed has two values.

    seeds: {seed: {column: values}}, `epoch` among the columns.
    """
    found = {}
    for seed, history in seeds.items():
        pairs = zip(history["epoch"], history.get(column, ()), strict=False)
        points = [(epoch, value) for epoch, value in pairs if value is not None]
        if len(points) > 1:
            found[seed] = points
    if not found:
        return None
    values = [value for points in found.values() for _, value in points]
    low, high = min(values), max(values)
    last = max(epoch for points in found.values() for epoch, _ in points)
    spread = (high - low) or 1.0

    def place(epoch: float, value: float) -> str:
        return f"{WIDTH * epoch / (last or 1):.1f},{HEIGHT * (high - value) / spread:.1f}"

    return Curve(
        title=title,
        lines={seed: " ".join(place(*point) for point in _thinned(points)) for seed, points in found.items()},
        low=f"{low:.4g}",
        high=f"{high:.4g}",
        epochs=int(last) + 1,
        ends={seed: f"{points[-1][1]:.4g}" for seed, points in found.items()},
    )


def _thinned(points: list) -> list:
    """Every k-th point, and the last."""
    step = -(-len(points) // POINTS)
    kept = points[::step]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]
