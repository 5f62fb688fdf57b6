"""A CNN teacher: its configuration, its model, its loss, and loading a trained one (METHODS §2)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longtail import losses, params
from longtail.data import LongTail, check_class_order
from longtail.errors import UserError, nearest
from longtail.files import file_digest
from longtail.normalize import NORMALIZATION
from longtail.resnet import CifarResNet, cifar_resnet

WEIGHTS = {"last": "model.safetensors", "best": "model_best.safetensors"}


@dataclass(frozen=True)
class TeacherConfig:
    """One entry of params.yaml's `teachers` (CIFAR values: METHODS §2.3, §2.4)."""

    study: str
    dataset: str  # entry of `datasets`
    depth: int  # ResNet depth, 6n+2
    loss: Literal["ce", "ldam", "balanced_softmax"]
    max_margin: float | None  # LDAM only: .5 CIFAR, .3 ImageNet-LT and iNat
    scale: float | None  # LDAM only: 30; inside the loss, the model exports raw cosines
    drw_epoch: int | None  # 0-based epoch from which class weights act; null = never
    drw_beta: float | None  # .9999
    epochs: int
    batch_size: int  # images; the last batch of an epoch may be smaller
    lr: float
    momentum: float
    weight_decay: float  # on all parameters
    warmup_epochs: int
    milestones: tuple[int, ...]  # the lr is lr·factors[i] once epoch + 1 > milestones[i]
    factors: tuple[float, ...]  # of the base lr, not of one another
    sam_rho: float | None  # radius of SAM's ascent; null = plain SGD
    crop_padding: int  # zero pixels on each side before the random crop
    hflip: float  # probability
    normalization: str  # name in longtail.normalize.NORMALIZATION
    select: Literal["last", "best"]  # weights used as the teacher; published: best (on the test set)
    eval_every: int  # epochs between evaluations on the test set; published: 1; the last epoch is always evaluated
    seeds: tuple[int, ...] = ()  # of the entry; a result is of one seed and its config.yaml names none

    def __post_init__(self) -> None:
        if self.depth < 8 or (self.depth - 2) % 6:
            raise ValueError(f"depth: {self.depth} is no CIFAR ResNet; valid depths are 6n+2: 8, 14, 20, 26, 32")
        if len(self.milestones) != len(self.factors):
            raise ValueError(f"{len(self.milestones)} milestones but {len(self.factors)} factors; give one factor each")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones: {list(self.milestones)} must rise")
        if self.loss == "ldam" and not (self.max_margin and self.scale):
            raise ValueError("loss ldam needs max_margin and scale above 0 (0.5 and 30 on CIFAR)")
        if self.loss != "ldam" and (self.max_margin is not None or self.scale is not None):
            raise ValueError(f"max_margin and scale belong to loss ldam; with {self.loss} write null")
        if (self.drw_epoch is None) != (self.drw_beta is None):
            raise ValueError("drw_epoch and drw_beta go together: give both, or null for both")
        if self.drw_beta is not None and not 0 <= self.drw_beta < 1:
            raise ValueError(f"drw_beta: {self.drw_beta} is not in [0, 1)")
        if self.sam_rho is not None and self.sam_rho <= 0:
            raise ValueError(f"sam_rho: {self.sam_rho} is not above 0; write null for plain SGD")
        if min(self.epochs, self.batch_size, self.eval_every) < 1 or min(self.warmup_epochs, self.crop_padding) < 0:
            raise ValueError("at least 1: epochs, batch_size, eval_every; at least 0: warmup_epochs, crop_padding")
        if not 0 <= self.hflip <= 1:
            raise ValueError(f"hflip: {self.hflip} is not a probability")
        if self.normalization not in NORMALIZATION:
            raise ValueError(f"normalization: '{self.normalization}'{nearest(self.normalization, NORMALIZATION)}")

    @property
    def logit_scale(self) -> float:
        """What exported logits must be multiplied by before any softmax: 30 for LDAM's cosines, else 1."""
        return self.scale if self.loss == "ldam" else 1.0


def recipe(config: TeacherConfig) -> dict[str, Any]:
    """What makes a run of one seed: the entry without its list of seeds, so that adding a seed changes no other."""
    return {key: value for key, value in params.plain(config).items() if key != "seeds"}


def build_model(config: TeacherConfig, classes: int) -> CifarResNet:
    """The untrained network, initialised from torch's global generator."""
    return cifar_resnet(config.depth, classes, "normed" if config.loss == "ldam" else "linear")


def build_loss(
    config: TeacherConfig, class_counts: Sequence[int], device: torch.device
) -> Callable[[Tensor, Tensor, int], Tensor]:
    """loss(logits [B, C], labels [B], 0-based epoch): scalar in float32, class weights from drw_epoch on."""
    counts = torch.as_tensor(class_counts).to(device)
    even = losses.drw_weights(class_counts, 0.0).to(device)
    drw = even if config.drw_beta is None else losses.drw_weights(class_counts, config.drw_beta).to(device)
    margins = losses.ldam_margins(class_counts, config.max_margin or 0.0).to(device)

    def loss(logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        weight = drw if config.drw_epoch is not None and epoch >= config.drw_epoch else even
        logits = logits.float()
        if config.loss == "ldam":
            return losses.ldam_loss(logits, labels, margins, config.scale, weight)
        if config.loss == "balanced_softmax":
            return losses.balanced_softmax_loss(logits, labels, counts, weight)
        return losses.cross_entropy(logits, labels, weight)

    return loss


def save_weights(state: dict[str, Tensor], path: Path, data: LongTail) -> None:
    """Weights with the dataset's name and class order in the file's own header, so that they cannot come apart."""
    about = {"dataset": data.name, "class_order": data.class_order, "class_names": list(data.class_names)}
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(state, path, {"longtail": json.dumps(about)})  # one key: several would come in no fixed order


def load_teacher(
    folder: str | Path, data: LongTail, device: torch.device | str = "cpu"
) -> tuple[CifarResNet, TeacherConfig]:
    """The teacher in one seed's result folder, in eval mode, float32, channels_last, without gradients.

    Uses the last or the best weights as its `select` says. Raises UserError where a file is missing or cut short, or
    where the teacher was trained on another dataset entry or another class order than `data`.
    """
    folder = Path(folder)
    config = _read_config(folder / "config.yaml")
    path = folder / WEIGHTS[config.select]
    about, state = _read_weights(path)
    if about["dataset"] != data.name:
        raise UserError(f"{path}: teacher trained on dataset '{about['dataset']}', asked to label '{data.name}'")
    check_class_order(data, about["class_order"], about["class_names"], f"{path}: teacher")
    model = build_model(config, data.num_classes)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path}: weights do not fit its config.yaml: {str(error).splitlines()[-1].strip()}") from None
    return model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False), config


def teacher_digest(folder: Path) -> str:
    """sha256 (hex) of the weights that `load_teacher` would use."""
    return file_digest(folder / WEIGHTS[_read_config(folder / "config.yaml").select])


def _read_config(path: Path) -> TeacherConfig:
    if not path.is_file():
        raise UserError(f"{path}: no such file; train the teacher first (stages/train_teacher.py)")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return params.build(TeacherConfig, values, str(path))


def _read_weights(path: Path) -> tuple[dict, dict[str, Tensor]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; train the teacher first (stages/train_teacher.py)")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["longtail"])
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise UserError(f"{path}: damaged or cut short ({error}); train the teacher again") from None
    except (KeyError, ValueError):
        raise UserError(f"{path}: does not say which dataset and class order it was trained on") from None
