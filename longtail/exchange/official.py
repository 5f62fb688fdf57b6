"""Names of the official checkpoints, and ours: the same tensors, told apart by their names (METHODS 2.1, 2.6, 3.2).

    Saddle-LongTail, LDAM-DRW   CIFAR ResNet; head `linear`: NormedLinear [in, C] without bias, or Linear
    DeiT-LT's, PaCo's teachers  the same with head `fc`; PaCo: a MoCo object, encoder_q.* and the classifier `linear`
    Saddle-LongTail, PaCo       ResNet-50 with torchvision's names; head `fc`
    DeiT, DeiT-LT, timm         cls_token, dist_token, pos_embed, patch_embed.proj, blocks.*, norm, head, head_dist
    LiVT, MAE, fine-tuned       the same with fc_norm in place of norm: the head reads the mean of the patches
    LiVT, MAE, pretrained       the same without head; with the decoder: mask_token, decoder_*

Ours are `fc` in a CNN and timm's in a ViT. PaCo's key encoder, queue and projection serve its loss alone: dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base.errors import UserError
from longtail.models.mae import split_state

Kind = Literal["teacher", "student", "pretraining"]
State = dict[str, Tensor]

MOCO_ONLY = ("encoder_k.", "linear_k.", "encoder_q.fc.", "queue")  # beginnings of names; queue_l and queue_ptr too
HEADS = ("fc", "head", "head_dist")
RESNET_50 = "layer4.0.conv3.weight"  # a name that CIFAR ResNets do not have


@dataclass(frozen=True)
class Recognised:
    """A checkpoint under our names."""

    kind: Kind
    what: str  # e.g. "CIFAR ResNet-32, NormedLinear head, 10 classes"
    state: State


def recognise(state: State, where: str) -> Recognised:
    """Our names for the tensors of a checkpoint. Raises UserError where its names are of no layout known here."""
    if "cls_token" in state and "patch_embed.proj.weight" in state:
        return Recognised("student" if "head.weight" in state else "pretraining", _vit(state), state)
    moco = any(name.startswith("encoder_q.") for name in state)
    if moco:
        kept = {name: value for name, value in state.items() if not name.startswith(MOCO_ONLY)}
        state = {name.removeprefix("encoder_q."): value for name, value in kept.items()}
    state = {f"fc.{name[7:]}" if name.startswith("linear.") else name: value for name, value in state.items()}
    if "conv1.weight" not in state or "layer3.0.conv1.weight" not in state:
        first = ", ".join(list(state)[:3])
        raise UserError(
            f"{where}: no layout known here, its first names are {first}; known: CIFAR ResNet, ResNet-50, ViT"
        )
    return Recognised("teacher", _cnn(state) + (", from PaCo's query encoder" if moco else ""), state)


def _cnn(state: State) -> str:
    blocks = len({name.split(".")[1] for name in state if name.startswith("layer1.")})
    name = "ResNet-50 (torchvision's names)" if RESNET_50 in state else f"CIFAR ResNet-{6 * blocks + 2}"
    weight = state.get("fc.weight")
    if weight is None or weight.ndim != 2:
        return f"{name} without a head"
    head = "Linear" if "fc.bias" in state else "NormedLinear"
    return f"{name}, {head} head, {weight.shape[class_axis(state, 'fc')]} classes"


def _vit(state: State) -> str:
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    told = f"ViT, width {state['cls_token'].shape[-1]}, depth {depth}"
    if "head.weight" not in state:
        return f"{told}, without a head, {'with' if split_state(state)[1] else 'without'} a decoder"
    tokens = "CLS and DIST" if "dist_token" in state else "CLS" if "norm.weight" in state else "mean of the patches"
    return f"{told}, {tokens}, {state['head.weight'].shape[class_axis(state, 'head')]} classes"


def fit(found: Recognised, model: nn.Module, where: str) -> None:
    """Load the weights. Raises UserError, naming the first keys that are missing, unexpected or of another shape.

    Counts of batches that a BatchNorm has seen may be missing, as in files older than PyTorch 0.4.1: no evaluation uses
    them, and they are 0 then. So may the whole decoder of a masked autoencoder, which keeps its own then."""
    wanted, free = model.state_dict(), {}
    if found.kind == "pretraining" and not split_state(found.state)[1]:
        free = split_state(wanted)[1]
    free |= {name: torch.zeros_like(value) for name, value in wanted.items() if name.endswith("num_batches_tracked")}
    found = replace(found, state=free | found.state)
    problems = {
        "missing": [name for name in wanted if name not in found.state],
        "unexpected": [name for name in found.state if name not in wanted],
        "of another shape": [
            f"{name} {list(found.state[name].shape)}, needed {list(value.shape)}"
            for name, value in wanted.items()
            if name in found.state and found.state[name].shape != value.shape
        ],
    }
    told = [f"{what}: {_first(names)}" for what, names in problems.items() if names]
    if told:
        raise UserError(f"{where}: {found.what}, does not fit; {'; '.join(told)}")
    model.load_state_dict(found.state)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def class_axis(state: State, head: str) -> int:
    """Axis of the classes in a head's weight: 1 in a NormedLinear, [in, C] and without bias, else 0."""
    return 0 if f"{head}.bias" in state else 1


def reorder_classes(state: State, order: np.ndarray) -> State:
    """The same model with its outputs in another order: output i is what output order[i] was."""
    state, index = dict(state), torch.from_numpy(np.asarray(order, np.int64))
    for head in HEADS:
        if f"{head}.weight" in state:
            axis = class_axis(state, head)
            state[f"{head}.weight"] = state[f"{head}.weight"].index_select(axis, index)
        if f"{head}.bias" in state:
            state[f"{head}.bias"] = state[f"{head}.bias"][index]
    return state


def to_official(kind: Kind, state: State) -> State:
    """Our names to those of Saddle-LongTail and LDAM-DRW (CIFAR teachers: head `linear`); ResNet-50 and DeiT-LT's
    students have the same."""
    if kind == "student" or RESNET_50 in state:
        return dict(state)
    return {f"linear.{name[3:]}" if name.startswith("fc.") else name: value for name, value in state.items()}


def in_container(kind: Kind, state: State) -> dict[str, State]:
    """As the official training scripts save it: `state_dict` of a DataParallel model, or `model`."""
    if kind == "student":
        return {"model": state}
    return {"state_dict": {f"module.{name}": value for name, value in state.items()}}
