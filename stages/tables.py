"""The tables of a study: each printed table side by side with ours, as CSV, Markdown, LaTeX (booktabs) and HTML.

Which rows, and which printed cells beside them, stands under studies.<STUDY>.tables in params.yaml. An entry without a
metrics file is a row that says "not run". Printed numbers appear exactly as printed, doubtful ones with a footnote. A
table with `square` is a 2 x 2 of four runs, with differences and their intervals.

  python stages/tables.py digits --metrics reports/metrics/digits --runs reports/runs/digits \\
      --published data/published --out reports/tables/digits
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import new_folder, write_text
from longtail.base.options import add_params
from longtail.report.results import load
from longtail.report.study import StudyConfig
from longtail.report.tables.grid import layout, records, to_csv
from longtail.report.tables.render import to_html, to_latex, to_markdown
from longtail.report.tables.square import square_layout, with_differences


def run(name: str, study: StudyConfig, metrics: Path, runs: Path | None, published: Path, out: Path) -> None:
    """Write out/<table>.{csv,md,tex,html} for every table of the study."""
    results = load(metrics, name, study, runs)
    with new_folder(out) as folder:
        for table in study.tables:
            cells = records(table, results, published)
            grid = square_layout(table, cells, study) if table.square else layout(table, cells, study)
            cells = with_differences(table, cells) if table.square else cells
            for suffix, text in {
                "csv": to_csv(cells, study.comparable),
                "md": to_markdown(grid),
                "tex": to_latex(grid, f"{name}-{table.name}"),
                "html": to_html(grid),
            }.items():
                write_text(folder / f"{table.name}.{suffix}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY", help="name under `studies` in params.yaml")
    parser.add_argument("--metrics", type=Path, required=True, help="folder of metrics files; may lack entries")
    parser.add_argument("--runs", type=Path, help="folder of the study's runs, for tables of shifted test sets")
    parser.add_argument("--published", type=Path, required=True, help="folder of printed numbers, data/published")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced as a whole")
    add_params(parser)
    args = parser.parse_args()
    entry = params.entry(params.load(args.params), "studies", args.study)
    study = params.build(StudyConfig, entry, f"studies.{args.study}")
    run(args.study, study, args.metrics, args.runs, args.published, args.out)


if __name__ == "__main__":
    run_main(main)
