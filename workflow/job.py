"""One stage as a job of Snakemake, wherever the repository is seen: `python -m workflow.job ADDRESS --record FILE`.

DVC's own reproduction of the stage (its checks, its run cache, its hashes), but without DVC's lock and without writing
dvc.lock: the new entry goes to FILE, last and atomically. {} there says that the stage was up to date after all.

A stage that has several GPUs finds their number in LONGTAIL_NPROC: a training then runs in so many processes.

SIGTERM and a scheduler's warning that the time limit is near (SIGURG) reach the stage: a training saves its state and
ends with code 143. After a warning, a job of Slurm then goes back into the queue as the same job.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from longtail.base import source
from longtail.base.errors import AGAIN, UserError, killed
from longtail.base.files import atomic_write
from longtail.base.lock import alone
from workflow import gpus, resources
from workflow.bridge import one_line, told
from workflow.plan import STATE, to_text

WARNING = signal.SIGURG  # Slurm signals every process of a job: this one ends none of those that do not know it
STOPPED = 143  # longtail.runs.workspace.STOPPED, whose import would bring torch

_warned = False


def run(address: str, record: Path) -> None:
    """Reproduce a stage and write its record. UserError where it fails, or where its inputs changed meanwhile.

    address: as DVC has it, `papers/deit_lt/dvc.yaml:NAME`, or the name alone of a stage of the root's dvc.yaml.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockNoop
    from dvc.repo import Repo
    from dvc.stage.exceptions import StageCmdFailedError

    file, _, name = address.rpartition(":")
    try:
        with Repo(".") as repo, tempfile.TemporaryDirectory() as private, _alone(name):
            repo.lock, repo.tmp_dir = LockNoop(), private
            with repo.lock:
                entry = _reproduce(repo.stage.load_one(file or None, name))
    except StageCmdFailedError as error:
        if _warned and error.args[0].endswith(f"exited with {STOPPED}") and _requeued():
            sys.exit(STOPPED)
        raise UserError(f"{name}: {_ended(one_line(error))}") from error
    except DvcException as error:
        raise UserError(f"{name}: {one_line(error)}") from error
    atomic_write(record, lambda path: path.write_text(to_text(entry)))


def _reproduce(stage) -> dict:
    """The stage's new entry of dvc.lock; {} where nothing had to be done."""
    from dvc.stage.serialize import to_single_stage_lockfile

    lists = source.lists(map(str, stage.deps))
    source.refresh(lists)  # code may have been edited since the plan
    before = {str(dep): dep.get_hash() for dep in stage.deps if dep.exists}
    if stage.reproduce(no_commit=True) is None:
        return {}
    # what DVC hashed afterwards must be what the command read; DVC itself does not ask
    edited = [str(dep) for dep in stage.deps if dep.hash_info != before.get(str(dep))] or source.edited(lists)
    if edited:
        raise UserError(f"{stage.name}: {', '.join(edited)} changed while it ran; not recorded, run it again")
    if all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs):  # the rule of DVC's own run()
        stage.repo.stage_cache.save(stage)
    stage.commit()
    return to_single_stage_lockfile(stage)


def _ended(said: str) -> str:
    """DVC's line of a command that failed, with what ended it where that was a signal."""
    code = int(found[1]) if (found := re.search(r"exited with (-?\d+)$", said)) else 0
    signum = -code if code < 0 else code - 128 if 128 < code < 160 and code != STOPPED else 0
    return f"{said}: {killed(signum)}; {AGAIN}" if signum else said


def _alone(name: str) -> AbstractContextManager[None]:
    """Hold the stage's own lock, waiting for a job of an earlier, killed snakemake that still works on it."""
    return alone(STATE / "jobs" / name, f"{name}: a job of an earlier run is still at it")


def _pass_on(signum, frame) -> None:
    """Hand SIGTERM on to the stage's processes, a warning as SIGUSR1: on both a training saves its state and stops."""
    import psutil

    global _warned
    _warned = signum == WARNING
    processes = psutil.Process().children(recursive=True)
    if signum != WARNING and not processes:  # no stage at work: this job waits for another, or hashes
        sys.exit(STOPPED)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGUSR1 if _warned else signum)


def _requeued() -> bool:
    """Put this job of Slurm back into its queue, where the site allows it: it starts again with its time limit anew."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    print(f"state saved before the time limit; scontrol requeue {job}: {done.stderr.strip() or 'done'}", flush=True)
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", help="its address: [papers/PAPER/dvc.yaml:]NAME")
    parser.add_argument("--record", type=Path, required=True, help="JSON file to write when the stage is done")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of this machine to take for it (default: none)")
    parser.add_argument("--gpu-share", type=int, default=1, help="jobs that may share one GPU (default: %(default)s)")
    args = parser.parse_args()
    for signum in (signal.SIGTERM, WARNING):
        signal.signal(signum, _pass_on)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # inherited: only stages that can save their state react to it
    # bash becomes the command it is given; another shell would stay in between and die before the stage has saved
    os.environ["SHELL"] = shutil.which("bash") or os.environ.get("SHELL", "/bin/sh")
    # the `python` of the stages' commands is the one that runs this, and longtail is this repository's
    for variable, first in (("PATH", Path(sys.executable).parent), ("PYTHONPATH", Path.cwd())):
        os.environ[variable] = os.pathsep.join(filter(None, (str(first), os.environ.get(variable))))
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {args.stage} on {socket.gethostname()}", flush=True)
    with told(), gpus.taken(args.gpus, share=args.gpu_share):
        devices = min(
            resources.of(args.stage.rpartition(":")[2]).gpus, len(gpus.devices())
        )  # a cluster's job sees its own alone
        os.environ.setdefault("LONGTAIL_NPROC", str(max(1, devices)))
        run(args.stage, args.record)


if __name__ == "__main__":
    main()
