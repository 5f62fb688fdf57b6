"""A study's run as a Workflow Run RO-Crate (a zip file), for WorkflowHub, Zenodo or whoever reads RO-Crates.

Made from dvc.lock, the params files and the records in reports/; nothing is run. What git has lies in it, what DVC
keeps is named by size and md5. The same repository gives the same bytes. Needs the extra `crate`. Seconds.

  python stages/crate.py digits --out digits.crate.zip
"""

from __future__ import annotations

import argparse
import subprocess
from datetime import date
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import atomic_write
from longtail.base.text import note
from longtail.report.cards.run_crate import build, pack


def committed(root: Path) -> str:
    """The day on which the results were last committed. Raises UserError where git cannot tell."""
    line = ["git", "log", "-1", "--format=%cs", "--", "dvc.lock", "papers/*/dvc.lock"]
    done = subprocess.run(line, cwd=root, capture_output=True, text=True)
    if not done.stdout.strip():
        raise UserError("no commit of dvc.lock tells the day of publication; pass --date 2026-01-31")
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="entry of `studies`")
    parser.add_argument("--out", type=Path, required=True, help="zip file to write")
    parser.add_argument("--date", help="day of publication, YYYY-MM-DD; default: that of dvc.lock's last commit")
    args = parser.parse_args()
    root = Path()
    day = args.date or committed(root)
    try:
        date.fromisoformat(day)
    except ValueError:
        raise UserError(f"--date {day}: a day is needed, e.g. 2026-01-31") from None
    metadata, files = build(args.study, root, params.load(None), day)
    atomic_write(args.out, lambda path: pack(metadata, files, root, path))
    if told := metadata["@graph"][0]["description"].partition("Not run: ")[2]:
        note(f"not in it, since it was not run: {told}")
    print(f"{args.out}: {len(metadata['@graph'])} entities, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_main(main)
