"""A page for each run: reports/pages/<study>/[teachers/]<entry>.html, self-contained, that opens from disk.

Long-tail evaluation, what the two heads do, curves, cost and configuration: from reports/runs and reports/metrics
(stages evaluate and evaluate_teacher), reports/experts (experts) and reports/machines (make machines). An entry has a
page where reports/runs has a folder of it; what else is missing is said on the page to be not run. Nothing is trained
or evaluated; about a second of a core a page, two at a time where there are two cores. With --changed pages of the same
files are left alone: for callers that know that the code has not changed either (make index).

  python stages/run_pages.py --reports reports --out reports/pages --study digits
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from longtail.base import params, typed, workers
from longtail.base.errors import UserError, run_main
from longtail.base.files import write_text
from longtail.base.options import add_params
from longtail.base.workers import in_order
from longtail.report import machines, reading, results
from longtail.report.diagnosis_records import OneHead, TwoHeads
from longtail.report.pages.run_page import Run, html, inputs, labels, named
from longtail.report.pages.web import stated
from longtail.report.review.words import Words
from longtail.report.study import Item, StudyConfig


def experts(path: Path, entry: str) -> dict | None:
    """The file of stage `experts`; None where it is missing. Raises UserError where it is damaged or of another run."""
    if not path.is_file():
        return None
    try:
        text = path.read_bytes()
        found = json.loads(text)
        own, kind = found["schema"] == 1 and found["entry"] == entry, TwoHeads if found["distilled"] else OneHead
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cut short or no such file ({error}); run stages/experts.py {entry} again") from None
    if not own:
        raise UserError(f"{path}: not {entry}'s, or of another schema than 1; run stages/experts.py {entry} again")
    try:
        typed.read(kind, text)
    except UserError as error:
        raise UserError(f"{path}: not of schema 1: {error}; run stages/experts.py {entry} again") from None
    return found


def run_of(reports: Path, study: str, item: Item, kind: str, words: Mapping[str, str]) -> Run | None:
    """What there is of an entry; None where it was not run. words: of data sets and entries, by name."""
    below = Path(study, "teachers", item.name) if kind == "teacher" else Path(study, item.name)
    folder = reports / "runs" / below
    if not folder.is_dir():
        return None
    record = reading.run_record(folder)
    return Run(
        entry=item.name,
        kind=kind,
        study=study,
        label=item.label,
        diagnosed=reading.diagnostics(folder),
        record=record,
        metrics=results.read(reports / "metrics" / f"{below}.json", item.name, kind, study),
        experts=experts(reports / "experts" / f"{below}.json", item.name) if kind == "experiment" else None,
        made=machines.load(reports, study).of(kind, item.name, record and record["config_hash"]),
        called=named(record, words),
    )


def runs(everything: dict, reports: Path, only: str | None, titles: Mapping[str, str]) -> Iterator[Run]:
    """Every run of the studies (or of one), in their order. titles: of data sets."""
    studies = {
        name: params.build(StudyConfig, params.entry(everything, "studies", name), f"studies.{name}")
        for name in everything.get("studies") or {}
    }
    words = labels(studies.values())
    if only:
        params.entry(everything, "studies", only)  # says what there is, where it is none
    for name, study in studies.items() if not only else [(only, studies[only])]:
        for kind, items in (("experiment", study.experiments), ("teacher", study.teachers)):
            found = (run_of(reports, name, item, kind, words | titles) for item in items)
            yield from (run for run in found if run is not None)


def same(path: Path, run: Run) -> bool:
    """Is the page there, and was it made from these files?"""
    return path.is_file() and stated(path.read_text(encoding="utf-8")) == inputs(run)


def check(path: Path, run: Run) -> None:
    """Raises UserError where the page is missing or was made from other files."""
    if not same(path, run):
        raise UserError(f"{path}: out of date; run python stages/run_pages.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="metrics/, runs/ and experts/ under it")
    parser.add_argument("--out", type=Path, default=Path("reports/pages"), help="folder of pages to write")
    parser.add_argument("--study", help="name under `studies`; all of them when left out")
    parser.add_argument("--words", type=Path, help="what data sets are called, docs/words.yaml; else by their names")
    add_params(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is not of these files")
    parser.add_argument("--changed", action="store_true", help="leave the pages alone that were made from these files")
    args = parser.parse_args()
    titles = params.read(Words, args.words).datasets if args.words else {}
    of = runs(params.load(args.params), args.reports, args.study, titles)
    found = [(args.out / f"{run.folder}.html", run) for run in of]
    if args.check:
        for path, run in found:
            check(path, run)
        return
    wanted = [(path, run) for path, run in found if not (args.changed and same(path, run))]
    for path in in_order(_write, wanted, workers.cores()):
        print(path)
    if args.changed:
        print(f"{len(found) - len(wanted)} of {len(found)} pages are of the same files as before")


def _write(page: tuple[Path, Run]) -> Path:
    path, run = page
    write_text(path, html(run))
    return path


if __name__ == "__main__":
    run_main(main)
