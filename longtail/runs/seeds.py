"""One run = one seed of one entry: where it works, how it resumes, when it counts as done.

Training state lives in a scratch folder that neither DVC nor Snakemake owns, named after the run's fingerprint (its
resolved entry, the content of its inputs, the source of the modules it imports). A run that is killed and started
again continues from there and ends in the same bytes on a CPU. A result appears under its final name only when it is
complete, by one rename; a finished run with the same fingerprint is never trained again, so adding a seed to an entry
trains that seed alone.

LONGTAIL_SCRATCH in the environment names the scratch folder (default: scratch, in the working directory).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from longtail.base.errors import UserError
from longtail.base.params import digest, plain
from longtail.base.workers import cores
from longtail.runs.parallel import ALONE, Team
from longtail.runs.workspace import STOPPED, Workspace, request_stop, stop_on_signals, stop_requested


def fingerprint(*parts: Any) -> str:
    """sha256 of the parts (dataclasses, mappings, text), and of the source of the running script and of every longtail
    module imported so far."""
    sources = {
        name: hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("longtail", "__main__") and getattr(module, "__file__", None)
    }
    return digest([[plain(p) for p in parts], sources])


def pick_device(name: str) -> torch.device:
    """auto = CUDA where there is one. Raises UserError when cuda is asked for and absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device here; use --device cpu or auto")
    return torch.device(name)


def finished_fingerprint(folder: Path) -> str | None:
    """The fingerprint in a finished run's environment.json; None when there is no complete result."""
    try:
        return json.loads((folder / "environment.json").read_text())["fingerprint"]
    except (OSError, ValueError, KeyError):
        return None


def run_seeds(
    work: Callable[[int, Workspace], None],
    fingerprints: dict[int, str],
    out: Path,
    device: torch.device,
    jobs: int = 0,
    team: Team = ALONE,
) -> None:
    """Run work(seed, workspace) for each seed whose finished result is not in out/seed<k> yet.

    On a CPU, `jobs` processes (default: one per core, at most one per seed) that share the cores as threads; on CUDA
    one after another unless jobs says otherwise. Folders of seeds that the entry no longer names are removed at the
    end. A failing seed leaves the others to finish; the exit code is then its own. A team trains seed after seed, all
    its processes each of them, and ends with the first that fails.
    """
    if not fingerprints:
        raise UserError(f"{out.name}: no seed to run; its `seeds` is empty")
    if team.backend is not None:
        _run_together(work, fingerprints, out, device, team)
    else:
        _run_alone(work, fingerprints, out, device, jobs)
    if not team.leads:
        return
    for rest in out.glob(".seed*.old"):  # of a run that was killed right after its end
        shutil.rmtree(rest, ignore_errors=True)
    for folder in out.glob("seed*"):
        if folder.name not in {f"seed{s}" for s in fingerprints}:
            shutil.rmtree(folder)


def _to_do(fingerprints: dict[int, str], out: Path) -> list[tuple[int, str, Path]]:
    """Seed, fingerprint and scratch folder of what is not finished yet."""
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(os.environ.get("LONGTAIL_SCRATCH", "scratch"))
    todo = []
    for seed, wanted in fingerprints.items():
        if finished_fingerprint(out / f"seed{seed}") == wanted:
            print(f"{out.name} seed {seed}: already there")
        else:
            todo.append((seed, wanted, scratch / f"{out.parent.name}-{out.name}-seed{seed}-{wanted[:12]}"))
    return todo


def _run_alone(work, fingerprints: dict[int, str], out: Path, device: torch.device, jobs: int) -> None:
    if todo := _to_do(fingerprints, out):
        jobs = jobs or (cores() if device.type == "cpu" else 1)
        together = min(jobs, len(fingerprints))  # of the entry, not of what is left: sums are by thread
        threads = max(1, cores() // together)
        jobs = min(jobs, len(todo))
        if jobs == 1:
            failed = _run_in_turn(work, todo, out, device, threads)
        else:
            failed = _run_pool(work, todo, out, device, jobs, threads)
        if failed:
            seeds = ", ".join(map(str, failed))
            print(f"error: {out.name}: seed {seeds} failed; finished seeds are kept", file=sys.stderr)
            sys.exit(max(failed.values()))


def _run_together(work, fingerprints: dict[int, str], out: Path, device: torch.device, team: Team) -> None:
    """Seed after seed in all processes of a team; the first one looks what is to be done."""
    if fingerprints != team.from_first(fingerprints):
        raise UserError(f"process {team.rank} of {team.size}: other code, settings or inputs than the first process")
    torch.set_num_threads(cores())
    stop_on_signals()
    for seed, wanted, folder in team.from_first(_to_do(fingerprints, out) if team.leads else None):
        if team.largest([int(stop_requested())]) == [1]:
            sys.exit(STOPPED)
        _run_one(work, seed, wanted, folder, out, device, os.getppid(), team)


def _run_one(work, seed: int, wanted: str, folder: Path, out: Path, device: torch.device, parent=None, team=ALONE):
    final = out / f"seed{seed}"
    with _locked(folder) if team.leads else nullcontext():
        if team.from_first(finished_fingerprint(final) == wanted):  # another process finished it while we waited
            return
        workspace = Workspace(folder, f"{out.name} seed {seed}", wanted, device, team=team)
        workspace.parent = parent
        try:
            work(seed, workspace)
        finally:
            workspace.finish()  # nothing is written any more when the lock is given back
        if team.leads:
            _publish(workspace.result, final)
            shutil.rmtree(folder)


def _publish(result: Path, final: Path) -> None:
    """Move a finished result to its final name, in place of an older one."""
    made, old = (final.with_name(f".{final.name}.{what}") for what in ("made", "old"))
    for rest in (made, old):  # of an attempt that was killed here
        shutil.rmtree(rest, ignore_errors=True)
    try:
        result.rename(made)
    except OSError:  # scratch on another file system
        shutil.copytree(result, made)
    if final.exists():
        final.rename(old)
    made.rename(final)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(folder: Path):
    """One process at a time works in a scratch folder; the system frees the lock when its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    while True:
        with open(path, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print(f"{folder.name}: another process is at work on it; waiting", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                if not os.path.samestat(os.fstat(lock.fileno()), os.stat(path)):
                    continue  # its last holder took the file away: what we hold guards nothing
            except FileNotFoundError:
                continue
            try:
                yield
            finally:
                path.unlink()
            return


def _run_in_turn(work, todo: list, out: Path, device: torch.device, threads: int) -> dict[int, int]:
    """Seed after seed in this process; one that fails leaves the others to finish. Returns the codes of those."""
    torch.set_num_threads(threads)
    stop_on_signals()
    if len(todo) == 1:
        _run_one(work, *todo[0], out, device)
        return {}
    codes = {}
    for seed, wanted, folder in todo:
        if stop_requested():
            sys.exit(STOPPED)
        try:
            _run_one(work, seed, wanted, folder, out, device)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            codes[seed] = 2
        except Exception:
            traceback.print_exc()
            codes[seed] = 1
    return codes


def _run_pool(work, todo: list, out: Path, device: torch.device, jobs: int, threads: int) -> dict[int, int]:
    """One process a seed, `jobs` at a time; a stop signal is passed on and every child saves its state. Returns the
    codes of the seeds that failed."""
    method = "fork" if device.type == "cpu" else "spawn"
    if method == "fork":
        import torch._dynamo  # every optimizer loads it, 1.4 s of a core: once here, not in each process
    context = torch.multiprocessing.get_context(method)
    running, waiting, codes = {}, list(todo), {}

    def pass_on(signum, frame):
        request_stop()
        for process in running.values():
            process.terminate()  # unlike os.kill, no error where it has ended

    stop_on_signals(pass_on)
    while (waiting and not stop_requested()) or running:
        while waiting and len(running) < jobs and not stop_requested():
            seed, wanted, folder = waiting.pop(0)
            process = context.Process(
                target=_child, args=(work, seed, wanted, folder, out, device, threads, os.getpid())
            )
            process.start()
            running[seed] = process
            if stop_requested():  # it came while the process was being made
                process.terminate()
        for seed, process in list(running.items()):
            process.join(timeout=0.2)
            if process.exitcode is not None:
                codes[seed] = process.exitcode
                del running[seed]
    if stop_requested():
        sys.exit(STOPPED)
    return {seed: abs(code) for seed, code in codes.items() if code}


def _child(work, seed, wanted, folder, out, device, threads: int, parent: int) -> None:
    stop_on_signals()
    torch.set_num_threads(threads)
    try:
        _run_one(work, seed, wanted, folder, out, device, parent)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
