"""An engine that makes the study of kills.py, in a process group that can be ended, and what it has made so far."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests.helpers

from longtail.base.files import file_digest  # noqa: E402
from tests.helpers.projects import environment  # noqa: E402

TARGET = "report@tiny"
ENGINES = {
    "dvc": f"python -m workflow.lockfile && dvc repro {TARGET} && python -m workflow.lockfile",  # as `make repro`
    "snakemake": "snakemake --cores 2 --keep-going tiny",
}
RESULTS = ("data/teachers", "data/caches", "data/students")
MADE = (*RESULTS, "data/code", "data/datasets", "reports")


def start(folder: Path, engine: str, log, **more: str) -> subprocess.Popen:
    """An engine in a session of its own, in which Ctrl-C counts: what runs in a shell's background ignores it."""
    told = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
    told["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    variables = {name: value for name, value in environment(folder).items() if not name.startswith("LONGTAIL_")}
    own = {"LONGTAIL_SAVE_EVERY_S": "0.1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(["bash", "-c", ENGINES[engine]], cwd=folder, env=variables | own | more, **told)


def kill_all(process: subprocess.Popen) -> None:
    """An engine and all that it started, in no order that they could notice."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    for pid in (process.pid, *(child.pid for child in below)):
        for kill in (lambda pid=pid: os.killpg(pid, signal.SIGKILL), lambda pid=pid: os.kill(pid, signal.SIGKILL)):
            try:
                kill()
            except (ProcessLookupError, PermissionError):
                continue
    process.wait()
    psutil.wait_procs(below, timeout=30)


def made(folder: Path) -> dict[str, str]:
    """{file: sha256} of all that the study's stages make; what tells of time and machine is left out."""
    found = {}
    for path in (path for where in MADE for path in (folder / where).rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if ".environment/" not in name and ".damaged/" not in name and path.name != ".gitignore":
            found[name] = file_digest(path)
    return found


def results(folder: Path) -> dict[str, int]:
    """{finished result: when its weights or labels were written}."""
    found = {}
    for path in (path for where in RESULTS for path in (folder / where).glob("*/seed*/identity.json")):
        if ".damaged" not in str(path.relative_to(folder)):
            found[str(path.parent.relative_to(folder))] = path.stat().st_mtime_ns
    return found


def note(folder: Path, finished: dict[str, int]) -> None:
    """Remember what is finished, for `Campaign.lost`."""
    for name, written in results(folder).items():
        finished.setdefault(name, written)
