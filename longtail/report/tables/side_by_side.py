"""Printed tables as one line a method: beside ours, or alone where nothing reproduces them yet.

The columns of the paper (all, head, mid, tail) repeat in every group, so that each can be sorted by itself.

Printed tables that nothing here reproduces yet, as they are printed: one line a method, one column a metric.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from longtail.base.text import signed
from longtail.report.published import doubt, read
from longtail.report.study import COLUMN_LABELS, ON_VIEWS, StudyConfig, Table
from longtail.report.tables.grid import NOT_MEASURED, ON_VALIDATION, Record, layout, phases, without_empty
from longtail.report.tables.square import PAIRED, differences

POINTS, STDERRS = 1.0, 2.0  # ours agrees with print within this many points, or standard errors of ours
HEADINGS = {
    "printed": "Printed",
    "last": "Ours, last epoch",
    "last_difference": "Difference",
    "best": "Ours, best on test",
    "best_difference": "Difference",
    "validation": "Ours, chosen on validation",
    "validation_difference": "Difference",
}
LAST_AND_BEST = "Ours, last epoch = best on test"


@dataclass(frozen=True)
class Shown:
    """One number: its text, what stands small beneath it, and a footnote's letter; all empty = nothing there."""

    text: str
    stderr: str = ""
    mark: str = ""
    agrees: bool | None = None  # of a difference


@dataclass(frozen=True)
class Line:
    """One method: {group: its columns}. entry None = of others' work, or nothing of params.yaml makes it yet."""

    label: str
    copied: bool
    groups: dict[str, tuple[Shown, ...]]
    seeds: int | None  # None = not run
    entry: str | None
    config_hash: str | None


@dataclass(frozen=True)
class SideBySide:
    """A table for the index. groups: {key of HEADINGS: heading}, those that it has."""

    name: str
    caption: str
    groups: dict[str, str]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    remarks: tuple[str, ...]
    footnotes: dict[str, str]

    @property
    def run(self) -> int:
        return sum(line.seeds is not None for line in self.lines)

    @property
    def of(self) -> int:
        """Lines that are to be run here; copied ones are not."""
        return sum(not line.copied for line in self.lines)


def agrees(record: Record, phase: str) -> bool | None:
    """Whether ours is within 1 point or 2 standard errors of what is printed; None unless there are both."""
    difference = record.difference(phase)
    if difference is None:
        return None
    return abs(difference) <= max(POINTS, STDERRS * (getattr(record, phase)["stderr"] or 0.0)) + 1e-9


def side_by_side(table: Table, cells: list[Record], study: StudyConfig) -> SideBySide:
    """The table's records beside one another. Differences only where the study is comparable with what is printed; the
    best epoch only where it is another one than the last."""
    grid = layout(table, cells, study)
    table, cells, _ = without_empty(table, cells)
    letters = {note: letter for letter, note in grid.footnotes.items()}
    changes = {key for key in HEADINGS if key.endswith("_difference")}
    left_out = set(changes) if not study.comparable else set()
    if table.shifted:
        left_out |= {"best", "best_difference"}
    if ON_VALIDATION not in phases(cells):
        left_out |= {"validation", "validation_difference"}
    if not any(cell.printed for cell in cells):
        left_out |= {"printed", *changes}
    ours = [cell for cell in cells if cell.last is not None and cell.column != ON_VIEWS]
    one_epoch = bool(ours) and all(cell.one_epoch for cell in ours)
    headings = HEADINGS | ({"last": LAST_AND_BEST} if one_epoch else {})
    if one_epoch:
        left_out |= {"best", "best_difference"}
    lines = []
    for index, row in enumerate(table.all_rows):
        mine = [cell for cell in cells if cell.row == index]
        groups = {key: tuple(_shown(cell, key, letters) for cell in mine) for key in HEADINGS if key not in left_out}
        run = next((cell.last for cell in mine if cell.config_hash and cell.last), None)
        first = mine[0]
        about = (run["n"] if run else None, first.name, first.config_hash)
        lines.append(Line(row.label, row.copied, groups, *about))
    if table.square:
        lines += _differences(table, cells, [key for key in HEADINGS if key not in left_out])
    return SideBySide(
        name=table.name,
        caption=table.caption,
        groups={key: text for key, text in headings.items() if key not in left_out},
        columns=tuple(COLUMN_LABELS[column] for column in table.columns),
        lines=tuple(lines),
        remarks=(*grid.remarks, *([PAIRED] if table.square else [])),
        footnotes=grid.footnotes,
    )


def _differences(table: Table, cells: list[Record], keys: list[str]) -> list[Line]:
    """A line for each difference of a square, with its interval beneath; no runs of their own."""
    found = differences(table, cells)
    each = len(found) // len(table.columns)
    lines = []
    for at in range(each):
        changed = found[at::each]
        told = tuple(Shown(*d.text.partition(" ")[::2]) for d in changed)
        groups = {key: told if key == "last" else tuple(Shown("") for _ in changed) for key in keys}
        lines.append(Line(changed[0].label, True, groups, None, None, None))
    return lines


def _shown(record: Record, key: str, letters: dict[str, str]) -> Shown:
    if key == "printed":
        if record.printed is None:
            return Shown("")
        stderr = f"± {record.printed.stderr}" if record.printed.stderr else ""
        return Shown(record.printed.value or "–", stderr, letters.get(record.printed.doubt, ""))
    phase, _, difference = key.partition("_")
    if phase == "best" and record.column == ON_VIEWS:  # of a cache, which knows no best epoch
        return Shown("")
    if difference:
        return Shown(signed(record.difference(phase), 1), agrees=agrees(record, phase))
    ours = getattr(record, phase)
    if ours is None:
        measured = phase != ON_VALIDATION or not record.config_hash or record.column == ON_VIEWS
        return Shown("" if measured else NOT_MEASURED)
    if ours["mean"] is None:
        return Shown("–")
    return Shown(f"{ours['mean']:.2f}", f"± {ours['stderr']:.2f}" if ours["stderr"] is not None else "")


LABELS = {"top1": "", "train_time_hours": "hours", "top1_delta_vs_BAL": "Δ to balanced"}


@dataclass(frozen=True)
class PrintedTable:
    """One CSV of data/published. lines: (dataset, ρ, method, backbone, {column: value as printed})."""

    name: str  # e.g. Table 2
    anchor: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, str, str, str, dict[str, str]], ...]
    doubtful: int  # cells whose note says not to trust them blindly


def printed_tables(folder: Path, prefix: str) -> list[PrintedTable]:
    """The tables in <prefix>_table_*.csv, in the order of their numbers. Raises UserError for a damaged file."""
    found = []
    for path in sorted(folder.glob(f"{prefix}_table_*.csv"), key=lambda p: (len(p.stem), p.stem)):
        rows = read(folder, path.name)
        lines: dict[tuple[str, ...], dict[str, str]] = {}
        for row in rows:
            key = (row["dataset"], row["imbalance"], row["method"], row["backbone"])
            text = row["value"] + (f" ± {row['stderr']}" if row["stderr"] else "")
            lines.setdefault(key, {})[_column(row)] = text or "–"
        found.append(
            PrintedTable(
                name=f"Table {re.fullmatch(rf'{prefix}_table_(.+)', path.stem)[1].upper().replace('S', 'S.')}",
                anchor=f"printed-{path.stem}",
                columns=tuple(dict.fromkeys(map(_column, rows))),
                lines=tuple((*key, values) for key, values in lines.items()),
                doubtful=sum(doubt(row["note"]) is not None for row in rows),
            )
        )
    return found


def _column(row: dict[str, str]) -> str:
    """`all`, `tail`, `ECE`, `hours`: the split of an accuracy, else the metric with its split."""
    metric = LABELS.get(row["metric"], row["metric"].replace("_", " "))
    split = row["split"] if row["split"] != "all" or not metric else ""
    return f"{metric} {split}".strip()
