"""All reports as one file, reports.zip: a README, a MANIFEST with the sha256 of every file, and reports/ as it is.

Packs what is there: metrics, tables, figures, analyses, runs, pages. The same files give the same bytes. With --check
an archive is only compared with its MANIFEST. Seconds.

  python stages/archive.py --reports reports --out reports.zip
  python stages/archive.py --check reports.zip
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtail.base.errors import run_main
from longtail.base.files import atomic_write
from longtail.base.text import note
from longtail.report.pages.archive import pack, verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder to pack, default: %(default)s")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="archive to write")
    what.add_argument("--check", type=Path, metavar="ZIP", help="archive to verify")
    args = parser.parse_args()
    if args.out:
        atomic_write(args.out, lambda path: pack(args.reports, path))
        if not any(args.reports.glob("figures_print/*/*.pdf")):
            note(f"no figure for print is packed: {args.reports}/figures_print has no PDF; make repro makes them")
    made = args.out or args.check
    print(f"{made}: {verify(made)} files, all as in its MANIFEST; {made.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_main(main)
