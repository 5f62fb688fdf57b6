"""Pretrain a ViT encoder as a masked autoencoder on long-tailed images without their labels (METHODS 5.2).

The loop is that of students (training/student.py): views and masks are functions of (seed, epoch, position), a step
covers `accumulate` micro-batches of each virtual rank, several processes share out its groups and add up their
gradients. The visible patches alone go through the encoder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base import rng
from longtail.base.device import upload
from longtail.base.params import plain
from longtail.data.long_tail import LongTail
from longtail.losses.losses import group_means, masked_patch_loss
from longtail.models.mae import (
    MaskedAutoencoder,
    mae_parameter_groups,
    normalized_patches,
    patchify,
    picked,
    split_state,
)
from longtail.runs.execution import DTYPES, Execution
from longtail.runs.parallel import ALONE, Team
from longtail.runs.workspace import Workspace
from longtail.training.engine import choose_attention, compile_blocks
from longtail.training.gradients import Gradients
from longtail.training.optimizer import build_optimizer, cosine_after_warmup
from longtail.training.pretraining_config import PretrainingConfig
from longtail.training.student_run import WEIGHTS
from longtail.training.student_step import Meter, chunks, write_rows
from longtail.views.batch import Batch
from longtail.views.draws import patch_orders
from longtail.views.student_views import Views

DECODER = "decoder.safetensors"  # beside the encoder's weights, for reconstructions


class Pretraining:
    """What a run trains, as it is before the first step: views, network, optimizer and its step; for its loop
    (`pretrain`) and for its probe alike."""

    def __init__(
        self,
        config: PretrainingConfig,
        data: LongTail,
        seed: int,
        device: torch.device,
        execution: Execution = Execution(),  # noqa: B008 (frozen)
        team: Team = ALONE,
    ) -> None:
        """Arguments as of `pretrain`. Seeds torch's global generator, which gives the first weights."""
        self.config, self.device, self.execution, train = config, device, execution, config.train
        self.views = Views(config.views, data.train_images, seed, device=device, labels=data.train_labels)
        self.key = rng.of_family(seed, config.views.family)
        torch.manual_seed(seed)
        self.model = MaskedAutoencoder(config.model, config.decoder).to(device)
        groups = mae_parameter_groups(self.model, train.weight_decay)
        self.optimizer = build_optimizer("adamw", groups, train.lr, train.betas, train.eps)
        self.gradients = Gradients(self.model.parameters(), team)
        self.scaler = torch.amp.GradScaler(device.type, enabled=execution.precision == "fp16")
        self.over = config.views.accumulate * config.views.virtual_world

    def orders(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """Of the views at `positions` (int [n]), their patches, int64 [n, L]: the first config.visible are seen."""
        return patch_orders(self.key, epoch, positions, self.config.patches)

    def learning_rate(self, epoch: int, step: int) -> float:
        """Of one step of a 0-based epoch."""
        train, t = self.config.train, epoch + self.views.layout.loader_fraction(step)
        return cosine_after_warmup(t, train.lr, train.epochs, train.warmup_epochs, train.min_lr)

    def update(self, batch: Batch, epoch: int, step: int, meter: Meter) -> float:
        """One optimizer step over the groups that are this process's, possibly none; returns its learning rate."""
        lr, parts = self.learning_rate(epoch, step), chunks(batch.groups, self.execution.micro_batch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        orders = upload(self.orders(epoch, batch.positions.numpy()), self.device) if parts else None
        self.gradients.clear()
        for number, groups in enumerate(parts, 1):
            rows = slice(groups[0].start, groups[-1].stop)
            if number == len(parts):
                self.gradients.last_pass()
            self._pass(batch.x[rows], orders[rows], [group.stop - group.start for group in groups], meter)
        self.gradients.finish()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return lr

    def _pass(self, x: Tensor, orders: Tensor, groups: list[int], meter: Meter) -> None:
        x = x if x.device.type == self.device.type else upload(x.numpy(), self.device)
        patches = patchify(x, self.config.model.patch_size)
        visible, hidden = orders.split([self.config.visible, self.config.patches - self.config.visible], 1)
        with self.execution.autocast(self.device):
            predicted = self.model(patches, visible, hidden)
        targets, _, _ = normalized_patches(picked(patches, hidden))
        losses = group_means(masked_patch_loss(predicted, targets), groups)
        self.scaler.scale(losses.sum() / self.over).backward()
        with torch.no_grad():
            meter.add(losses, upload(np.array(groups, np.float64), self.device), len(x), None)


def pretrain(
    config: PretrainingConfig,
    data: LongTail,
    seed: int,
    workspace: Workspace,
    device: torch.device,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
) -> None:
    """Train to the last epoch and write the result folder: the encoder's weights, the decoder's beside them, the losses
    of every epoch. execution and the number of processes change nothing but the order of float sums."""
    team, epochs = workspace.team, config.train.epochs
    run = Pretraining(config, data, seed, device, execution, team)
    model, optimizer, views, meter = run.model, run.optimizer, run.views, Meter(device, team, False, "pretraining")

    def mine(step: int) -> slice:
        """Which groups of a step are this process's."""
        return team.share(len(views.groups_of_step(step))) if team.size > 1 else slice(None)

    run_by = _speed_up(run, views.groups_of_step(0, mine(0)), workspace)
    epoch, step, seen = 0, 0, 0
    if saved := workspace.load():
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        run.scaler.load_state_dict(saved["scaler"])
        meter.restore(saved["history"], saved["sums"])
        epoch, step = saved["epoch"], saved["step"]
    team.copy_first_(model.parameters())  # processors of another make may differ in the last bit of the first weights

    def state() -> dict:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": run.scaler.state_dict(),
            "history": meter.rows(),
            "sums": meter.total(),
            "epoch": epoch,
            "step": step,
        }

    model.train()
    while epoch < epochs:
        batches = views.steps(epoch, step, groups=mine)
        while step < views.steps_per_epoch:
            lr = run.update(next(batches), epoch, step, meter)
            step, seen = step + 1, seen + views.groups_of_step(step)[-1].stop
            if step < views.steps_per_epoch:
                workspace.tick(state)
        meter.close(epoch, lr)
        epoch, step = epoch + 1, 0
        if workspace.shows:
            rate = seen / max(workspace.seconds() - workspace.earlier, 1e-9)
            loss, left = meter.rows()[-1]["loss"], (epochs - epoch) * views.positions_per_epoch / rate
            workspace.log(f"epoch {epoch}/{epochs}, loss {loss}, {rate:.0f} img/s, {left:.0f} s left")
        workspace.tick(state)
    if team.leads:
        _write(workspace, config, data, seed, model, meter.rows(), run_by)


def _speed_up(run: Pretraining, groups: list[slice], workspace: Workspace) -> dict[str, str | None]:
    """Choose the attention kernel and compile as asked. Returns how the run is computed, for identity.json."""
    config, device, execution = run.config, run.device, run.execution
    parts, engine, attention = chunks(groups, execution.micro_batch), "eager", None
    if parts:
        size = parts[0][-1].stop - parts[0][0].start
        width = config.decoder.dim // config.decoder.heads  # the decoder sees all tokens, so its kernel matters more
        shape = size, config.decoder.heads, config.patches + 1, width
        attention = choose_attention(*shape, DTYPES[execution.precision], device)
        if execution.engine == "compiled":
            side = config.model.image_size
            patches = patchify(torch.zeros(size, 3, side, side, device=device), config.model.patch_size)
            every = torch.arange(config.patches, device=device).expand(size, -1)

            def attempt() -> Tensor:
                with execution.autocast(device):
                    return run.model(patches, every[:, : config.visible], every[:, config.visible :]).float().sum()

            why = compile_blocks(run.model, attempt)
            engine = "compiled" if why is None else "eager"
            if why is not None:
                workspace.log(f"not compiled, goes on eagerly ({why})", always=True)
    return {"precision": execution.precision, "engine": engine, "attention": attention}


def _write(workspace: Workspace, config, data: LongTail, seed: int, model: nn.Module, history, facts: dict) -> None:
    save_encoder(model.state_dict(), workspace.result)
    write_rows(history, workspace.result / "history.csv")
    workspace.write_meta(
        {**plain(config), "seed": seed},
        seed=seed,
        dataset=data.name,
        dataset_digest=data.digest,
        class_order=data.class_order,
        class_names=list(data.class_names),
        **facts,
    )


def save_encoder(state: dict[str, Tensor], folder: Path) -> None:
    """Write the encoder's weights into a result folder, and the decoder's beside them where there are any."""
    from safetensors.torch import save_file

    for name, weights in zip((WEIGHTS, DECODER), split_state(state), strict=True):
        if weights:
            save_file({key: value.contiguous().cpu() for key, value in weights.items()}, folder / name)
