"""What one run works with: its result folder in the making, its checkpoint, its log and its clock.

SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 ask a run to save its state and stop with code 143; it does so after the optimizer
step it is in. A checkpoint carries its sha256, and the one before it is kept: where one is damaged, the other serves.
LONGTAIL_SAVE_EVERY_S in the environment sets the seconds between checkpoints (default: 120).
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from longtail.base import environment as settings
from longtail.base import yaml_file
from longtail.base.files import named
from longtail.base.params import digest, plain
from longtail.runs.parallel import ALONE, Team
from longtail.runs.saver import CHECKPOINT, Saver, last_saved

LOG_EVERY_S = 60.0
SHOW_EVERY_S = 1.0  # between live lines on a terminal
AGREE_EVERY_S = 1.0  # between questions whether any process of a team was asked to stop
IDENTITY = "identity.json"  # in a result folder: what the run is, and what it was made from
ENVIRONMENT = "environment.json"  # beside it: machine, versions, commit, seconds; nothing that is compared
STOPPED = 143  # exit code of a run that saved its state and stopped on one of
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

_stop_requested = False


def request_stop(signum=None, frame=None) -> None:
    """From now on every workspace of this process saves and stops at its next tick."""
    global _stop_requested
    if signum == signal.SIGINT and not _stop_requested:
        with suppress(OSError, RuntimeError):  # a print was interrupted by the signal
            print("Ctrl-C: the state is saved after this step", file=sys.stderr, flush=True)
    _stop_requested = True


def stop_requested() -> bool:
    """Has this process been asked to stop?"""
    return _stop_requested


def stop_on_signals(handler=request_stop) -> None:
    """Let STOP_SIGNALS call handler; in the main thread, which alone may say so."""
    if threading.current_thread() is threading.main_thread():
        for signum in STOP_SIGNALS:
            signal.signal(signum, handler)


class Workspace:
    """What a run of one seed holds on to: its result folder in the making, its checkpoint, its log and its clock.

    In a team every process calls `load` and `tick`, at the same steps; the first alone reads and writes the folder.
    """

    def __init__(
        self,
        folder: Path,
        label: str,
        identity: str,
        device: torch.device,
        quiet: bool = False,
        team: Team = ALONE,
    ):
        self.folder, self.label, self.identity, self.device, self.quiet = (
            folder,
            label,
            identity,
            device,
            quiet,
        )
        self.team = team
        self.result = folder / "result"
        if team.leads:
            self.result.mkdir(parents=True, exist_ok=True)
        self._saver = Saver()
        self._began = self._saved = self._logged = self._shown = self._agreed = time.monotonic()
        self._silent_for = self._ticks = 0  # ticks until the next agreement, and since the last one
        self.parent: int | None = None  # in a pool's child or a team: the process that must stay alive
        self.earlier = 0.0  # seconds spent by attempts before this one
        self.save_every_s = settings.of(settings.SAVE_EVERY_S)

    def seconds(self) -> float:
        """Training time so far, earlier attempts included."""
        return self.earlier + time.monotonic() - self._began

    def load(self) -> dict | None:
        """The last checkpoint that is whole, with torch's RNG put back; None where there is none."""
        self.finish()
        saved = self.team.from_first(last_saved(self.folder, self.label) if self.team.leads else None)
        if saved is None:
            return None
        torch.set_rng_state(saved["rng"])
        if saved["cuda_rng"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(saved["cuda_rng"], self.device)
        self.earlier = saved["seconds"]
        self.log(f"resumed after {self.earlier:.0f} s of earlier work", always=True)
        return saved["state"]

    def tick(self, state: Callable[[], dict]) -> None:
        """After every optimizer step: save when due, and at SIGTERM or SIGUSR1 save and stop with code 143. A team does
        either at the same step, a second or a step after the signal reached one of its processes; so `state` may be
        made together."""
        if self.parent is not None and os.getppid() != self.parent:
            raise SystemExit(STOPPED)  # the parent was killed: leave the folder to whoever starts it again
        stop, due = _stop_requested, time.monotonic() - self._saved >= self.save_every_s
        if self.team.backend is not None:
            stop, due = self._agree(stop, due and self.team.leads)
        if not stop and not due:
            return
        self.save(state())
        if stop:
            self.finish()
            self.log("asked to stop: state saved", always=True)
            self.team.from_first()  # a process that ends makes others end: not before the state is saved
            raise SystemExit(STOPPED)

    def _agree(self, stop: bool, due: bool) -> tuple[bool, bool]:
        """Whether any process has reason to stop or to save. Asked once in AGREE_EVERY_S, as nobody may wait for the
        others at every step; the first process says after how many steps that will be."""
        self._ticks += 1
        if self._silent_for:
            self._silent_for -= 1
            return False, False
        seconds = max(time.monotonic() - self._agreed, 1e-6)
        ahead = int(min(AGREE_EVERY_S, self.save_every_s) * self._ticks / seconds) if self.team.leads else 0
        stop, due, self._silent_for = self.team.largest([int(stop), int(due), min(ahead, 10 * self._ticks)])
        self._agreed, self._ticks = time.monotonic(), 0
        return bool(stop), bool(due)

    def save(self, state: dict) -> None:
        """Begin to write a checkpoint, atomically, with torch's RNG state; training may go on at once."""
        if not self.team.leads:
            return
        cuda_rng = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        saved = {"state": state, "rng": torch.get_rng_state(), "cuda_rng": cuda_rng, "seconds": self.seconds()}
        self._saver.save(saved, self.folder / CHECKPOINT)
        self._saved = time.monotonic()

    def finish(self) -> None:
        """Until the checkpoint is written. Raises what its write raised."""
        self._saver.wait()

    @property
    def shows(self) -> bool:
        """Would a line that is logged now be written or shown? What costs a wait for the device is made only then."""
        now = time.monotonic()
        live = self._live and now - self._shown >= SHOW_EVERY_S
        return self.team.leads and (live or now - self._logged >= LOG_EVERY_S)

    @property
    def _live(self) -> bool:
        return (self.parent is None or self.team.backend is not None) and not self.quiet and sys.stdout.isatty()

    def log(self, line: str, always: bool = False) -> None:
        """One line a minute (and whatever comes with always=True) to run.log and stdout; a live line on a terminal."""
        if not self.team.leads:
            return
        if self._live:
            self._shown = time.monotonic()
            print(f"\r\033[K{self.label}: {line}", end="", flush=True)
        if not always and time.monotonic() - self._logged < LOG_EVERY_S:
            return
        self._logged = time.monotonic()
        text = f"{time.strftime('%H:%M:%S')} {self.label}: {line}"
        with named(self.folder / "run.log"), open(self.folder / "run.log", "a") as file:
            file.write(text + "\n")
        if not self.quiet:
            print(text if not sys.stdout.isatty() else f"\r\033[K{text}", flush=True)

    def write_meta(self, config: Any, **facts: Any) -> None:
        """What the run is, in its result folder: config.yaml (fully resolved) and identity.json, with `facts` that are
        the same on every machine. Where and how fast it was made stands beside the result: environment.json."""
        (self.result / "config.yaml").write_text(yaml_file.dump(plain(config)))
        facts = {"identity": self.identity, "config_hash": digest(config), **facts}
        facts |= {"processes": self.team.size, "backend": self.team.backend}
        (self.result / IDENTITY).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
        made = environment(self.device) | {"seconds": round(self.seconds(), 1)}
        (self.folder / ENVIRONMENT).write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")


def environment(device: torch.device) -> dict[str, Any]:
    """Where a result was made: git commit, versions, processor with its instruction set, device, peak memory."""
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
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if on_cuda else f"cpu x{torch.get_num_threads()}",
        "peak_memory_mb": round(torch.cuda.max_memory_allocated(device) / 2**20) if on_cuda else _peak_rss_mb(),
    }


def processor() -> str:
    """The processor as the system tells it, e.g. `AMD EPYC (family 25, model 1)`, for virtual machines hide the name's
    end; its architecture where the system tells nothing. Trained numbers are equal on processors of one kind alone
    (docs/performance.md)."""
    with suppress(OSError):
        lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
        facts = {name.strip(): " ".join(value.split()) for name, _, value in lines}
        if "model name" in facts:
            return f"{facts['model name']} (family {facts.get('cpu family')}, model {facts.get('model')})"
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """The commit, with `-dirty` where the tree was edited; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        git = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:  # a bare node without git
        return None
    return git.stdout.strip() or None


def _peak_rss_mb() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
