"""What the quickstart costs from nothing: `make repro` in a fresh clone, and a second one that has nothing to do.

    python benchmarks/quickstart.py

Clones the commit at hand into a temporary folder, sets up its environment (`make .venv/.ready`, apart, since that is
mostly the network) and runs `make repro` twice. Wall and CPU seconds are of make and all its processes; each Python
process adds a line of its own to a log as it ends, from which the table of stages is summed up. The sentence in
README.md between `<!-- quickstart -->` and `<!-- end -->` is written from the result; a test holds it to the file.
About 10 minutes on two idle cores; beside other work the numbers say nothing.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import recording
import torch

from longtail.base.errors import UserError, run_main
from longtail.base.text import pipe_table

ROOT = Path(__file__).parents[1]
PART = re.compile(r"(?<=<!-- quickstart -->\n).*?(?=<!-- end -->)", re.DOTALL)
NAMED = {"setup": ".venv/.ready", "first": "repro", "again": "repro"}  # what is run, in order
TOLD = {"setup": "setting up `.venv`", "first": "`make repro`", "again": "`make repro` again"}

# Python runs a module of this name before anything else; what a process's children took is its own where they left none
AT_EXIT = """
import atexit, json, os, resource, sys

def note():
    own, below = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime, below.ru_utime + below.ru_stime
    with open(os.environ["QUICKSTART_LOG"], "a") as log:
        print(json.dumps([sys.argv[0], *seconds]), file=log)

atexit.register(note)
"""


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> dict:
    """Run a command; seconds of wall, and of CPU with all processes below it. Raises UserError where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment)
    if done.returncode:
        raise UserError(f"{' '.join(command)}: exited with {done.returncode} in {folder}")
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1)}


def stages(log: Path) -> dict[str, dict]:
    """{script: how often it ran, CPU seconds in all}, of stages/ and with what each forked; most seconds first."""
    found: dict[str, list[float]] = defaultdict(list)
    for line in log.read_text().splitlines() if log.exists() else ():
        script, own, below = json.loads(line)
        if script.startswith("stages/"):
            found[script].append(own + below)
    rows = {script: {"runs": len(cpu), "cpu_s": round(sum(cpu), 1)} for script, cpu in found.items()}
    return dict(sorted(rows.items(), key=lambda row: -row[1]["cpu_s"]))


def measure(source: Path) -> dict:
    """Runs of NAMED by name, and the stages of the first `make repro`. source: the repository to clone."""
    with tempfile.TemporaryDirectory() as folder:
        clone, spy, log = (Path(folder, name) for name in ("clone", "spy", "log"))
        spy.mkdir()
        (spy / "sitecustomize.py").write_text(AT_EXIT)
        told = {name: value for name, value in os.environ.items() if not name.startswith(("LONGTAIL_", "MAKE", "OMP_"))}
        told |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(spy), "QUICKSTART_LOG": str(log)}
        told.pop("VIRTUAL_ENV", None)
        timed(["git", "clone", "--quiet", str(source), str(clone)], Path(folder), told)
        runs, rows = {}, {}
        for name, target in NAMED.items():
            log.unlink(missing_ok=True)
            runs[name] = timed(["make", target], clone, told)
            if name == "first":
                rows = stages(log)
    return {"runs": runs, "stages": rows}


def sentence(record: dict) -> str:
    """The README's line."""
    first, again, where = record["runs"]["first"], record["runs"]["again"], record["environment"]
    return (
        f"`make repro` takes {first['wall_s'] / 60:.1f} minutes ({first['cpu_s']:.0f} CPU seconds) on "
        f"{where['cores']} cores, once `.venv` is there, and {again['wall_s']:.0f} s where there is nothing to do "
        "(`benchmarks/results/quickstart_cpu.md`).\n"
    )


def table(record: dict) -> str:
    where = record["environment"]
    runs = [(TOLD[name], run["wall_s"], run["cpu_s"]) for name, run in record["runs"].items()]
    scripts = [(script, row["runs"], row["cpu_s"]) for script, row in record["stages"].items()]
    lines = [
        f"The quickstart in a fresh clone on {where['device']}, {where['cores']} cores, load before {where['load'][0]}"
        f" (torch {where['torch']}).",
        "",
        *pipe_table(("run", "wall s", "CPU s"), "lrr", runs),
        "",
        "CPU seconds of the first `make repro` by script; the rest is DVC's and make's:",
        "",
        *pipe_table(("script", "runs", "CPU s"), "lrr", scripts),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = recording.parser(__doc__, "cpu")
    parser.add_argument("--source", type=Path, default=ROOT, help="repository to clone (default: this one)")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file that gets the sentence")
    args = parser.parse_args()
    where = recording.machine(torch.device("cpu"))
    record = {"environment": where, **measure(args.source)}
    recording.write(args.out, "quickstart", torch.device("cpu"), record, table(record))
    text = args.readme.read_text(encoding="utf-8")
    args.readme.write_text(PART.sub(lambda _: sentence(record), text, count=1), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    run_main(main)
