"""Write docs/questions.md: what users of the papers ask, answered with numbers from reports/ and data/published.

Nothing of it is typed by hand but the words (longtail/report/templates/questions.md.j2). With --check nothing is
written and the exit code is 1 when the page is out of date.

  python stages/questions.py --reports reports --published data/published --methods docs/METHODS.md \\
    --judgements docs/review.yaml --out docs/questions.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import write_text
from longtail.base.options import add_params
from longtail.report.review.facts import Judgements
from longtail.report.review.questions import Answers, page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, required=True, help="folder of all reports; may lack entries")
    parser.add_argument("--published", type=Path, required=True, help="folder of printed numbers, data/published")
    parser.add_argument("--methods", type=Path, required=True, help="what others found, docs/METHODS.md")
    parser.add_argument("--judgements", type=Path, required=True, help="assumptions of cost, docs/review.yaml")
    parser.add_argument("--out", type=Path, required=True, help="page to write, docs/questions.md")
    add_params(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is out of date")
    args = parser.parse_args()
    assumed = params.read(Judgements, args.judgements).assumptions
    files = {"params.yaml": args.params} if args.params else params.files(Path())
    own, everything = {name: params.own(path) for name, path in files.items()}, params.load(args.params)
    new = page(Answers(own, args.reports, args.published, args.methods, assumed, everything))
    if args.check:
        if not args.out.is_file() or args.out.read_text(encoding="utf-8") != new:
            print(f"{args.out}: out of date; run `make questions`", file=sys.stderr)
            sys.exit(1)
        return
    write_text(args.out, new)
    print(args.out)


if __name__ == "__main__":
    run_main(main)
