"""Two makings of the same results side by side: two checkouts, or two folders of reports, of two machines or commits.

Prints the cells of tables that differ, `cell | A | B | difference | expected spread`, and what came of it in one
sentence. Exit code 1 when more is outside what another seed would give than chance explains. With --committed STUDY the
working tree is compared with the commit that is checked out; that is for the end of `make repro` and always ends well.
With --seeds two studies of one recipe with other training seeds are compared: verdicts of claims, and how far apart the
differences are; exit code 1 when a verdict is another one. A second or two; loads no torch.

  python stages/compare.py ../other-checkout . --study digits
  python stages/compare.py --committed digits
  python stages/compare.py --seeds digits digits-other_seeds
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from longtail.base.errors import UserError, run_main
from longtail.base.files import write_text
from longtail.base.text import note
from longtail.report.claims import other_seeds
from longtail.report.compare import MADE, Comparison, compare, tree


def git(*command: str) -> bytes:
    """Raises UserError where git is missing or refuses."""
    try:
        return subprocess.run(["git", *command], check=True, capture_output=True).stdout
    except OSError as error:
        raise UserError(f"git does not run: {error}") from None
    except subprocess.CalledProcessError as error:
        raise UserError(" ".join(error.stderr.decode(errors="replace").split()) or "git refused") from None


def committed(study: str, folder: Path) -> None:
    """Put what HEAD has of the study's reports into a folder. Raises UserError where it has none."""
    wanted = [*(f"reports/{made}/{study}" for made in MADE), f"reports/machines/{study}.json", "reports/claims.csv"]
    there = git("ls-tree", "--name-only", "HEAD", *wanted).decode().splitlines()
    if f"reports/tables/{study}" not in there:
        raise UserError(f"no tables of {study} are committed")
    with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD", *there))) as archive:
        archive.extractall(folder, filter="data")


def text(found: Comparison, everything: bool) -> str:
    lines = found.lines(everything)
    return "\n".join([*found.places(), *([""] if lines else []), *lines, *([""] if lines else []), found.sentence()])


def since_commit(study: str) -> None:
    """What `make repro` says last. Whatever goes wrong is a note: what was made stays made."""
    try:
        with tempfile.TemporaryDirectory() as temporary:
            committed(study, Path(temporary))
            sides = tree(Path(temporary), "committed"), tree(Path(), "yours")
            print(text(compare(*sides, (study,)), everything=False))
    except Exception as error:  # a comparison that fails must not fail what it compares
        note(f"not compared with what is committed: {error}")


def with_other_seeds(a: str, b: str, out: Path | None) -> bool:
    """Prints two studies' verdicts of the same claims. Returns whether one is another. Raises UserError as
    `side_by_side` does."""
    found = other_seeds.side_by_side(Path("reports/claims.csv"), a, b)
    told = "\n".join([*other_seeds.lines(found, a, b), "", other_seeds.sentence(found, a, b)])
    print(told)
    if out:
        write_text(out, f"# The same claims with other seeds\n\n{told}\n")
    return any(each.run and not each.same for each in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", metavar="A B", type=Path, nargs="*", help="two checkouts or folders of reports")
    parser.add_argument("--study", action="append", default=[], help="this study alone; may be given again")
    parser.add_argument("--all", action="store_true", help="list cells that are equal, too")
    parser.add_argument("--out", type=Path, help="also write the same as a page, Markdown")
    parser.add_argument("--committed", metavar="STUDY", help="the working tree with the commit that is checked out")
    parser.add_argument("--seeds", metavar=("A", "B"), nargs=2, help="two studies with the same recipe and other seeds")
    args = parser.parse_args()
    if args.seeds:
        sys.exit(with_other_seeds(*args.seeds, args.out))
    if args.committed:
        since_commit(args.committed)
        return
    if len(args.sides) != 2:
        raise UserError(f"two sides are compared, found {len(args.sides)}: stages/compare.py A B")
    names = [side.as_posix() for side in args.sides]
    if names[0] == names[1]:
        raise UserError(f"A and B are both {names[0]}")
    found = compare(*(tree(side, name) for side, name in zip(args.sides, names, strict=True)), tuple(args.study))
    print(text(found, args.all))
    if args.out:
        write_text(args.out, "\n\n".join(["# Two makings of the same results", text(found, args.all)]) + "\n")
    sys.exit(found.too_far)


if __name__ == "__main__":
    run_main(main)
