"""How much of a paper is reproduced: each of its tables and figures by what of it was run, and cells that agree."""

from __future__ import annotations

from dataclasses import dataclass

from longtail.report.review.coverage import Coverage, PaperItem, Project
from longtail.report.study import StudyConfig
from longtail.report.tables.grid import Record
from longtail.report.tables.side_by_side import agrees

STATES = {  # of an item: {state: (symbol, heading)}
    "full": ("●", "full recipe"),
    "part": ("◐", "in part"),
    "miniature": ("○", "miniature"),
    "none": ("–", "not run"),
}


@dataclass(frozen=True)
class Agreement:
    """Cells of comparable studies that have both numbers: how many, and how many agree; best = the papers' protocol."""

    cells: int
    last: int
    best: int


def state(item: PaperItem, project: Project) -> str | None:
    """A key of STATES; None for an item with nothing to run (settings)."""
    if not item.full and not item.miniature:
        return None
    needs = [need for place in item.full for need in project.needs(place)]
    if needs and all(need.done for need in needs):
        return "full"
    if any(need.done for need in needs):
        return "part"
    return "miniature" if any(n.done for place in item.miniature for n in project.needs(place)) else "none"


def counts(coverage: Coverage, project: Project) -> dict[str, int]:
    """{state: items of the paper}."""
    found = [state(item, project) for item in coverage.items]
    return {name: found.count(name) for name in STATES}


def agreement(tables: list[tuple[StudyConfig, list[Record]]]) -> Agreement:
    """Over the cells of those tables; cells of studies that are not comparable, or not run, are in no count."""
    cells = [cell for study, records in tables if study.comparable for cell in records]
    both = [cell for cell in cells if agrees(cell, "last") is not None]
    last, best = (sum(bool(agrees(cell, phase)) for cell in both) for phase in ("last", "best"))
    return Agreement(len(both), last, best)
