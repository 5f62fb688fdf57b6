"""One process of scaling.py: trains through longtail.training.student, a block of steps whenever it is told to.

Started by scaling.py alone. A team of several processes starts itself in them as a stage does (runs/launch.py) and
finds itself by longtail/runs/parallel.py. What to do next is heard, and what was measured is said, through a store that
scaling.py keeps.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from longtail.base import params
from longtail.base.errors import run_main
from longtail.cost.speed import noise
from longtail.data.long_tail import LongTail
from longtail.runs.execution import Execution
from longtail.runs.launch import launch
from longtail.runs.parallel import Team, joined
from longtail.runs.seeds import pick_device
from longtail.runs.workspace import Workspace
from longtail.training.experiment import StudentConfig, resolve
from longtail.training.gradients import Gradients
from longtail.training.labels import TeacherLabels
from longtail.training.student import train_student
from longtail.views.student_views import Views

ROOT = Path(__file__).parents[1]
PATIENCE = timedelta(hours=1)  # while others have their turn
EPOCH = 16  # optimizer steps
CLASSES = 10


@dataclass(frozen=True)
class Job:
    """What a team trains, and where it hears; JSON on its command line."""

    entry: str  # of `experiments`
    side: int  # px of an image
    size: int  # px of a view; 0 = the entry's
    group: int  # views of a mix group; 0 = the entry's
    accumulate: int  # micro-batches of a virtual rank in a step; 0 = the entry's
    device: str
    precision: str
    engine: str
    port: int  # of the store
    team: str  # its name


@dataclass(frozen=True)
class Turn:
    """What comes next: a block of so many steps, or, with none, one sum of all gradients alone."""

    steps: int
    threads: int  # of a process; 0 = as it is
    sums: str  # of gradients: during the backward pass, after it, never
    last: bool = False  # nothing; the end


def config_of(job: Job) -> StudentConfig:
    """The entry at the job's size, without evaluations: it is stopped long before the last epoch."""
    config, _ = resolve(params.load_all(ROOT), job.entry)
    views = config.views
    if job.size:
        config = replace(config, model=replace(config.model, image_size=job.size))
        views = replace(
            views, size=job.size, mix_group=job.group, round_to=0, accumulate=1, teacher_stride=1, teacher_offset=0
        )
    views = replace(views, accumulate=job.accumulate or views.accumulate)
    return replace(config, views=views, train=replace(config.train, eval_every=config.train.epochs))


def step_views(config: StudentConfig) -> int:
    """Of an optimizer step of all processes."""
    return config.views.mix_group * config.views.virtual_world * config.views.accumulate


def data_of(job: Job, config: StudentConfig) -> LongTail:
    """Noise of the job's size, as many images as make an epoch of full steps."""
    return noise(EPOCH * step_views(config), CLASSES, job.side)


class End(Exception):
    """There is no turn left."""


class Paced(Workspace):
    """Lets the training go on turn by turn, and measures each: seconds, seconds of the processor, seconds in
    `Gradients.finish`, and seconds before it since a step's first sum began. Keeps no checkpoint."""

    def __init__(self, folder: Path, job: Job, team: Team, device: torch.device) -> None:
        super().__init__(folder, "scaling", "", device, quiet=True, team=team)
        self.store = dist.TCPStore("127.0.0.1", job.port, timeout=PATIENCE)
        self.name, self.number, self.left = job.team, 0, 0
        self.gradients: Gradients | None = None
        self.first = self.ahead = self.waited = 0.0

    def load(self) -> None:
        """Before the first step."""
        self._say({})
        self._hear()

    def tick(self, state) -> None:
        self.left -= 1
        if not self.left:
            self._say(self._measured())
            self._hear()

    def _hear(self) -> None:
        """The next block; sums alone are made on the way."""
        while True:
            key = f"{self.name}/{self.number}"
            self.store.wait([key], PATIENCE)
            self.turn = Turn(**json.loads(self.store.get(key)))
            if self.turn.last:
                raise End
            if self.turn.threads:
                torch.set_num_threads(self.turn.threads)
            self._synchronize()
            self.began, self.cpu, self.ahead, self.waited = time.perf_counter(), time.process_time(), 0.0, 0.0
            if self.turn.steps:
                self.left = self.turn.steps
                return
            for bucket in self.gradients.buckets:
                self.team.sum_(bucket.flat)
            sizes = [bucket.flat.numel() * bucket.flat.element_size() for bucket in self.gradients.buckets]
            self._say(self._measured() | {"buckets": sizes})

    def _measured(self) -> dict:
        self._synchronize()
        seconds, cpu = time.perf_counter() - self.began, time.process_time() - self.cpu
        return {"seconds": seconds, "cpu": cpu, "ahead": self.ahead, "waited": self.waited}

    def _say(self, measured: dict) -> None:
        self.store.set(f"{self.name}.{self.team.rank}/{self.number}", json.dumps(measured))
        self.number += 1

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def watch(space: Paced) -> None:
    """Time `Gradients.finish`, and move or leave out the sums as the turn says, in this process alone."""
    finish, arrived, begin = Gradients.finish, Gradients._arrived, Gradients._begin

    def timed(self: Gradients) -> None:
        began = time.perf_counter()
        space.ahead += began - space.first if self._sums else 0.0
        finish(self)
        space.waited += time.perf_counter() - began
        space.gradients = self

    def in_time(self: Gradients, bucket) -> None:
        if space.turn.sums == "after":
            bucket.missing -= self._last
        else:
            arrived(self, bucket)

    def if_any(self: Gradients) -> None:
        if not self._sums:
            space.first = time.perf_counter()
        if space.turn.sums == "never":
            self._sums.append(lambda: None)
        else:
            begin(self)

    Gradients.finish, Gradients._arrived, Gradients._begin = timed, in_time, if_any


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    launch(sys.argv)
    config = config_of(job)
    data = data_of(job, config)
    shape = config.train.epochs, Views(config.views, data.train_images, 0).positions_per_epoch
    assert shape[1] == EPOCH * step_views(config)
    labels = TeacherLabels(np.random.default_rng(0).integers(0, data.num_classes, shape, np.uint8), {})
    torch.set_num_threads(1)
    with joined(pick_device(job.device)) as (team, device), tempfile.TemporaryDirectory() as folder, suppress(End):
        space = Paced(Path(folder), job, team, device)
        watch(space)
        train_student(config, data, 0, labels, space, device, Execution(job.precision, job.engine))


def command(job: Job) -> list[str]:
    """That starts a team."""
    return [sys.executable, __file__, json.dumps(asdict(job))]


if __name__ == "__main__":
    run_main(main)
