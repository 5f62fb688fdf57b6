"""A table of four runs as a 2 x 2: two settings at two values each, and what each setting changes.

Differences are of the last epoch, of seeds that both runs have, paired by number. From three of them on Student's t
gives the 95 % interval, as in the ledger of claims; fewer have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from longtail.base.text import points, signed
from longtail.evaluation.metrics import DECIMALS
from longtail.report.claims.rules import LEAST_SEEDS
from longtail.report.study import COLUMN_LABELS, StudyConfig, Table
from longtail.report.tables.grid import NOT_RUN, Cell, Grid, Record, layout, number

if TYPE_CHECKING:
    from longtail.evaluation.statistics import Estimate

PAIRS = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3))  # rows of the table: the second is what the first is taken off
CELLS = "Cells: mean ± standard error over seeds, in %, last epoch."
PAIRED = (
    "Differences, in points, are of seeds paired by number, in brackets their 95 % interval (Student's t, from three "
    "seeds on; not corrected for their number)."
)
CORNER = "The corner is both changes at once, the last cell minus the first."


@dataclass(frozen=True)
class Difference:
    """What a change of one setting, or of both, does to one column."""

    column: str
    label: str  # e.g. student at 3: factor 36 minus factor 9
    rows: tuple[int, int]  # of the table: the second minus the first
    found: Estimate | None  # None: not both were run, or without a seed in common

    @property
    def text(self) -> str:
        """`+1.20 (+0.30 to +2.10)`; no interval from fewer than three seeds."""
        if self.found is None:
            return ""
        told = signed(self.found.mean, 2)
        if self.found.n < LEAST_SEEDS:
            return told
        return f"{told} ({' to '.join(points(end) for end in self.found.interval)})"


def differences(table: Table, cells: Sequence[Record]) -> list[Difference]:
    """Five of each column: across in either line, down in either column, both. cells: of `grid.records`."""
    from longtail.evaluation.statistics import over_shared_seeds  # and SciPy with it, which other tables do not need

    (up, below), (left, right) = table.square.down, table.square.across
    labels = (
        *(f"{name}: {right} minus {left}" for name in (up, below)),
        *(f"{name}: {below} minus {up}" for name in (left, right)),
        f"{below}, {right} minus {up}, {left}",
    )
    found = []
    for place in range(len(table.columns)):
        four = [cell.by_seed for cell in cells[place :: len(table.columns)]]
        column = cells[place].column
        for label, (first, second) in zip(labels, PAIRS, strict=True):
            shared = four[first].keys() & four[second].keys()
            both = over_shared_seeds(four[second], four[first]) if shared else None
            found.append(Difference(column, label, (first, second), both))
    return found


def square_layout(table: Table, cells: Sequence[Record], study: StudyConfig) -> Grid:
    """The 2 x 2 of each column, one beneath the other, for the renderers of every table."""
    plain, changed = layout(table, list(cells), study), differences(table, cells)
    (up, below), (left, right) = table.square.down, table.square.across
    grid = replace(plain, header=["", "", left, right, "difference"], blocks=[])
    for place, name in enumerate(table.columns):
        four = [number(cell.last) for cell in cells[place :: len(table.columns)]]
        across, across_below, down, down_right, both = (_cell(d) for d in changed[5 * place : 5 * place + 5])
        lines = ([up, *four[:2], across], [below, *four[2:], across_below], ["difference", down, down_right, both])
        grid.blocks.append(
            [
                [Cell(COLUMN_LABELS[name], "label", span=0 if at else 3), Cell(first, "what"), *rest]
                for at, (first, *rest) in enumerate(lines)
            ]
        )
    runs = {cell.name: cell for cell in cells}.values()
    states = (_seeds(cell.last["n"]) if cell.last else NOT_RUN for cell in runs)
    named = ", ".join(f"{cell.name} ({state})" for cell, state in zip(runs, states, strict=True))
    others = [remark for remark in plain.remarks if not remark.startswith("Ours: ")]
    grid.remarks[:] = [*others, CELLS, PAIRED, CORNER, f"Line by line: {named}."]
    return grid


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def _cell(difference: Difference) -> Cell:
    return Cell(difference.text, "difference")


def with_differences(table: Table, cells: Sequence[Record]) -> list[Record]:
    """The records, and one of each difference after them, for the table's CSV: ours at the last epoch alone."""
    found = []
    for of in differences(table, cells):
        e = of.found
        last = e and {"mean": round(e.mean, DECIMALS), "stderr": e.stderr and round(e.stderr, DECIMALS), "n": e.n}
        found.append(Record(len(table.rows), of.label, of.column, cells[0].head, None, None, None, last, None))
    return [*cells, *found]
