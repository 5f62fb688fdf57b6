"""What stays float32 in a teacher under bf16 autocast: batch statistics, cosines, margins and loss, SAM's ascent."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from longtail.base import params
from longtail.data.long_tail import LongTail
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.losses import losses
from longtail.runs.execution import Execution
from longtail.training.sam import ascend
from longtail.training.teacher_tasks import build_task
from tests.training.test_teacher import CPU, DIGITS, PACO_TEACHER, config_of

pytestmark = pytest.mark.usefixtures("one_thread")
BF16_STEP = 2.0**-8  # largest relative error of a number rounded to bfloat16, twice


@pytest.fixture(scope="module")
def data() -> LongTail:
    return make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))


def task_of(data, **changes):
    torch.manual_seed(0)
    task = build_task(config_of(**changes), data, 0, CPU, Execution("bf16"))
    task.train()
    return task, task.batch(0, slice(0, 32))


def seen_by(module, what: dict):
    """Keep what the module is given and what it gives in the next pass."""
    module.register_forward_hook(lambda _, given, made: what.update(given=given[0].detach(), made=made.detach()))


def test_batch_statistics_are_float32_sums_of_bf16_activations(data):
    task, batch = task_of(data)
    seen_by(task.model.bn1, seen := {})
    task.forward(0, *batch)
    assert seen["given"].dtype == torch.bfloat16 and task.model.bn1.running_var.dtype == torch.float32
    x = seen["given"].double().transpose(0, 1).flatten(1)
    mean, var = 0.1 * x.mean(1), 0.9 + 0.1 * x.var(1)  # BN's momentum is .1, from 0 and 1
    assert (mean - mean.bfloat16()).abs().max() > 1e-4 * mean.abs().max()  # bf16 would show
    torch.testing.assert_close(task.model.bn1.running_mean.double(), mean, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(task.model.bn1.running_var.double(), var, rtol=1e-5, atol=0)


def test_cosines_margins_and_loss_are_float32(data):
    task, batch = task_of(data)
    seen_by(task.model.fc, seen := {})
    cosines, loss = task.forward(0, *batch)
    weight, labels = task.model.fc.weight.double(), batch[0]
    exact = F.normalize(seen["given"].double(), dim=1) @ F.normalize(weight, dim=0)
    assert cosines.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(cosines.double(), exact, rtol=0, atol=1e-6)  # bf16: 2e-3
    margins = losses.ldam_margins(data.class_counts, 0.5).double()
    torch.testing.assert_close(loss.double(), losses.ldam_loss(exact, labels, margins, 30.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("loss", ["ce", "balanced_softmax"])
def test_losses_of_bf16_logits_are_float32(data, loss):
    task, batch = task_of(data, loss=loss, max_margin=None, scale=None)
    logits, value = task.forward(0, *batch)
    assert logits.dtype == torch.bfloat16 and value.dtype == torch.float32
    shift = torch.as_tensor(data.class_counts).double().log() if loss == "balanced_softmax" else 0.0
    exact = F.cross_entropy(logits.double() + shift, batch[0])
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("changes", [{}, PACO_TEACHER])
def test_the_ascent_moves_float32_weights_by_rho(data, changes):
    """By steps that weights in bf16 could not take: the radius is small against them."""
    task, batch = task_of(data, **changes)
    before, rho = [p.detach().clone() for p in task.weights], 1e-3
    task.forward(0, *batch)[1].backward()
    assert {p.dtype for p in task.weights} == {p.grad.dtype for p in task.weights} == {torch.float32}
    gradient = torch.cat([p.grad.flatten().double() for p in task.weights])
    ascend(task.weights, rho)
    moved = torch.cat([(p.detach().double() - b.double()).flatten() for p, b in zip(task.weights, before, strict=True)])
    assert moved.norm().item() == pytest.approx(rho, rel=1e-3)
    assert F.cosine_similarity(moved, gradient, dim=0) > 1 - 1e-5
    assert moved.abs().max() < BF16_STEP * torch.cat([b.flatten() for b in before]).abs().max()
