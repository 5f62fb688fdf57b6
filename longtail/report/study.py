"""What a study reports: its entries in order, and its tables with the printed cells that stand beside ours.

An entry of the `studies` section of params.yaml. Nothing here trains anything: a row whose entry was never run, or
that names no entry, stays visibly empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from longtail.base.errors import nearest
from longtail.evaluation.metrics import EXPERTS
from longtail.evaluation.shifts import TESTS
from longtail.report.figures.captions import FIGURES
from longtail.report.panels import Smoothing, Square, Sweep, check_listed

# fmt: off
Column = Literal[
    "top1", "top5", "head", "mid", "tail", "many", "medium", "few", "balanced", "macro_f1",
    "ece", "mce", "classwise_ece", "nll",
    "teacher_top1_on_views", "experts",
    "forward-50", "forward-25", "forward-10", "forward-5", "forward-2", "uniform-1",
    "backward-2", "backward-5", "backward-10", "backward-25", "backward-50",
]
# fmt: on
# accuracy on test sets whose classes are long-tailed too, of diagnostics.json: DiVE Table 8
SHIFTS = tuple(f"{direction}-{factor}" for direction, factor in TESTS)
Head = Literal["avg", "cls", "dist"]
ON_VIEWS = "teacher_top1_on_views"  # of a cache: the teacher's accuracy on the training views it labels (trap 55)
# drawn from stages/virtual_examples.py
OF_TEACHERS = (
    "virtual_examples",
    "virtual_examples_settings",
    "virtual_example_curves",
    "virtual_example_curves_tau",
    "tsne",
)
OF_STUDENTS = {  # {figure: the stage that it is drawn from}, of the students that `figures` names
    "neighbours": "compare_features",
    "feature_drift": "compare_features",
    "predictions": "compare_predictions",
}
COUNT_RULE = {"head": "many", "mid": "medium", "tail": "few"}

COLUMN_LABELS = {
    "top1": "All",
    "top5": "Top-5",
    "head": "Head",
    "mid": "Mid",
    "tail": "Tail",
    "many": "Many",
    "medium": "Medium",
    "few": "Few",
    "balanced": "Balanced",
    "macro_f1": "Macro-F1",
    "ece": "ECE",
    "mce": "MCE",
    "classwise_ece": "Class-wise ECE",
    "nll": "NLL",
    ON_VIEWS: "Teacher on views",
    EXPERTS: "Experts used",
} | {shift: shift.capitalize().replace("-", " ").removesuffix(" 1") for shift in SHIFTS}


@dataclass(frozen=True)
class Printed:
    """Selects one row of a printed table: one cell of data/published/<file> per column."""

    file: str  # e.g. deit_lt_table_2.csv
    method: str  # as in the CSV
    backbone: str
    dataset: str
    imbalance: int  # rho
    columns: tuple[Column, ...] | None = None  # the table's columns that are printed; all of them when left out
    teacher_backbone: str | None = None  # under which the CSV keeps the row's teacher_top1_on_views


@dataclass(frozen=True)
class Row:
    """One table row: ours (an experiment, or a teacher), printed, or both.

    groups: by which rule our head, mid and tail are made; the papers mix rules within one table (METHODS 1.2).
    count_images: by number of training images, and every test image counts alike, not every class: CBD Table 8 of
    iNaturalist 2017, whose test set is not balanced.
    """

    label: str
    entry: str | None = None  # under experiments
    teacher: str | None = None  # under teachers
    head: Head = "avg"  # avg = mean of raw logits; the only head where there is one
    printed: Printed | None = None
    cache: str | None = None  # under caches; for the column teacher_top1_on_views
    groups: Literal["author", "count", "count_images"] = "author"  # head, mid, tail by class index, or by images
    copied: bool = False  # of others' work, which the paper copies and nobody runs here
    # of a shifted test set: what the logits are corrected by, as diagnostics.json names it (evaluation/shifts.py)
    correction: Literal["raw", "from_train_prior", "from_uniform"] = "raw"

    def __post_init__(self) -> None:
        if self.entry and self.teacher:
            raise ValueError(f"row '{self.label}' names an entry and a teacher; one row is one run")
        if self.copied and (self.entry or self.teacher or self.cache or not self.printed):
            raise ValueError(f"row '{self.label}' is copied: it has printed numbers and no run")

    def measured(self, column: Column) -> Column:
        """The metric that stands in a column of this row."""
        return column if self.groups == "author" else COUNT_RULE.get(column, column)


@dataclass(frozen=True)
class Copied:
    """Rows of others' work that stand first in a printed table."""

    file: str
    backbone: str
    dataset: str
    imbalance: int
    methods: tuple[str, ...]

    def rows(self) -> tuple[Row, ...]:
        place = (self.backbone, self.dataset, self.imbalance)
        return tuple(Row(m, printed=Printed(self.file, m, *place), copied=True) for m in self.methods)


@dataclass(frozen=True)
class Table:
    """One table of the report, in the shape of a printed one."""

    name: str  # file name, e.g. overall
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    copied: Copied | None = None
    square: Square | None = None  # four rows as a 2 x 2
    # a sweep whose best row would be chosen by the test accuracies that it shows: it says so, and no claim rests on it
    exploratory: bool = False

    @property
    def shifted(self) -> bool:
        """Of shifted test sets, which are measured at the last epoch alone."""
        return bool(set(self.columns) & set(SHIFTS))

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """Copied rows, then the study's own."""
        return (self.copied.rows() if self.copied else ()) + self.rows

    def __post_init__(self) -> None:
        if not self.columns or not self.rows:
            raise ValueError(f"table '{self.name}' needs at least one column and one row")
        if self.shifted and not set(self.columns) <= set(SHIFTS):
            raise ValueError(f"table '{self.name}': columns of shifted test sets stand in a table of their own")
        if not self.shifted and (corrected := [row.label for row in self.rows if row.correction != "raw"]):
            raise ValueError(f"table '{self.name}', row '{corrected[0]}': correction is of columns such as {SHIFTS[0]}")
        if self.square:
            self._check_square()
        if not re.fullmatch(r"[a-z0-9_-]+", self.name):
            raise ValueError(f"table name '{self.name}': it is a file name, use a-z, 0-9, _ and -")

    def _check_square(self) -> None:
        runs = {row.entry or row.teacher for row in self.all_rows} - {None}
        if len(self.all_rows) != 4 or len(runs) != 4 or any(row.printed for row in self.rows):
            raise ValueError(f"table '{self.name}': a square has four rows, each a run of its own, nothing printed")
        if len({(row.head, row.groups) for row in self.rows}) > 1:
            raise ValueError(f"table '{self.name}': the rows of a square have one head and one rule of groups")
        if odd := {ON_VIEWS, *SHIFTS} & set(self.columns) or {row.groups for row in self.rows} & {"count_images"}:
            raise ValueError(f"table '{self.name}': a square has no {min(odd)}; it shows means over classes or images")


@dataclass(frozen=True)
class Item:
    """An entry of params.yaml and what tables and figures call it."""

    name: str
    label: str


@dataclass(frozen=True)
class Curve:
    """A curve read off a printed figure, drawn thin and dashed behind ours."""

    figure: Literal["cls_dist_distance", "attention_distance", "feature_rank"]
    label: str  # that of an entry gives it the entry's colour
    method: str  # as in deit_lt_figures_digitised.csv


@dataclass(frozen=True)
class StudyConfig:
    """One study = one page of results."""

    title: str
    note: str  # what a reader must know before comparing, in a sentence or two
    comparable: bool  # same dataset and recipe as printed: differences are shown
    experiments: tuple[Item, ...]
    teachers: tuple[Item, ...]
    caches: tuple[Item, ...]  # whose teacher entropy is analysed
    tables: tuple[Table, ...]
    pretrainings: tuple[Item, ...] = ()  # encoders that its experiments start from, shown by what they reconstruct
    curves: tuple[Curve, ...] = ()  # where the recipe is the printed one
    smoothing: tuple[Smoothing, ...] = ()  # panels of the figure `head_smoothing`
    sweeps: tuple[Sweep, ...] = ()  # panels of the figure `sweep`
    # the entries a figure shows, in order; else all, or none of OF_STUDENTS
    figures: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what in ("experiments", "teachers", "caches", "pretrainings", "tables"):
            names = [item.name for item in getattr(self, what)]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"{what} names '{min(twice)}' twice")
        for items in (self.experiments + self.teachers, self.caches):  # each list is in one figure, told apart by label
            labels = [item.label for item in items]
            if twice := {label for label in labels if labels.count(label) > 1}:
                names = [item.name for item in items if item.label == min(twice)]
                raise ValueError(
                    f"label '{min(twice)}' stands for {' and '.join(names)}; figures tell entries by labels"
                )
        drawn = [(curve.figure, curve.label) for curve in self.curves]
        if len(set(drawn)) < len(drawn):
            raise ValueError(f"curves: each needs a label of its own in its figure, found {drawn}")
        if self.curves and not self.comparable:
            raise ValueError("curves: printed curves belong to a comparable study")
        self._check_figures()
        listed = {item.name for item in self.teachers}
        check_listed("smoothing", self.smoothing, listed)
        check_listed("sweeps", self.sweeps, listed)
        known = {"entry": self.experiments, "teacher": self.teachers, "cache": self.caches}
        for table in self.tables:
            for row in table.rows:
                for kind, items in known.items():
                    name = getattr(row, kind)
                    if name is not None and name not in {item.name for item in items}:
                        raise ValueError(
                            f"table '{table.name}', row '{row.label}': {kind} '{name}' is not listed in the study"
                        )

    def _check_figures(self) -> None:
        for figure, names in self.figures.items():
            if figure not in FIGURES:
                raise ValueError(f"figures.{figure}: no such figure{nearest(figure, FIGURES)}")
            known = [item.name for item in self.candidates(figure)]
            for name in names:
                if name not in known:
                    raise ValueError(f"figures.{figure}: '{name}' is not listed in the study{nearest(name, known)}")

    def candidates(self, figure: str) -> tuple[Item, ...]:
        """What a figure could show: caches for teachers' labels, pretrainings for reconstructions, teachers for DiVE's
        and CBD's figures, teachers and students for accuracy, else students."""
        if figure in ("entropy", "taught", "reconstructions"):
            return self.pretrainings if figure == "reconstructions" else self.caches
        if figure in ("head_smoothing", "sweep"):
            panels = self.smoothing if figure == "head_smoothing" else self.sweeps
            named = {name for panel in panels for name in panel.names}
            return tuple(item for item in self.teachers if item.name in named)
        if figure in OF_TEACHERS or figure in OF_STUDENTS:
            return self.teachers
        return self.teachers + self.experiments if figure == "groups" else self.experiments

    def shown(self, figure: str) -> tuple[Item, ...]:
        """What it shows: the entries named under `figures`, in that order, or all; of OF_STUDENTS none."""
        items = {item.name: item for item in self.candidates(figure)}
        return tuple(items[name] for name in self.figures.get(figure, () if figure in OF_STUDENTS else items))
