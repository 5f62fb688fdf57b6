"""One optimizer step of a student: forward, loss and backward of its mix groups, then the optimizer.

A step covers `accumulate` micro-batches of each of two virtual ranks (METHODS 3.5 to 3.8); each mix group is one
micro-batch of one rank, with a loss of its own; the step's loss is their sum over accumulate x virtual_world, so that
an incomplete last step has the smaller gradient it has in the published code. On a GPU the host waits for nothing in
it: what the device needs goes there through page-locked memory, what it adds up stays there (training/student_step.py).
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base import rng
from longtail.base.device import upload
from longtail.base.errors import UserError
from longtail.losses.targets import Targets
from longtail.models import transformer as drop_path
from longtail.models.build import CnnConfig
from longtail.models.vit import cls_dist_distance, head_logits, special_tokens
from longtail.runs.execution import Execution
from longtail.runs.parallel import Team
from longtail.training.cache import teacher_labels
from longtail.training.experiment import StudentConfig
from longtail.training.gradients import Gradients
from longtail.training.labels import TeacherLabels
from longtail.views.batch import Batch


class Meter:
    """Loss, 1 - cosine of CLS and DIST, and number of views, summed over an epoch; and the epochs' rows.

    sums: float64 [3] on the device, of this process alone. what: is trained, in a message.
    """

    def __init__(self, device: torch.device, team: Team, distilled: bool, what: str = "student") -> None:
        self.team, self.distilled, self.what = team, distilled, what
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._rows: list[dict[str, Any]] = []
        self._unread: list[tuple[int, float, Tensor]] = []

    def restore(self, rows: list[dict[str, Any]], sums: Tensor) -> None:
        """Go on from saved `rows` and `total`; the latter is of all processes, so the first takes it alone."""
        self._rows = rows
        if self.team.leads:
            self.sums.copy_(sums)

    def add(self, losses: Tensor, groups: Tensor, views: int, distance: Tensor | None) -> None:
        """losses: mean of each mix group, [G]; groups: its views, float64 [G]; distance: sum of 1 - cosine."""
        self.sums[0] += losses.detach().double() @ groups
        self.sums[2] += views
        if distance is not None:
            self.sums[1] += distance

    def total(self) -> Tensor:
        """The epoch's sums so far, of all processes."""
        return self.team.sum_(self.sums.clone())

    def close(self, epoch: int, lr: float) -> None:
        """The epoch is over. The host does not wait."""
        self._unread.append((epoch, lr, self.total()))
        self.sums.zero_()

    def rows(self) -> list[dict[str, Any]]:
        """Of all epochs closed so far, read now. Raises UserError where a loss is not finite."""
        for epoch, lr, sums in self._unread:
            loss, distance, count = sums.tolist()
            if not math.isfinite(loss):
                value = float(f"{loss / count:.9g}")
                raise UserError(f"{self.what} diverged: training loss is {value} in epoch {epoch}; lower lr")
            row = {"epoch": epoch, "lr": float(f"{lr:.9g}"), "loss": float(f"{loss / count:.9g}")}
            self._rows.append(row | ({"cls_dist_distance": float(f"{distance / count:.9g}")} if self.distilled else {}))
        self._unread = []
        return self._rows


def write_rows(rows: list[dict[str, Any]], path: Path) -> None:
    """As CSV: a column for each key that a row has, in the order in which they come; empty where a row has none."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


class Stepper:
    """Holds what all steps of a run share. scaler: of fp16's gradients; does nothing in other precisions."""

    def __init__(
        self,
        config: StudentConfig,
        model: nn.Module,
        method,
        optimizer: torch.optim.Optimizer,
        labels: TeacherLabels | nn.Module | None,
        train_labels: np.ndarray,
        seed: int,
        device: torch.device,
        execution: Execution,
        team: Team,
    ) -> None:
        self.config, self.model, self.method, self.optimizer, self.labels = config, model, method, optimizer, labels
        self.device, self.execution, self.train_labels = device, execution, train_labels
        self.seed = rng.of_family(seed, config.views.family)
        self.branches, self.gradients = drop_path.branches(model), Gradients(model.parameters(), team)
        self.scaler = torch.amp.GradScaler(device.type, enabled=execution.precision == "fp16")
        self.at_once = views_at_once(config, execution)
        self.over = config.views.accumulate * config.views.virtual_world

    def __call__(self, batch: Batch, epoch: int, meter: Meter) -> None:
        """batch: of the groups that are this process's, possibly none."""
        parts = chunks(batch.groups, self.at_once)
        drawn = drop_path.draw(self.branches, self.seed, epoch, batch.positions.numpy()) if parts else None
        factors = upload(drawn, self.device) if parts else None
        self.gradients.clear()
        for number, groups in enumerate(parts, 1):
            part = slice(groups[0].start, groups[-1].stop)
            drop_path.use(self.branches, factors[:, part])
            if number == len(parts):
                self.gradients.last_pass()
            self._pass(batch, part, [group.stop - group.start for group in groups], epoch, meter)
        self.gradients.finish()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _pass(self, batch: Batch, part: slice, groups: list[int], epoch: int, meter: Meter) -> None:
        x = self._there(batch.x[part])
        targets = Targets(
            self._there(self.train_labels[batch.index[part].numpy()]),
            self._there(self.train_labels[batch.partner[part].numpy()]),
            self._there(batch.lam[part]),
            self._taught(batch, part, epoch),
            groups,
        )
        with self.execution.autocast(self.device):
            tokens = special_tokens(self.model, x)
            logits = head_logits(self.model, tokens)
        if self.method.needs_features:
            losses = self.method.loss(logits, targets, epoch, tokens[:, 0].float())
        else:
            losses = self.method.loss(logits, targets, epoch)
        self.scaler.scale(losses.sum() / self.over).backward()
        with torch.no_grad():
            distance = cls_dist_distance(tokens.float()).sum() if self.method.distilled else None
            meter.add(losses, self._there(np.array(groups, np.float64)), len(x), distance)

    def _taught(self, batch: Batch, part: slice, epoch: int) -> Tensor | None:
        """The teacher's labels, int64 [n], from the cache or of the teacher at hand."""
        if isinstance(self.labels, TeacherLabels):
            return self._there(self.labels.at(epoch, batch.positions[part]))
        if self.labels is None:
            return None
        return teacher_labels(self.labels, self._there(batch.shown[part]), self.config.views)

    def _there(self, values: Tensor | np.ndarray) -> Tensor:
        if isinstance(values, np.ndarray):
            return upload(values, self.device)
        return values if values.device.type == self.device.type else upload(values.numpy(), self.device)


def views_at_once(config: StudentConfig, execution: Execution) -> int:
    """Through the network; 0 = all of a step. A CNN sees a mix group at a time whatever it is told: batch statistics
    are of one rank's micro-batch, as on the published runs' GPUs."""
    return 1 if isinstance(config.model, CnnConfig) else execution.micro_batch


def chunks(groups: list[slice], views: int) -> list[list[slice]]:
    """Groups in runs of at most `views` views, at least one group each (0: all in one run)."""
    runs: list[list[slice]] = [[]]
    for group in groups:
        if views and runs[-1] and group.stop - runs[-1][0].start > views:
            runs.append([])
        runs[-1].append(group)
    return [run for run in runs if run]
