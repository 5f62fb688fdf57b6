"""What one run works with: its result folder in the making, its checkpoint, its log and its clock.

SIGTERM and SIGUSR1 ask a run to save its state and stop with code 143; it does so after the optimizer step it is in.
LONGTAIL_SAVE_EVERY_S in the environment sets the seconds between checkpoints (default: 120).
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from longtail.files import atomic_write
from longtail.params import digest, plain

SAVE_EVERY_S = float(os.environ.get("LONGTAIL_SAVE_EVERY_S", 120))  # between checkpoints; a signal saves at once
LOG_EVERY_S = 60.0
STOPPED = 143  # exit code of a run that saved its state and stopped on SIGTERM or SIGUSR1

_stop_requested = False


def request_stop(signum=None, frame=None) -> None:
    """From now on every workspace of this process saves and stops at its next tick."""
    global _stop_requested
    _stop_requested = True


def stop_requested() -> bool:
    """Has this process been asked to stop?"""
    return _stop_requested


def stop_on_signals(handler=request_stop) -> None:
    """Let SIGTERM and SIGUSR1 call handler."""
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGUSR1, handler)


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
        """One line a minute (and whatever comes with always=True) to run.log and stdout; a live line on a terminal."""
        if self.parent is None and not self.quiet and sys.stdout.isatty():
            print(f"\r\033[K{self.label}: {line}", end="", flush=True)
        if not always and time.monotonic() - self._logged < LOG_EVERY_S:
            return
        self._logged = time.monotonic()
        text = f"{time.strftime('%H:%M:%S')} {self.label}: {line}"
        with open(self.folder / "run.log", "a") as file:
            file.write(text + "\n")
        if not self.quiet:
            print(text if not sys.stdout.isatty() else f"\r\033[K{text}", flush=True)

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

    on_cuda = device.type == "cuda"
    return {
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "timm": getattr(sys.modules.get("timm"), "__version__", None),
        "device": torch.cuda.get_device_name(device) if on_cuda else f"cpu x{torch.get_num_threads()}",
        "peak_memory_mb": round(torch.cuda.max_memory_allocated(device) / 2**20) if on_cuda else _peak_rss_mb(),
    }


def _git_commit() -> str | None:
    command = ["git", "rev-parse", "HEAD"]
    try:
        git = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:  # a bare node without git
        return None
    return git.stdout.strip() or None


def _peak_rss_mb() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
