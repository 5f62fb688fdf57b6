"""The probe of a student's run: its views, schedule, network, first updates and outputs (longtail/runs/probe.py)."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from longtail.data.long_tail import LongTail
from longtail.losses.targets import Targets
from longtail.models import transformer
from longtail.models.build import CnnConfig
from longtail.models.vit import parameter_groups
from longtail.runs.parallel import ALONE
from longtail.runs.probe import Probe
from longtail.runs.probe_numbers import (
    checksum,
    checksum_of_integers,
    epochs_of,
    norm,
    norm_and_projection,
    numbers,
    schedule_epochs,
)
from longtail.training.cache import teacher_labels
from longtail.training.experiment import StudentConfig
from longtail.training.labels import TeacherLabels
from longtail.training.student import Student, learning_rate
from longtail.training.student_evaluation import Evaluator, test_views
from longtail.training.student_run import StudentRun
from longtail.training.student_step import Meter
from longtail.views import mix
from longtail.views.batch import Batch, teacher_input
from longtail.views.student_views import Views

CPU = torch.device("cpu")
UPDATES = 3  # one sees neither momentum nor Adam's betas
GROUPS = 2  # mix groups of a step that the network is shown
VIEWS = {False: 2, True: 4}  # of each; of a CNN (True) more, whose batch statistics are of a group
TESTED = 4  # test images
MIXED = 8  # groups of an epoch whose mixing is kept
LAM = 0.75  # of the targets that are kept: exact in binary
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
    """Of one seed; arguments as of longtail.training.student.train_student, all on the CPU."""
    student = Student(config, data, seed, labels, CPU, start=start)
    probe = student_facts(config, data, student.views, student.method, student.model)
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
    views: Views,
    method,
    model: nn.Module,
    count: int | None = None,
) -> Probe:
    """What needs no trained number. count: views of the first mix group that are made; None = all of it. Of the model
    only names and shapes are read: it may be on the meta device."""
    probe, epochs, branches = Probe(), student_epochs(config), transformer.branches(model)
    exact, close = probe.exact, probe.close
    for epoch in epochs:
        of, positions = f"of epoch {epoch}", _positions(views, count)
        exact |= view_facts(views, epoch, count)
        skipped = transformer.draw(branches, views.key, epoch, positions) == 0
        exact[f"stochastic depth {of}"] = checksum_of_integers(skipped)
        targets = _targets(data, views.order(epoch)[positions])
        close[f"targets {of}"] = norm_and_projection(method.targets(targets, data.num_classes, epoch))
    exact |= parameter_facts(model, parameter_groups(model, config.train.weight_decay, config.train.layer_decay))
    few, last = _few_tested(data), views.steps_per_epoch - 1
    exact["test views"] = checksum(torch.cat(list(test_views(config, few, ALONE).batches(TESTED))))
    for epoch in schedule_epochs(config.train.epochs, epochs):
        rates = [learning_rate(config.train, views, epoch, step) for step in (0, last // 2, last)]
        close[f"lr at epoch {epoch}"] = rates
        if (weights := method.class_weights(epoch)) is not None:
            close[f"class weights at epoch {epoch}"] = norm_and_projection(weights)
    return probe


def parameter_facts(model: nn.Module, groups: list[dict]) -> dict[str, str]:
    """Shape, weight decay and factor of the learning rate, where it has one, of every parameter."""
    of = {id(p): group for group in groups for p in group["params"]}
    facts = {}
    for name, parameter in model.named_parameters():
        group = of.get(id(parameter), {"weight_decay": "none: frozen"})
        scale = f", rate x{group['lr_scale']:.9g}" if "lr_scale" in group else ""
        facts[f"parameter {name}"] = f"{list(parameter.shape)}, decay {group['weight_decay']}{scale}"
    return facts


def view_facts(views: Views, epoch: int, count: int | None = None) -> dict[str, Any]:
    """Exact facts of the first mix group of an epoch: pixels, what is erased and mixed, the teacher's weak views, and
    which images come first. count: views that are made; None = all of the group."""
    known = _known.setdefault(views, {})
    if (epoch, count) not in known:
        known[epoch, count] = _view_facts(views, epoch, count)
    return known[epoch, count]


_known: WeakKeyDictionary[Views, dict] = WeakKeyDictionary()  # entry_probe.py asks for the same views once an entry


def _view_facts(views: Views, epoch: int, count: int | None) -> dict[str, Any]:
    of, positions = f"of epoch {epoch}", _positions(views, count)
    drawn = views.draws(epoch, positions)
    facts = {
        f"order {of}": views.order(epoch)[:LISTED].tolist(),
        f"views {of}": checksum(views.pixels(epoch, positions, drawn)),
        f"erased boxes {of}": checksum_of_integers(drawn.erase),
        f"mixing {of}": [[m.lam, list(m.box or ())] for m in mix.draw(views.recipe, views.key, epoch, range(MIXED))],
    }
    if views.recipe.teacher_view == "weak":
        facts[f"teacher's views {of}"] = checksum(views.weak(epoch, positions))
    return facts


def _positions(views: Views, count: int | None) -> np.ndarray:
    group = views.layout.groups_of_step(0)[0]
    return np.arange(group.start, min(group.stop, count or group.stop))


def _updates(student: Student, epoch: int, labels: TeacherLabels | nn.Module | None, probe: Probe) -> None:
    """A few optimizer steps on a few views of the epoch, from the weights that the model has."""
    taught: list[int] = []
    views = VIEWS[isinstance(student.config.model, CnnConfig)]
    student.train()
    for update in range(UPDATES):
        step, of = update % student.views.steps_per_epoch, f"{update + 1} of epoch {epoch}"
        batch = few_views(student.views.step(epoch, step, groups=slice(GROUPS)), views)
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
            f"gradient {of}": norm(*gradients),
            f"update {of}": norm(*(p - q for p, q in zip(student.model.parameters(), before, strict=True))),
        }
    if taught:
        probe.labels[f"teacher's labels of epoch {epoch}"] = taught


def few_views(batch: Batch, views: int) -> Batch:
    """Some views of each group, the first ones and the last, which are mixed with them: `views` of them, even."""
    size = min(views, *(group.stop - group.start for group in batch.groups)) // 2
    every = [torch.arange(group.start, group.stop) for group in batch.groups]
    rows = torch.cat([torch.cat([of[:size], of[-size:]]) for of in every])
    groups = [slice(start, start + 2 * size) for start in range(0, len(rows), 2 * size)]
    parts = {name: getattr(batch, name)[rows] for name in ("x", "index", "partner", "lam", "positions")}
    return replace(batch, groups=groups, weak=None if batch.weak is None else batch.weak[rows], **parts)


def _targets(data: LongTail, index: np.ndarray) -> Targets:
    """Of a group that is mixed, last with first, whether or not the recipe mixes it."""
    y = torch.from_numpy(data.train_labels[index])
    return Targets(y, y.flip(0), torch.full((len(y),), LAM), None, [len(y)])


def _few_tested(data: LongTail) -> LongTail:
    return replace(data, test_images=data.test_images[:TESTED], test_labels=data.test_labels[:TESTED])
