"""Results as Markdown, to browse where the repository is hosted: REPORTS/README.md and REPORTS/studies/<study>.md.

Every table and figure of the studies that were run, each with its caption and links to its files, from what stands in
git under REPORTS (tables, figures). With --check nothing is written and the exit code is 1 when a page is out of date.
A second.

  python stages/browse.py --reports reports --words docs/words.yaml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import new_folder, write_text
from longtail.base.options import add_params
from longtail.report.pages import browse
from longtail.report.review.coverage import Project
from longtail.report.review.words import Words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--reports", type=Path, required=True, help="folder of all reports; the pages are written there"
    )
    parser.add_argument("--words", type=Path, required=True, help="words of the first screens, docs/words.yaml")
    add_params(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is out of date")
    args = parser.parse_args()
    project = Project(params.load(args.params), args.reports)
    made = {name: browse.study_page(name, study, args.reports) for name, study in project.studies.items()}
    pages = {name: text for name, text in made.items() if text is not None}
    first, folder = args.reports / "README.md", args.reports / browse.FOLDER
    wanted = {f"{name}.md": text for name, text in pages.items()}
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*")}
    told = browse.overview(project, params.read(Words, args.words).what, pages)
    old = first.read_text(encoding="utf-8") if first.is_file() else None
    stale = [str(first)] * (old != told) + [str(folder)] * (there != wanted)
    if args.check:
        if stale:
            print(f"{', '.join(stale)}: out of date; run `make pages`", file=sys.stderr)
        sys.exit(bool(stale))
    if there != wanted:
        with new_folder(folder) as temporary:
            for name, text in wanted.items():
                write_text(temporary / name, text)
    if old != told:
        write_text(first, told)


if __name__ == "__main__":
    run_main(main)
