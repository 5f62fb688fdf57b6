"""Files records under the machine that they are from, and lists all of them: benchmarks/results/README.md.

    python benchmarks/filing.py [--out benchmarks/results] [--check]

A record that lies in the folder itself, as older code left it (<part>_cpu.json and .md), moves to its machine's folder,
which follows from its own environment (recording.py). Then the list is written; with --check nothing is moved or
written and the exit code is 1 where something would be. A second.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import recording

from longtail.base.errors import UserError, run_main
from longtail.base.files import write_text
from longtail.base.text import pipe_table
from longtail.report.review.verified import committed_on

LIST = "README.md"
HEAD = ("part", "numbers", "date", "commit", "on", "cores", "load", "torch")
TOLD = """# Measurements by machine

Written by `python benchmarks/filing.py` from the records below it; do not edit. A record is filed by the processor, of
a GPU by the card, and by the release of PyTorch that it was measured with, so that machines stand side by side. Where
several hold the same part, pages and tests read the newest one of a CPU: by its date; one without a date is older than
all that have one; then one that names its processor comes first.

*date*: the day that the record tells, else, in brackets, that on which git got it. *commit*: at which it was measured;
edited: with changes that were not committed. *load*: mean number of running processes when it was measured, over the
last minute. –: not recorded. `docs/performance.md` says what is measured, and which parts are of no machine.
"""
OF_NONE = """## Of no machine

What does not depend on a machine, or tells none in itself:
"""


def unfiled(results: Path) -> dict[Path, Path]:
    """{file that lies in the folder itself: where it belongs}. A record that tells no device or no torch stays.
    Raises UserError where the place is taken."""
    moves = {}
    for path in sorted(results.glob("*.json")):
        about = json.loads(path.read_text(encoding="utf-8")).get("environment") or {}
        if not (about.get("device") and about.get("torch")):
            continue
        part = re.sub(r"_(cpu|cuda)$", "", path.stem)
        for file in (path, path.with_suffix(".md")):
            target = results / recording.folder(about) / f"{part}{file.suffix}"
            if target.exists():
                raise UserError(f"{file}: {target} is there already; remove the older one")
            if file.exists():
                moves[file] = target
    return moves


def page(results: Path, day: Callable[[Path], str]) -> str:
    """The list as Markdown: a section a machine, a row a part. day: on which git got a file."""
    parts = [TOLD]
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        rows, names = [], set()
        for path in sorted(folder.glob("*.json")):
            about = json.loads(path.read_text(encoding="utf-8"))["environment"]
            names.add((about.get("processor") or "CPU, not named") if recording.on_cpu(about) else about["device"])
            rows.append(_row(path, about, day))
        alone = (path for path in sorted(folder.glob("*.md")) if not path.with_suffix(".json").exists())
        rows += [(f"[{path.stem}]({folder.name}/{path.name})", "–", f"({day(path)})", *["–"] * 5) for path in alone]
        if rows:
            head = f"## {', '.join(sorted(names))}: PyTorch {folder.name.rpartition('_torch-')[2]}"
            parts += ["\n".join([head, "", *pipe_table(HEAD, "lllllrrl", rows), ""])]
    rest = sorted(path.name for path in results.glob("*.md") if path.name != LIST)
    parts += [OF_NONE, "\n".join(f"* [`{name}`]({name})" for name in rest) + "\n"] if rest else []
    return "\n".join(parts)


def _row(path: Path, about: dict, day: Callable[[Path], str]) -> tuple[str, ...]:
    place = f"{path.parent.name}/{path.stem}"
    commit, _, edited = (about.get("git_commit") or "–").partition("-")
    commit = f"`{commit[:8]}`" if len(commit) > 1 else commit
    load = about.get("load")
    return (
        f"[{path.stem}]({place}.md)" if path.with_suffix(".md").exists() else path.stem,
        f"[JSON]({place}.json)",
        about.get("date") or f"({day(path)})",
        commit + (" edited" if edited else ""),
        about["device"],
        str(about.get("cores") or "–"),
        f"{load[0]:.1f}" if load else "–",
        about["torch"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recording.add_out(parser)
    parser.add_argument("--check", action="store_true", help="move and write nothing; exit 1 where something would be")
    args = parser.parse_args()
    if not args.out.is_dir():
        raise UserError(f"{args.out}: no such folder; give the one that holds the records")
    moves, target = unfiled(args.out), args.out / LIST
    if not args.check:
        for path, place in moves.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
            print(f"{path.name} -> {place.relative_to(args.out)}")
        write_text(target, page(args.out, committed_on))
    elif moves or not target.is_file() or target.read_text(encoding="utf-8") != page(args.out, committed_on):
        print(f"{target}: out of date; run python benchmarks/filing.py --out {args.out}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
