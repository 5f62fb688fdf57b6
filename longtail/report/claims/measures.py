"""One side of a claim's comparison: which number of which run, by seed and by test image, and what is printed for it.

Read from reports/: metrics/ for accuracies, analysis/ for what a network attends to, runs/ for single predictions.
What is not there was not run: None.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from longtail.base import csv_file
from longtail.base.errors import UserError
from longtail.evaluation.predictions import read_npz
from longtail.report import results
from longtail.report.published import PrintedCell, printed_cells, printed_curve
from longtail.report.study import ON_VIEWS, Curve, Head, Printed

# fmt: off
Metric = Literal[
    "top1", "top5", "head", "mid", "tail", "many", "medium", "few", "balanced", "macro_f1",
    "ece", "mce", "classwise_ece", "nll", "teacher_top1_on_views",
    "feature_rank", "attention_distance", "cls_dist_distance", "cls_dist_test", "entropy", "epochs_to_95",
]
# fmt: on
ANALYSES = {  # metric: file of an entry's analysis folder, column, unit
    "feature_rank": ("feature_rank.csv", "rank", "directions"),
    "attention_distance": ("attention_distance.csv", "distance_px", "px"),
    "cls_dist_distance": ("cls_dist_distance.csv", "distance", "cosine distance"),  # on training views, mixed or not
    "cls_dist_test": ("cls_dist_test.csv", "distance", "cosine distance"),  # on evaluation views of the test images
    "entropy": ("entropy_mean.csv", "mean_nats", "nats"),
    "epochs_to_95": ("curves.csv", "test_top1", "epochs"),  # a column for each head
}
ENOUGH = 0.95  # of the accuracy after the last epoch
BY_IMAGE = ("top1", "head", "mid", "tail", "many", "medium", "few", "balanced")  # means of right or wrong answers
CHANCE = dict.fromkeys(BY_IMAGE, 1) | {"top5": 5}  # accuracies, and how many classes an answer names
KINDS = {"entry": ("experiment", ""), "teacher": ("teacher", "teachers"), "cache": ("cache", "caches")}


@dataclass(frozen=True)
class Point:
    """What is printed as a curve: the mean of its points at some places (epochs, or blocks as `printed_curve` has)."""

    figure: Literal["cls_dist_distance", "attention_distance", "feature_rank"]
    method: str  # as in deit_lt_figures_digitised.csv
    at: tuple[int, ...] | None = None  # None: all


@dataclass(frozen=True)
class Minus:
    """A run of the same study that is taken off, in the same metric and head, and what is printed of it."""

    entry: str
    printed: Printed | None = None


@dataclass(frozen=True)
class Measure:
    """A number of one run of ours (none yet: no name), and its printed counterpart. At the last epoch, with `weights:
    best` at the epoch that was best on the test set: those of a teacher that teaches with them; with `weights:
    validation` at the one chosen on validation images."""

    entry: str | None = None  # under experiments
    teacher: str | None = None  # under teachers
    cache: str | None = None  # under caches: the teacher on views, and its entropy
    head: Head = "avg"
    metric: Metric = "top1"
    weights: Literal["last", "best", "validation"] = "last"
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of an analysis: values of columns
    rows: Literal["mean", "min"] = "mean"  # of the rows chosen: their mean, or the smallest
    study: str | None = None  # where this side alone is of another study than its comparison
    minus: Minus | None = None  # the number is then a difference
    printed: Printed | None = None
    curve: Point | None = None

    def __post_init__(self) -> None:
        if sum(name is not None for name in (self.entry, self.teacher, self.cache)) > 1:
            raise ValueError("names an entry, a teacher or a cache: one of them")
        if (self.metric in (ON_VIEWS, "entropy")) != (self.cache is not None) and self.name:
            raise ValueError(f"{self.metric} is {'not ' if self.cache else ''}of a cache")
        if self.where and self.metric not in ANALYSES:
            raise ValueError(f"where: chooses rows of an analysis; {self.metric} is none")
        if self.minus and (self.metric not in BY_IMAGE or not self.entry or self.curve):
            raise ValueError("minus: takes an entry off an entry, in an accuracy by single test images")
        if self.weights != "last" and (self.cache or self.metric in ANALYSES):
            raise ValueError(f"weights: {self.weights} is of a metrics file; {self.metric} is not in one")
        if self.printed and self.curve:
            raise ValueError("printed and curve: what is printed is one of them")

    @property
    def kind(self) -> str:
        return next((kind for kind in KINDS if getattr(self, kind)), "entry")

    @property
    def name(self) -> str | None:
        return getattr(self, self.kind)

    def absent(self, study: str, reports: Path) -> tuple[str, ...]:
        """Those of `runs` that were not run."""
        alone = (self, None) if not self.minus else (replace(self, minus=None), self._taken_off)
        return tuple(each.name for each in alone if each and each.by_seed(study, reports) is None)

    @property
    def runs(self) -> tuple[str, ...]:
        """The names of what it is of."""
        return tuple(filter(None, (self.name, self.minus and self.minus.entry)))

    @property
    def unit(self) -> str:
        return ANALYSES[self.metric][2] if self.metric in ANALYSES else "nats" if self.metric == "nll" else "points"

    def chance(self, classes: int) -> float | None:
        """The accuracy in % of guessing among so many classes; None for what is no accuracy, or a difference."""
        return 100 * CHANCE[self.metric] / classes if self.metric in CHANCE and not self.minus else None

    def metrics(self, study: str, reports: Path) -> dict | None:
        """The metrics file. Raises UserError as `results.read` does."""
        kind, under = KINDS[self.kind]
        return results.read(reports / "metrics" / study / under / f"{self.name}.json", self.name, kind, study)

    def by_seed(self, study: str, reports: Path) -> dict[int, float] | None:
        """{seed: value}, in `unit`; a seed without a value (no such class, no such token) is left out. None: not run.

        Raises UserError for a file that is damaged or of something else, and for a head that the run has not.
        """
        if self.metric in ANALYSES:
            return self._analysis(self._folder(study, reports))
        found = self.metrics(study, reports)
        if found is None:
            return None
        values = {}
        for seed, measured in found["seeds"].items():
            if not self.cache and self.weights not in measured:
                continue  # not measured: no validation images
            at = measured if self.cache else measured[self.weights].get(self.head)
            if at is None:
                raise UserError(f"{self.name} has no head '{self.head}'; it has cls")
            values[int(seed)] = at[self.metric]
        known = {seed: value for seed, value in values.items() if value is not None}
        if not self.minus:
            return known
        other = self._taken_off.by_seed(study, reports)
        return None if other is None else {seed: known[seed] - other[seed] for seed in known if seed in other}

    @property
    def _taken_off(self) -> Measure:
        return replace(self, entry=self.minus.entry, printed=self.minus.printed, minus=None)

    def _folder(self, study: str, reports: Path) -> Path:
        return reports / "analysis" / study / ("teachers" if self.cache else "") / self.name

    def spread(self, study: str, reports: Path, seeds: list[int]) -> tuple[float, int] | None:
        """(standard error of the mean over images, root mean square over seeds; images): of the histogram of entropies,
        else as image_spread.csv has it.

        None where the analysis keeps none. Raises UserError for a damaged file.
        """
        folder = self._folder(study, reports)
        path = folder / ("entropy.csv" if self.metric == "entropy" else "image_spread.csv")
        if self.metric not in ANALYSES or not path.is_file():
            return None
        rows, of = csv_file.read(path, remedy="make the analysis again"), []
        try:
            for seed in map(str, seeds):
                mine = [row for row in rows if row["seed"] == seed]
                of.append(self._of_histogram(mine) if self.metric == "entropy" else self._of_spread(mine))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: cut short, or no column {error}; make the analysis again") from None
        if None in of:
            return None
        return float(np.sqrt(np.mean([squared for squared, _ in of]))), min(images for _, images in of)

    def _of_histogram(self, rows: list[dict[str, str]]) -> tuple[float, int]:
        """(squared standard error of the mean, images) of one seed."""
        bins = [row for row in rows if all(row[key] in values for key, values in self.where.items())]
        middle = np.array([(float(r["bin_left"]) + float(r["bin_right"])) / 2 for r in bins])
        count = np.array([int(r["count"]) for r in bins])
        n = int(count.sum())
        if n < 2:
            raise ValueError("of a seed")
        return float(count @ (middle - count @ middle / n) ** 2) / (n - 1) / n, n

    def _of_spread(self, rows: list[dict[str, str]]) -> tuple[float, int] | None:
        """The same; None where not exactly one line is of what is asked for. An epoch has no spread of its own: that of
        the last one stands for it."""
        where = {key: values for key, values in self.where.items() if key != "epoch"}
        mine = [r for r in rows if r["metric"] == self.metric and r["rows"] == self.rows]
        found = [r for r in mine if all(r[key] in values for key, values in where.items())]
        return (float(found[0]["stderr"]) ** 2, int(found[0]["n"])) if len(found) == 1 else None

    def _analysis(self, folder: Path) -> dict[int, float] | None:
        name, column, _ = ANALYSES[self.metric]
        path = folder / name
        if not path.is_file():
            return None
        rows = csv_file.read(path, remedy="make the analysis again")
        try:
            chosen = [row for row in rows if all(row[key] in values for key, values in self.where.items())]
            if self.metric == "epochs_to_95":
                return _epochs(chosen, f"{column}_{self.head}")
            of = {"mean": np.mean, "min": np.min}[self.rows]
            seeds = dict.fromkeys(int(row["seed"]) for row in chosen)
            return {s: float(of([float(r[column]) for r in chosen if int(r["seed"]) == s])) for s in seeds}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: cut short, or no column {error}; make the analysis again") from None

    def by_image(self, study: str, reports: Path, seeds: list[int]) -> tuple[np.ndarray, np.ndarray] | None:
        """(right, int8 [S, M]; labels, int64 [M]) on the test set: 0 or 1, with `minus` -1 to 1. None where the
        predictions are not there.

        Raises UserError for predictions that are damaged or lack a seed.
        """
        path = reports / "runs" / study / KINDS[self.kind][1] / self.name / "predictions.npz"
        if not path.is_file():
            return None
        names = [f"seed{seed}_{self.weights}_{self.head}" for seed in seeds]
        arrays = read_npz(path, ("labels", *names))
        labels = arrays["labels"].astype(np.int64)
        right = np.stack([arrays[name] == labels for name in names]).astype(np.int8)
        if not self.minus:
            return right, labels
        other = self._taken_off.by_image(study, reports, seeds)
        return None if other is None or not np.array_equal(labels, other[1]) else (right - other[0], labels)

    def members(self, study: str, reports: Path) -> list[int] | None:
        """The classes whose accuracies are averaged; None for top-1, where every image counts alike."""
        found = self.metrics(study, reports)
        if self.metric == "top1":
            return None
        groups = {name: classes for rule in found["groups"].values() for name, classes in rule.items()}
        return list(range(found["classes"])) if self.metric == "balanced" else groups[self.metric]

    def counterpart(self, published: Path, where: str) -> PrintedCell | None:
        """What is printed; None where nothing is. Raises UserError for a selector that fits nothing."""
        if self.printed:
            asked = replace(self.printed, columns=(self.metric,))
            cell = printed_cells(published, asked, (self.metric,), where)[self.metric]
            other = self._taken_off.counterpart(published, where) if self.minus else None
            return _difference(cell, other) if other else cell
        if not self.curve:
            return None
        drawn = Curve(self.curve.figure, where, self.curve.method)
        points = printed_curve(published, drawn)
        chosen = [p[-1] for p in points if self.curve.at is None or p[0] in self.curve.at]
        if not chosen:
            raise UserError(f"{where}: curve '{self.curve.method}' has no point at {self.curve.at}")
        return PrintedCell(f"{np.mean(chosen):.4g}", "", "read off the figure", f"DeiT-LT, {self.curve.figure}")


def _epochs(rows: list[dict[str, str]], column: str) -> dict[int, float]:
    """{seed: epochs trained until the test accuracy is first at 95 % of the one after the last epoch}."""
    found: dict[int, list[tuple[int, float]]] = {}
    for row in rows:
        if row[column]:
            found.setdefault(int(row["seed"]), []).append((int(row["epoch"]), float(row[column])))
    return {
        seed: 1.0 + next(epoch for epoch, value in points if value >= ENOUGH * points[-1][1])
        for seed, points in found.items()
    }


def _difference(first: PrintedCell, second: PrintedCell) -> PrintedCell:
    """Of two printed numbers, as one cell."""
    note = "; ".join(dict.fromkeys(filter(None, (first.note, second.note))))
    return PrintedCell(f"{float(first.value) - float(second.value):.4g}", "", note, first.source)
