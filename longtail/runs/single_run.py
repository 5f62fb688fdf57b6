"""A run: one seed of one entry. What it is, and whether what is found of it stands.

A run's identity is its resolved entry, the content of its inputs and its seed. Training state lives in a scratch folder
that neither DVC nor Snakemake owns, named after the identity. A result appears under its final name only when it is
complete, by one rename.

Code is no part of the identity. A run carries a probe: what the code computed for it on a few inputs when it was
trained (runs/probe.py). Where a finished or half-trained run is found and the code has changed since, the probe is
made again, in seconds: the run is kept if it answers the same, else it is trained anew and the line says what differs.

Beside a result stand the sums of its files (base/intact.py). One that is damaged is set aside and made again.

LONGTAIL_SCRATCH in the environment names the scratch folder (default: scratch, in the working directory);
LONGTAIL_RETRAIN=1 trains finished runs anew whatever their probes say.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from longtail.base import environment, intact, source
from longtail.base.files import atomic_write, put
from longtail.base.intact import environment_of
from longtail.base.lock import alone
from longtail.base.params import digest, plain
from longtail.runs.probe import Probe, listed
from longtail.runs.workspace import ENVIRONMENT, IDENTITY

PROBE = "probe.json"  # in a result folder
CODE = "code"  # in a scratch folder: code_digest of what trains there
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow")


def identity(*parts: Any) -> str:
    """sha256 (hex) of the parts of a run: resolved entry, seed, content of the inputs (dataclasses, mappings, text)."""
    return digest([plain(part) for part in parts])


def code_digest() -> str:
    """sha256 (hex) of the running script and of every longtail module imported so far, as Python parses them, and of
    the versions of Python and of the libraries that compute. Comments, docstrings and lay-out are no part of it. Where
    it is equal no probe is needed."""
    sources = {
        name: source.read(Path(module.__file__).read_bytes()).digest
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("longtail", "__main__") and getattr(module, "__file__", None)
    }
    return digest([sources, sys.version, {name: version(name) for name in LIBRARIES}])


def finished_identity(folder: Path) -> str | None:
    """The identity in a finished run's folder; None when there is no complete result."""
    return _facts(folder).get("identity")


def _facts(folder: Path) -> dict[str, Any]:
    """identity.json; nothing where there is none that can be read."""
    try:
        found = json.loads((folder / IDENTITY).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Run:
    """One seed of an entry: what it is, where it lies, and whether what is found of it stands."""

    out: Path  # of the entry
    seed: int
    identity: str
    code: str  # code_digest of what runs now
    probe: Callable[[int], Probe] | None
    # facts of its inputs that a finished result's identity.json must not contradict
    made_from: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def label(self) -> str:
        return f"{self.out.name} seed {self.seed}"

    @property
    def final(self) -> Path:
        return self.out / f"seed{self.seed}"

    @property
    def scratch(self) -> Path:
        return environment.scratch() / f"{self.out.parent.name}-{self.out.name}-seed{self.seed}-{self.identity[:12]}"

    @property
    def done(self) -> bool:
        """Is it finished, by this very code?"""
        known = self.probe is None or intact.made(self.final).get("code") == self.code
        return self._finished and known

    @property
    def _finished(self) -> bool:
        return not environment.of(environment.RETRAIN) and self._is_it and intact.damage(self.final) is None

    @property
    def _is_it(self) -> bool:
        """Is what lies there of this identity, and made from the very inputs that are here now?"""
        return finished_identity(self.final) == self.identity and not self._other_inputs

    @property
    def _other_inputs(self) -> list[str]:
        """The facts of its inputs that a result tells otherwise. One that does not tell of an input was made by an
        earlier version and is taken as it is."""
        facts = _facts(self.final)
        return [key for key, value in self.made_from.items() if facts.get(key, value) != value]

    def mend(self) -> None:
        """Set a damaged result aside and say so."""
        if (found := intact.damage(self.final)) is not None:
            aside = intact.set_aside(self.final)
            print(f"{self.label}: {self.final}: {found}; set aside as {aside}, made again", flush=True)

    @cached_property
    def _answers(self) -> Probe:
        """Of the code that runs now. Draws no number of torch's generator."""
        with torch.random.fork_rng(devices=[]):
            return self.probe(self.seed)

    def stands(self) -> bool:
        """Is it finished, by this code or by other code that computed the same? Says what differs."""
        if self.done:
            return True
        if not self._finished:
            if finished_identity(self.final) == self.identity and self._other_inputs:
                print(f"{self.label}: trained anew, {', '.join(self._other_inputs)}: another one now", flush=True)
            return False
        if differences := self._against(self.final):
            print(f"{self.label}: trained anew, the code computes something else: {listed(differences)}", flush=True)
            return False
        print(f"{self.label}: kept: the code has changed, the probe agrees", flush=True)
        intact.note(self.final, intact.made(self.final) | {"code": self.code})
        return True

    def begin(self) -> None:
        """Make the scratch folder ready: drop a half-trained state of code that computed something else, and let the
        result have its probe before it is trained."""
        if self.probe is None:
            return
        path = self.scratch / CODE
        if path.is_file():
            if path.read_text() == self.code and (self.scratch / "result" / PROBE).is_file():
                return
            if differences := self._against(self.scratch / "result"):
                print(f"{self.label}: begun anew, the code computes something else: {listed(differences)}", flush=True)
                shutil.rmtree(self.scratch)
        if not path.is_file():
            shutil.rmtree(self.scratch, ignore_errors=True)  # a state whose code nobody knows
            (self.scratch / "result").mkdir(parents=True)
            self._answers.save(self.scratch / "result" / PROBE)
        atomic_write(path, lambda temporary: temporary.write_text(self.code))

    def publish(self) -> None:
        """Move the finished result to its place, and beside it how it was made."""
        made = self.scratch / ENVIRONMENT
        facts = json.loads(made.read_text()) if made.is_file() else {}
        beside = environment_of(self.final)
        beside.unlink(missing_ok=True)  # until the result is there, nothing speaks for its code and its files
        beside.parent.mkdir(parents=True, exist_ok=True)
        put(self.scratch / "result", self.final, beside=beside.parent)
        intact.note(self.final, facts | {"code": self.code})
        self.tidy()

    @property
    def left(self) -> bool:
        """Is there anything of this run in scratch: a state, a lock, its holder's name?"""
        return any(path.exists() for path in (self.scratch, *self.scratch.parent.glob(f".{self.scratch.name}.lock*")))

    def tidy(self) -> None:
        """Nothing of a finished run stays in scratch."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _against(self, folder: Path) -> list[str]:
        """What the code computes differently from the probe in a result folder."""
        was = Probe.load(folder / PROBE)
        return ["it has no probe"] if was is None else was.differences(self._answers)


def locked(folder: Path) -> AbstractContextManager[None]:
    """One process at a time works in a scratch folder; the system frees the lock when its holder dies."""
    remedy = f" ({environment.SCRATCH} names another scratch folder)"
    return alone(folder.with_name(f".{folder.name}.lock"), f"{folder.name}: another process is at work on it", remedy)
