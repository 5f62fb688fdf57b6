"""A study's report: one HTML file with its tables, figures and config hashes, that opens from disk.

Puts together what tables, figures and evaluate made; nothing is computed here and nothing is fetched. What is missing
is said to be "not run". Links lead to the figures' files, those for print among them.

  python stages/report.py digits --metrics reports/metrics/digits --tables reports/tables/digits \\
      --figures reports/figures/digits --print reports/figures_print/digits --analysis reports/analysis/digits \\
      --out reports/digits.html
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import write_text
from longtail.base.options import add_params
from longtail.report.figures.captions import FIGURES
from longtail.report.pages import pictures
from longtail.report.pages.study_page import EntryLine, Figure, figure, noted, page
from longtail.report.results import load
from longtail.report.study import StudyConfig


def collect(name: str, study: StudyConfig, metrics: Path, analysis: Path) -> list[EntryLine]:
    """The grid's lines, in the study's order."""
    results = load(metrics, name, study)
    lines = []
    for item in study.teachers:
        lines.append(EntryLine(item.name, item.label, results.teachers.get(item.name), None))
    for item in study.experiments:
        analysed = (analysis / item.name).is_dir()
        lines.append(EntryLine(item.name, item.label, results.experiments.get(item.name), analysed))
    return lines


def read_tables(study: StudyConfig, folder: Path) -> dict[str, str]:
    """{name: HTML fragment}; UserError where one is missing."""
    found = {}
    for table in study.tables:
        path = folder / f"{table.name}.html"
        if not path.is_file():
            raise UserError(f"{path}: no such table; run stages/tables.py first")
        found[table.name] = path.read_text(encoding="utf-8")
    return found


def read_figure(name: str, figures: Path, print_: Path, beside: Path) -> Figure:
    """With links to its files, as seen from the page's folder `beside`."""
    path = pictures.find(figures, name)
    if path is None:
        return figure(name, None)
    picture = pictures.inside(path, figures)
    files = [figures / file for file in picture.files.values()]
    files += [print_ / f"{name}{suffix}" for suffix in (".pdf", ".png")]
    links = {}
    for file in files:
        if file.is_file():
            kind = file.suffix[1:] + (" for print" if file.parent == print_ else "")
            links[kind] = Path(os.path.relpath(file, beside)).as_posix()
    return figure(name, picture, noted(figures, name), links)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY", help="name under `studies` in params.yaml")
    parser.add_argument("--metrics", type=Path, required=True, help="folder of metrics files; may lack entries")
    parser.add_argument("--tables", type=Path, required=True, help="folder of the study's tables")
    parser.add_argument("--figures", type=Path, required=True, help="folder of the study's figures; may lack some")
    parser.add_argument("--print", type=Path, required=True, help="folder of those for print; may lack some")
    parser.add_argument("--analysis", type=Path, required=True, help="folder of analyses; may lack entries")
    parser.add_argument("--out", type=Path, required=True, help="HTML file to write")
    add_params(parser)
    args = parser.parse_args()
    entry = params.entry(params.load(args.params), "studies", args.study)
    study = params.build(StudyConfig, entry, f"studies.{args.study}")
    figures = [read_figure(name, args.figures, args.print, args.out.parent) for name in FIGURES]
    lines = collect(args.study, study, args.metrics, args.analysis)
    write_text(args.out, page(study, read_tables(study, args.tables), figures, lines, args.study))


if __name__ == "__main__":
    run_main(main)
