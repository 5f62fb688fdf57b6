"""The generated parts of a paper's README: its claims; its entries with their cost, what is printed and what is ours;
what was run; who else ran it; and, of a folder that compares papers, each method's accuracy beside what it has cost.

Of entries nothing is measured but accuracies: hours and memory are counted from the params files (cost/workload.py) and
turned into time with the assumptions of docs/review.yaml, so that the page says the same on every machine.
"""

from __future__ import annotations

import re
from pathlib import Path

from longtail.base.errors import UserError
from longtail.base.text import SIZES, TIMES, number, pipe_table, plain, with_unit
from longtail.cost.lineage import Cost, cost
from longtail.cost.workload import Workload
from longtail.report import machines
from longtail.report.claims.judge import load_reruns
from longtail.report.claims.reruns import lines, to_markdown
from longtail.report.results import Results, load
from longtail.report.review.coverage import Coverage, Project
from longtail.report.review.facts import Assumptions, claims
from longtail.report.study import COLUMN_LABELS, Row, StudyConfig
from longtail.report.tables.grid import Record, records
from longtail.report.tables.grid import number as table_number

END = "<!-- end -->"
HEADS = {"cls": "CLS", "dist": "DIST"}
COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
FLOP = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
SPENT = ("Parameters", "Views", "Own training", "With all it needs")


def filled(text: str, made: dict[str, str], where: str) -> str:
    """The text with what stands between `<!-- NAME -->` and the next `<!-- end -->` replaced, for every name of `made`.

    Raises UserError where a marker is missing.
    """
    for name, content in made.items():
        pattern = re.compile(rf"^<!-- {name} -->\n.*?^{END}$", re.MULTILINE | re.DOTALL)
        text, found = pattern.subn(lambda _, block=f"<!-- {name} -->\n{content}{END}": block, text)
        if found != 1:
            raise UserError(f"{where}: {found} markers <!-- {name} --> with {END} after them; one is needed")
    return text


def claim_table(paper: str, ledger: Path) -> str:
    """The paper's claims with their verdicts: by the full recipes as a whole, by each miniature. Ends in a newline.

    ledger: reports/claims.csv. Raises UserError where it is missing or something else.
    """
    rows = claims(ledger)
    if rows is None:
        raise UserError(f"{ledger}: no such file; run stages/claims.py (make index)")
    of_claim: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row["paper"] == paper:
            of_claim.setdefault(row["id"], []).append(row)
    told = []
    for found in of_claim.values():
        first = found[0]
        small = _miniatures([row for row in found if row["miniature"] == "1"])
        told.append((first["text"], first["where"], first["overall"], "; ".join(small) or "–"))
    return "\n".join(pipe_table(("claim", "where", "full recipes", "miniatures"), "llll", told)) + "\n"


def _miniatures(rows: list[dict[str, str]]) -> list[str]:
    """`STUDY: VERDICT`, with what was compared where a study has several comparisons."""
    told = []
    for row in rows:
        several = sum(other["study"] == row["study"] for other in rows) > 1
        against = f", `{row['higher']}` over `{row['lower']}`" if several else ""
        told.append(f"{row['study']}{against}: {row['told']}")
    return told


def entry_tables(
    folder: str, own: dict, everything: dict, project: Project, published: Path, assumed: Assumptions
) -> str:
    """A table of entries for every study of a paper. Ends in a newline.

    folder: the paper's, from the root. own: the sections of its params file; everything: those of all files.
    """
    workload, parts = Workload(everything), []
    for name in own.get("studies") or {}:
        study = project.studies[name]
        results = load(project.reports / "metrics" / name, name, study)
        first = _shown(study, results, published)
        rows = []
        makers = {"teachers": "train_teacher", "pretrainings": "pretrain", "experiments": "train_student"}
        shows = {"teachers": "evaluate_teacher", "pretrainings": "reconstruct", "experiments": "evaluate"}
        for section, stage in makers.items():
            for item in getattr(study, section):
                row, kind = first.get(item.name), shows[section]
                cost = _cost(workload, stage, item.name, len(everything[section][item.name]["seeds"]), assumed)
                command = f"`{folder}/dvc.yaml:{kind}@{item.name}`"
                ours = "–" if section == "pretrainings" else _ours(item.name, row, results)
                seeds, *spent = cost
                rows.append((plain(item.label), *spent, _printed(row), ours, seeds, command))
        head = ("entry", "hours", "memory", "printed", "ours", "seeds", "`dvc repro` ...")
        top = [
            f"### {plain(study.title)}",
            "",
            f"`dvc repro {folder}/dvc.yaml:report@{name}`, or `make repro STUDY={name}`.",
        ]
        parts.append("\n".join([*top, "", *pipe_table(head, "lrrrrrl", rows)]) + "\n")
    return "\n".join(parts)


def _cost(workload: Workload, stage: str, entry: str, seeds: int, assumed: Assumptions) -> list[str]:
    """Seeds, hours and memory of training; dashes where nothing is trained or the number of images is not known."""
    try:
        work = workload.of(stage, entry)
    except UserError:
        work = None
    if work is None:
        return [str(seeds), "–", "–"]
    low, high = assumed.gpu_hours(seeds * work.flop)
    hours = "< 1" if high < 1 else f"{number(low)} to {number(high)}"  # below, launches and decoding decide
    return [str(seeds), hours, with_unit(work.memory, SIZES)]


def ran(own: dict, of_paper: Coverage, project: Project) -> str:
    """What was run of each study: the folder's, after the embedded ones that show the paper's tables and figures. Ends
    in a newline."""
    places = [place for item in of_paper.items for place in (*item.full, *item.miniature)]
    rows = []
    for name in dict.fromkeys([*(place.study for place in places if place.study), *(own.get("studies") or {})]):
        study = project.studies[name]
        results = load(project.reports / "metrics" / name, name, study)
        record = machines.load(project.reports, name)
        found = [("teacher", metrics) for metrics in results.teachers.values()]
        found += [("experiment", metrics) for metrics in results.experiments.values()]
        made = [facts for kind, m in found for facts in record.of(kind, m["entry"], m["config_hash"]).values()]
        seeds = sorted({len(metrics["seeds"]) for _, metrics in found})
        planned = len(study.teachers) + len(study.experiments)
        spent = with_unit(sum(facts["seconds"] for facts in made), TIMES) if made else "not recorded"
        where = (", ".join(map(str, seeds)), machines.places(made), spent) if found else ("–", "–", "–")
        kind = "full" if study.comparable else "miniature"
        rows.append((plain(study.title), kind, f"{len(found)} of {planned}", *where))
    head = ("study", "recipe", "runs trained", "seeds a run", "on", "training time")
    return "\n".join(pipe_table(head, "llrrlr", rows)) + "\n"


def who_else(paper: str, claims_file: Path, reports: Path, published: Path) -> str:
    """Printed, released and others' numbers of the paper beside ours, of docs/claims.yaml. Ends in a newline."""
    found = lines(tuple(each for each in load_reruns(claims_file) if each.paper == paper), reports, published)
    if not found:
        return "Nobody whose numbers are public, as far as we know.\n"
    return "\n".join(to_markdown(found)[2:]).strip() + "\n"


def _shown(study: StudyConfig, results: Results, published: Path) -> dict[str, Record]:
    """{entry: its overall accuracy}: of a row that has a printed number, if any; averaged heads before others."""
    found: dict[str, Record] = {}
    rows = [r for table in study.tables for r in records(table, results, published) if r.name and r.column == "top1"]
    for row in sorted(rows, key=lambda r: (r.printed is None, r.head in HEADS)):
        found.setdefault(row.name, row)
    return found


def _printed(row: Record | None) -> str:
    return row.printed.text if row and row.printed else "–"


def _ours(name: str, row: Record | None, results: Results) -> str:
    """Overall accuracy at the last epoch: of the head that is printed, else of the averaged heads."""
    metrics = (results.experiments | results.teachers).get(name)
    if metrics is None:
        return "not run"
    ours = row.last if row else metrics["summary"]["last"]["avg"]["top1"]
    error = ours["stderr"]
    return f"{ours['mean']:.2f}" + ("" if error is None else f" ± {error:.2f}")


def overview(own: dict, everything: dict, project: Project, published: Path) -> str:
    """Of a folder that compares papers: the first table of every study, at the last epoch, each row beside what its
    network has cost, of one seed. Ends in a newline.

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
                ours = [table_number(cell.last).text for cell in cells if cell.row == index]
                rows.append((plain(row.label), *ours, *_counted(_spent(workload, row))))
        head = ("", *(COLUMN_LABELS[column] for column in table.columns), *SPENT)
        top = [f"### {plain(study.title)}", "", plain(study.note), ""]
        parts.append("\n".join([*top, *pipe_table(head, "l" + "r" * (len(head) - 1), rows)]) + "\n")
    return "\n".join(parts)


def _spent(workload: Workload, row: Row) -> Cost:
    return cost(workload, *(("train_student", row.entry) if row.entry else ("train_teacher", row.teacher)))


def _counted(found: Cost) -> tuple[str, ...]:
    return (
        with_unit(found.params, COUNTS),
        f"{found.views:,}",
        with_unit(found.flop, FLOP),
        with_unit(found.total, FLOP),
    )
