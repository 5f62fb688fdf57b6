"""Printed tables that nothing here reproduces yet, as they are printed: one line a method, one column a metric."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from longtail.report.published import DOUBTS, read

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
                doubtful=sum(row["note"].startswith(DOUBTS) for row in rows),
            )
        )
    return found


def _column(row: dict[str, str]) -> str:
    """`all`, `tail`, `ECE`, `hours`: the split of an accuracy, else the metric with its split."""
    metric = LABELS.get(row["metric"], row["metric"].replace("_", " "))
    split = row["split"] if row["split"] != "all" or not metric else ""
    return f"{metric} {split}".strip()
