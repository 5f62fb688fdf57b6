"""How fast training is: ours against the plain path (plain.py), with the limits of limits.py.

Students and teachers of params.yaml on random pixels, as many test images to a training image as the dataset has. Ours
are training.student.train_student with labels from a cache and training.teacher_training.train_teacher, both timed from
their workspace, everything a step does in them; the plain student has its teacher beside it, and so has a CNN that
learns from others (DiVE, CBD-ENS), on either path. On a CPU both train with
one thread, the plain path's DataLoader workers beside it on all cores. Cases of a CPU are cut down: fewer images, and
at 224 px mix groups of 8.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import plain
import timing
import torch
from limits import peak
from timing import Clock, Run, Timed

from longtail.base import params
from longtail.cost.speed import noise
from longtail.cost.workload import Workload
from longtail.data.long_tail import LongTail
from longtail.runs.execution import Execution
from longtail.training.experiment import StudentConfig, resolve
from longtail.training.labels import TeacherLabels
from longtail.training.student import train_student
from longtail.training.teacher import build_model, load_sources
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_training import epoch_size, train_teacher
from longtail.views.epoch import Layout
from longtail.views.student_views import Views

MANY_VIEWS = 1024  # that PyTorch makes at once where steps are smaller (longtail.views.student_views)
SMALL = 1e10  # FLOP to train on an image: up to here float32 is worth its time on a GPU


@dataclass(frozen=True)
class Case:
    """A student's entry, or two of teachers that differ in SAM alone, or a CNN's that learns from others."""

    entry: str
    images: int | None  # of training; None = the dataset's
    budget: float  # seconds; of one round a ratio is that of two moments of the machine
    sgd: str | None = None  # teachers: the entry without SAM
    taught: bool = False  # an entry of `teachers` with `sources`
    group: int | None = None  # students: views in a mix group, of which a step has one a rank, where not the recipe's
    epochs: int = 4  # of a student's run: the first is not counted, ours are evaluated in the last


CPU = (
    Case("digits-deit_lt", None, 35, epochs=8),
    Case("cifar10_if100-mini-deit_lt", 320, 60),
    Case("cifar10_if100-deit_lt-ti", 64, 200, group=8),
    Case("ldam_drw_sam-cifar10_if100", 256, 160, sgd="ldam_drw-cifar10_if100"),
    Case("dive-cifar100_if100", 256, 90, taught=True),
    Case("cbd_ens-cifar10_if100-mini", 256, 90, taught=True),
)
SHORT = (
    Case("digits-deit_lt", 192, 0),
    Case("ldam_drw_sam-digits_if20", 128, 0, sgd="ldam_drw-digits_if20"),
    Case("cbd_ens-digits_if20", 128, 0, taught=True),
)
CUDA = (
    Case("cifar10_if100-deit_lt-ti", None, 90),
    Case("cifar10_if100-deit_lt-s", None, 80),
    Case("cifar10_if100-deit_lt-b", None, 110),
    Case("ldam_drw_sam-cifar10_if100", None, 50, sgd="ldam_drw-cifar10_if100"),
    Case("dive-cifar100_if100", None, 20, taught=True),
    Case("cbd_ens-cifar10_if100-mini", None, 20, taught=True),
)


def measure(table: dict, limits: dict, device: torch.device, short: bool) -> list[dict]:
    """The rows of all cases. table: params.yaml; limits: of limits.measure."""
    table = sized(table)
    cases = CUDA if device.type == "cuda" else SHORT if short else CPU
    rows = []
    for case in cases:
        found = (_teachers if case.sgd or case.taught else _students)(case, table, limits, device, short)
        print(*(json.dumps(row) for row in found), sep="\n", flush=True)
        rows += found
    return rows


def sized(table: dict) -> dict:
    """params.yaml, folders of CIFAR-10's images being CIFAR-10, of which it is known how many there are."""
    datasets = table["datasets"]
    folders = {name: of | {"source": "cifar10"} for name, of in datasets.items() if of["source"] == "imagefolder"}
    return table | {"datasets": datasets | folders}


def data_of(table: dict, dataset: str, images: int | None) -> LongTail:
    """Random pixels in the proportions of a dataset; images: of training, None = all."""
    of = Workload(table).images(dataset)
    train = noise(images or of.train, of.classes, of.side)
    test = noise(max(1, round(of.test * len(train.train_labels) / of.train)), of.classes, of.side)
    return replace(train, test_images=test.train_images, test_labels=test.train_labels)


def _students(case: Case, table: dict, limits: dict, device: torch.device, short: bool) -> list[dict]:
    config, _ = resolve(table, case.entry)
    every = config.train.eval_every
    if case.group:
        together = case.group * config.views.virtual_world
        views = replace(config.views, mix_group=case.group, accumulate=1, round_to=together)
        config = replace(config, views=views)
    data = data_of(table, config.dataset, case.images)
    views = Views(config.views, data.train_images, 0, device=device)
    layout = views.layout
    cuda, flop = device.type == "cuda", 2 * Workload(table).student_shape(case.entry).train_macs
    contenders = {
        "plain, " + ("fp16" if cuda else "fp32"): _plain_student(config, data, table, device, case.epochs - 1)
    }
    executions = [Execution("bf16")] if cuda or not short else []  # seconds on a CPU without instructions for it
    if not cuda or flop <= SMALL:
        executions.insert(0, Execution("fp32", micro_batch=256 if cuda else 0))
    if not short:
        executions.append(Execution("bf16" if cuda else "fp32", "compiled"))
    for execution in executions:
        ours = _left_out(execution, limits, device)
        ours = ours or _our_student(config, data, layout, execution, device, case.epochs)
        contenders[_name(execution)] = ours
    done = timing.in_turn(contenders, device, case.budget)
    step = min(layout.group * layout.ranks * layout.accumulate, layout.positions)
    together = min(layout.steps, max(1, MANY_VIEWS // step)) if views.backend == "torch" else 1
    rows = []
    for name, runs in done.items():
        ours = not name.startswith("plain")
        found = _figures(runs, layout.steps, together if ours else 1, every if ours else None)
        rows.append(_row(case.entry, name, found, step, layout.steps, layout.positions, flop, limits))
    return _ratios(rows, lambda row: rows[0])


def _left_out(execution: Execution, limits: dict, device: torch.device) -> Callable | None:
    """In the place of one in bf16 on a CPU without instructions for it, where a step takes many times as long."""
    share = peak(limits, "bf16") / peak(limits, "fp32")
    if device.type == "cuda" or execution.precision != "bf16" or share >= 1:
        return None
    reason = f"products of bf16 matrices are made at {share:.2f} of float32's rate here"
    return lambda folder, clock: Run([], why_not=reason)


def _plain_student(config: StudentConfig, data: LongTail, table: dict, device: torch.device, epochs: int) -> Callable:
    cache = params.entry(table, "caches", config.cache)
    of = params.build(TeacherConfig, params.entry(table, "teachers", cache["teacher"]), "teachers")
    config = replace(config, train=replace(config.train, epochs=epochs))

    def run(folder: Path, clock: Clock) -> Run:
        teacher = build_model(of, data.num_classes)
        plain.train_student(config, data, teacher, folder, device, "fp32", clock.tick)
        return Run(clock.marks())

    return run


def _our_student(
    config: StudentConfig, data: LongTail, layout: Layout, execution: Execution, device: torch.device, epochs: int
) -> Callable:
    config = replace(config, train=replace(config.train, epochs=epochs, eval_every=epochs))
    drawn = np.random.default_rng(0).integers(0, data.num_classes, (epochs, layout.positions), np.uint8)

    def run(folder: Path, clock: Clock) -> Run:
        space = Timed(folder, device, clock)
        train_student(config, data, 0, TeacherLabels(drawn, {}), space, device, execution)
        return _finished(space, execution)

    return run


def _teachers(case: Case, table: dict, limits: dict, device: torch.device, short: bool) -> list[dict]:
    kinds = {"taught": case.entry} if case.taught else {"SGD": case.sgd, "SAM": case.entry}
    configs = {kind: _cut(_config(table, entry)) for kind, entry in kinds.items()}
    first = next(iter(configs.values()))
    data = data_of(table, first.dataset, case.images)
    executions = [Execution("fp32")]
    if device.type == "cuda" or not short:
        executions.append(Execution("bf16"))
    if device.type == "cuda":
        executions.append(Execution("bf16", "compiled"))
    contenders = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = [_trained(table, name, data, device, Path(scratch)) for name in first.sources if name != "none"]
        for kind, config in configs.items():
            contenders[f"{kind}: plain, fp32"] = _plain_teacher(config, data, device, folders)
            for execution in executions:
                ours = _left_out(execution, limits, device)
                ours = ours or _our_teacher(config, data, execution, device, folders)
                contenders[f"{kind}: {_name(execution)}"] = ours
        done = timing.in_turn(contenders, device, case.budget)
    shapes = Workload(table).teacher_shape
    flop = 2 * (shapes(case.entry).train_macs + sum(shapes(path.name).macs for path in folders))
    steps, images = epoch_size(first, len(data.train_labels))
    rows = []
    for name, runs in done.items():
        kind, _, how = name.partition(": ")
        found = _figures(runs, steps, 1, None)
        size, passes = configs[kind].batch_size, 2 if kind == "SAM" else 1
        rows.append(_row(kinds[kind], how, found, size, steps, images, passes * flop, limits))
    _ratios(rows, lambda row: next(r for r in rows if r["entry"] == row["entry"]))
    for row in rows if case.sgd else ():
        sgd = next(r for r in rows if r["entry"] == case.sgd and r["how"] == row["how"])
        if row["entry"] == case.entry and "step_s" in row and "step_s" in sgd:
            row["sam_over_sgd"] = row["step_s"] / sgd["step_s"]
    return rows


def _config(table: dict, entry: str) -> TeacherConfig:
    return params.build(TeacherConfig, params.entry(table, "teachers", entry), f"teachers.{entry}")


def _cut(config: TeacherConfig) -> TeacherConfig:
    """Three epochs at a constant learning rate, as in all but a few epochs of a run: a new one is a new graph."""
    return replace(config, epochs=3, eval_every=1, schedule="step", warmup_epochs=0, lr=0.01)


def _brief(config: TeacherConfig) -> TeacherConfig:
    """One epoch, whose weights teach."""
    return replace(_cut(config), epochs=1, must_reach=None, select="last", milestones=(), factors=())


def _trained(table: dict, entry: str, data: LongTail, device: torch.device, scratch: Path) -> Path:
    """A folder of one who teaches: of an entry, on this data, for an epoch."""
    config = _brief(_config(table, entry))
    space = Timed(scratch / entry / "work", device, Clock(device))
    train_teacher(config, data, 0, space, device=device)
    space.finish()
    space.result.rename(scratch / entry / "seed0")
    return scratch / entry


def _plain_teacher(config: TeacherConfig, data: LongTail, device: torch.device, folders: Sequence[Path]) -> Callable:
    def run(folder: Path, clock: Clock) -> Run:
        networks = [source.network for source in load_sources(config, folders, data, 0, device)]
        plain.train_teacher(config, data, folder, device, clock.tick, networks)
        return Run(clock.marks())

    return run


def _our_teacher(
    config: TeacherConfig, data: LongTail, execution: Execution, device: torch.device, folders: Sequence[Path]
) -> Callable:
    def run(folder: Path, clock: Clock) -> Run:
        space = Timed(folder, device, clock)
        train_teacher(config, data, 0, space, device=device, execution=execution, taught_by=folders)
        return _finished(space, execution)

    return run


def _finished(space: Timed, execution: Execution) -> Run:
    """A run that was to be compiled and was not says why."""
    marks = space.clock.marks()
    space.finish()
    about = json.loads((space.result / "identity.json").read_text())
    fell_back = execution.engine == "compiled" and about.get("engine") != "compiled"
    return Run(marks, space.checkpoint, why_not="; ".join(space.said) or "not compiled" if fell_back else None)


def _figures(runs: list[Run], *of) -> timing.Figures | str:
    """timing.figures, or why there are none."""
    reasons = [run.why_not for run in runs if run.why_not]
    return reasons[0] if reasons else timing.figures(runs, *of)


def _name(execution: Execution) -> str:
    return f"ours, {execution.precision}" + ", compiled" * (execution.engine == "compiled")


def _row(
    entry: str,
    how: str,
    found: timing.Figures | str,
    step: int,
    steps: int,
    images: int,
    flop: float,
    limits: dict,
) -> dict:
    """step: images of one; steps, images: of an epoch; flop: of an image."""
    row = {"entry": entry, "how": how}
    if isinstance(found, str):
        return row | {"why_not": found}
    rate = step / found.step
    return row | {
        "step_s": found.step,
        "images_per_second": rate,
        "of_limit": rate * flop / peak(limits, how.split(", ")[1]),
        "epoch_over_step": found.epoch / (images / rate),
        "epoch_s": found.epoch,
        "epoch_images_per_second": images / found.epoch,
        "evaluation_s": found.evaluation,
        "checkpoint_s": found.checkpoint,
        "start_s": found.start,
        "memory_mb": None if found.memory is None else round(found.memory / 2**20),
        "blocks": found.blocks,
        "steps_of_an_epoch": steps,
        "images_of_a_step": step,
    }


def _ratios(rows: list[dict], plain_of: Callable[[dict], dict]) -> list[dict]:
    """Adds to each row its rates over the plain path's."""
    for row in rows:
        other = plain_of(row)
        if "step_s" in row and "step_s" in other:
            for name in ("images_per_second", "epoch_images_per_second"):
                row[f"{name}_of_plain"] = row[name] / other[name]
    return rows
