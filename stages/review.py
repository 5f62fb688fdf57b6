"""The reviewers' pages, from what was run: reproducibility summary, NeurIPS, REFORMS, ACM badges, cost.

Facts are read from reports/ (metrics, claims.csv), params.yaml, docs/coverage.yaml and dvc.lock; what people judged
stands in docs/review.yaml and is marked as such. With --check nothing is written and the exit code is 1 when a page is
out of date. A few seconds.

  python stages/review.py --reports reports --coverage docs/coverage.yaml --judgements docs/review.yaml \\
      --out reports/review
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import new_folder
from longtail.base.options import add_params
from longtail.base.text import note
from longtail.report.review.coverage import read
from longtail.report.review.facts import Judgements, gather
from longtail.report.review.pages import pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, required=True, help="folder of all reports; may lack entries")
    parser.add_argument("--coverage", type=Path, required=True, help="map of the paper's items, docs/coverage.yaml")
    parser.add_argument("--judgements", type=Path, required=True, help="what no file can tell, docs/review.yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when complete")
    add_params(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is out of date")
    args = parser.parse_args()
    everything, judgements = params.load(args.params), params.read(Judgements, args.judgements)
    coverage = read(args.coverage, everything, note)
    root = args.params.parent if args.params else Path()
    facts = gather(everything, args.reports, coverage, judgements, root)
    made = pages(facts)
    if args.check:
        for name, text in made.items():
            path = args.out / name
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                print(f"{path}: out of date; run python stages/review.py without --check", file=sys.stderr)
                sys.exit(1)
        return
    with new_folder(args.out) as folder:
        for name, text in made.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    run_main(main)
