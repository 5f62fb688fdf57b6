"""The page that says when all of it was last verified, where and how: docs/verified.md, from records that exist.

Needs the history of git for the days, so it is made after the records are committed. With --check nothing is written
and the exit code is 1 when the page is out of date. About a second.

  python stages/verified.py --out docs/verified.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longtail.base.errors import run_main
from longtail.base.files import write_text
from longtail.report.review.verified import committed_on, page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder of all reports")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder of measurements")
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is out of date")
    args = parser.parse_args()
    text = page(args.reports, args.results, committed_on)
    if not args.check:
        write_text(args.out, text)
    elif not args.out.is_file() or args.out.read_text(encoding="utf-8") != text:
        print(f"{args.out}: out of date; run python stages/verified.py --out {args.out}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
