"""What our runs say of the papers' claims: reports/claims.csv and reports/claims.md.

The claims stand in docs/claims.yaml, each as pairs of numbers of which one should be higher; the numbers are read from
reports/ (metrics, analysis, predictions of runs) and, printed, from data/published. What was not run is `not yet run`.
With --check nothing is written and the exit code is 1 when a file is out of date. A few seconds.

  python stages/claims.py --claims docs/claims.yaml --reports reports --published data/published --out reports
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

from longtail.base.errors import run_main
from longtail.base.files import write_text
from longtail.report.claims import other_seeds, reruns
from longtail.report.claims.judge import ledger, load, load_other_seeds, load_reruns
from longtail.report.claims.ledger import to_csv, to_markdown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=Path, required=True, help="the claims, docs/claims.yaml")
    parser.add_argument("--reports", type=Path, required=True, help="folder of all reports; may lack entries")
    parser.add_argument("--published", type=Path, required=True, help="printed numbers, data/published")
    parser.add_argument("--out", type=Path, required=True, help="folder to write claims.csv and claims.md into")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    args = parser.parse_args()
    judged = ledger(load(args.claims), args.reports)
    others = reruns.lines(load_reruns(args.claims), args.reports, args.published)
    table = to_csv(judged, args.published)
    pairs = [(pair.study, pair.again) for pair in load_other_seeds(args.claims)]
    again = other_seeds.section(list(csv.DictReader(io.StringIO(table))), args.out / "claims.csv", pairs)
    texts = {"claims.csv": table, "claims.md": to_markdown(judged, args.published, others, again)}
    for name, text in texts.items():
        path = args.out / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if args.check:
            print(f"{path}: out of date; run python stages/claims.py without --check", file=sys.stderr)
            sys.exit(1)
        write_text(path, text)


if __name__ == "__main__":
    run_main(main)
