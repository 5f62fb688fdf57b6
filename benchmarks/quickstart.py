"""What the embedded studies cost from nothing: `make repro` in a fresh clone, a second one, then the other studies.

    python benchmarks/quickstart.py

Clones the commit at hand into a temporary folder, sets up its environment (`make .venv/.ready`, apart, since that is
mostly the network), runs `make repro` twice, `make repro STUDY=...` for each further study of the root's params.yaml,
and at last a bare `dvc repro`, which finds those made and makes what is left. Wall and CPU seconds are of the command
and all its processes; each Python process adds a line of its own to a log as it ends, from which the table of the
quickstart's stages is summed up. Beside the times stands the machine's rate of fp32 products (limits.py): a machine of
half the rate takes about twice as long. The sentence in README.md between `<!-- quickstart -->` and `<!-- end -->` is
written from the result; a test holds it to the file. About 25 minutes on two idle cores; beside other work the numbers
say nothing.
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

import limits
import recording
import torch

from longtail.base.errors import UserError, run_main
from longtail.base.text import pipe_table
from longtail.base.yaml_file import mapping

ROOT = Path(__file__).parents[1]
PART = re.compile(r"(?<=<!-- quickstart -->\n).*?(?=<!-- end -->)", re.DOTALL)
QUICKSTART = "digits"  # the Makefile's own choice of a study
NAMED = {"setup": ".venv/.ready", "first": "repro", "again": "repro"}  # what is run first, in order
TOLD = {"setup": "setting up `.venv`", "first": "`make repro`", "again": "`make repro` again", "bare": "`dvc repro`"}

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


def measure(source: Path, kept: Path | None = None) -> dict:
    """Runs by name, the stages of the first `make repro`, and the tracked files that differ at the end.

    source: the repository to clone. kept: where the clone is to stay; else it goes. Raises UserError where a command
    fails, or where `kept` exists.
    """
    if kept is not None and kept.exists():
        raise UserError(f"{kept}: is there; --clone names a new folder")
    with tempfile.TemporaryDirectory() as folder:
        clone, spy, log = (Path(folder, name) for name in ("clone", "spy", "log"))
        clone = kept or clone
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
        for study in mapping(clone / "params.yaml")["studies"]:
            if study != QUICKSTART:
                runs[study] = timed(["make", "repro", f"STUDY={study}"], clone, told)
        path = f"{clone}/.venv/bin{os.pathsep}{told['PATH']}"
        runs["bare"] = timed(["dvc", "repro"], clone, told | {"PATH": path})
        status = ["git", "status", "--porcelain", "--untracked-files=no"]
        listed = subprocess.run(status, cwd=clone, check=True, capture_output=True, text=True).stdout
    return {"runs": runs, "stages": rows, "differ": [line[3:] for line in listed.splitlines()]}


def together(record: dict) -> dict:
    """Seconds of all runs but the setup and the repetition: of a bare `dvc repro` in a fresh clone and more."""
    parts = [run for name, run in record["runs"].items() if name not in ("setup", "again")]
    return {key: round(sum(run[key] for run in parts), 1) for key in ("wall_s", "cpu_s")}


def sentence(record: dict) -> str:
    """The README's line."""
    first, again, where = record["runs"]["first"], record["runs"]["again"], record["environment"]
    return (
        f"`make repro` takes {first['wall_s'] / 60:.1f} minutes ({first['cpu_s']:.0f} CPU seconds) on "
        f"{where['cores']} cores of an {where['processor']}, once `.venv` is there, and {again['wall_s']:.0f} s where "
        f"there is nothing to do; all embedded studies together take {together(record)['wall_s'] / 60:.0f} minutes "
        "(`benchmarks/results/quickstart_cpu.md`).\n"
    )


def table(record: dict) -> str:
    where = record["environment"]
    named = record["runs"] | {"together": together(record)}
    told = TOLD | {"together": "all but the first and the third row"}
    runs = [(told.get(name, f"`make repro STUDY={name}`"), run["wall_s"], run["cpu_s"]) for name, run in named.items()]
    scripts = [(script, row["runs"], row["cpu_s"]) for script, row in record["stages"].items()]
    lines = [
        f"The embedded studies in a fresh clone, one after another, on {where['device']}, {where['cores']} cores of an "
        f"{where['processor']}, {record['fp32_gflops']} GFLOP/s of fp32 products, load before {where['load'][0]} "
        f"(torch {where['torch']}).",
        "",
        *pipe_table(("run", "wall s", "CPU s"), "lrr", runs),
        "",
        f"Tracked files that differ from the commit afterwards: {', '.join(record['differ']) or 'none'}.",
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
    parser.add_argument("--clone", type=Path, help="keep the clone, as this new folder")
    args = parser.parse_args()
    where = recording.machine(torch.device("cpu"))
    rate = limits.matmul_rate(torch.device("cpu"), 8, 768, torch.float32)
    record = {
        "environment": where,
        "fp32_gflops": round(rate / 1e9, 1),
        **measure(args.source, args.clone and args.clone.absolute()),
    }
    recording.write(args.out, "quickstart", torch.device("cpu"), record, table(record))
    text = args.readme.read_text(encoding="utf-8")
    args.readme.write_text(PART.sub(lambda _: sentence(record), text, count=1), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    run_main(main)
