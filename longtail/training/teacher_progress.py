"""Where a CNN teacher's run stands epoch by epoch, which epochs are kept (last, best on the test set, chosen on
validation), and the files that a finished run leaves."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from longtail.base.errors import UserError
from longtail.models.experts import counts_experts
from longtail.training.teacher import WEIGHTS, save_weights
from longtail.training.teacher_config import TeacherConfig
from longtail.training.validation import COLUMN, VALIDATION, Chosen

if TYPE_CHECKING:
    from longtail.data.long_tail import LongTail
    from longtail.runs.workspace import Workspace

COLUMNS = ("epoch", "lr", "train_loss", "train_top1", "test_top1")


@dataclass
class Progress:
    """Where a run stands, besides model and optimizer."""

    epoch: int  # 0-based, the one being trained
    step: int  # optimizer steps done in it
    sums: Tensor  # float64 [2] on the device: summed loss, correct predictions of this epoch
    history: list[dict[str, Any]]
    best: dict[str, Any]  # epoch, top1, logits, model state
    chosen: Chosen = field(default_factory=Chosen)  # on validation images; logits of the test set, model state


def close_epoch(
    now: Progress,
    lr: float,
    total: int,
    answers: Tensor | None,
    labels: Tensor,
    model: nn.Module,
    validated: float | None = None,
) -> None:
    """Write the epoch's row, keep the best on the test set and the one chosen on validation (the first of equals), go
    to the next epoch. answers: test logits [M, C], of several experts with their number in a further column."""
    loss, correct = now.sums.tolist()  # the epoch's only wait for the device
    if not np.isfinite(loss):
        raise UserError(f"teacher diverged: training loss is {loss} in epoch {now.epoch}; lower lr or sam_rho")
    row = {"train_loss": loss / total, "train_top1": 100 * correct / total, "test_top1": None}
    if answers is not None:
        row["test_top1"] = _keep_best(now, answers, labels, model)
    if validated is not None:
        row[COLUMN] = _keep_chosen(now, answers, validated, model)
    now.history.append({"epoch": now.epoch, "lr": lr, **row})
    now.epoch, now.step = now.epoch + 1, 0
    now.sums.zero_()


def _keep_best(now: Progress, answers: Tensor, labels: Tensor, model: nn.Module) -> float:
    """Accuracy in %. The epoch's answers, as they came, are the best one's `logits`."""
    logits = answers[:, :-1] if counts_experts(model) else answers
    top1 = 100 * (logits.argmax(1) == labels).double().mean().item()
    if top1 > now.best["top1"]:
        state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        now.best = {"epoch": now.epoch, "top1": top1, "logits": answers.cpu(), "model": state}
    return top1


def _keep_chosen(now: Progress, answers: Tensor, validated: float, model: nn.Module) -> float:
    """The validation score, as it came."""
    if now.chosen.better(validated):
        state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        now.chosen.take(now.epoch, validated, {"logits": answers.cpu(), "model": state})
    return validated


def close_untrained(
    now: Progress, answers: Tensor | None, labels: Tensor, model: nn.Module, validated: float | None = None
) -> Tensor | None:
    """A row without loss and rate, of an entry that trains nothing. Returns the answers."""
    top1 = None if answers is None else _keep_best(now, answers, labels, model)
    row = {"epoch": 0, "lr": 0.0, "train_loss": None, "train_top1": None, "test_top1": top1}
    now.history.append(row | ({} if validated is None else {COLUMN: _keep_chosen(now, answers, validated, model)}))
    return answers


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"  # empty: not evaluated in this epoch


def write_result(
    workspace: Workspace,
    config: TeacherConfig,
    data: LongTail,
    now: Progress,
    model: nn.Module,
    answers: np.ndarray,
) -> None:
    by_epoch, experts = {"last": answers, "best": now.best["logits"].numpy()}, {}
    by_epoch |= {VALIDATION: now.chosen.kept["logits"].numpy()} if now.chosen.kept else {}
    if counts_experts(model):
        experts = {f"experts_{phase}": told[:, -1].astype(np.int64) for phase, told in by_epoch.items()}
        by_epoch = {phase: np.ascontiguousarray(told[:, :-1]) for phase, told in by_epoch.items()}
    with open(workspace.result / "history.csv", "w", newline="") as file:
        columns = (*COLUMNS, *((COLUMN,) if now.chosen.kept else ()))
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _text(v) for k, v in row.items()} for row in now.history)
    save_weights(model.state_dict(), workspace.result / WEIGHTS["last"], data)
    save_weights(now.best["model"], workspace.result / WEIGHTS["best"], data)
    chosen = {}
    if now.chosen.kept:
        save_weights(now.chosen.kept["model"], workspace.result / WEIGHTS[VALIDATION], data)
        chosen = {f"{VALIDATION}_epoch": now.chosen.epoch}
    np.savez(
        workspace.result / "predictions.npz",
        labels=data.test_labels.astype(np.int64),
        **{f"logits_{phase}_cls": logits for phase, logits in by_epoch.items()},
        best_epoch=now.best["epoch"],
        last_epoch=max(config.epochs - 1, 0),
        class_order=data.class_order,
        logit_scale=config.logit_scale,
        **experts,
        **chosen,
    )
