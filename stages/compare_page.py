"""reports/compare.html: two runs of a study beside one another, differences of settings and curves over each other.

One self-contained page from reports/runs, reports/metrics and reports/machines, for every study with two runs or more;
it opens from disk and asks for nothing. With --check nothing is written, and the exit code is 1 when the page is out of
date. Seconds.

  python stages/compare_page.py --reports reports --out reports/compare.html
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import write_text
from longtail.base.options import add_params
from longtail.report.pages.compare_page import page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, required=True, help="folder of all reports; may lack entries")
    parser.add_argument("--out", type=Path, required=True, help="page to write, reports/compare.html")
    add_params(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is out of date")
    args = parser.parse_args()
    text = page(params.load(args.params), args.reports)
    if args.out.is_file() and args.out.read_text(encoding="utf-8") == text:
        return
    if args.check:
        print(f"{args.out}: out of date; run `make index`", file=sys.stderr)
        sys.exit(1)
    write_text(args.out, text)
    print(args.out)


if __name__ == "__main__":
    run_main(main)
