"""What a process of stage_processes.py does first. It imports nothing of longtail: which modules a stage has loaded is
part of what is recorded with its result.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path


def _share(cores: list[int], wanted: int) -> list[int]:
    """So many of the machine's cores, beginning with another one in each process of pytest-xdist."""
    first = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(cores)
    return (cores[first:] + cores[:first])[:wanted]


def work(script: Path, arguments: list[str], environment: dict[str, str], folder: Path, log: Path, cores: int) -> None:
    os.setsid()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _share(sorted(os.sched_getaffinity(0)), cores))
    os.chdir(folder)
    os.environ.update({"CUDA_VISIBLE_DEVICES": "", **environment})  # the same bytes are promised on a CPU
    for path, descriptor in ((log, 1), (log.with_suffix(".err"), 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")
