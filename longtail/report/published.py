"""Numbers printed in the papers, read from the CSVs of data/published as text: trailing zeros stay.

One file per printed table, one row per cell; columns as in data/published/README.md. An empty value is a dash in the
paper or was lost when the paper was read (the note says which).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from longtail.base import csv_file
from longtail.base.errors import UserError, nearest
from longtail.report.study import ON_VIEWS, SHIFTS, Curve, Printed

FIELDS = ("paper", "table", "dataset", "imbalance", "method", "backbone", "metric", "split", "value", "stderr", "note")
DOUBTS = ("DOUBTFUL", "DISAGREES", "MISSING")  # how a note begins that a reader of the cell must see
GROUP_SPLITS = {
    "top1": "all",
    "head": "head",
    "mid": "mid",
    "tail": "tail",
    "many": "head",
    "medium": "mid",
    "few": "tail",
} | {shift: shift for shift in SHIFTS}
METRICS = {  # our column: the CSVs' metric, split `all`
    "top5": "top5",
    "ece": "ECE",
    "mce": "MCE",
    ON_VIEWS: "teacher_acc_on_train_views",
}

DIGITISED = "deit_lt_figures_digitised.csv"
CURVES = {  # figure of ours: the CSV's metric, and how its split tells the place of a point
    "cls_dist_distance": ("cls_dist_cosine_distance", r"epoch(\d+)"),
    "attention_distance": ("mean_attention_distance_px", r"block(\d+)_sortedhead(\d+)"),
    "feature_rank": ("feature_rank_DIST", r"block(\d+)"),
}


def doubt(note: str) -> str | None:
    """What a note says from the first of its parts that doubts the number; None where none does."""
    parts = note.split("; ")
    return next(("; ".join(parts[i:]) for i, part in enumerate(parts) if part.startswith(DOUBTS)), None)


@dataclass(frozen=True)
class PrintedCell:
    """One printed number, as text; value '' = a dash in the paper or lost."""

    value: str
    stderr: str
    note: str
    source: str  # e.g. "DeiT-LT, Table 2 (CIFAR-10-LT, ρ = 100)"

    @property
    def text(self) -> str:
        """As printed, `–` where there is no number."""
        if not self.value:
            return "–"
        return f"{self.value} ± {self.stderr}" if self.stderr else self.value

    @property
    def doubt(self) -> str | None:
        """The note, when the cell is not to be trusted blindly."""
        return doubt(self.note)


def read(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of one CSV. Raises UserError where it is missing or has other columns."""
    path = folder / name
    if not path.is_file():
        raise UserError(f"{path}: no such file{nearest(name, [p.name for p in sorted(folder.glob('*.csv'))])}")
    rows = csv_file.read(path, FIELDS)
    if rows and tuple(rows[0]) != FIELDS:
        raise UserError(f"{path}: columns are {', '.join(rows[0])}; expected {', '.join(FIELDS)}")
    return rows


def select(rows: list[dict[str, str]], where: str, **wanted: str) -> list[dict[str, str]]:
    """The rows with the wanted values, narrowed down key by key: a key that nothing fits is named, with the nearest."""
    for key, value in wanted.items():
        kept = [row for row in rows if row[key] == value]
        if not kept:
            raise UserError(
                f"{where}: no row with {key} '{value}'{nearest(value, dict.fromkeys(r[key] for r in rows))}"
            )
        rows = kept
    return rows


def printed_cells(folder: Path, printed: Printed, columns: tuple[str, ...], where: str) -> dict[str, PrintedCell]:
    """{column: cell} of the columns that are printed. Raises UserError unless each is exactly one row of the CSV."""
    where = f"{where} ({printed.file})"
    named = {key: str(getattr(printed, key)) for key in ("dataset", "imbalance", "method")}
    rows = select(read(folder, printed.file), where, **named)
    cells = {}
    for column in printed.columns if printed.columns is not None else columns:
        if column not in columns:
            raise UserError(f"{where}: printed column '{column}' is no column of the table{nearest(column, columns)}")
        if column not in GROUP_SPLITS and column not in METRICS:
            raise UserError(f"{where}: no paper prints '{column}'; list the printed ones under `columns`")
        backbone = printed.teacher_backbone if column == ON_VIEWS else None
        key = {"backbone": backbone or printed.backbone}
        key |= {"metric": METRICS.get(column, "top1"), "split": GROUP_SPLITS.get(column, "all")}
        found = select(rows, where, **key)
        if len(found) > 1:
            raise UserError(
                f"{where}: {len(found)} rows for column '{column}' of method '{printed.method}'; expected one"
            )
        cells[column] = PrintedCell(found[0]["value"], found[0]["stderr"], found[0]["note"], source_of(found[0]))
    return cells


def printed_curve(folder: Path, curve: Curve) -> list[tuple[float, ...]]:
    """Points read off a printed figure, ascending: (epoch, value), (block, value), or (block from 1, head, value).

    Raises UserError for a method that is not in it.
    """
    metric, place = CURVES[curve.figure]
    rows = select(read(folder, DIGITISED), f"curve '{curve.label}' ({DIGITISED})", metric=metric, method=curve.method)
    return sorted((*map(float, re.fullmatch(place, row["split"]).groups()), float(row["value"])) for row in rows)


def printed_tails(folder: Path, method: str) -> dict[int, float]:
    """{imbalance factor: tail accuracy} of a method in Fig. 1c. Raises UserError for a method that is not in it."""
    rows = select(read(folder, DIGITISED), f"Fig. 1c ({DIGITISED})", table="fig 1c", split="tail", method=method)
    return {int(row["imbalance"]): float(row["value"]) for row in rows}


def source_of(row: dict[str, str]) -> str:
    """Where a number stands: paper, table, dataset."""
    place = row["table"] if row["table"].startswith(("text", "fig ", "issue")) else f"Table {row['table']}"
    return f"{row['paper']}, {place} ({row['dataset']}, ρ = {row['imbalance']})"
