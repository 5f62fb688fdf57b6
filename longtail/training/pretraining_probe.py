"""The probe of a pretraining's run: its views, masks, schedule, network and first updates (longtail/runs/probe.py)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from longtail.data.long_tail import LongTail
from longtail.models.mae import mae_parameter_groups
from longtail.runs.parallel import ALONE
from longtail.runs.probe import Probe
from longtail.runs.probe_numbers import (
    checksum_of_integers,
    epochs_of,
    norm,
    norm_and_projection,
    numbers,
    schedule_epochs,
)
from longtail.training.optimizer import cosine_after_warmup
from longtail.training.pretraining import Pretraining
from longtail.training.pretraining_config import PretrainingConfig
from longtail.training.student_probe import GROUPS, few_views, parameter_facts, view_facts
from longtail.training.student_step import Meter
from longtail.views.draws import patch_orders
from longtail.views.student_views import Views

CPU = torch.device("cpu")
UPDATES = 3  # one sees neither momentum nor Adam's betas
SHOWN = 4  # views of each mix group that the network is shown
MASKED = 8  # views whose masks are held


def pretraining_epochs(config: PretrainingConfig) -> list[int]:
    """The first, the last, and where the warm-up ends."""
    return epochs_of(config.train.epochs, [config.train.warmup_epochs])


def pretraining_probe(config: PretrainingConfig, data: LongTail, seed: int) -> Probe:
    """Of one seed, on the CPU."""
    run = Pretraining(config, data, seed, CPU)
    probe = pretraining_facts(config, run.views, run.model)
    first = {name: value.clone() for name, value in run.model.state_dict().items()}
    probe.computed |= {f"first {name}": norm_and_projection(value) for name, value in first.items()}
    fresh = run.optimizer.state_dict()
    for epoch in pretraining_epochs(config):
        run.model.load_state_dict(first)
        run.optimizer.load_state_dict(fresh)
        _updates(run, epoch, probe)
    return probe


def pretraining_facts(config: PretrainingConfig, views: Views, model: nn.Module, count: int | None = None) -> Probe:
    """What needs no trained number. count: views of the first mix group that are made; None = all of it. Of the model
    only names and shapes are read: it may be on the meta device."""
    probe, epochs, train = Probe(), pretraining_epochs(config), config.train
    for epoch in epochs:
        probe.exact |= view_facts(views, epoch, count)
        orders = patch_orders(views.key, epoch, np.arange(MASKED), config.patches)
        probe.exact[f"masks of epoch {epoch}"] = [config.visible, checksum_of_integers(orders)]
    probe.exact |= parameter_facts(model, mae_parameter_groups(model, train.weight_decay))
    last = views.steps_per_epoch - 1
    for epoch in schedule_epochs(train.epochs, epochs):
        at = [epoch + views.layout.loader_fraction(step) for step in (0, last // 2, last)]
        probe.close[f"lr at epoch {epoch}"] = [
            cosine_after_warmup(t, train.lr, train.epochs, train.warmup_epochs, train.min_lr) for t in at
        ]
    return probe


def _updates(run: Pretraining, epoch: int, probe: Probe) -> None:
    """A few optimizer steps on a few views of the epoch, from the weights that the model has."""
    run.model.train()
    for update in range(UPDATES):
        step, of = update % run.views.steps_per_epoch, f"{update + 1} of epoch {epoch}"
        batch = few_views(run.views.step(epoch, step, groups=slice(GROUPS)), SHOWN)
        before, meter = [p.detach().clone() for p in run.model.parameters()], Meter(CPU, ALONE, False)
        run.update(batch, epoch, step, meter)
        gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
        probe.computed |= {
            f"input {of}": norm_and_projection(batch.x),
            f"loss {of}": numbers(meter.sums[:1] / meter.sums[2]),
            f"gradient {of}": norm(*gradients),
            f"update {of}": norm(*(p - q for p, q in zip(run.model.parameters(), before, strict=True))),
        }
