"""What the embedded studies cost from nothing: `make repro` in a fresh clone, once more with nothing to do, each other
study by `make repro STUDY=...`, and last a bare `dvc repro`, which makes what is left.

    python benchmarks/quickstart.py [--clone FOLDER]

Clones the commit at hand (into a temporary folder, or into FOLDER, which stays), sets up its environment (`make
.venv/.ready`, apart, since that is mostly the network) and runs the commands one after the other. Wall and CPU seconds
are of a command and all its processes; each Python process adds a line of its own to a log as it ends, from which the
table of stages is summed up. What a bare `dvc repro` takes from nothing is at most the sum, since each `make repro`
makes the pages anew as well. Times depend on the processor: its kind and the rate of its products of float32 matrices
are kept beside them. Files in git that differ in the end are named: none, on the processor of reports/machines.

The sentence in README.md between `<!-- quickstart -->` and `<!-- end -->` is written from the result; a test holds it
to the newest record of a CPU. Half an hour or more on two idle cores; beside other work the numbers say nothing.
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
from collections.abc import Sequence
from pathlib import Path

import limits
import recording
import torch

from longtail.base import params, workers
from longtail.base.errors import UserError, run_main
from longtail.base.text import pipe_table

ROOT = Path(__file__).parents[1]
PART = re.compile(r"(?<=<!-- quickstart -->\n).*?(?=<!-- end -->)", re.DOTALL)
SETUP, FIRST, AGAIN, BARE = "setting up .venv", "make repro", "make repro again", "dvc repro"

# Python runs a module of this name before anything else; what a process's children took is its own where they left none
AT_EXIT = """
import atexit, json, os, resource, sys, time

def note(start=time.time()):
    own, below = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime, below.ru_utime + below.ru_stime
    with open(os.environ["QUICKSTART_LOG"], "a") as log:
        print(json.dumps([*sys.argv[:2], *seconds, start, time.time()]), file=log)

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


def timeline(log: Path, begin: float) -> list[dict]:
    """Scripts of stages/ in the order in which they started, with what each forked: script, its first argument, seconds
    from begin (of time.time) to its start and end, CPU seconds."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else ():
        script, *first, own, below, start, end = json.loads(line)
        if script.startswith("stages/"):
            of = first[0] if first and not first[0].startswith("-") else ""
            row = {"from_s": round(start - begin, 1), "to_s": round(end - begin, 1), "cpu_s": round(own + below, 1)}
            found.append({"script": script, "of": of} | row)
    return sorted(found, key=lambda row: row["from_s"])


def stages(rows: list[dict]) -> dict[str, dict]:
    """{script: how often it ran, CPU seconds in all} of a timeline; most seconds first."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        found[row["script"]].append(row["cpu_s"])
    summed = {script: {"runs": len(cpu), "cpu_s": round(sum(cpu), 1)} for script, cpu in found.items()}
    return dict(sorted(summed.items(), key=lambda row: -row[1]["cpu_s"]))


def cores_used(row: dict) -> str:
    """CPU seconds over seconds; nothing of what took less than a second."""
    seconds = row["to_s"] - row["from_s"]
    return f"{row['cpu_s'] / seconds:.2f}" if seconds >= 1 else ""


def commands(studies: Sequence[str]) -> dict[str, list[str]]:
    """{name: command} in the order in which they are run. studies: of the root's params.yaml, first make's own."""
    further = {f"make repro STUDY={study}": ["make", "repro", f"STUDY={study}"] for study in studies[1:]}
    return {
        SETUP: ["make", ".venv/.ready"],
        **{FIRST: ["make", "repro"], AGAIN: ["make", "repro"]},
        **further,
        BARE: [".venv/bin/dvc", "repro"],
    }


def measure(source: Path, clone: Path, studies: Sequence[str]) -> dict:
    """Seconds of the commands by name, the stages of the first `make repro` summed up and in their order, and the files
    in git that differ in the end. source: the repository to clone; clone: the folder to make. Raises UserError where a
    command fails."""
    with tempfile.TemporaryDirectory() as folder:
        spy, log = Path(folder, "spy"), Path(folder, "log")
        spy.mkdir()
        (spy / "sitecustomize.py").write_text(AT_EXIT)
        told = {name: value for name, value in os.environ.items() if not name.startswith(("LONGTAIL_", "MAKE", "OMP_"))}
        told |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(spy), "QUICKSTART_LOG": str(log)}
        told["PATH"] = f"{clone.resolve()}/.venv/bin:{told.get('PATH', os.defpath)}"
        told.pop("VIRTUAL_ENV", None)
        timed(["git", "clone", "--quiet", str(source.resolve()), str(clone.resolve())], Path(folder), told)
        runs, rows = {}, []
        for name, command in commands(studies).items():
            log.unlink(missing_ok=True)
            begin = time.time()
            runs[name] = timed(command, clone, told)
            print(f"{name}: {runs[name]['wall_s']} s", flush=True)
            if name == FIRST:
                rows = timeline(log, begin)
        differ = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=all"], cwd=clone, text=True, stdout=subprocess.PIPE
        ).stdout.splitlines()
    return {"runs": runs, "stages": stages(rows), "timeline": rows, "differ": differ}


def total(record: dict) -> float:
    """Minutes of all embedded studies, pages among them."""
    return sum(run["wall_s"] for name, run in record["runs"].items() if name not in (SETUP, AGAIN)) / 60


def sentence(record: dict) -> str:
    """The README's lines."""
    first, again, where = record["runs"][FIRST], record["runs"][AGAIN], record["environment"]
    return (
        f"`make repro` takes {first['wall_s'] / 60:.1f} minutes ({first['cpu_s']:.0f} CPU seconds) on "
        f"{where['cores']} cores ({where['processor']}, {record['fp32_gflops']:.0f} GFLOP/s a core in float32), once "
        f"`.venv` is there, and {again['wall_s']:.0f} s where there is nothing to do; all embedded studies take "
        f"{total(record):.0f} minutes ({recording.link('quickstart', where, 'the record')}).\n"
    )


def table(record: dict) -> str:
    where, differ = record["environment"], record["differ"]
    runs = [(f"`{name}`", run["wall_s"], run["cpu_s"]) for name, run in record["runs"].items()]
    scripts = [(script, row["runs"], row["cpu_s"]) for script, row in record["stages"].items()]
    order = [(r["script"], r["of"], r["from_s"], r["to_s"], r["cpu_s"], cores_used(r)) for r in record["timeline"]]
    first = record["runs"][FIRST]
    used = first["cpu_s"] / first["wall_s"]
    lines = [
        f"The embedded studies in a fresh clone on {where['processor']}, {where['cores']} cores, "
        f"{record['fp32_gflops']:.0f} GFLOP/s a core in products of float32 matrices, load before {where['load'][0]} "
        f"(torch {where['torch']}).",
        "",
        *pipe_table(("command, one after the other", "wall s", "CPU s"), "lrr", runs),
        "",
        f"Without setting up and the second `make repro`: {total(record):.1f} minutes, what a bare `dvc repro` from "
        "nothing takes at most.",
        "",
        f"Files in git that differ in the end: {len(differ)}." + "".join(f" `{line}`" for line in differ[:20]),
        "",
        "CPU seconds of the first `make repro` by script; the rest is DVC's and make's:",
        "",
        *pipe_table(("script", "runs", "CPU s"), "lrr", scripts),
        "",
        f"The same in the order of their start, in seconds from the beginning; all of it used {used:.2f} of "
        f"{where['cores']} cores:",
        "",
        *pipe_table(("script", "of", "from s", "to s", "CPU s", "cores used"), "llrrrr", order),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = recording.parser(__doc__, "cpu")
    parser.add_argument("--source", type=Path, default=ROOT, help="repository to clone (default: this one)")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file that gets the sentence")
    parser.add_argument("--clone", type=Path, help="folder to make and leave (default: a temporary one)")
    args = parser.parse_args()
    device = torch.device("cpu")
    studies = list(params.own(args.source / "params.yaml")["studies"])
    with workers.one_thread():
        rate = limits.matmul_rate(device, 8, 384, torch.float32) / 1e9
    record = {"environment": recording.machine(device), "fp32_gflops": round(rate, 1)}
    with tempfile.TemporaryDirectory() as folder:
        record |= measure(args.source, args.clone or Path(folder, "clone"), studies)
    recording.write(args.out, "quickstart", record, table(record))
    text = args.readme.read_text(encoding="utf-8")
    args.readme.write_text(PART.sub(lambda _: sentence(record), text, count=1), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    run_main(main)
