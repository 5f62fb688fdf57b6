"""Training a CNN teacher: a task's steps by SGD or SAM, the best and the last epoch kept (METHODS §2.3 to §2.6).

Order and views are pure functions of (seed, epoch, position), so a run resumed anywhere goes on exactly as if it had
not stopped. Nothing of a step is read on the host: loss and accuracy are summed on the device until the epoch ends.

Several processes (runs/parallel.py) share out the images of every batch (training/shared_batch.py) and add up their
gradients. Views, batch statistics and losses are those of one process; only the order of float sums differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base import rng
from longtail.base.errors import UserError
from longtail.models.experts import Counted, counts_experts
from longtail.runs.execution import Execution
from longtail.runs.parallel import ALONE, Team
from longtail.training.engine import steps_of
from longtail.training.gradients import Gradients
from longtail.training.labels import TEACHER
from longtail.training.optimizer import sam_radius, teacher_cosine_lr, teacher_lr, uncompiled
from longtail.training.sam import sam_step
from longtail.training.shared_batch import SharedTest, check_share, share_statistics
from longtail.training.supervised import Task
from longtail.training.teacher import (
    Source,
    diversity_reweighted,
    load_sources,
    recipe,
    reweighted,
)
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_progress import Progress, close_epoch, close_untrained, write_result
from longtail.training.teacher_tasks import build_task
from longtail.training.validation import VALIDATION, Chosen, balanced_accuracy

if TYPE_CHECKING:
    from longtail.data.long_tail import LongTail
    from longtail.runs.workspace import Workspace


class Teacher:
    """What a run trains and shows, as it is before the first step: its task (network, loss, views) and optimizer.

    All that decides what a run computes is here, for its loop (`train_teacher`) and for its probe alike.
    """

    def __init__(
        self,
        config: TeacherConfig,
        data: LongTail,
        seed: int,
        device: torch.device,
        execution: Execution = Execution(),  # noqa: B008 (frozen)
        sources: Sequence[Source] = (),
        team: Team = ALONE,
    ) -> None:
        """Seeds torch's global generator, which gives the first weights. sources: whom it learns from, loaded."""
        self.config = config
        torch.manual_seed(rng.for_torch(config.key(seed)))
        self.task = build_task(config, data, seed, device, execution, sources, team)
        share_statistics(self.task.network, team)
        self.gradients = Gradients(self.task.weights, team)
        lr, how = config.lr, {"foreach": True}
        if config.schedule == "cosine_steps" and execution.engine == "compiled" and device.type == "cuda":
            lr, how = torch.tensor(config.lr, device=device), {"fused": True}  # foreach takes a number alone
        how |= {"weight_decay": config.weight_decay, "nesterov": config.nesterov}
        self.optimizer = uncompiled(torch.optim.SGD, self.task.weights, lr, config.momentum, **how)

    def step_of(self, epoch: int, done: float = 0.0) -> tuple[Callable[..., Tensor], tuple]:
        """step(*batch) of a 0-based epoch of which a share is done, one SGD or SAM step, float64 [2] as `_step` has it;
        and what it depends on: learning rate, SAM's radius, how many kinds of weights the classes have (DRW's, and the
        experts' diversity's)."""
        lr, rho = learning_rate(self.config, epoch, done), sam_radius(self.config.sam_rho, epoch)
        if isinstance(self.optimizer.param_groups[0]["lr"], Tensor):  # a number that a CUDA graph reads at every replay
            self.optimizer.param_groups[0]["lr"].fill_(lr)
            lr = None
        else:
            self.optimizer.param_groups[0]["lr"] = lr
        step = partial(_step, partial(self.task.forward, epoch), self.optimizer, self.gradients, rho)
        return step, (lr, rho, reweighted(self.config, epoch) + diversity_reweighted(self.config, epoch))


def train_teacher(
    config: TeacherConfig,
    data: LongTail,
    seed: int,
    workspace: Workspace,
    *,
    device: torch.device | str = "cpu",
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    taught_by: Sequence[Path] = (),
) -> None:
    """Train one seed and leave its finished files in workspace.result; resumes from the workspace's checkpoint.

    taught_by: folders of the entry's `sources`, with their seeds; `load_sources` says what is refused.
    fp32 masters always; bf16 is autocast of the forward passes, the loss and every evaluation stay in float32. Engine
    compiled: steps are replayed CUDA graphs, in one process. Raises UserError when the loss stops being finite, for
    fp16, and for more processes than a batch has images. The processes of workspace.team all call this; the first
    writes.
    """
    device, team = torch.device(device), workspace.team
    check_precision(execution)
    check_share(config, team)
    if team.backend is not None and execution.engine == "compiled":
        workspace.log("engine compiled: steps run eagerly, as several processes exchange sums in them", always=True)
        execution = replace(execution, engine="eager")
    sources = load_sources(config, taught_by, data, seed, device)
    teacher = Teacher(config, data, seed, device, execution, sources, team)
    task, model, optimizer = teacher.task, teacher.task.model, teacher.optimizer
    tested = Counted(model) if counts_experts(model) else model
    test, test_labels = SharedTest(config, data, device, team), torch.from_numpy(data.test_labels).to(device)
    held = None
    if config.select == VALIDATION and data.val_labels is None:
        raise UserError(
            f"select: validation, but dataset {data.name} has no validation images (datasets: `validation`)"
        )
    if data.val_labels is not None:
        held = SharedTest(config, replace(data, test_images=data.val_images), device, team), data.val_labels
    now = _restore(workspace.load(), task, optimizer, device)
    team.copy_first_([*task.network.parameters(), *task.network.buffers()])  # processors may differ in a last bit

    def snapshot() -> dict[str, Any]:
        return {**task.state(), "optimizer": optimizer.state_dict(), **vars(now), "chosen": dict(vars(now.chosen))}

    run_step = steps_of(execution, device, lambda line: workspace.log(line, always=True))
    steps, total = epoch_size(config, len(data.train_labels))
    while now.epoch < config.epochs:
        epoch = now.epoch
        task.train()
        while now.step < steps:
            rows = slice(now.step * config.batch_size, min((now.step + 1) * config.batch_size, total))
            step, numbers = teacher.step_of(epoch, now.step / steps)
            now.sums += run_step(step, task.batch(epoch, rows), numbers)
            now.step += 1
            workspace.tick(snapshot)
        due = (epoch + 1) % config.eval_every == 0 or epoch + 1 == config.epochs
        answers = test.logits(tested) if due else None
        validated = _validate(held, model) if due else None
        close_epoch(now, learning_rate(config, epoch), total, answers, test_labels, model, validated)
        row, done = now.history[-1], now.epoch / config.epochs
        workspace.log(
            f"epoch {now.epoch}/{config.epochs}, loss {row['train_loss']:.4f}, train {row['train_top1']:.1f}, "
            f"best test {max(now.best['top1'], 0):.1f}, {now.epoch * total / workspace.seconds():.0f} img/s, "
            f"{workspace.seconds() * (1 - done) / done:.0f} s left"
        )
    if not config.epochs:
        task.settle(data)
        answers = close_untrained(now, test.logits(tested), test_labels, model, _validate(held, model))
    if not team.leads:
        return
    write_result(workspace, config, data, now, model, answers.cpu().numpy())
    facts = {"seed": seed, "class_order": data.class_order, "dataset_digest": data.digest}
    if sources:
        facts[TEACHER] = ",".join(source.digest for source in sources)
    workspace.write_meta(config=recipe(config), precision=execution.precision, engine=run_step.engine, **facts)


def check_precision(execution: Execution) -> None:
    """Raises UserError for fp16: it needs gradients with a scale, SAM's ascent without (METHODS trap 37)."""
    if execution.precision == "fp16":
        raise UserError("precision fp16: teachers take fp32 or bf16, by --precision or LONGTAIL_PRECISION")


def epoch_size(config: TeacherConfig, images: int) -> tuple[int, int]:
    """Steps of an epoch and the images shown in it. Raises UserError where they fill no batch and one is asked for."""
    if not config.drop_last:
        return -(-images // config.batch_size), images
    if images < config.batch_size:
        raise UserError(f"drop_last with batch_size {config.batch_size}: dataset has {images} images, no whole batch")
    steps = images // config.batch_size
    return steps, steps * config.batch_size


def learning_rate(config: TeacherConfig, epoch: int, done: float = 0.0) -> float:
    """Of all steps of a 0-based epoch; done: the share of the epoch before the step, where the rate moves with it."""
    if config.schedule != "step":
        t = epoch + done if config.schedule == "cosine_steps" else epoch
        return teacher_cosine_lr(t, config.lr, config.epochs, config.warmup_epochs)
    steps = config.milestones, config.factors
    return teacher_lr(epoch, config.lr, config.warmup_epochs, *steps, warmup_from=config.warmup_from)


def _step(
    forward: Callable[..., tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    gradients: Gradients,
    rho: float | None,
    labels: Tensor,
    *inputs: Tensor,
) -> Tensor:
    """One SGD or SAM step. Returns float64 [2]: batch loss x images, and correct predictions (SAM: second pass); of all
    images of the batch in each process of a team. SAM's ascent is along the sum of the processes' gradients."""
    tally = None

    def closure() -> Tensor:
        nonlocal tally
        logits, loss = forward(labels, *inputs)
        gradients.last_pass()
        loss.backward()
        gradients.finish()
        correct = (logits.detach().argmax(1) == labels).sum()
        tally = torch.stack([loss.detach().double() * len(labels), correct.double()])
        return loss

    sam_step(closure, optimizer, gradients.parameters, rho, gradients.clear)
    return tally


def _restore(saved: dict | None, task: Task, optimizer: torch.optim.Optimizer, device: torch.device) -> Progress:
    if saved is None:
        return Progress(0, 0, torch.zeros(2, dtype=torch.float64, device=device), [], {"top1": -1.0})
    task.restore(saved)
    group = optimizer.param_groups[0]
    how = {name: group[name] for name in ("lr", "foreach", "fused")}  # of this machine, not of the one before
    optimizer.load_state_dict(saved["optimizer"])
    optimizer.param_groups[0].update(how)
    chosen = Chosen(**saved.get("chosen", {}))
    return Progress(saved["epoch"], saved["step"], saved["sums"].to(device), saved["history"], saved["best"], chosen)


def _validate(held: tuple[SharedTest, np.ndarray] | None, model: nn.Module) -> float | None:
    """Balanced accuracy in % on the validation images; None without any, and in all processes but the first."""
    logits = None if held is None else held[0].logits(model)
    return None if logits is None else balanced_accuracy(logits, held[1])
