"""How the engines bear a large pipeline: 300 stage instances in families shaped like ours, with next to nothing to do.

    python benchmarks/dag_scale.py [--variants 10] [--keep FOLDER | --made FOLDER]

In a temporary project every variant is a dataset, 3 teachers, 5 caches, 10 students, their 10 evaluations and a report,
each with 20 files of code and an entry of params.yaml as dependencies. DVC makes all from nothing; then DVC and, where
this repository has a Snakefile, Snakemake are timed with nothing to do; then a dataset's number is edited in a fifth of
the variants and Snakemake runs what is stale, 8 jobs at a time. Targets: `dvc repro` and `snakemake -n` with nothing to
do within 20 s each, no failure to get a lock, and DVC finds everything up to date afterwards. Writes dag_300.json and
.md where recording.py files them and exits with 1 where a target is missed. CPU time counts the command and its
children, and is the figure to read where other programs run. Cost: five minutes; a bare `dvc repro` from nothing, which
reads and rewrites all of dvc.lock after every stage, would take half an hour. --made measures the rest on what --keep
left.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import recording
import torch
import yaml

from longtail.base import yaml_file
from longtail.base.errors import UserError, run_main
from longtail.base.text import pipe_table

ROOT = Path(__file__).parents[1]
SECONDS = 20
JOBS = 8
MODULES = 20
TEACHERS, CACHES, STUDENTS = 3, 5, 10  # of a variant
STAGES_A_VARIANT = 1 + TEACHERS + CACHES + 2 * STUDENTS + 1
PACKAGES = ("dvc", "snakemake", "ruamel.yaml.clib")
TOLD = ("processor", "python", *PACKAGES, "cores", "load_before", "made")
LOCK_FAILURE = re.compile(r"unable to acquire lock|it is being blocked by|dvc is at work in this", re.IGNORECASE)
RESOURCES = '"*": {gpus: 0, cpus: 1, mem_mb: 100, runtime: 5}\n'  # so that JOBS of them fit at once

WORK = '''"""python work.py OUT WORD...: write a digest of the words, and of the files that they name, into OUT."""
import hashlib, pathlib, sys

out, *words = sys.argv[1:]
digest = hashlib.sha256(out.encode())
for word in words:
    path = pathlib.Path(word)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for content in [file.read_bytes() for file in files] or [word.encode()]:
        digest.update(content)
pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
pathlib.Path(out).write_text(digest.hexdigest())
'''


def family(section: str, out: str, *inputs: str, words: str = "") -> dict:
    """A foreach block of dvc.yaml over a section of params.yaml."""
    deps = ["work.py", *(f"code/module_{i}.py" for i in range(MODULES)), *inputs]
    command = " ".join(["python work.py", out, *inputs, words]).rstrip()
    return {
        "foreach": f"${{{section}}}",
        "do": {"cmd": command, "deps": deps, "params": [f"{section}.${{key}}"], "outs": [out]},
    }


DATASET, TEACHER, CACHE = "data/datasets/${item.dataset}", "data/teachers/${item.teacher}", "data/caches/${item.cache}"
METRICS = "reports/metrics/${item.study}/${key}"
PIPELINE = {
    "subsample": family("datasets", "data/datasets/${key}", words="${item.seed}"),
    "train_teacher": family("teachers", "data/teachers/${key}", DATASET),
    "cache_logits": family("caches", "data/caches/${key}", DATASET, TEACHER),
    "train_student": family("experiments", "data/students/${key}", DATASET, CACHE),
    "evaluate": family("experiments", METRICS, DATASET, "data/students/${key}"),
    "report": family("studies", "reports/${key}", "reports/metrics/${key}"),
}


def entries(variants: int) -> dict[str, dict]:
    """params.yaml."""
    found: dict[str, dict] = {name: {} for name in ("studies", "datasets", "teachers", "caches", "experiments")}
    for variant in (f"v{i}" for i in range(variants)):
        found["studies"][variant] = {"title": variant}
        found["datasets"][variant] = {"seed": 0}
        for i in range(TEACHERS):
            found["teachers"][f"{variant}-{i}"] = {"dataset": variant, "lr": 0.1}
        for i in range(CACHES):
            found["caches"][f"{variant}-{i}"] = {"dataset": variant, "teacher": f"{variant}-{i % TEACHERS}"}
        for i in range(STUDENTS):
            student = {"study": variant, "dataset": variant, "cache": f"{variant}-{i % CACHES}", "lr": 1.0e-3}
            found["experiments"][f"{variant}-{i}"] = student
    return found


def make_project(folder: Path, variants: int) -> None:
    """The synthetic project, as a git repository with this one's DVC settings, Snakefile and workflow/."""
    (folder / "code").mkdir(parents=True)
    for i in range(MODULES):
        (folder / f"code/module_{i}.py").write_text(f"# {i}\n" * 100)
    (folder / "work.py").write_text(WORK)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": PIPELINE}, sort_keys=False))
    (folder / "params.yaml").write_text(yaml.safe_dump(entries(variants), sort_keys=False))
    (folder / ".gitignore").write_text("/data/\n/reports/\n/logs/\n/.snakemake/\n")  # DVC then writes none of its own
    (folder / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    add_engine(folder)
    who = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "source"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)


def add_engine(folder: Path) -> None:
    """This repository's Snakefile and workflow/ as they are, where it has them."""
    if (ROOT / "Snakefile").is_file():
        shutil.copy(ROOT / "Snakefile", folder)
        ignored = shutil.ignore_patterns("__pycache__", "dvc.*")  # the stage `code` of ours
        shutil.copytree(ROOT / "workflow", folder / "workflow", ignore=ignored, dirs_exist_ok=True)
        (folder / "workflow/resources.yaml").write_text(RESOURCES)


class Bench:
    """Commands timed in one project, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict] = []

    def time(self, label: str, *command: str, **variables: str) -> str:
        """Run a command that must succeed, note its times, return what it said. variables: of its environment."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=self.folder, env=os.environ | {"PATH": path} | variables, **told)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if done.returncode:
            raise UserError(f"{' '.join(command)} failed with {done.returncode}: {done.stdout.strip()[-1500:]}")
        row = {"what": label, "command": " ".join(command), "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}
        row["stages_run"] = len(re.findall(r"^Running stage '", done.stdout, re.MULTILINE))
        row["lock_failures"] = len(LOCK_FAILURE.findall(done.stdout))
        self.rows.append(row)
        print(f"{row['seconds']:8.1f} s {row['cpu_seconds']:8.1f} s CPU  {label}", flush=True)
        return done.stdout

    def run_snakemake(self, variants: int) -> None:
        """Edit a dataset's number in some variants and let Snakemake run what is stale."""
        path = self.folder / "params.yaml"
        text = path.read_text()
        path.write_text(text.replace("seed: 0", "seed: 1", variants))
        stages = variants * STAGES_A_VARIANT
        label = f"{stages} stale stages, {JOBS} jobs at a time"
        said = self.time(label, "snakemake", "--cores", str(JOBS), "--keep-going")
        row = self.rows[-1]
        row["stages_run"] = len(list((self.folder / "logs").rglob("*.log")))
        logs = "".join(log.read_text() for log in (self.folder / "logs").rglob("*.log"))
        row["lock_failures"] += len(LOCK_FAILURE.findall(logs))
        if row["stages_run"] != stages:
            raise UserError(f"snakemake ran {row['stages_run']} stages, expected {stages}: {said[-1500:]}")
        self.time("DVC, after Snakemake: nothing to do", "dvc", "repro")


def measure(folder: Path, variants: int, made: bool) -> list[dict]:
    """Rows of the table. made: folder holds the project, and all of it is made."""
    bench = Bench(folder)
    if made:
        shutil.rmtree(folder / "logs", ignore_errors=True)  # they are counted
        add_engine(folder)
    else:
        make_project(folder, variants)
        bench.time("DVC, from nothing, as `make repro` starts it", "python", "-m", "workflow.quick_dvc", "repro")
        if bench.rows[0]["stages_run"] != variants * STAGES_A_VARIANT:
            raise UserError(f"dvc ran {bench.rows[0]['stages_run']} stages, expected {variants * STAGES_A_VARIANT}")
    bench.time("DVC, nothing to do: status", "dvc", "status")
    bench.time("DVC, nothing to do: repro", "dvc", "repro")
    bench.time("DVC, nothing to do: repro, as `make repro` starts it", "python", "-m", "workflow.quick_dvc", "repro")
    with tempfile.TemporaryDirectory() as hidden:  # a module that cannot be imported, before the one that can
        (Path(hidden) / "_ruamel_yaml.py").write_text("raise ImportError('left out')\n")
        bench.time("DVC, repro without the C parser of YAML", "dvc", "repro", PYTHONPATH=hidden)
    bench.time("DVC, nothing to do: one study", "dvc", "repro", "report@v0")
    bench.time("DVC, nothing to do: one stage alone", "dvc", "repro", "--single-item", "train_student@v0-0")
    bench.time("DVC, parse dvc.yaml", "dvc", "stage", "list", "--name-only")
    if (folder / "Snakefile").is_file():
        bench.time("Snakemake, nothing to do: dry run", "snakemake", "--cores", "1", "--dry-run")
        bench.run_snakemake(max(1, variants // 5))
        bench.time("Snakemake, nothing to do again: dry run", "snakemake", "--cores", "1", "--dry-run")
    return bench.rows


def misses(rows: list[dict]) -> list[str]:
    """Targets that were missed, a line each."""
    found = [
        f"{row['what']}: {row['seconds']} s, not within {SECONDS} s"
        for row in rows
        if "nothing to do" in row["what"] and row["seconds"] > SECONDS
    ]
    found += [f"{row['what']}: {row['lock_failures']} lock failures" for row in rows if row["lock_failures"]]
    found += [f"{r['what']}: ran {r['stages_run']}" for r in rows if "nothing to do" in r["what"] and r["stages_run"]]
    return found


def environment() -> dict:
    """What the times depend on."""
    versions = {name: metadata.version(name) for name in PACKAGES if _installed(name)}
    return recording.machine(torch.device("cpu")) | versions | {"load_before": round(os.getloadavg()[0], 1)}


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def to_markdown(report: dict) -> str:
    where = report["environment"]
    about = ", ".join(f"{key.replace('_', ' ')} {where[key]}" for key in TOLD if key in where)
    head = [
        f"# {report['stages']} stage instances",
        "",
        f"Made by `python benchmarks/dag_scale.py`. {about}. Target: {SECONDS} s with nothing to do, no lock failure.",
        "",
    ]
    keys = ("seconds", "cpu_seconds", "stages_run", "lock_failures")
    found = [(row["what"], f"`{row['command']}`", *(row[key] for key in keys)) for row in report["rows"]]
    header = ("what", "command", "seconds", "CPU seconds", "stages run", "lock failures")
    rows = pipe_table(header, "llrrrr", found)
    verdict = [f"Missed: {miss}." for miss in report["missed"]] or ["All targets met."]
    return "\n".join([*head, *rows, "", *verdict, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--variants", type=int, default=10, help=f"of {STAGES_A_VARIANT} stages each; default: %(default)s"
    )
    recording.add_out(parser)
    parser.add_argument("--keep", type=Path, help="make the project in this new folder, and leave it there")
    parser.add_argument("--made", type=Path, help="measure the project that an earlier run left in this folder")
    args = parser.parse_args()
    if args.variants < 1:
        raise UserError(f"--variants: {args.variants}; a whole number from 1 is needed")
    if args.keep and args.keep.exists():
        raise UserError(f"--keep: {args.keep} is there already; name a new folder")
    if args.made:
        found = yaml_file.read(args.made / "params.yaml") if (args.made / "params.yaml").is_file() else {}
        if len(found.get("studies", {})) != args.variants or args.keep:
            raise UserError(f"--made: {args.made} holds no project of --keep with {args.variants} variants")
    about = environment() | ({"made": "before"} if args.made else {})
    with tempfile.TemporaryDirectory() as temporary:
        rows = measure(args.made or args.keep or Path(temporary) / "project", args.variants, bool(args.made))
    stages = args.variants * STAGES_A_VARIANT
    report = {"stages": stages, "environment": about, "rows": rows, "missed": misses(rows)}
    recording.write(args.out, f"dag_{stages}", report, to_markdown(report))
    print("\n".join(report["missed"]) or "all targets met")
    sys.exit(bool(report["missed"]))


if __name__ == "__main__":
    run_main(main)
