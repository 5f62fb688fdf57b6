"""All results as one tidy table, reports/results.csv, for pandas.read_csv: longtail/report/tidy.py says how it is read.

A row a run, seed, head, epoch choice, test set, metric and group, with interval, number of seeds and training time;
rows without a seed are means over seeds, which the printed tables show. Beside it runs.csv: a row a run, with its data,
configuration and processor. From reports/metrics, reports/runs and reports/machines. With --check nothing is written,
and the exit code is 1 when a file is out of date. Seconds.

  python stages/results.py --reports reports --out reports/results.csv
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import write_text
from longtail.base.options import add_params
from longtail.report.tidy import runs_csv, to_csv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, required=True, help="folder of all reports; may lack entries")
    parser.add_argument("--out", type=Path, required=True, help="table to write, reports/results.csv")
    add_params(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is out of date")
    args = parser.parse_args()
    table = params.load(args.params)
    texts = {args.out: to_csv, args.out.with_name("runs.csv"): runs_csv}
    for path, made in texts.items():
        text = made(table, args.reports)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if args.check:
            print(f"{path}: out of date; run `make index`", file=sys.stderr)
            sys.exit(1)
        write_text(path, text)
        print(path)


if __name__ == "__main__":
    run_main(main)
