"""Stages as processes of their own, forked from one that has torch and timm loaded: importing those takes ten seconds.

The stage itself and everything of longtail are loaded in the new process, from the script, as `python stages/X.py`.
test_kills.py runs every stage the plain way.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from longtail.base import yaml_file
from longtail.cost.upstream import filled
from tests.helpers import stage_child
from tests.helpers.root import ROOT

TINY = Path(__file__).parent / "tiny.yaml"
HEAVY = (
    "torch",
    "torch._dynamo",  # the first optimizer asks for it: two seconds
    "timm.models.deit",
    "pandas",
    "sklearn.datasets",
    "torchvision.datasets",
    "PIL.Image",
    "safetensors.torch",
    "pydantic.dataclasses",
    "jinja2",
    "matplotlib.pyplot",
)

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(list(HEAVY))


@dataclass
class Run:
    """A stage at work, leader of a process group of its own."""

    process: multiprocessing.Process
    log: Path  # stdout; stderr is beside it

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    @property
    def out(self) -> str:
        return self.log.read_text()

    @property
    def err(self) -> str:
        return self.log.with_suffix(".err").read_text()

    def wait(self, timeout: float = 60) -> int:
        """Exit code; minus the signal's number where one ended it."""
        self.process.join(timeout)
        if self.alive:
            self.kill()
            raise TimeoutError(f"no end after {timeout} s: {self.out} {self.err}")
        return self.process.exitcode

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait for the end."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()


def start(folder: Path, stage: str, *arguments: object, cores: int = 1, **environment: object) -> Run:
    """Start stages/<stage>.py in `folder`, which has a params.yaml, on so many cores."""
    folder.joinpath("logs").mkdir(exist_ok=True)
    log = folder / "logs" / f"{stage}-{time.monotonic_ns()}.out"
    given = [str(a) for a in arguments], {k: str(v) for k, v in environment.items()}
    process = _server.Process(
        target=stage_child.work, args=(ROOT / "stages" / f"{stage}.py", *given, folder, log, cores)
    )
    log.touch()
    log.with_suffix(".err").touch()
    process.start()
    return Run(process, log)


def finish(folder: Path, stage: str, *arguments: object, cores: int = 1, **environment: object) -> Run:
    """Run a stage to its end and expect success."""
    run = start(folder, stage, *arguments, cores=cores, **environment)
    assert run.wait(120) == 0, run.err
    return run


def until(condition: Callable[[], bool], run: Run, timeout: float = 60) -> None:
    """Wait for a condition that must come true while the run is at work."""
    end = time.monotonic() + timeout
    while not condition():
        assert run.alive, f"ended with {run.process.exitcode} before what was waited for: {run.out} {run.err}"
        assert time.monotonic() < end, f"not within {timeout} s"
        time.sleep(0.01)


def tiny_params(folder: Path, change: Callable[[dict], None] = lambda params: None) -> dict:
    """Write helpers/tiny.yaml, changed, as folder/params.yaml, beside the printed numbers and the names of data sets;
    returns what was written."""
    params = yaml_file.read(TINY)
    change(params)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml_file.dump(params))
    (folder / "data").mkdir(exist_ok=True)
    (folder / "docs").mkdir(exist_ok=True)
    for name in ("data/published", "docs/words.yaml"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return params


def without(command: tuple[str, ...], option: str) -> tuple[str, ...]:
    """A command line without an option and its value."""
    at = command.index(option)
    return (*command[:at], *command[at + 2 :])


def command(stage: str, key: str) -> tuple[str, ...]:
    """dvc.yaml's command line for an entry of tiny.yaml: the script's name, then its arguments."""
    block = yaml_file.read(ROOT / "dvc.yaml")["stages"][stage]
    params = yaml_file.read(TINY)
    entry = params[block["foreach"][2:-1]][key]
    _, script, *arguments = shlex.split(filled(block["do"]["cmd"], key, entry, params["place"]))
    return Path(script).stem, *arguments


SUBSAMPLE = command("subsample", "tiny")
TEACHER = command("train_teacher", "ldam_drw_sam-tiny")
CACHE = command("cache_logits", "ldam_drw_sam-tiny")
VIT = command("train_student", "tiny-vit")
STUDENT = command("train_student", "tiny-deit_lt")
EVALUATE = command("evaluate", "tiny-deit_lt")
EVALUATE_TEACHER = command("evaluate_teacher", "ldam_drw_sam-tiny")
EVALUATE_LABELS = command("evaluate_labels", "ldam_drw_sam-tiny")
ENTROPY = command("teacher_entropy", "ldam_drw_sam-tiny")
ANALYSE = command("analyse", "tiny-deit_lt")
EXPERTS = command("experts", "tiny-deit_lt")
OVERVIEW = command("overview", "tiny")
TABLES, FIGURES, REPORT = (command(stage, "tiny") for stage in ("tables", "figures", "report"))
