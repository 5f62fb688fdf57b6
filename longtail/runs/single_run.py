"""A run: one seed of one entry. What it is, and whether what is found of it stands.

A run's identity is its resolved entry, the content of its inputs and its seed. Training state lives in a scratch folder
that neither DVC nor Snakemake owns, named after the identity. A result appears under its final name only when it is
complete, by one rename.

Code is no part of the identity. A run carries a probe: what the code computed for it on a few inputs when it was
trained (runs/probe.py). Where a finished or half-trained run is found and the code has changed since, the probe is
made again, in seconds: the run is kept if it answers the same, else it is trained anew and the line says what differs.

LONGTAIL_SCRATCH in the environment names the scratch folder (default: scratch, in the working directory);
LONGTAIL_RETRAIN=1 trains finished runs anew whatever their probes say.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from longtail.base.files import atomic_write
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
        name: _parsed(Path(module.__file__))
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("longtail", "__main__") and getattr(module, "__file__", None)
    }
    return digest([sources, sys.version, {name: version(name) for name in LIBRARIES}])


def _parsed(path: Path) -> str:
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def finished_identity(folder: Path) -> str | None:
    """The identity in a finished run's folder; None when there is no complete result."""
    try:
        return json.loads((folder / IDENTITY).read_text())["identity"]
    except (OSError, ValueError, KeyError):
        return None


def environment_of(folder: Path) -> Path:
    """Where the facts of a result's making stand: beside the entry's folder, so that no hash of it holds them."""
    return folder.parent.with_name(f"{folder.parent.name}.environment") / f"{folder.name}.json"


@dataclass(frozen=True)
class Run:
    """One seed of an entry: what it is, where it lies, and whether what is found of it stands."""

    out: Path  # of the entry
    seed: int
    identity: str
    code: str  # code_digest of what runs now
    probe: Callable[[int], Probe] | None

    @property
    def label(self) -> str:
        return f"{self.out.name} seed {self.seed}"

    @property
    def final(self) -> Path:
        return self.out / f"seed{self.seed}"

    @property
    def scratch(self) -> Path:
        root = Path(os.environ.get("LONGTAIL_SCRATCH", "scratch"))
        return root / f"{self.out.parent.name}-{self.out.name}-seed{self.seed}-{self.identity[:12]}"

    @property
    def done(self) -> bool:
        """Is it finished, by this very code?"""
        known = self.probe is None or _made(self.final).get("code") == self.code
        return self._finished and known

    @property
    def _finished(self) -> bool:
        return os.environ.get("LONGTAIL_RETRAIN") != "1" and finished_identity(self.final) == self.identity

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
            return False
        if differences := self._against(self.final):
            print(f"{self.label}: trained anew, the code computes something else: {listed(differences)}", flush=True)
            return False
        print(f"{self.label}: kept: the code has changed, the probe agrees", flush=True)
        _note(self.final, _made(self.final) | {"code": self.code})
        return True

    def begin(self) -> None:
        """Make the scratch folder ready: drop a half-trained state of code that computed something else, and let the
        result have its probe before it is trained."""
        if self.probe is None:
            return
        path = self.scratch / CODE
        if path.is_file():
            if path.read_text() == self.code:
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
        environment_of(self.final).unlink(missing_ok=True)  # until the result is there, nothing speaks for its code
        _publish(self.scratch / "result", self.final)
        _note(self.final, facts | {"code": self.code})
        shutil.rmtree(self.scratch)

    def _against(self, folder: Path) -> list[str]:
        """What the code computes differently from the probe in a result folder."""
        was = Probe.load(folder / PROBE)
        return ["it has no probe"] if was is None else was.differences(self._answers)


def _made(final: Path) -> dict:
    """How a result was made, as far as that is known here."""
    try:
        return json.loads(environment_of(final).read_text())
    except (OSError, ValueError):
        return {}


def _note(final: Path, facts: dict) -> None:
    text = json.dumps(facts, indent=1, sort_keys=True) + "\n"
    atomic_write(environment_of(final), lambda temporary: temporary.write_text(text))


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
def locked(folder: Path):
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
