"""reports/index.html: every printed number beside ours, the claims and their verdicts, and each run behind them.

One self-contained page from what is in reports/; what was not run is empty, with the command that runs it. The page
states the digest of the files in git that it was made from: with --check nothing is written, and the exit code is 1
when they have changed since. Figures (reports/figures) are in it where they were drawn. A few seconds.

  python stages/index.py --reports reports --coverage docs/coverage.yaml \\
      --published data/published --claims docs/claims.yaml --out reports/index.html
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
from longtail.report.claims import reruns
from longtail.report.claims.judge import ledger, load, load_reruns
from longtail.report.pages.index import page
from longtail.report.pages.web import digest, stated
from longtail.report.review.coverage import read
from longtail.report.review.facts import Judgements
from longtail.report.review.pages import LEFT
from longtail.report.review.words import Words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, required=True, help="folder of all reports; may lack entries")
    parser.add_argument("--coverage", type=Path, required=True, help="map of the paper's items, docs/coverage.yaml")
    parser.add_argument("--published", type=Path, required=True, help="folder of printed numbers, data/published")
    parser.add_argument("--claims", type=Path, required=True, help="the papers' claims, docs/claims.yaml")
    parser.add_argument("--out", type=Path, required=True, help="page to write, reports/index.html")
    parser.add_argument("--words", type=Path, required=True, help="words of the first screens, docs/words.yaml")
    parser.add_argument("--judgements", type=Path, required=True, help="people's judgements, docs/review.yaml")
    add_params(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is out of date")
    args = parser.parse_args()
    tables = {"params.yaml": args.params} if args.params else params.files(Path())
    named = {**tables, "docs/coverage.yaml": args.coverage, "docs/claims.yaml": args.claims}
    named |= {"docs/words.yaml": args.words, "docs/review.yaml": args.judgements, "data/published": args.published}
    inputs = digest(args.reports, named | {f"reports/review/{LEFT}": args.reports / "review" / LEFT})
    if args.check:
        if not args.out.is_file() or stated(args.out.read_text(encoding="utf-8")) != inputs:
            print(f"{args.out}: out of date; run `make index`", file=sys.stderr)
            sys.exit(1)
        return
    judged = ledger(load(args.claims), args.reports)
    everything = params.load(args.params)
    coverage = read(args.coverage, everything, note)
    others = reruns.lines(load_reruns(args.claims), args.reports, args.published)
    words, judgements = params.read(Words, args.words), params.read(Judgements, args.judgements)
    made = page(everything, coverage, args.published, args.reports, judged, inputs, others, words, judgements)
    write_text(args.out, made)
    print(args.out)


if __name__ == "__main__":
    run_main(main)
