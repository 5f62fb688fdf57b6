"""How far the computed facts of a probe move where the code stays: instruction sets, threads. What COMPUTED must allow.

    python benchmarks/probe_tolerance.py

Probes every kind of entry, made small (helpers/small_entries.py), once plainly and once under each variation, each in a
process of its own, and prints the largest difference of each kind of fact, relative to the fact's largest number. The
steps of SGD and of SAM have rows of their own, as they have tolerances of their own. Writes probe_tolerance.md and
.json where recording.py files them. About five minutes of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import recording
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from longtail.base.text import pipe_table  # noqa: E402
from longtail.report.machines import place  # noqa: E402

VARIATIONS = {
    "plain, again": {},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "PyTorch's own kernels without AVX": {"ATEN_CPU_CAPABILITY": "default"},
    "oneDNN with SSE4.1 alone": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "matrix products with SSE4.2 alone": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_CBWR": "COMPATIBLE"},
    "all of these": {
        "OMP_NUM_THREADS": "2",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "COMPATIBLE",
    },
}
STEPS = [f"{kind} {n}" for n in (1, 2, 3) for kind in ("loss", "gradient", "update")]
KINDS = ("first", "test logits", "input", *STEPS, "change of", "teacher")
OF = {"": "students, and what is no step", "SGD ": "teachers by SGD", "SAM ": "teachers by SAM"}  # by how names begin


def probes() -> dict[str, dict]:
    """Of every small entry, as JSON can hold them."""
    from longtail.base import params
    from tests.helpers.small_entries import STUDENTS, TEACHERS, probe_student, probe_teacher

    table = params.load_all(ROOT)
    made = {kind: probe_student(table, name) for kind, name in STUDENTS.items()}
    made |= {kind: probe_teacher(table, name) for kind, name in TEACHERS.items()}
    return {kind: asdict(probe) for kind, probe in made.items()}


def under(variation: dict[str, str]) -> dict[str, dict]:
    """`probes` of a process with these variables."""
    command = [sys.executable, __file__, "--print"]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"} | variation, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def moved(was: dict[str, dict], now: dict[str, dict], begins: str) -> str:
    """The largest relative difference of the facts whose names begin so, and the entry that it is of."""
    found = []
    for entry, probe in was.items():
        for name, values in probe["computed"].items():
            if name.startswith(begins):
                scale = max(map(abs, values)) or 1.0
                other = now[entry]["computed"][name]
                found.append((max(abs(a - b) for a, b in zip(values, other, strict=True)) / scale, entry))
    return "{:.1e} {}".format(*max(found)) if found else ""


def unnamed(probes: dict[str, dict]) -> set[str]:
    """Computed facts that no column holds."""
    columns = tuple(of + kind for of in OF for kind in KINDS)
    return {name for probe in probes.values() for name in probe["computed"] if not name.startswith(columns)}


def table(record: dict) -> str:
    where = record["environment"]
    lines = [
        "# What moves in a probe without an edit",
        "",
        f"`python benchmarks/probe_tolerance.py`, {place(where)}, torch {where['torch']}. Largest relative",
        f"difference of a computed fact over {record['entries']} small entries, and the entry that it is of.",
        "",
    ]
    rows = [
        (row["variation"], row["of"], *row["moved"].values(), "equal" if row["exact_and_close_are_equal"] else "differ")
        for row in record["rows"]
    ]
    head = ("variation", "of", *KINDS, "exact and close facts")
    return "\n".join([*lines, *pipe_table(head, "ll" + "r" * len(KINDS) + "l", rows)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recording.add_out(parser)
    parser.add_argument("--print", action="store_true", help="print the probes of this process as JSON")
    args = parser.parse_args()
    if args.print:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        print(json.dumps(probes()))
        return
    plain = under({})
    if left := unnamed(plain):
        raise RuntimeError(f"no column for {sorted(left)}")
    rows = []
    for name, variation in VARIATIONS.items():
        now = under(variation)
        same = all(plain[e][kind] == now[e][kind] for e in plain for kind in ("exact", "close"))
        for begins, whose in OF.items():
            facts = {kind: moved(plain, now, begins + kind) for kind in KINDS}
            rows.append({"variation": name, "of": whose, "moved": facts, "exact_and_close_are_equal": same})
            print(rows[-1], flush=True)
    record = {"environment": recording.machine(torch.device("cpu")), "entries": len(plain), "rows": rows}
    recording.write(args.out, "probe_tolerance", record, table(record))


if __name__ == "__main__":
    main()
