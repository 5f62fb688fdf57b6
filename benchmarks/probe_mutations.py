"""Which small edits of the code a probe catches, and by which fact: the rows of tests/helpers/mutations.py.

    python benchmarks/probe_mutations.py --out benchmarks/results/probe_mutations.md
    python benchmarks/probe_mutations.py --out benchmarks/results/probe_mutations.md --only ride ride_dive ride_routed

Each edit changes one text of one function; the probe of a small entry is then made again and held against the one
before. About two minutes of a core; with --only the rows of these entries are made, the others stay as the file has
them. tests/training/test_probes.py holds that none goes unseen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from longtail.base.errors import UserError, run_main  # noqa: E402
from longtail.base.text import pipe_table  # noqa: E402
from longtail.runs.workspace import processor  # noqa: E402
from tests.helpers.mutations import MUTATIONS, mutated  # noqa: E402
from tests.training.test_probes import MADE  # noqa: E402

HEAD = ("entry", "function", "text", "in its place", "first fact that differs", "facts", "processor")


def known(path: Path) -> dict[tuple[str, ...], tuple[str, ...]]:
    """{entry, function, text, what stands in its place: row} of the file as it is; rows of old have no processor."""
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = [line[2:-2].split(" | ") for line in lines if line.startswith("| ")][1:]
    return {tuple(row[:4]): tuple([*row, "not recorded"][: len(HEAD)]) for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--only", nargs="+", default=list(MADE), choices=list(MADE), help="entries", metavar="ENTRY")
    args = parser.parse_args()
    torch.set_num_threads(1)
    plain, before = {kind: MADE[kind]() for kind in args.only}, known(args.out)
    rows = []
    for kind, place, old, new in MUTATIONS:
        edit = (kind, f"`{place}`", f"`{old}`", f"`{new}`")
        if kind not in plain:
            if edit not in before:
                raise UserError(f"{args.out}: no row of {kind}, {place}; name {kind} under --only too")
            rows.append(before[edit])
            continue
        with mutated(place, old, new):
            differences = plain[kind].differences(MADE[kind]())
        first = differences[0].split(":")[0].removesuffix(" differ") if differences else "nothing"
        rows.append((*edit, first, str(len(differences)), processor()))
        print(*rows[-1][:5], flush=True)
    seen = sum(row[5] != "0" for row in rows)
    text = "\n".join(pipe_table(HEAD, "lllllrl", rows))
    words = f"`python benchmarks/probe_mutations.py`: {seen} of {len(rows)} edits are caught."
    args.out.write_text(f"# Small edits that a probe catches\n\n{words}\n\n{text}\n")
    print(words)


if __name__ == "__main__":
    run_main(main)
