"""The teacher's label for every view a student will see, and the checks that the student's views are those.

`labels[epoch, position]` is the teacher's argmax (uint8, or uint16 above 256 classes), float32 teacher in eval mode,
TF32 off. Beside it stand the teacher's weights, the dataset, the view recipe, the seed, the class order, a checksum of
the uint8 pixels of every epoch and one of each array, so a student refuses labels made for other pixels and labels
altered since (METHODS 8). For soft distillation a cache can also keep each view's `top_k` classes and their log
probabilities in float16; the rest of the probability is spread evenly over the other classes (TINY).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base.errors import UserError
from longtail.base.params import later
from longtail.base.workers import in_order
from longtail.runs.workspace import Workspace
from longtail.training.labels import TeacherLabels, _sha256, views_hash
from longtail.training.teacher_config import Floor
from longtail.views.batch import Batch, teacher_input
from longtail.views.student_views import ViewRecipe, Views, combine


@dataclass(frozen=True)
class CacheConfig:
    """Labels of one teacher for the views of one recipe. Seed k uses the teacher's seed k, or its only seed."""

    study: str
    teacher: str  # entry of `teachers`, or of `experiments` where students teach
    teacher_kind: Literal["teachers", "students"]
    dataset: str
    views: str
    epochs: int  # at least those of every student that reads it
    top_k: int  # classes kept with their log probabilities; 0 = labels only, enough for hard distillation
    seeds: tuple[int, ...]
    must_reach: Floor | None = later(None)  # noqa: RUF009 (frozen); of the teacher, in the place of its own entry's

    def __post_init__(self) -> None:
        if self.must_reach and self.teacher_kind != "teachers":
            raise ValueError(f"must_reach is of an entry of teachers, found teacher_kind {self.teacher_kind}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, found {self.epochs}")
        if self.top_k < 0:
            raise ValueError(f"top_k must not be negative, found {self.top_k}")


def teacher_labels(teacher: nn.Module, x: Tensor, recipe: ViewRecipe) -> Tensor:
    """The teacher's argmax for what a batch shows it, int64 [B]; x: `Batch.shown`."""
    return teacher_logits(teacher, x, recipe).argmax(1)


@torch.no_grad()
def teacher_logits(teacher: nn.Module, x: Tensor, recipe: ViewRecipe) -> Tensor:
    """The teacher's raw output for what a batch shows it, float32 [B, C] in every precision.

    x: `Batch.shown`, float32 [B, 3, S, S]. Of the student's normalised, mixed views the teacher sees the strided slice,
    student normalisation included: that is what the published runs fed it (METHODS 3.3, traps 1 and 8). Weak views come
    at the teacher's size in its own normalisation (DeiT-LT Table 1).
    """
    with torch.autocast(x.device.type, enabled=False), _exact_float32():
        return teacher(teacher_input(x, recipe))


@contextmanager
def _exact_float32() -> Iterator[None]:
    """No TF32 and no choice of kernel by timing, so that a student's own teacher answers as the cache's did."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    matmul.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def build_cache(
    teacher: nn.Module,
    views: Views,
    labels: np.ndarray,
    epochs: int,
    facts: dict,
    workspace: Workspace,
    top_k: int = 0,
    logit_scale: float = 1.0,
    workers: int = 1,
) -> None:
    """Label every view of every epoch; writes labels.npy, with top_k also topk_{classes,logprob}.npy, and meta.json
    into workspace.result. Resumes by epoch; `workers` processes share the epochs and change no byte.

    labels: int64 [N], the dataset's true labels, for the teacher's accuracy on the views it is shown (against the
    dominant label where two images are mixed; DeiT-LT Table 1). logit_scale: of the teacher's output before softmax.
    """
    classes = facts["num_classes"]
    if top_k > classes:
        raise UserError(f"{facts['cache']}: top_k {top_k} of {classes} classes; at most {classes}")
    small, shape = np.uint8 if classes <= 256 else np.uint16, (epochs, views.positions_per_epoch)
    kinds = {"labels": (small, shape)}
    if top_k:
        kinds |= {"topk_classes": (small, (*shape, top_k)), "topk_logprob": (np.float16, (*shape, top_k))}
    saved = workspace.load() or {"checksums": [], "hits": 0}
    if not all((workspace.result / f"{name}.npy").is_file() for name in kinds):
        saved = {"checksums": [], "hits": 0}  # a checkpoint without what it tells of
    checksums, hits = saved["checksums"], saved["hits"]
    arrays = {
        name: np.lib.format.open_memmap(
            workspace.result / f"{name}.npy", mode="r+" if checksums else "w+", dtype=dtype, shape=size
        )
        for name, (dtype, size) in kinds.items()
    }
    label = partial(_label_epoch, teacher, views, labels, top_k, logit_scale)
    missing = range(len(checksums), epochs)
    for epoch, (rows, checksum, right) in zip(missing, in_order(label, missing, workers), strict=True):
        for name, row in rows.items():
            arrays[name][epoch] = row
        checksums.append(checksum)
        hits += right
        workspace.log(f"epoch {epoch + 1}/{epochs}")
        workspace.tick(partial(_state, arrays, checksums, hits))
    meta = {
        **facts,
        "epochs": epochs,
        "positions": views.positions_per_epoch,
        "top_k": top_k,
        "views_hash": views_hash(views.recipe),
        "precision": "fp32",
        "teacher_top1_on_views": round(100 * hits / arrays["labels"].size, 4),
        "pixel_checksums": checksums,
        "checksums": {name: _sha256(array) for name, array in arrays.items()},
    }
    for array in arrays.values():
        array.flush()
    (workspace.result / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")


def _state(arrays: dict[str, np.memmap], checksums: list[str], hits: int) -> dict:
    for array in arrays.values():
        array.flush()
    return {"checksums": checksums, "hits": hits}


def _label_epoch(teacher: nn.Module, views: Views, labels: np.ndarray, top_k: int, scale: float, epoch: int) -> tuple:
    """Rows of the arrays of one epoch, the checksum of its pixels, and how often the teacher names the true label."""
    seen: dict[str, list[Tensor]] = {}
    digests, hits = [], 0
    for batch, answers in _answers(teacher, views, top_k, scale, epoch):
        for name, answer in answers.items():
            seen.setdefault(name, []).append(answer)
        digests.append(batch.digest)
        dominant = np.where(batch.lam.numpy() >= 0.5, labels[batch.index], labels[batch.partner])
        hits += int((answers["labels"].numpy() == dominant).sum())
    return {name: torch.cat(parts).numpy() for name, parts in seen.items()}, combine(digests), hits


def _answers(
    teacher: nn.Module, views: Views, top_k: int, scale: float, epoch: int
) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
    """Every step of an epoch with the teacher's answers, on the CPU: labels int64 [n]; topk_classes int64 and
    topk_logprob float32 [n, top_k], most probable first."""
    device = next(teacher.parameters()).device
    for batch in views.steps(epoch, digest=True):
        logits = teacher_logits(teacher, batch.shown.to(device), views.recipe)
        answers = {"labels": logits.argmax(1).cpu()}
        if top_k:
            top = (scale * logits).log_softmax(1).topk(top_k)
            answers |= {"topk_classes": top.indices.cpu(), "topk_logprob": top.values.cpu()}
        yield batch, answers


def verify(cache: TeacherLabels, teacher: nn.Module, views: Views, epochs: int, workers: int = 1) -> str:
    """Make evenly spaced epochs again; one line that says how many have equal pixels and how many labels agree."""
    sampled = sorted(set(np.linspace(0, len(cache.table) - 1, epochs).round().astype(int).tolist()))
    truth = np.zeros(len(views.images), np.int64)  # only counts hits, which are not asked for here
    again = in_order(partial(_label_epoch, teacher, views, truth, 0, 1.0), sampled, workers)
    pixels, labels = 0, 0
    for epoch, (rows, checksum, _) in zip(sampled, again, strict=True):
        pixels += checksum == cache.meta["pixel_checksums"][epoch]
        labels += int((rows["labels"] == cache.table[epoch]).sum())
    total = len(sampled) * cache.table.shape[1]
    return (
        f"{len(sampled)} of {len(cache.table)} epochs made again:"
        f" pixels equal in {pixels} of {len(sampled)} ({_percent(pixels, len(sampled))}),"
        f" labels equal in {labels} of {total} ({_percent(labels, total)})"
    )


def _percent(part: int, whole: int) -> str:
    """Cut, not rounded: 100 % means all."""
    return f"{10_000 * part // whole / 100:g} %"
