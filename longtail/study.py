"""What a study reports: its entries in order, and its tables with the printed cells that stand beside ours.

An entry of the `studies` section of params.yaml. Nothing here trains anything: a row whose entry was never run, or
that names no entry, stays visibly empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

# fmt: off
Column = Literal[
    "top1", "top5", "head", "mid", "tail", "many", "medium", "few", "balanced", "macro_f1",
    "ece", "mce", "classwise_ece", "nll",
]
# fmt: on
Head = Literal["avg", "cls", "dist"]

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
}


@dataclass(frozen=True)
class Printed:
    """Selects one row of a printed table: one cell of data/published/<file> per column."""

    file: str  # e.g. deit_lt_table_2.csv
    method: str  # as in the CSV
    backbone: str
    dataset: str
    imbalance: int  # rho
    columns: tuple[Column, ...] | None = None  # the table's columns that are printed; all of them when left out


@dataclass(frozen=True)
class Row:
    """One table row: ours (an experiment, or a teacher), printed, or both."""

    label: str
    entry: str | None = None  # under experiments
    teacher: str | None = None  # under teachers
    head: Head = "avg"  # avg = mean of raw logits; the only head where there is one
    printed: Printed | None = None

    def __post_init__(self) -> None:
        if self.entry and self.teacher:
            raise ValueError(f"row '{self.label}' names an entry and a teacher; one row is one run")


@dataclass(frozen=True)
class Table:
    """One table of the report, in the shape of a printed one."""

    name: str  # file name, e.g. overall
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if not self.columns or not self.rows:
            raise ValueError(f"table '{self.name}' needs at least one column and one row")
        if not re.fullmatch(r"[a-z0-9_-]+", self.name):
            raise ValueError(f"table name '{self.name}': it is a file name, use a-z, 0-9, _ and -")


@dataclass(frozen=True)
class Item:
    """An entry of params.yaml and what tables and figures call it."""

    name: str
    label: str


@dataclass(frozen=True)
class Curve:
    """A curve read off a printed figure, drawn thin and dashed behind ours."""

    figure: Literal["cls_dist_distance", "feature_rank"]
    label: str
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
    curves: tuple[Curve, ...] = ()  # where the recipe is the printed one

    def __post_init__(self) -> None:
        for what in ("experiments", "teachers", "caches", "tables"):
            names = [item.name for item in getattr(self, what)]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"{what} names '{min(twice)}' twice")
        if self.curves and not self.comparable:
            raise ValueError("curves: printed curves belong to a comparable study")
        known = {"entry": self.experiments, "teacher": self.teachers}
        for table in self.tables:
            for row in table.rows:
                for kind, items in known.items():
                    name = getattr(row, kind)
                    if name is not None and name not in {item.name for item in items}:
                        raise ValueError(
                            f"table '{table.name}', row '{row.label}': {kind} '{name}' is not listed in the study"
                        )


# Figures of a study: {name: (title, caption)}. Both the stage that draws them and the report read this.
FIGURES = {
    "groups": (
        "Accuracy by class group (as Fig. 1c)",
        "Averaged head, last epoch: accuracy on head, mid and tail classes (mean over seeds, bars: standard error, "
        "dots: seeds).",
    ),
    "entropy": (
        "Teacher entropy in and out of distribution (Fig. 3)",
        "Entropy of the teacher's softmax for the images it was trained on (in) and for the student's strong, mixed "
        "views (out); dotted lines mark the means. Share of images, all seeds together.",
    ),
    "cls_dist_distance": (
        "Distance between CLS and DIST (Fig. 4a)",
        "1 - cosine similarity of the final CLS and DIST tokens over the training views of an epoch (line: mean over "
        "seeds, band: standard error).",
    ),
    "attention_distance": (
        "Mean attention distance (Fig. 4b)",
        "Per head, on images of tail classes, heads sorted ascending within a block; solid: block 1, dashed: block 2. "
        "Rows and columns of CLS and DIST are left out (mean over seeds).",
    ),
    "feature_rank": (
        "Feature rank by block (Fig. 4c)",
        "Directions needed to reconstruct the tail classes' tokens to 1 % of their squared norm, centred by the mean "
        "of all classes (line: mean over seeds, band: standard error). The uncentred variant is in the CSV.",
    ),
    "rollout": (
        "Attention rollout (Fig. 5)",
        "Where the CLS and DIST tokens look, on images of tail classes: heads averaged, identity added, rows "
        "normalised, blocks multiplied, each map divided by its maximum.",
    ),
}
