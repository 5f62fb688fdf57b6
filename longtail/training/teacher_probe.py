"""The probe of a CNN teacher's run: its views, schedule, network, first updates and outputs (runs/probe.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base.workers import one_thread
from longtail.data.long_tail import LongTail
from longtail.runs.probe import Probe
from longtail.runs.probe_numbers import checksum, epochs_of, norm, norm_and_projection, numbers, schedule_epochs
from longtail.runs.saver import copied
from longtail.training.optimizer import sam_radius
from longtail.training.supervised import Order
from longtail.training.teacher import Source, TestSet, class_weights, diversity_temperatures
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_training import Teacher, epoch_size, learning_rate
from longtail.views.paco_views import PaCoViews
from longtail.views.teacher_views import LargeViews

CPU = torch.device("cpu")
UPDATES = 3  # one sees neither momentum nor PaCo's queue
SMALL, LARGE = (
    16,
    4,
)  # views of a batch that the network is shown: enough for batch statistics that roundings do not turn
SHOWN = 64  # views of an epoch whose pixels are held
TESTED = 4  # test images
LISTED = 16  # positions, as they stand in the order of an epoch


def teacher_epochs(config: TeacherConfig) -> list[int]:
    """The first, the last, and those where the warm-up ends or the rate, SAM's radius, the class weights or the
    diversity's temperatures step; none where nothing is trained."""
    if not config.epochs:
        return []
    radii = [end for end, _ in config.sam_rho if end] if isinstance(config.sam_rho, tuple) else []
    parted = config.diversity.reweight_epoch if config.diversity is not None else None
    return epochs_of(config.epochs, [config.warmup_epochs, config.drw_epoch, parted, *config.milestones, *radii])


@one_thread()
def teacher_probe(config: TeacherConfig, data: LongTail, seed: int, sources: Sequence[Source] = ()) -> Probe:
    """Of one seed, on the CPU. sources: whom it learns from, on the CPU too. On one thread, whatever the run has: in
    three steps of SAM what two threads round otherwise grows to an eighth of PaCo's gradient."""
    teacher = Teacher(config, data, seed, CPU, sources=sources)
    task, model = teacher.task, teacher.task.model
    probe = teacher_facts(config, data, seed, task.views, model)
    if not config.epochs:
        task.settle(_few_trained(data))
    first, fresh = copied(task.state()), copied(teacher.optimizer.state_dict())
    for part in first.values():
        probe.computed |= {f"first {name}": norm_and_projection(value) for name, value in part.items()}
    probe.computed["test logits"] = numbers(TestSet(config, _few_tested(data), CPU).logits(model))
    shown = Order(config, data, seed, CPU).shown
    for epoch in teacher_epochs(config):
        task.restore(first)
        teacher.optimizer.load_state_dict(copied(fresh))
        _updates(teacher, epoch, shown, probe)
    return probe


def teacher_facts(
    config: TeacherConfig, data: LongTail, seed: int, views, model: nn.Module, count: int = SHOWN
) -> Probe:
    """What needs no trained number. views: the task's; count: of them, made of each of the epochs. Of the model only
    names and shapes are read: it may be on the meta device."""
    probe, epochs = Probe(), teacher_epochs(config)
    exact, close, order = probe.exact, probe.close, Order(config, data, seed, CPU)
    for epoch in epochs:
        shown = order.of(epoch)[0]
        exact[f"order of epoch {epoch}"] = shown[:LISTED].tolist()
        for name, pixels in _pixels(views, epoch, shown[:count]).items():
            exact[f"{name} of epoch {epoch}"] = checksum(pixels)
    exact["images and steps of an epoch"] = list(epoch_size(config, len(data.train_labels)))
    for name, parameter in model.named_parameters():
        exact[f"parameter {name}"] = f"{list(parameter.shape)}, decay {config.weight_decay}"
    exact["test views"] = checksum(torch.cat(list(TestSet(config, _few_tested(data), CPU).batches())))
    for epoch in schedule_epochs(config.epochs, epochs):
        close[f"lr at epoch {epoch}"] = [learning_rate(config, epoch)]
        close[f"SAM radius at epoch {epoch}"] = [sam_radius(config.sam_rho, epoch) or 0.0]
        close[f"class weights at epoch {epoch}"] = norm_and_projection(class_weights(config, data.class_counts, epoch))
        if config.diversity is not None:
            temperatures = diversity_temperatures(config, data.class_counts, epoch)
            close[f"diversity's temperatures at epoch {epoch}"] = norm_and_projection(temperatures)
    return probe


def _pixels(views, epoch: int, index: np.ndarray) -> dict[str, Tensor]:
    """The first views of an epoch, of images `index`: uint8 [n, 3, S, S] by name."""
    positions = np.arange(len(index))
    if isinstance(views, PaCoViews):
        return {"query views": views.query(epoch, positions, index), "key views": views.key(epoch, positions, index)}
    if isinstance(views, LargeViews):
        made = np.empty((len(views.recipes), len(index), views.size, views.size, 3), np.uint8)
        views.into(made, epoch, positions, index)
        return {f"views ({name})": torch.from_numpy(pixels) for name, pixels in zip(views.recipes, made, strict=True)}
    return {"views": views.batch(epoch, slice(len(index)), index)[0].contiguous()}


def _updates(teacher: Teacher, epoch: int, shown: int, probe: Probe) -> None:
    """A few steps on a few of the views that the epoch shows, from the weights that the task has."""
    weights, size = teacher.task.weights, SMALL if teacher.config.views is None else LARGE
    take, (_, radius, _) = teacher.step_of(epoch)
    by = "SAM" if radius else "SGD"
    teacher.task.train()
    first = copied(teacher.task.state())
    for update in range(UPDATES):
        step, of = update % max(1, shown // size), f"{update + 1} of epoch {epoch}"
        labels, *inputs = teacher.task.batch(epoch, slice(step * size, (step + 1) * size))
        before = [w.detach().clone() for w in weights]
        loss, correct = take(labels, *inputs).tolist()
        probe.computed |= {
            f"input {of}": [number for value in inputs for number in norm_and_projection(value)],
            f"{by} loss {of}": [loss, correct],
            f"{by} gradient {of}": norm(*(w.grad for w in weights if w.grad is not None)),
            f"{by} update {of}": norm(*(w - b for w, b in zip(weights, before, strict=True))),
        }
    trained = {name for name, _ in teacher.task.model.named_parameters()}
    moved: dict[str, list[Tensor]] = {}  # what no gradient moves: batch statistics, PaCo's slow copies and queue
    for part, state in teacher.task.state().items():
        for name, value in state.items():
            if value.is_floating_point() and name not in trained:
                first_name, last_name = name.partition(".")[0], name.rpartition(".")[2]
                kind = last_name if part == "model" else f"{first_name} {last_name}"
                moved.setdefault(kind, []).append(value - first[part][name])
    probe.computed |= {f"{by} change of {kind} in epoch {epoch}": norm(*changes) for kind, changes in moved.items()}
    if isinstance(teacher.task.views, LargeViews):
        teacher.task.views.close()


def _few_trained(data: LongTail) -> LongTail:
    """SHOWN of the training images, from all over the dataset."""
    some = np.linspace(0, len(data.train_labels) - 1, min(SHOWN, len(data.train_labels))).astype(np.int64)
    return replace(data, train_images=data.train_images[some], train_labels=data.train_labels[some])


def _few_tested(data: LongTail) -> LongTail:
    return replace(data, test_images=data.test_images[:TESTED], test_labels=data.test_labels[:TESTED])
