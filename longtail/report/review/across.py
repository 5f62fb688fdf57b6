"""The generated overview of a folder that compares the papers: each row's accuracy beside what its network has cost."""

from __future__ import annotations

from pathlib import Path

from longtail.base.text import pipe_table, plain, with_unit
from longtail.cost.lineage import Cost, cost
from longtail.cost.workload import Workload
from longtail.report.results import load
from longtail.report.review.coverage import Project
from longtail.report.study import COLUMN_LABELS, Row
from longtail.report.tables.grid import number, records

COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
FLOP = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
HEAD = ("Parameters", "Views", "Own training", "With all it needs")


def overview(own: dict, everything: dict, project: Project, published: Path) -> str:
    """The first table of every study of the folder, at the last epoch, with the cost of one seed. Ends in a newline.

    own: the sections of the folder's params file; everything: those of all files. Rows that name no run are left out.
    """
    workload, parts = Workload(everything), []
    for name in own.get("studies") or {}:
        study = project.studies[name]
        results, table = load(project.reports / "metrics" / name, name, study), study.tables[0]
        cells = records(table, results, published)
        rows = []
        for index, row in enumerate(table.all_rows):
            if row.entry or row.teacher:
                ours = [number(cell.last).text for cell in cells if cell.row == index]
                rows.append((plain(row.label), *ours, *_told(_cost(workload, row))))
        head = ("", *(COLUMN_LABELS[column] for column in table.columns), *HEAD)
        lines = [f"### {plain(study.title)}", "", plain(study.note), ""]
        parts.append("\n".join([*lines, *pipe_table(head, "l" + "r" * (len(head) - 1), rows)]) + "\n")
    return "\n".join(parts)


def _cost(workload: Workload, row: Row) -> Cost:
    return cost(workload, *(("train_student", row.entry) if row.entry else ("train_teacher", row.teacher)))


def _told(found: Cost) -> tuple[str, ...]:
    return (
        with_unit(found.params, COUNTS),
        f"{found.views:,}",
        with_unit(found.flop, FLOP),
        with_unit(found.total, FLOP),
    )
