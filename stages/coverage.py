"""docs/coverage.md: every table and figure of the paper, where it is made here, and what of it was run.

Which item is which table or figure of which study stands in docs/coverage.yaml and is checked against params.yaml;
whether its runs are there is read from the reports folder. With --check nothing is written and the exit code is 1 when
the page is out of date. A second.

  python stages/coverage.py --coverage docs/coverage.yaml --reports reports --out docs/coverage.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import write_text
from longtail.base.options import add_params
from longtail.base.text import note
from longtail.report.review.coverage import Project, page, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coverage", type=Path, required=True, help="map of the paper's items, docs/coverage.yaml")
    parser.add_argument("--reports", type=Path, required=True, help="folder of all reports; may lack entries")
    parser.add_argument("--out", type=Path, required=True, help="page to write, docs/coverage.md")
    add_params(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is out of date")
    args = parser.parse_args()
    everything = params.load(args.params)
    left: list[str] = []
    new = page(read(args.coverage, everything, left.append), Project(everything, args.reports), left)
    for line in left:
        note(line)
    old = args.out.read_text(encoding="utf-8") if args.out.is_file() else None
    if args.check and new != old:
        print(f"{args.out}: out of date; run python stages/coverage.py without --check", file=sys.stderr)
        sys.exit(1)
    if new != old:
        write_text(args.out, new)


if __name__ == "__main__":
    run_main(main)
