"""Put the generated tables into the README, between markers; no number there is typed by hand.

Text between `<!-- table:STUDY/NAME -->` and the next `<!-- end -->` becomes the content of <tables>/STUDY/NAME.md. With
--check nothing is written and the exit code is 1 when the README is out of date.

  python stages/readme.py --tables reports/tables --readme README.md
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from longtail.errors import UserError, nearest, run_main
from longtail.output import write_text

START = re.compile(r"^<!-- table:(\S+) -->$", re.MULTILINE)
END = "<!-- end -->"


def fill(text: str, tables: Path, where: str) -> str:
    """The README's text with every marked table replaced. Raises UserError for a marker without table or end."""
    parts, at = [], 0
    for marker in START.finditer(text):
        if marker.start() < at:
            continue
        stop = text.find(END, marker.end())
        following = START.search(text, marker.end())
        if stop < 0 or (following and following.start() < stop):
            raise UserError(f"{where}: marker 'table:{marker[1]}' has no {END} after it")
        path = tables / f"{marker[1]}.md"
        if not path.is_file():
            names = [p.relative_to(tables).with_suffix("").as_posix() for p in sorted(tables.glob("*/*.md"))]
            raise UserError(f"{where}: no table '{marker[1]}' in {tables}{nearest(marker[1], names)}")
        parts += [text[at : marker.end()], f"\n{path.read_text(encoding='utf-8').strip()}\n"]
        at = stop
    if not parts:
        raise UserError(f"{where}: no marker like <!-- table:STUDY/NAME --> on a line of its own")
    return "".join([*parts, text[at:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="folder of all studies' tables, reports/tables")
    parser.add_argument("--readme", type=Path, required=True, help="file with the markers, rewritten in place")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is out of date")
    args = parser.parse_args()
    if not args.readme.is_file():
        raise UserError(f"{args.readme}: no such file")
    old = args.readme.read_text(encoding="utf-8")
    new = fill(old, args.tables, str(args.readme))
    if args.check and new != old:
        print(f"{args.readme}: out of date; run python stages/readme.py without --check", file=sys.stderr)
        sys.exit(1)
    if new != old:
        write_text(args.readme, new)


if __name__ == "__main__":
    run_main(main)
