"""How a training run is timed: when each of its optimizer steps ended, from inside the run, for contenders in turn.

On CUDA times are those of the device (events), so that nothing waits for the clock; on a CPU those of the wall.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from longtail.base import environment
from longtail.runs.workspace import Workspace
from longtail.training.engine import BACKENDS

MOST_ROUNDS = 5


class Clock:
    """Marks, in seconds from the first: the start, then the end of each step."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._marks = device, []
        self.tick()

    def tick(self) -> None:
        if self.device.type != "cuda":
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def marks(self) -> list[float]:
        if self.device.type != "cuda":
            return [mark - self._marks[0] for mark in self._marks]
        torch.cuda.synchronize()
        return [self._marks[0].elapsed_time(mark) / 1000 for mark in self._marks]


class Timed(Workspace):
    """A run's workspace with a clock. One checkpoint is saved, and timed, in the first epoch, which is not counted."""

    def __init__(self, folder: Path, device: torch.device, clock: Clock) -> None:
        super().__init__(folder, "benchmark", "", device, quiet=True)
        self.clock, self.said, self.checkpoint = clock, [], None

    def tick(self, state: Callable[[], dict]) -> None:
        super().tick(state)
        if self.checkpoint is None:
            began = time.perf_counter()
            self.save(state())
            self.checkpoint = time.perf_counter() - began
        self.clock.tick()

    def log(self, line: str, always: bool = False) -> None:
        if always:
            self.said.append(line)


@dataclass
class Run:
    """One contender, once."""

    marks: list[float]  # of a Clock
    checkpoint: float = 0.0  # seconds that training stood still for one
    memory: int | None = None  # bytes allocated on the GPU at most
    why_not: str | None = None  # it did not run as asked


@dataclass
class Figures:
    """What several runs of a contender come to, in seconds; medians. blocks: steps, or runs of steps, behind `step`."""

    start: float  # to the end of the first step: building, compiling, reading
    step: float
    epoch: float  # all in: evaluation, checkpoints and logging in the recipe's proportion
    evaluation: float | None  # where it is not in every epoch
    checkpoint: float
    blocks: int
    memory: int | None


def figures(runs: list[Run], steps: int, together: int, eval_every: int | None) -> Figures:
    """steps: of an epoch; together: whose views are made at once, timed as one; eval_every: epochs between evaluations
    in the recipe of runs that evaluate at the end of their last epoch, None where every epoch has its evaluation (and,
    of the plain path, its checkpoint). The first epoch is not counted."""
    blocks, epochs, last = [], [], []
    for run in runs:
        for first in range(steps, len(run.marks) - steps, steps):  # marks[first]: the end of the epoch before
            seconds = run.marks[first + steps] - run.marks[first]
            if eval_every and first + steps == len(run.marks) - 1:
                last.append(seconds)
                continue
            epochs.append(seconds)
            for k in range(first, first + steps - together + 1, together):
                blocks.append((run.marks[k + together] - run.marks[k]) / together)
    plain_epoch = statistics.median(epochs)
    evaluation = max(0.0, statistics.median(last) - plain_epoch) if eval_every else None
    checkpoint = statistics.median(run.checkpoint for run in runs)
    save_every_s = environment.of(environment.SAVE_EVERY_S)
    return Figures(
        start=statistics.median(run.marks[1] for run in runs),
        step=statistics.median(blocks),
        epoch=plain_epoch + (evaluation / eval_every if eval_every else 0) + checkpoint * plain_epoch / save_every_s,
        evaluation=evaluation,
        checkpoint=checkpoint,
        blocks=len(blocks),
        memory=max((run.memory for run in runs if run.memory is not None), default=None),
    )


def in_turn(
    contenders: dict[str, Callable[[Path, Clock], Run]], device: torch.device, budget: float, most: int = MOST_ROUNDS
) -> dict[str, list[Run]]:
    """Every contender once a round, the order turned round each time; another round as long as it should end within
    budget seconds. One that fails has the reason in its run and is left out of later rounds."""
    done: dict[str, list[Run]] = {name: [] for name in contenders}
    began = time.monotonic()
    for number in range(1, most + 1):
        for name in list(contenders)[:: 1 if number % 2 else -1]:
            if not any(run.why_not for run in done[name]):
                done[name].append(_once(contenders[name], device))
        if (time.monotonic() - began) * (number + 1) / number > budget:
            break
    return done


def _once(contender: Callable[[Path, Clock], Run], device: torch.device) -> Run:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    for name in BACKENDS:
        getattr(torch.backends.cuda, f"enable_{name}_sdp")(True)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            run = contender(Path(folder), Clock(device))
    except RuntimeError as error:  # above all, no memory left
        return Run([], why_not=" ".join(f"{type(error).__name__}: {error}".split())[:160])
    if device.type == "cuda":
        run.memory = torch.cuda.max_memory_allocated(device)
    return run
