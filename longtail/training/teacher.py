"""A CNN teacher: its model, its loss, loading a trained one, its logits on the test set (METHODS §2).

Logits of a teacher on the test set: small images as they are, large ones resized and cropped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from longtail.base import intact, params, yaml_file
from longtail.base.device import upload
from longtail.base.errors import UserError
from longtail.base.files import file_digest
from longtail.data.long_tail import LongTail, check_class_order
from longtail.losses import losses
from longtail.losses.cbd import FeatureDistillation
from longtail.losses.ride import class_temperatures
from longtail.models.build import CnnParts, build_cnn
from longtail.models.combined import width_of
from longtail.training.experts_config import check_router
from longtail.training.labels import seed_folder
from longtail.training.teacher_config import TeacherConfig, check_floor
from longtail.training.validation import VALIDATION
from longtail.views.eval_views import EvalViews
from longtail.views.normalize import constants, normalize

WEIGHTS = {"last": "model.safetensors", "best": "model_best.safetensors", VALIDATION: "model_validation.safetensors"}


def recipe(config: TeacherConfig) -> dict[str, Any]:
    """What makes a run of one seed: the entry without its list of seeds, so that adding a seed changes no other."""
    return {key: value for key, value in params.plain(config).items() if key != "seeds"}


def build_model(config: TeacherConfig, classes: int) -> nn.Module:
    """The untrained network, initialised from torch's global generator. Raises UserError where a router is to see more
    logits than there are classes."""
    check_router(config, classes)
    return build_cnn(config.parts, classes)


def reweighted(config: TeacherConfig, epoch: int) -> bool:
    """Whether the classes have weights in a 0-based epoch (DRW)."""
    return config.drw_epoch is not None and epoch >= config.drw_epoch


def diversity_reweighted(config: TeacherConfig, epoch: int) -> bool:
    """Whether the diversity of experts has a temperature for each class in a 0-based epoch (RIDE)."""
    first = config.diversity.reweight_epoch if config.diversity is not None else None
    return first is not None and epoch >= first


def diversity_temperatures(config: TeacherConfig, class_counts: Sequence[int], epoch: int) -> Tensor:
    """float32 [C] in a 0-based epoch, of an entry with `diversity`."""
    reweight = config.diversity.reweight if diversity_reweighted(config, epoch) else 0.0
    return class_temperatures(class_counts, reweight)


def class_weights(config: TeacherConfig, class_counts: Sequence[int], epoch: int) -> Tensor:
    """float32 [C] in a 0-based epoch, scaled to sum C: all ones before DRW."""
    return losses.drw_weights(class_counts, config.drw_beta if reweighted(config, epoch) else 0.0)


def build_loss(
    config: TeacherConfig, class_counts: Sequence[int], device: torch.device, head: int = 0
) -> Callable[[Tensor, Tensor, int], Tensor]:
    """loss(logits [B, C], labels [B], 0-based epoch): scalar in float32, class weights from drw_epoch on.

    Of every loss that logits and labels suffice for; PaCo's is in longtail.models.paco, what a distillation adds in
    longtail.losses.dive and cbd. Cosines are multiplied by the entry's scale. head: number of the author rule's head
    classes, for head_smoothing."""
    counts = torch.as_tensor(class_counts).to(device)
    even, drw = (class_weights(config, class_counts, epoch).to(device) for epoch in (-1, config.drw_epoch or 0))
    margins = losses.ldam_margins(class_counts, config.max_margin or 0.0).to(device)

    def loss(logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        weight = drw if reweighted(config, epoch) else even
        logits = logits.float()
        if config.loss == "ldam":
            return losses.ldam_loss(logits, labels, margins, config.scale, weight)
        logits = logits if config.scale is None else config.scale * logits
        if config.loss == "balanced_softmax":
            return losses.balanced_softmax_loss(logits, labels, counts, weight)
        if config.loss == "focal":
            return losses.focal_loss(logits, labels, config.focal_gamma, weight)
        if config.head_smoothing:
            return losses.head_smoothed_cross_entropy(logits, labels, config.head_smoothing, head)
        return losses.cross_entropy(logits, labels, weight)

    return loss


def save_weights(state: dict[str, Tensor], path: Path, data: LongTail) -> None:
    """Weights with the dataset's name and class order in the file's own header, so that they cannot come apart."""
    about = {"dataset": data.name, "class_order": data.class_order, "class_names": list(data.class_names)}
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(state, path, {"longtail": json.dumps(about)})  # one key: several would come in no fixed order


def load_teacher(
    folder: str | Path,
    data: LongTail,
    device: torch.device | str = "cpu",
    trained_on: str | None = None,
    any_order: bool = False,
) -> tuple[nn.Module, TeacherConfig]:
    """The teacher in one seed's result folder, in eval mode, float32, channels_last, without gradients.

    Uses the weights of the epoch that its `select` names. Raises UserError where a file is missing or cut short, or
    where the teacher was trained on another dataset entry than `trained_on` (None: that of `data`) or in another class
    order than `data`, unless its classes are not asked for (any_order).
    """
    folder = Path(folder)
    config = _read_config(folder / "config.yaml")
    path = folder / WEIGHTS[config.select]
    intact.check(folder, path.name)
    about, state = _read_weights(path)
    if about["dataset"] != (trained_on or data.name):
        expected = "" if trained_on is None else f"; the entry says that it was trained on '{trained_on}'"
        raise UserError(
            f"{path}: teacher trained on dataset '{about['dataset']}', asked to label '{data.name}'{expected}"
        )
    if not any_order:
        check_class_order(data, about["class_order"], about["class_names"], f"{path}: teacher")
    model = build_model(config, len(about["class_names"]) if any_order else data.num_classes)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path}: weights do not fit its config.yaml: {str(error).splitlines()[-1].strip()}") from None
    return model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False), config


@dataclass(frozen=True)
class Source:
    """One seed of a teacher that another one learns from."""

    network: nn.Module  # in eval mode, float32, channels_last, without gradients; `features` gives what `fc` is fed
    logit_scale: float  # of its output before any softmax
    digest: str  # sha256 (hex) of the weights in use


def load_sources(
    config: TeacherConfig, folders: Sequence[Path], data: LongTail, seed: int, device: torch.device | str
) -> tuple[Source, ...]:
    """Who teaches seed k: of each folder of stages/train_teacher.py its seed k, or its only one.

    Raises UserError as `load_teacher` does, where a teacher is below its floor, where it was trained on images of
    another size or normalisation, as both networks are shown one view, and where the teachers' features do not have the
    width that the entry's own are held against.
    """
    found = tuple(_load_source(config, seed_folder(folder, seed), data, device) for folder in folders)
    if isinstance(config.distil, FeatureDistillation) and config.distil.beta is not None:
        _check_widths(config, [path.name for path in folders], [width_of(source.network) for source in found], data)
    return found


def _check_widths(config: TeacherConfig, names: Sequence[str], widths: Sequence[int], data: LongTail) -> None:
    with torch.device("meta"):
        own = width_of(build_model(replace(config, init="own", zero_gamma=False), data.num_classes))
    if own == sum(widths):
        return
    told = ", ".join(f"{name} {width}" for name, width in zip(names, widths, strict=True))
    has = f"projection is {own}" if config.projection else f"without projection the entry has {own}"
    raise UserError(f"features of {told}, {sum(widths)} joined, but {has}; write projection: {sum(widths)}")


def _load_source(config: TeacherConfig, folder: Path, data: LongTail, device: torch.device | str) -> Source:
    fresh = config.start is not None and config.start.classifier != "kept"
    network, found = load_teacher(folder, data, device, config.source_dataset, any_order=fresh)
    check_floor(folder, found.must_reach, found.select)
    mine, theirs = (_shown_size(of, data) for of in (config, found))
    if mine != theirs:
        sizes = (f"{size} px" if size else "images as they are" for size in (theirs, mine))
        raise UserError("{}: was trained on views of {}, would be shown {}; both see one view".format(folder, *sizes))
    if config.start is not None and found.parts.scaled:
        raise UserError(f"{folder}: its logits have learnt scales (train: scales); start from an entry without them")
    if config.start is not None and found.router is not None:
        raise UserError(f"{folder}: it has a router (train: router); start from the entry that it was trained on")
    if config.start is not None and (said := _unlike(found.parts, config.parts, fresh)):
        raise UserError(f"{folder}: has {said[0]}, the entry that starts from it {said[1]}; write the same")
    if found.normalization != config.normalization:
        raise UserError(
            f"{folder}: was trained with normalization {found.normalization}, would be shown images by "
            f"{config.normalization}; both see one view"
        )
    return Source(network, found.logit_scale, teacher_digest(folder))


def _shown_size(config: TeacherConfig, data: LongTail) -> int | None:
    """Side of a view, pixels; None where that is the images' own, which is not known before one is read."""
    if config.views is not None:
        return config.views.size
    return data.train_images.shape[1] if isinstance(data.train_images, np.ndarray) else None


def _unlike(found: CnnParts, own: CnnParts, fresh: bool) -> tuple[str, str] | None:
    """Why weights of one network do not fit in the other; None where they do. fresh: the classifier stays behind."""
    for name in ("arch", "projection", "experts", *(() if fresh else ("head",))):
        its, mine = getattr(found, name), getattr(own, name)
        if its != mine:
            return f"{name} {its}", f"{name} {mine}"
    return None


def teacher_digest(folder: Path) -> str:
    """sha256 (hex) of the weights that `load_teacher` would use. Raises UserError where they are damaged."""
    intact.check(folder)
    return file_digest(folder / WEIGHTS[_read_config(folder / "config.yaml").select])


def _read_config(path: Path) -> TeacherConfig:
    values = yaml_file.read(path, "train the teacher first (stages/train_teacher.py)")
    return params.build(TeacherConfig, values, str(path))


def _read_weights(path: Path) -> tuple[dict, dict[str, Tensor]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; train the teacher first (stages/train_teacher.py)")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["longtail"])
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise intact.damaged(path.parent, f"{path.name}: damaged or cut short ({error})") from None
    except (KeyError, ValueError):
        raise UserError(f"{path}: does not say which dataset and class order it was trained on") from None


@torch.no_grad()
def features(network: nn.Module, shown: TestSet) -> Tensor:
    """What `fc` is fed, float32 [M, d] on the device, of a TestSet's images in eval mode."""
    network.eval()
    parts = [network.features(normalize(batch, shown.mean, shown.std)) for batch in shown.batches()]
    return torch.cat(parts)


SMALL_BATCH, LARGE_BATCH = 500, 128  # images


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Tensor], mean: Tensor, std: Tensor) -> Tensor:
    """Logits float32 [M, C] of batches uint8 [n, 3, H, W] on the model's device, in eval mode and float32."""
    model.eval()
    return torch.cat([model(normalize(batch, mean, std)) for batch in batches])


def test_batch(config: TeacherConfig) -> int:
    """Images that TestSet shows at a time."""
    return SMALL_BATCH if config.views is None else LARGE_BATCH


test_batch.__test__ = False  # no test of pytest's


class TestSet:
    """A dataset's test images as an entry's teacher sees them (METHODS §2.3, §2.4)."""

    __test__ = False  # no test of pytest's

    def __init__(self, config: TeacherConfig, data: LongTail, device: torch.device) -> None:
        """Raises UserError where the images are files and the entry has no views."""
        images, self.device = data.test_images, device
        self.mean, self.std = constants(config.normalization, device)
        if config.views is not None:
            antialias = config.views.antialias
            self.images = EvalViews(images, config.views.size, config.eval_resize, bilinear=True, antialias=antialias)
        elif isinstance(images, np.ndarray):
            self.images = torch.from_numpy(images).to(device)
        else:
            raise UserError(f"dataset {data.name}: its images are files; a teacher of them needs the block `views`")

    def logits(self, model: nn.Module) -> Tensor:
        """float32 [M, C] on the device; the model is left in eval mode."""
        return evaluate(model, self.batches(), self.mean, self.std)

    def batches(self) -> Iterator[Tensor]:
        """uint8 [n, 3, H, W] on the device, in order."""
        if isinstance(self.images, Tensor):
            return (part.permute(0, 3, 1, 2) for part in self.images.split(SMALL_BATCH))
        parts = self.images.batches(LARGE_BATCH)
        return (upload(part.numpy(), self.device).contiguous(memory_format=torch.channels_last) for part in parts)
