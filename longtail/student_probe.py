"""The probe of a student's run: its views, schedule, network, first updates and outputs (longtail/probe.py)."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import torch
from torch import nn

from longtail import drop_path, mix
from longtail.batch import Batch, teacher_input
from longtail.cache import TeacherLabels, teacher_labels
from longtail.data import LongTail
from longtail.experiment import StudentConfig
from longtail.meter import Meter
from longtail.parallel import ALONE
from longtail.probe import Probe
from longtail.probe_numbers import (
    checksum,
    checksum_of_integers,
    epochs_of,
    norm_and_projection,
    numbers,
    schedule_epochs,
    update_norm,
)
from longtail.student import Student, learning_rate
from longtail.student_evaluation import Evaluator, test_views
from longtail.student_run import StudentRun
from longtail.targets import Targets
from longtail.views import Views
from longtail.vit import parameter_groups

CPU = torch.device("cpu")
UPDATES = 3  # one sees neither momentum nor Adam's betas
GROUPS, VIEWS = 2, 2  # mix groups of a step, and views of each, that the network is shown
TESTED = 4  # test images
LISTED = 16  # positions, as they stand in the sampler's order


def student_epochs(config: StudentConfig) -> list[int]:
    """The first, the last, and those where mixing, the warm-up or a part of the loss ends or begins."""
    of_loss = [getattr(config.loss, f.name) for f in fields(config.loss) if f.name.endswith(("_epoch", "_until"))]
    return epochs_of(config.train.epochs, [config.views.mix_until, config.train.warmup_epochs, *of_loss])


def student_probe(
    config: StudentConfig,
    data: LongTail,
    seed: int,
    labels: TeacherLabels | nn.Module | None,
    start: StudentRun | None = None,
) -> Probe:
    """Of one seed; arguments as of longtail.student.train_student, all on the CPU."""
    student = Student(config, data, seed, labels, CPU, start=start)
    probe = student_facts(config, data, seed, student.views, student.method, student.model)
    first = {name: value.clone() for name, value in student.model.state_dict().items()}
    probe.computed |= {f"first {name}": norm_and_projection(value) for name, value in first.items()}
    few = _few_tested(data)
    evaluate = Evaluator(test_views(config, few, ALONE), few.test_labels, config.views.normalization, CPU)
    probe.computed |= {f"test logits of {head}": numbers(z) for head, z in evaluate(student.model).items()}
    fresh = student.optimizer.state_dict()
    for epoch in student_epochs(config):
        student.model.load_state_dict(first)
        student.optimizer.load_state_dict(fresh)
        _updates(student, epoch, labels, probe)
    return probe


def student_facts(
    config: StudentConfig,
    data: LongTail,
    seed: int,
    views: Views,
    method,
    model: nn.Module,
    count: int | None = None,
) -> Probe:
    """What needs no trained number. count: views of the first mix group that are made; None = all of it. Of the model
    only names and shapes are read: it may be on the meta device."""
    probe, epochs = Probe(), student_epochs(config)
    exact, close, group = probe.exact, probe.close, views.layout.groups_of_step(0)[0]
    positions = np.arange(group.start, min(group.stop, count or group.stop))
    branches = drop_path.branches(model)
    for epoch in epochs:
        of, drawn = f"of epoch {epoch}", views.draws(epoch, positions)
        mixed = mix.draw(config.views, seed, epoch, [0, 1])
        skipped = drop_path.draw(branches, seed, epoch, positions) == 0
        exact[f"views {of}"] = checksum(views.pixels(epoch, positions, drawn))
        if config.views.teacher_view == "weak":
            exact[f"teacher's views {of}"] = checksum(views.weak(epoch, positions))
        exact[f"erased boxes {of}"] = checksum_of_integers(drawn.erase)
        exact[f"mixing {of}"] = [[m.lam, list(m.box or ())] for m in mixed]
        exact[f"stochastic depth {of}"] = checksum_of_integers(skipped)
        exact[f"order {of}"] = views.order(epoch)[:LISTED].tolist()
        targets = _targets(data, views.order(epoch)[positions], mixed[0].lam)
        close[f"targets {of}"] = norm_and_projection(method.targets(targets, data.num_classes, epoch))
    groups = parameter_groups(model, config.train.weight_decay)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        exact[f"parameter {name}"] = f"{list(parameter.shape)}, decay {decay.get(id(parameter), 'none: frozen')}"
    few, last = _few_tested(data), views.steps_per_epoch - 1
    exact["test views"] = checksum(torch.cat(list(test_views(config, few, ALONE).batches(TESTED))))
    for epoch in schedule_epochs(config.train.epochs, epochs):
        rates = [learning_rate(config.train, views, epoch, step) for step in (0, last // 2, last)]
        close[f"lr at epoch {epoch}"] = rates
        if (weights := method.class_weights(epoch)) is not None:
            close[f"class weights at epoch {epoch}"] = norm_and_projection(weights)
    return probe


def _updates(student: Student, epoch: int, labels: TeacherLabels | nn.Module | None, probe: Probe) -> None:
    """A few optimizer steps on a few views of the epoch, from the weights that the model has."""
    taught: list[int] = []
    student.train()
    for update in range(UPDATES):
        step, of = update % student.views.steps_per_epoch, f"{update + 1} of epoch {epoch}"
        batch = _few(student.views.step(epoch, step, groups=slice(GROUPS)))
        shown = [*norm_and_projection(batch.x), *numbers(batch.lam)]
        if student.method.needs_teacher:
            shown += norm_and_projection(teacher_input(batch.shown, student.config.views))
        if isinstance(labels, nn.Module):
            taught += teacher_labels(labels, batch.shown, student.config.views).tolist()
        before = [p.detach().clone() for p in student.model.parameters()]
        meter = Meter(CPU, ALONE, student.method.distilled)
        student.update(batch, epoch, step, meter)
        gradients = [p.grad for p in student.model.parameters() if p.grad is not None]
        probe.computed |= {
            f"input {of}": shown,
            f"loss {of}": numbers(meter.sums[:2] / meter.sums[2]),
            f"gradient {of}": norm_and_projection(*gradients),
            f"update {of}": update_norm(student.model.parameters(), before),
        }
    if taught:
        probe.labels[f"teacher's labels of epoch {epoch}"] = taught


def _few(batch: Batch) -> Batch:
    """The first VIEWS views of each group, mixed as they are with partners that may be left out."""
    rows = torch.cat([torch.arange(group.start, min(group.start + VIEWS, group.stop)) for group in batch.groups])
    sizes = [min(VIEWS, group.stop - group.start) for group in batch.groups]
    ends = np.cumsum(sizes).tolist()
    groups = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    parts = {name: getattr(batch, name)[rows] for name in ("x", "index", "partner", "lam", "positions")}
    return replace(batch, groups=groups, weak=None if batch.weak is None else batch.weak[rows], **parts)


def _targets(data: LongTail, index: np.ndarray, lam: float) -> Targets:
    """Of the first views of a group, mixed with one another, last with first."""
    y = torch.from_numpy(data.train_labels[index])
    return Targets(y, y.flip(0), torch.full((len(y),), lam), None, [len(y)])


def _few_tested(data: LongTail) -> LongTail:
    return replace(data, test_images=data.test_images[:TESTED], test_labels=data.test_labels[:TESTED])
