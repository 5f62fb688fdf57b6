"""Which small edits of the code a probe catches, and by which fact: the rows of tests/helpers/mutations.py.

    python benchmarks/probe_mutations.py --out benchmarks/results/probe_mutations.md

Each edit changes one text of one function; the probe of a small entry is then made again and held against the one
before. About two minutes of a core. tests/training/test_probes.py holds that none goes unseen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from longtail.base.text import pipe_table  # noqa: E402
from tests.helpers.mutations import MUTATIONS, mutated  # noqa: E402
from tests.training.test_probes import MADE  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    plain = {kind: make() for kind, make in MADE.items()}
    rows, seen = [], 0
    for kind, place, old, new in MUTATIONS:
        with mutated(place, old, new):
            differences = plain[kind].differences(MADE[kind]())
        seen += bool(differences)
        facts = differences[0].split(":")[0].removesuffix(" differ") if differences else "nothing"
        rows.append((kind, f"`{place}`", f"`{old}`", f"`{new}`", facts, len(differences)))
    head = ("entry", "function", "text", "in its place", "first fact that differs", "facts")
    text = "\n".join(pipe_table(head, "lllllr", rows))
    words = f"`python benchmarks/probe_mutations.py`: {seen} of {len(rows)} edits are caught."
    out.write_text(f"# Small edits that a probe catches\n\n{words}\n\n{text}\n")
    print(words)


if __name__ == "__main__":
    main()
