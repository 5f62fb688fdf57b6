"""Tail accuracy by imbalance factor (Fig. 1c): entries of three studies, which are one dataset at three factors.

An entry of the `overviews` section of params.yaml. An entry belongs to one study, and a study reports on one dataset;
what is compared over studies is compared here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longtail.report.figures.style import Drawing, legend_above, lined, looks_of, new_figure, printed_style, shown
from longtail.report.published import printed_tails
from longtail.report.results import read
from longtail.report.tables.grid import OURS, Cell, Grid, number

HEADER = ("label", "imbalance_factor", "mean", "stderr", "n")
Values = Mapping[
    str, dict[str, list[dict | None]]
]  # {label: {phase: {mean, stderr, n} at each factor, None = not run}}


@dataclass(frozen=True)
class Series:
    """One curve: an entry at each factor, null where there is none."""

    label: str
    entries: tuple[str | None, str | None, str | None]
    printed: str | None = None  # method under `fig 1c` of deit_lt_figures_digitised.csv


@dataclass(frozen=True)
class OverviewConfig:
    """Three studies from balanced to severe, by name, because dvc.yaml depends on the metrics of each."""

    title: str
    note: str
    balanced: str
    moderate: str
    severe: str
    factors: tuple[int, int, int]  # of the three, ascending
    series: tuple[Series, ...]

    def __post_init__(self) -> None:
        if len(set(self.studies)) < 3:
            raise ValueError(f"balanced, moderate and severe must be three studies, found {', '.join(self.studies)}")
        if not 1 <= self.factors[0] < self.factors[1] < self.factors[2]:
            raise ValueError(f"factors must rise from at least 1, found {list(self.factors)}")
        labels = [series.label for series in self.series]
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"series: at least one, each with a label of its own, found {labels}")

    @property
    def studies(self) -> tuple[str, str, str]:
        return self.balanced, self.moderate, self.severe


def tails(config: OverviewConfig, metrics: Path) -> Values:
    """Tail accuracy of the averaged head from <metrics>/<study>/<entry>.json. Raises UserError for a damaged file."""
    found: dict[str, dict[str, list[dict | None]]] = {}
    for series in config.series:
        values = {phase: [] for phase in OURS}
        for study, entry in zip(config.studies, series.entries, strict=True):
            run = read(metrics / study / f"{entry}.json", entry, "experiment", study) if entry else None
            for phase in OURS:
                values[phase].append(run["summary"][phase]["avg"]["tail"] if run else None)
        found[series.label] = values
    return found


def printed(config: OverviewConfig, published: Path) -> dict[str, dict[int, float]]:
    """{label: {factor: tail accuracy}} read off Fig. 1c, of the series that name a printed method."""
    return {series.label: printed_tails(published, series.printed) for series in config.series if series.printed}


def tail_accuracy(config: OverviewConfig, values: Values, curves: Mapping[str, dict[int, float]]) -> Drawing | None:
    """Tail accuracy at the last epoch by imbalance factor; None where nothing was run."""
    if not any(value for phases in values.values() for value in phases["last"]):
        return None
    looks = looks_of(list(values), [])
    figure, ((ax,),) = new_figure()
    rows = []
    for label, phases in values.items():
        points = [value or {"mean": None, "stderr": None, "n": 0} for value in phases["last"]]
        mean = [math.nan if p["mean"] is None else p["mean"] for p in points]  # NaN leaves a gap in the line
        its = lined(looks[label])
        ax.plot(config.factors, mean, label=shown(label), **its)
        spread = [p["stderr"] or 0.0 for p in points]
        ax.errorbar(config.factors, mean, spread, color=its["color"], linestyle="none", capsize=2)
        found = [(f, p) for f, p in zip(config.factors, points, strict=True) if p["mean"] is not None]
        rows += [(label, f, p["mean"], p["stderr"], p["n"]) for f, p in found]
    for label, curve in curves.items():
        ax.plot(list(curve), list(curve.values()), label=shown(f"{label} (printed)"), **printed_style(label, looks))
        rows += [(f"{label} (printed)", factor, value, "", "") for factor, value in curve.items()]
    ax.set(xlabel="Imbalance factor", ylabel="Accuracy on tail classes (%)", ylim=(0, 100), xticks=config.factors)
    legend_above(figure)
    return Drawing(figure, HEADER, rows)


def table(config: OverviewConfig, values: Values, curves: Mapping[str, dict[int, float]]) -> Grid:
    """Printed and ours beneath one another, a column a factor."""
    header = ["", "", *(f"ρ = {factor}" for factor in config.factors)]
    grid = Grid("tail_accuracy", f"{config.title}.", header)
    ours = "Ours: averaged head, mean ± standard error over seeds, in %; best on test picks the epoch on the test set."
    grid.remarks += [config.note, ours]
    for label, phases in values.items():
        lines = []
        if label in curves:
            read_off = [f"{curves[label][f]:g}" if f in curves[label] else "–" for f in config.factors]
            lines.append([Cell("printed", "what"), *(Cell(text, "printed") for text in read_off)])
        lines += [[Cell(OURS[phase], "what"), *map(number, phases[phase])] for phase in OURS]
        grid.blocks.append([[Cell(label, "label", span=0 if i else len(lines)), *x] for i, x in enumerate(lines)])
    return grid
