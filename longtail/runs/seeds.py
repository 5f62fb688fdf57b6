"""The seeds of one entry, each a run (longtail/runs/single_run.py): which are to be trained, by how many processes.

A run that is killed and started again continues from its checkpoint and ends in the same bytes on a CPU; a finished one
is not trained again, so adding a seed to an entry trains that seed alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from longtail.base.errors import AGAIN, UserError, killed, tell
from longtail.base.files import named
from longtail.base.workers import alone, cores, set_threads
from longtail.runs.parallel import ALONE, Team
from longtail.runs.probe import Probe
from longtail.runs.single_run import Run, code_digest, environment_of, locked
from longtail.runs.workspace import STOP_SIGNALS, STOPPED, Workspace, request_stop, stop_on_signals, stop_requested


def pick_device(name: str) -> torch.device:
    """auto = CUDA where there is one. Raises UserError when cuda is asked for and absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device here; use --device cpu or auto")
    return torch.device(name)


def run_seeds(
    work: Callable[[int, Workspace], None],
    identities: dict[int, str],
    out: Path,
    device: torch.device,
    jobs: int = 0,
    team: Team = ALONE,
    probe: Callable[[int], Probe] | None = None,
    made_from: Mapping[int, Mapping[str, str]] | None = None,
) -> None:
    """Run work(seed, workspace) for each seed whose finished result is not in out/seed<k> yet, whole and intact.

    made_from: facts of each seed's inputs that a finished result's identity.json must not contradict.
    probe(seed): what the code computes for that run, made where a finished or half-trained run was made by other code;
    None = a result stands for as long as its identity does.

    On a CPU, `jobs` processes (default: one per core, at most one per seed) that share the cores as threads; on CUDA
    one after another unless jobs says otherwise. Folders of seeds that the entry no longer names are removed at the
    end. A failing seed leaves the others to finish; the exit code is then its own. A team trains seed after seed, all
    its processes each of them, and ends with the first that fails.
    """
    if not identities:
        raise UserError(f"{out.name}: no seed to run; its `seeds` is empty")
    facts, code = made_from or {}, code_digest()
    runs = [Run(out, seed, name, code, probe, facts.get(seed, {})) for seed, name in identities.items()]
    with _own_signals():
        if team.backend is not None:
            _run_together(work, runs, device, team)
        else:
            _run_alone(work, runs, device, jobs)
    if not team.leads:
        return
    for folder in out.glob("seed*"):
        if folder.name not in {f"seed{s}" for s in identities}:
            shutil.rmtree(folder)
            environment_of(folder).unlink(missing_ok=True)


@contextmanager
def _own_signals() -> Iterator[None]:
    """What this process does on a stop signal is afterwards as it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _to_do(runs: list[Run]) -> list[Run]:
    """What is not finished yet, is damaged, or was made by other code."""
    runs[0].out.mkdir(parents=True, exist_ok=True)
    todo = []
    for run in runs:
        if not run.done:
            todo.append(run)
            continue
        print(f"{run.label}: already there")
        if run.left:  # by a process that was killed right after the run's end
            with locked(run.scratch):
                run.tidy()
    return todo


def _run_alone(work, runs: list[Run], device: torch.device, jobs: int) -> None:
    if todo := _to_do(runs):
        jobs = jobs or (cores() if device.type == "cpu" else 1)
        together = min(jobs, len(runs))  # of the entry, not of what is left: sums are by thread
        threads = max(1, cores() // together)
        jobs = min(jobs, len(todo))
        if jobs == 1:
            failed = _run_in_turn(work, todo, device, threads)
        else:
            failed = _run_pool(work, todo, device, jobs, threads)
        if failed:
            seeds = ", ".join(map(str, failed))
            print(f"error: {runs[0].out.name}: seed {seeds} failed; finished seeds are kept", file=sys.stderr)
            sys.exit(max(failed.values()))


def _run_together(work, runs: list[Run], device: torch.device, team: Team) -> None:
    """Seed after seed in all processes of a team; the first one looks what is to be done."""
    mine = [(run.seed, run.identity, run.code) for run in runs]
    if mine != team.from_first(mine):
        raise UserError(f"process {team.rank} of {team.size}: other code, settings or inputs than the first process")
    set_threads(cores())
    stop_on_signals()
    for seed in team.from_first([run.seed for run in _to_do(runs)] if team.leads else None):
        if team.largest([int(stop_requested())]) == [1]:
            sys.exit(STOPPED)
        _run_one(work, next(run for run in runs if run.seed == seed), device, os.getppid(), team)


def _run_one(work, run: Run, device: torch.device, parent=None, team=ALONE) -> None:
    with locked(run.scratch) if team.leads else nullcontext():
        # another process may have finished it while we waited
        if team.from_first(run.stands() if team.leads else None):
            if team.leads:
                run.tidy()
            return
        if team.leads:
            run.mend()
            run.begin()
        workspace = Workspace(run.scratch, run.label, run.identity, device, team=team)
        workspace.parent = parent
        with named(run.scratch):
            try:
                work(run.seed, workspace)
            finally:
                workspace.finish()  # nothing is written any more when the lock is given back
            if team.leads:
                run.publish()


def _run_in_turn(work, todo: list[Run], device: torch.device, threads: int) -> dict[int, int]:
    """Seed after seed in this process; one that fails leaves the others to finish. Returns the codes of those."""
    set_threads(threads)
    stop_on_signals()
    if len(todo) == 1:
        _run_one(work, todo[0], device)
        return {}
    codes = {}
    for run in todo:
        if stop_requested():
            sys.exit(STOPPED)
        try:
            _run_one(work, run, device)
        except Exception as error:
            if (code := tell(error)) is None:
                traceback.print_exc()
            codes[run.seed] = code or 1
    return codes


def _run_pool(work, todo: list[Run], device: torch.device, jobs: int, threads: int) -> dict[int, int]:
    """One process a seed, `jobs` at a time; a stop signal is passed on and every child saves its state. Returns the
    codes of the seeds that failed."""
    context = torch.multiprocessing.get_context("fork" if device.type == "cpu" else "spawn")
    running, waiting, codes = {}, list(todo), {}

    def pass_on(signum, frame):
        request_stop()
        for process in running.values():
            process.terminate()  # unlike os.kill, no error where it has ended

    stop_on_signals(pass_on)
    while (waiting and not stop_requested()) or running:
        while waiting and len(running) < jobs and not stop_requested():
            run = waiting.pop(0)
            process = context.Process(target=_child, args=(work, run, device, threads, os.getpid()))
            with alone():
                process.start()
            running[run.seed] = process
            if stop_requested():  # it came while the process was being made
                process.terminate()
        for seed, process in list(running.items()):
            process.join(timeout=0.2)
            if process.exitcode is not None:
                codes[seed] = process.exitcode
                del running[seed]
    if stop_requested():
        sys.exit(STOPPED)
    for seed, code in codes.items():
        if code < 0:
            print(f"error: {todo[0].out.name} seed {seed}: {killed(-code)}; {AGAIN}", file=sys.stderr)
    return {seed: abs(code) for seed, code in codes.items() if code}


def _child(work, run: Run, device: torch.device, threads: int, parent: int) -> None:
    stop_on_signals()
    set_threads(threads)
    try:
        _run_one(work, run, device, parent)
    except Exception as error:
        if (code := tell(error)) is None:
            raise
        sys.exit(code)
