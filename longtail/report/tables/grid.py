"""Printed tables side by side with ours: records (one per cell), and the grid of text cells that renderers write out.

A table of one column puts printed, ours and their difference next to one another; one of several columns (all, head,
mid, tail) keeps the paper's columns and puts printed and ours beneath one another.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from pathlib import Path

from longtail.base.text import signed
from longtail.report.published import PrintedCell, printed_cells
from longtail.report.results import Results
from longtail.report.study import COLUMN_LABELS, ON_VIEWS, SHIFTS, StudyConfig, Table

NOT_RUN = "not run"
CHOSEN = (
    "Ours: mean ± standard error over seeds, in %. The last epoch is the result; best on test picks the epoch on "
    "the test set, as DeiT-LT and LiVT do."
)
DRAWN = (
    "Ours: mean ± standard error over seeds, in %, last epoch; what is expected over all draws of such a test set from "
    "the balanced one."
)
EXPLORATORY = (
    "Exploratory: the best of these rows would be chosen by the test accuracies shown. It is no result, and no claim "
    "rests on it."
)
RANK = "by rank in the training set, cut where the authors' code cuts them"
BY_RANK = f"Head, mid and tail are classes {RANK}; group accuracy is the unweighted mean of its classes' accuracies."
BY_IMAGES = (
    "Our head, mid and tail are the test images of classes with more than 100, 20 to 100, fewer than 20 training "
    "images; every image counts alike, as in print, where elsewhere every class does."
)
OURS = {"last": "ours, last epoch", "best": "ours, best on test"}
ONE_EPOCH = "ours, last epoch = best on test"  # where both are the same in every cell
ON_VALIDATION = "validation"  # a third epoch, in tables that have a run on a dataset with validation images
OF_VALIDATION = "ours, chosen on validation"
NOT_MEASURED = "not measured"  # of a run without them in such a table
VALIDATED = (
    "Chosen on validation picks the epoch with the best mean of class accuracies on images that are neither trained on "
    "nor tested: a hold-out of the training images, or the data set's own list."
)


@dataclass(frozen=True)
class Record:
    """One cell of a table: what is printed, and ours."""

    row: int
    label: str
    column: str  # the metric measured: `few` under the heading Tail in a row of the count rule
    head: str
    name: str | None  # the entry or teacher; None = no entry yet
    config_hash: str | None  # None = not run
    printed: PrintedCell | None  # None = the paper does not print it
    last: dict | None  # {"mean", "stderr", "n"}; None = not run
    best: dict | None
    validation: dict | None = None
    copied: bool = False  # of others' work: there is no ours
    by_seed: dict[int, float] = field(default_factory=dict)  # `last` of each seed

    def difference(self, phase: str) -> float | None:
        """Ours minus printed, in points; None unless there are both."""
        ours = getattr(self, phase)
        if ours is None or ours["mean"] is None or self.printed is None or not self.printed.value:
            return None
        return ours["mean"] - float(self.printed.value)

    @property
    def one_epoch(self) -> bool:
        """Is the last epoch also the best on the test set, of every seed, as far as the numbers tell?"""
        return self.last is not None and self.last == self.best

    @property
    def numbers(self) -> bool:
        """Is anything printed or measured?"""
        measured = self.last is not None and self.last["mean"] is not None
        return measured or bool(self.printed and self.printed.value)


@dataclass
class Cell:
    """Text of one grid cell. kind: label, what, printed, ours, difference, missing, seeds, entry."""

    text: str
    kind: str
    mark: str = ""  # footnote letter
    span: int = 1  # rows; 0 = covered by the cell above
    name: str = ""  # kind entry: the entry's name, text being its hash


@dataclass
class Grid:
    """A laid-out table, ready for a renderer."""

    name: str
    caption: str
    header: list[str]
    blocks: list[list[list[Cell]]] = field(default_factory=list)  # row groups > rows > cells
    footnotes: dict[str, str] = field(default_factory=dict)  # letter: text
    remarks: list[str] = field(default_factory=list)


def phases(cells: list[Record]) -> dict[str, str]:
    """{attribute of Record: what it is called}: last, best, and validation where a cell has it."""
    return OURS | ({ON_VALIDATION: OF_VALIDATION} if any(cell.validation for cell in cells) else {})


def records(table: Table, results: Results, published: Path) -> list[Record]:
    """Every cell of a table, row by row, copied rows first. Raises UserError for a selector or head not there."""
    found = []
    for number, row in enumerate(table.all_rows):
        where = f"table '{table.name}', row '{row.label}'"
        printed = printed_cells(published, row.printed, table.columns, where) if row.printed else {}
        metrics = results.of(row)
        about = {"head": row.head, "name": row.entry or row.teacher, "copied": row.copied}
        about["config_hash"] = metrics["config_hash"] if metrics else None
        for column in table.columns:
            ours = {phase: results.value(row, column, phase) for phase in (*OURS, ON_VALIDATION)}
            measured = row.measured(column)
            seeds = results.by_seed(row, column)
            found.append(
                Record(number, row.label, measured, printed=printed.get(column), by_seed=seeds, **about, **ours)
            )
    return found


def number(value: dict | None, copied: bool = False) -> Cell:
    """`88.10 ± 0.21`, `88.10` for a single seed, `–` for an empty group, `not run`; nothing in a copied row."""
    if copied:
        return Cell("", "ours")
    if value is None:
        return Cell(NOT_RUN, "missing")
    if value["mean"] is None:
        return Cell("–", "ours")
    stderr = "" if value["stderr"] is None else f" ± {value['stderr']:.2f}"
    return Cell(f"{value['mean']:.2f}{stderr}", "ours")


def without_empty(table: Table, cells: list[Record]) -> tuple[Table, list[Record], str]:
    """Without columns that were run, have no number and are printed nowhere, as no class of the dataset is in the
    group; and what to say of them. A square keeps all."""
    width = len(table.columns)
    columns = {name: cells[place::width] for place, name in enumerate(table.columns)}
    empty = {
        name
        for name, column in columns.items()
        if any(cell.last for cell in column) and not any(cell.numbers for cell in column)
    }
    if not empty or len(empty) == width or table.square:
        return table, cells, ""
    kept = [cell for at, cell in enumerate(cells) if table.columns[at % width] not in empty]
    named = ", ".join(COLUMN_LABELS[name] for name in table.columns if name in empty)
    shown = replace(table, columns=tuple(name for name in table.columns if name not in empty))
    return shown, kept, f"Left out, as no class of this dataset is in it: {named}."


def layout(table: Table, cells: list[Record], study: StudyConfig) -> Grid:
    """The grid of a table. Differences are left out where the study is not comparable with what is printed, columns
    where they are empty."""
    table, cells, left_out = without_empty(table, cells)
    wide = len(table.columns) == 1
    called = phases(cells)
    grid = Grid(table.name, table.caption, _header(table, wide, study.comparable, called))
    for index in range(len(table.all_rows)):
        mine = [c for c in cells if c.row == index]
        about = (grid, study.comparable, called)
        block = _wide(mine[0], *about) if wide else _stacked(mine, *about)
        grid.blocks.append(block)
    sources = dict.fromkeys(c.printed.source for c in cells if c.printed)
    if sources:
        grid.remarks.append(f"Printed: {'; '.join(sources)}.")
    grid.remarks.append(DRAWN if table.shifted else CHOSEN)
    if left_out:
        grid.remarks.append(left_out)
    grid.remarks += [EXPLORATORY] if table.exploratory else []
    grid.remarks += [VALIDATED] if ON_VALIDATION in called else []
    by_count = [f"“{row.label}”" for row in table.rows if row.groups == "count"]
    if by_count:
        rule = "more than 100, 20 to 100, fewer than 20 training images"
        grid.remarks.append(f"Our head, mid and tail are classes with {rule} in: {', '.join(by_count)}; else {RANK}.")
    if any(row.groups == "count_images" for row in table.rows):
        grid.remarks.append(BY_IMAGES)
    elif {"head", "mid", "tail"} & set(table.columns) and not by_count:
        grid.remarks.append(BY_RANK)
    if sources and not study.comparable:
        grid.remarks.append(
            "The printed numbers are of another dataset or recipe: compare the pattern, not the values."
        )
    return grid


def _header(table: Table, wide: bool, comparable: bool, called: dict[str, str]) -> list[str]:
    if not wide:
        return ["", "", *(COLUMN_LABELS[c] for c in table.columns), "Seeds", "Entry"]
    ours = [text for phase in called.values() for text in (phase.capitalize(), "Difference")[: 1 + comparable]]
    return ["", "Printed", *ours, "Seeds", "Entry"]


def _ours(record: Record, phase: str) -> Cell:
    if phase == ON_VALIDATION and record.validation is None and record.config_hash and not record.copied:
        return Cell("" if record.column == ON_VIEWS else NOT_MEASURED, "missing")
    return number(getattr(record, phase), record.copied)


def _wide(record: Record, grid: Grid, comparable: bool, called: dict[str, str]) -> list[list[Cell]]:
    line = [Cell(record.label, "label"), _printed(record, grid)]
    for phase in called:
        line.append(_ours(record, phase))
        if comparable:
            line.append(Cell(signed(record.difference(phase), 1), "difference"))
    return [[*line, *_provenance(record)]]


def _stacked(cells: list[Record], grid: Grid, comparable: bool, called: dict[str, str]) -> list[list[Cell]]:
    lines = []
    run = next((c for c in cells if c.last and c.column != ON_VIEWS), None)  # a cell of the row's own run
    first = run or cells[0]
    if any(c.printed for c in cells):
        lines.append(
            [Cell("printed", "what"), *(_printed(c, grid) for c in cells), Cell("", "seeds"), Cell("", "entry")]
        )
    of_run = [c for c in cells if c.column != ON_VIEWS]
    ours = {} if first.copied else {"last": OURS["last"]} if first.column in SHIFTS else called
    if ours.keys() == OURS.keys() and all(c.one_epoch for c in of_run):
        ours = {"last": ONE_EPOCH}
    for phase, text in ours.items():
        line = [Cell(text if run else "ours", "what")]
        for c in cells:
            cell = _ours(c, phase)
            if comparable and c.difference(phase) is not None:
                cell.text += f" ({signed(c.difference(phase), 1)})"
            line.append(cell)
        lines.append([*line, *(_provenance(first) if phase == "last" else (Cell("", "seeds"), Cell("", "entry")))])
        if run is None:  # one line says it
            break
    return [[Cell(first.label, "label", span=0 if i else len(lines)), *line] for i, line in enumerate(lines)]


def _provenance(record: Record) -> tuple[Cell, Cell]:
    seeds = Cell(str(record.last["n"]) if record.config_hash and record.last else "", "seeds")
    return seeds, Cell((record.config_hash or "")[:8], "entry", name=record.name or "")


def _printed(record: Record, grid: Grid) -> Cell:
    if record.printed is None:
        return Cell("", "printed")
    doubt = record.printed.doubt
    if doubt and doubt not in grid.footnotes.values():
        grid.footnotes[chr(ord("a") + len(grid.footnotes))] = doubt
    mark = next((letter for letter, text in grid.footnotes.items() if text == doubt), "")
    return Cell(record.printed.text, "printed", mark)


def to_csv(cells: list[Record], comparable: bool) -> str:
    """The records, tidy: one line per cell, ours to 4 decimals, printed as text. Differences where comparable."""
    names = ["label", "column", "head", "entry", "config_hash", "printed", "printed_stderr", "printed_note"]
    called = phases(cells)
    for phase in called:
        names += [f"{phase}_mean", f"{phase}_stderr", f"{phase}_n", f"{phase}_minus_printed"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for c in cells:
        line = [c.label, c.column, c.head, c.name, c.config_hash]
        line += [c.printed.value, c.printed.stderr, c.printed.note] if c.printed else ["", "", ""]
        for phase in called:
            ours, gap = getattr(c, phase) or {}, c.difference(phase) if comparable else None
            line += [ours.get("mean"), ours.get("stderr"), ours.get("n"), None if gap is None else f"{gap:.4f}"]
        writer.writerow(line)
    return out.getvalue()
