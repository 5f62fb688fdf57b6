"""A checkpoint of somebody else's as a finished run of one seed: evaluated here, and written as training writes it.

The file is one epoch, as a rule the best on the test set (METHODS trap 42). It stands for the last and for the best of
the run, in all files; identity.json says `imported` and where the weights came from, history.csv has no rows. A
pretraining has neither classes nor a test: what of it can be checked are names, shapes and numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longtail.base.errors import UserError
from longtail.base.params import plain
from longtail.data.long_tail import LongTail, check_class_order
from longtail.exchange.checkpoints import Checkpoint
from longtail.exchange.official import Kind, Recognised, fit, recognise, reorder_classes
from longtail.exchange.permutation import Verdict, examine, moves
from longtail.models.build import build_network
from longtail.models.mae import MaskedAutoencoder, split_state
from longtail.models.vit import head_logits, special_tokens
from longtail.runs.workspace import Workspace
from longtail.training.experiment import StudentConfig, load_method
from longtail.training.pretraining import save_encoder
from longtail.training.pretraining_config import PretrainingConfig
from longtail.training.teacher import WEIGHTS, TestSet, build_model, recipe, save_weights
from longtail.training.teacher_config import TeacherConfig
from longtail.views.eval_views import eval_batch

BATCH = 256  # images in an evaluation batch


@dataclass(frozen=True)
class Like:
    """The entry of params.yaml that a checkpoint shall fit."""

    where: str  # e.g. teachers.ldam_drw_sam-cifar10_if100
    config: TeacherConfig | StudentConfig | PretrainingConfig

    @property
    def kind(self) -> Kind:
        kinds: dict[type, Kind] = {TeacherConfig: "teacher", PretrainingConfig: "pretraining"}
        return kinds.get(type(self.config), "student")

    def build(self, data: LongTail) -> tuple[nn.Module, float]:
        """The entry's model, untrained, and what its outputs are multiplied by before a softmax (METHODS trap 24)."""
        if isinstance(self.config, TeacherConfig):
            model = build_model(self.config, data.num_classes).to(memory_format=torch.channels_last)
            return model, self.config.logit_scale
        method = load_method(self.config.method).Method(self.config.loss, data.class_counts)
        return build_network(self.config.model, data.num_classes, method.distilled, method.head), method.logit_scale

    def logits(self, model: nn.Module, data: LongTail, device: torch.device) -> dict[str, Tensor]:
        """Test logits of each head, float32 [M, C]: plain images (teacher), or resize and centre crop (student)."""
        if isinstance(self.config, TeacherConfig):
            return {"cls": TestSet(self.config, data, device).logits(model).cpu()}
        return _student_logits(model, self.config, data.test_images, device)


def import_run(
    like: Like,
    data: LongTail,
    checkpoint: Checkpoint,
    order: np.ndarray | None,
    seed: int,
    workspace: Workspace,
    device: torch.device,
    tested: bool = True,
) -> None:
    """Leave the finished files of one seed in workspace.result.

    order: the output that stands for each class, int64 [C]; None = as it is. tested: refuse it where another order is
    clearly better, and leave that one in workspace.folder/order.json. Raises UserError where the checkpoint is of
    another kind, does not fit the entry's model, or numbers classes differently.
    """
    found = _recognised(like, checkpoint)
    if order is None and tested and checkpoint.about is not None:
        check_class_order(data, checkpoint.about["class_order"], checkpoint.about["class_names"], str(checkpoint.path))
    model, scale = like.build(data)
    fit(found, model, f"{checkpoint.path}: for {like.where}")
    if order is not None:
        model.load_state_dict(reorder_classes(model.state_dict(), order))
    model = model.to(device).eval().requires_grad_(False)
    logits = like.logits(model, data, device)
    if not all(z.isfinite().all() for z in logits.values()):
        raise UserError(f"{checkpoint.path}: {found.what}, gives outputs that are not finite; its weights are damaged")
    verdict = examine(torch.stack(list(logits.values())).mean(0).argmax(1).numpy(), data)
    workspace.log(f"{found.what}; top-1 on the test set {verdict.as_is:.2f} %{_claim(checkpoint)}", always=True)
    if verdict.clear and tested:
        raise UserError(f"{checkpoint.path}: {_refusal(verdict, order, data, workspace.folder / 'order.json')}")
    _write(workspace, like, data, model.state_dict(), logits, scale, checkpoint.epoch)
    workspace.write_meta(
        recipe(like.config) if like.kind == "teacher" else {**plain(like.config), "seed": seed},
        **_origin(data, checkpoint, found, seed),
        source_top1=checkpoint.claim,
        source_class_order=None if order is None else order.tolist(),
        top1=verdict.as_is,
    )


def import_pretraining(like: Like, data: LongTail, checkpoint: Checkpoint, seed: int, workspace: Workspace) -> None:
    """Leave the finished files of one seed in workspace.result, as stages/pretrain.py does; without those of the
    decoder where the checkpoint has none. Raises UserError where the checkpoint is of another kind, does not fit the
    entry's network, or has numbers that are not finite."""
    found = _recognised(like, checkpoint)
    model = MaskedAutoencoder(like.config.model, like.config.decoder)
    fit(found, model, f"{checkpoint.path}: for {like.where}")
    if damaged := [name for name, value in found.state.items() if not value.isfinite().all()]:
        raise UserError(f"{checkpoint.path}: {found.what}, has numbers that are not finite in {damaged[0]}")
    workspace.log(found.what, always=True)
    save_encoder(found.state, workspace.result)
    (workspace.result / "history.csv").write_text("epoch,loss\n")  # nothing was trained here
    about = _origin(data, checkpoint, found, seed)
    workspace.write_meta(
        {**plain(like.config), "seed": seed}, **about, source_decoder=bool(split_state(found.state)[1])
    )


def _recognised(like: Like, checkpoint: Checkpoint) -> Recognised:
    found = recognise(checkpoint.state, str(checkpoint.path))
    if found.kind != like.kind:
        raise UserError(f"{checkpoint.path}: {found.what}, is a {found.kind}; {like.where} is a {like.kind}")
    return found


def _origin(data: LongTail, checkpoint: Checkpoint, found: Recognised, seed: int) -> dict[str, Any]:
    """What identity.json says of every import."""
    return {
        "seed": seed,
        "dataset": data.name,
        "dataset_digest": data.digest,
        "class_order": data.class_order,
        "class_names": list(data.class_names),
        "imported": True,
        "source": checkpoint.path.name,
        "source_sha256": checkpoint.digest,
        "source_weights": checkpoint.container,
        "source_layout": found.what,
    }


def _refusal(verdict: Verdict, given: np.ndarray | None, data: LongTail, path: Path) -> str:
    """Which order of classes would reconcile the outputs with the labels; a nameless one is written to `path`."""
    line = f"its outputs are in another order of classes: top-1 {verdict.as_is:.2f} %"
    if verdict.known is not None and given is None:
        return f"{line}, {verdict.known_top1:.2f} % by {verdict.known}; pass --class-map {verdict.known}"
    order = verdict.order if given is None else given[verdict.order]
    path.write_text(json.dumps(order.tolist()))
    return (
        f"{line}, {verdict.best:.2f} % by {moves(order, data)}; pass --class-map {path}, or as_is to take it as it is"
    )


def _claim(checkpoint: Checkpoint) -> str:
    return "" if checkpoint.claim is None else f" (the file records a best of {checkpoint.claim:.2f} %)"


@torch.no_grad()
def _student_logits(
    model: nn.Module, config: StudentConfig, images: np.ndarray, device: torch.device
) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        x = eval_batch(batch, config.model.image_size, config.train.eval_resize, config.views.normalization).to(device)
        for head, z in head_logits(model, special_tokens(model, x)).items():
            parts.setdefault(head, []).append(z.float().cpu())
    return {head: torch.cat(z) for head, z in parts.items()}


def _write(
    workspace: Workspace, like: Like, data: LongTail, state: dict, logits: dict, scale: float, epoch: int
) -> None:
    folder = workspace.result
    if like.kind == "teacher":
        for name in ("last", "best"):
            save_weights(state, folder / WEIGHTS[name], data)
    else:
        save_file({name: value.contiguous().cpu() for name, value in state.items()}, folder / "model.safetensors")
    (folder / "history.csv").write_text("epoch\n")  # nothing was trained here
    arrays: dict[str, Any] = {
        f"logits_{phase}_{head}": z.numpy() for phase in ("last", "best") for head, z in logits.items()
    }
    np.savez(
        folder / "predictions.npz",
        labels=data.test_labels.astype(np.int64),
        best_epoch=np.int64(epoch),
        last_epoch=np.int64(epoch),
        class_order=np.array(data.class_order),
        logit_scale=np.float64(scale),
        **arrays,
    )
