"""One run = one seed of one entry: where it works, how it resumes, when it counts as done.

Training state lives in a scratch folder that neither DVC nor Snakemake owns, named after the run's fingerprint (its
resolved entry, the content of its inputs, the source of the modules it imports). A run that is killed and started
again continues from there and ends in the same bytes on a CPU. A result appears under its final name only when it is
complete, by one rename; a finished run with the same fingerprint is never trained again, so adding a seed to an entry
trains that seed alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from longtail.errors import UserError
from longtail.files import atomic_write
from longtail.params import digest, plain

SAVE_EVERY_S = 120.0  # between checkpoints; a signal saves at once
LOG_EVERY_S = 60.0
STOPPED = 143  # exit code of a run that saved its state and stopped on SIGTERM or SIGUSR1

_stop_requested = False


def _request_stop(signum, frame) -> None:
    global _stop_requested
    _stop_requested = True


def fingerprint(*parts: Any) -> str:
    """sha256 of the parts (dataclasses, mappings, text) and of the source of every longtail module imported so far."""
    sources = {
        name: hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "longtail" and getattr(module, "__file__", None)
    }
    return digest([[plain(p) for p in parts], sources])


class Workspace:
    """What a run of one seed holds on to: its result folder in the making, its checkpoint, its log and its clock."""

    def __init__(self, folder: Path, label: str, run_fingerprint: str, device: torch.device, quiet: bool = False):
        self.folder, self.label, self.fingerprint, self.device, self.quiet = (
            folder,
            label,
            run_fingerprint,
            device,
            quiet,
        )
        self.result = folder / "result"
        self.result.mkdir(parents=True, exist_ok=True)
        self._began = self._saved = self._logged = time.monotonic()
        self.parent: int | None = None  # in a pool's child: the process that must stay alive
        self.earlier = 0.0  # seconds spent by attempts before this one

    def seconds(self) -> float:
        """Training time so far, earlier attempts included."""
        return self.earlier + time.monotonic() - self._began

    def load(self) -> dict | None:
        """The last checkpoint, with torch's RNG put back; None at the first attempt."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        saved = torch.load(path, map_location="cpu", weights_only=False)
        torch.set_rng_state(saved["rng"])
        if saved["cuda_rng"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(saved["cuda_rng"], self.device)
        self.earlier = saved["seconds"]
        self.log(f"resumed after {self.earlier:.0f} s of earlier work", always=True)
        return saved["state"]

    def tick(self, state: Callable[[], dict]) -> None:
        """After every optimizer step: save when due, and at SIGTERM or SIGUSR1 save and stop with code 143."""
        now = time.monotonic()
        if self.parent is not None and os.getppid() != self.parent:
            raise SystemExit(STOPPED)  # the pool's parent was killed: leave the folder to whoever starts it again
        if not _stop_requested and now - self._saved < SAVE_EVERY_S:
            return
        self.save(state())
        if _stop_requested:
            self.log("asked to stop: state saved", always=True)
            raise SystemExit(STOPPED)

    def save(self, state: dict) -> None:
        """Write a checkpoint atomically, with torch's RNG state."""
        cuda_rng = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        saved = {"state": state, "rng": torch.get_rng_state(), "cuda_rng": cuda_rng, "seconds": self.seconds()}
        atomic_write(self.folder / "checkpoint.pt", lambda path: torch.save(saved, path))
        self._saved = time.monotonic()

    def log(self, line: str, always: bool = False) -> None:
        """At most one line a minute (and whatever is said with always=True) to run.log and the terminal."""
        if not always and time.monotonic() - self._logged < LOG_EVERY_S:
            return
        self._logged = time.monotonic()
        text = f"{time.strftime('%H:%M:%S')} {self.label}: {line}"
        with open(self.folder / "run.log", "a") as file:
            file.write(text + "\n")
        if not self.quiet:
            print(text, flush=True)

    def write_meta(self, config: Any, **facts: Any) -> None:
        """config.yaml (fully resolved) and environment.json (facts, versions, device, seconds, peak memory)."""
        (self.result / "config.yaml").write_text(yaml.safe_dump(plain(config), sort_keys=False))
        facts = {"fingerprint": self.fingerprint, "config_hash": digest(config), **facts}
        facts |= environment(self.device) | {"seconds": round(self.seconds(), 1)}
        (self.result / "environment.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


def environment(device: torch.device) -> dict[str, Any]:
    """Where a result was made: git commit, versions, device, peak memory."""
    import numpy
    import PIL

    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    on_cuda = device.type == "cuda"
    return {
        "git_commit": git.stdout.strip() or None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "timm": getattr(sys.modules.get("timm"), "__version__", None),
        "device": torch.cuda.get_device_name(device) if on_cuda else f"cpu x{torch.get_num_threads()}",
        "peak_memory_mb": round(torch.cuda.max_memory_allocated(device) / 2**20) if on_cuda else _peak_rss_mb(),
    }


def _peak_rss_mb() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


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
) -> None:
    """Run work(seed, workspace) for each seed whose finished result is not in out/seed<k> yet.

    On a CPU, `jobs` processes of one thread each (default: one per core, at most one per seed; a core left over goes to
    a single seed's threads); on CUDA one after another unless jobs says otherwise. Folders of seeds that the entry no
    longer names are removed at the end. A failing seed leaves the others to finish; the exit code is then its own.
    """
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(os.environ.get("LONGTAIL_SCRATCH", "scratch"))
    todo = []
    for seed, wanted in fingerprints.items():
        if finished_fingerprint(out / f"seed{seed}") == wanted:
            print(f"{out.name} seed {seed}: already there")
        else:
            todo.append((seed, wanted, scratch / f"{out.parent.name}-{out.name}-seed{seed}-{wanted[:12]}"))
    if todo:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jobs = min(jobs or (cores if device.type == "cpu" else 1), len(todo))
        threads = max(1, cores // jobs)
        if jobs == 1:
            torch.set_num_threads(threads)
            signal.signal(signal.SIGTERM, _request_stop)
            signal.signal(signal.SIGUSR1, _request_stop)
            for seed, wanted, folder in todo:
                _run_one(work, seed, wanted, folder, out, device)
        else:
            _run_pool(work, todo, out, device, jobs, threads)
    for folder in out.glob("seed*"):
        if folder.name not in {f"seed{s}" for s in fingerprints}:
            shutil.rmtree(folder)


def _run_one(work, seed: int, wanted: str, folder: Path, out: Path, device: torch.device, parent=None) -> None:
    final = out / f"seed{seed}"
    with _locked(folder):
        if finished_fingerprint(final) == wanted:  # another process finished it while we waited
            return
        workspace = Workspace(folder, f"{out.name} seed {seed}", wanted, device)
        workspace.parent = parent
        work(seed, workspace)
        if final.exists():
            final.rename(folder / "replaced")
        try:
            workspace.result.rename(final)
        except OSError:  # scratch on another file system: copy beside, then rename
            beside = out / f".seed{seed}.{os.getpid()}"
            shutil.copytree(workspace.result, beside)
            beside.rename(final)
        shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path):
    """One process at a time works in a scratch folder; the system frees the lock when its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"{folder.name}: another process is at work on it; waiting", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        os.unlink(lock.name)


def _run_pool(work, todo: list, out: Path, device: torch.device, jobs: int, threads: int) -> None:
    """One process a seed, `jobs` at a time; a stop signal is passed on and every child saves its state."""
    method = "fork" if device.type == "cpu" else "spawn"
    context = torch.multiprocessing.get_context(method)
    running, waiting, codes = {}, list(todo), {}

    def pass_on(signum, frame):
        _request_stop(signum, frame)
        for process in running.values():
            if process.pid:
                os.kill(process.pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGUSR1, pass_on)
    while (waiting and not _stop_requested) or running:
        while waiting and len(running) < jobs and not _stop_requested:
            seed, wanted, folder = waiting.pop(0)
            process = context.Process(
                target=_child, args=(work, seed, wanted, folder, out, device, threads, os.getpid())
            )
            process.start()
            running[seed] = process
        for seed, process in list(running.items()):
            process.join(timeout=0.2)
            if process.exitcode is not None:
                codes[seed] = process.exitcode
                del running[seed]
    if _stop_requested:
        sys.exit(STOPPED)
    failed = {seed: code for seed, code in codes.items() if code}
    if failed:
        print(f"error: {out.name}: seed {', '.join(map(str, failed))} failed; finished seeds are kept", file=sys.stderr)
        sys.exit(max(abs(code) for code in failed.values()) or 1)


def _child(work, seed, wanted, folder, out, device, threads: int, parent: int) -> None:
    signal.signal(signal.SIGTERM, _request_stop)
    signal.signal(signal.SIGUSR1, _request_stop)
    torch.set_num_threads(threads)
    try:
        _run_one(work, seed, wanted, folder, out, device, parent)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
