"""The teacher's label for every view a student will see, and the checks that the student's views are those.

`labels[epoch, position]` is the teacher's argmax (uint8, or uint16 above 256 classes), float32 teacher in eval mode,
TF32 off. Beside it stand the teacher's weights, the dataset, the view recipe, the seed, the class order and a checksum
of the uint8 pixels of every epoch, so a student refuses labels made for other pixels (METHODS 8).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from longtail.data import LongTail, check_class_order, check_labels
from longtail.errors import UserError
from longtail.params import digest
from longtail.views import ViewRecipe, Views, combine, teacher_view
from longtail.workspace import Workspace


@dataclass(frozen=True)
class CacheConfig:
    """Labels of one teacher for the views of one recipe. Seed k uses the teacher's seed k, or its only seed."""

    study: str
    teacher: str
    dataset: str
    views: str
    epochs: int  # at least those of every student that reads it
    seeds: tuple[int, ...]


def seed_folder(folder: Path, seed: int) -> Path:
    """<folder>/seed<k> that serves `seed`: its own, or the only one. Raises UserError where there is neither."""
    available = sorted(path for path in folder.glob("seed*") if path.is_dir())
    if (wanted := folder / f"seed{seed}") in available:
        return wanted
    if len(available) == 1:
        return available[0]
    found = ", ".join(path.name for path in available) or "no seed"
    raise UserError(f"{folder}: holds {found}, seed {seed} is asked for; add it there, or keep a single seed for all")


@torch.no_grad()
def teacher_labels(teacher: nn.Module, x: Tensor, recipe: ViewRecipe) -> Tensor:
    """The teacher's argmax for the student's normalised, mixed views, int64 [B]; float32 in every precision.

    x: float32 [B, 3, S, S]. The teacher sees the strided slice of the student's tensor, student normalisation included:
    that is what the published runs fed it (METHODS 3.3, traps 1 and 8).
    """
    with torch.autocast(x.device.type, enabled=False), _exact_float32():
        return teacher(teacher_view(x, recipe.teacher_stride, recipe.teacher_offset).contiguous()).argmax(1)


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


def views_hash(recipe: ViewRecipe) -> str:
    """Identity of a view stream apart from seed and images."""
    return digest(recipe)


def build_cache(teacher: nn.Module, views: Views, labels: np.ndarray, epochs: int, facts: dict, workspace: Workspace):
    """Label every view of every epoch; writes labels.npy and meta.json into workspace.result. Resumes by epoch.

    labels: int64 [N], the dataset's true labels, for the teacher's accuracy on the views it is shown (against the
    dominant label where two images are mixed; DeiT-LT Table 1).
    """
    device = next(teacher.parameters()).device
    classes = facts["num_classes"]
    table = np.zeros((epochs, views.positions_per_epoch), np.uint8 if classes <= 256 else np.uint16)
    checksums: list[str] = []
    hits = 0
    if saved := workspace.load():
        table[: len(saved["checksums"])] = saved["table"]
        checksums, hits = saved["checksums"], saved["hits"]
    for epoch in range(len(checksums), epochs):
        digests = []
        for step in range(views.steps_per_epoch):
            batch = views.step(epoch, step, digest=True)
            digests.append(batch.digest)
            answer = teacher_labels(teacher, batch.x.to(device), views.recipe).cpu().numpy()
            table[epoch, batch.positions.numpy()] = answer
            dominant = np.where(batch.lam.numpy() >= 0.5, labels[batch.index], labels[batch.partner])
            hits += int((answer == dominant).sum())
        checksums.append(combine(digests))
        workspace.log(f"epoch {epoch + 1}/{epochs}")
        state = {"table": table[: len(checksums)], "checksums": checksums, "hits": hits}
        workspace.tick(lambda state=state: state)
    np.save(workspace.result / "labels.npy", table)
    meta = {
        **facts,
        "epochs": epochs,
        "positions": views.positions_per_epoch,
        "views_hash": views_hash(views.recipe),
        "precision": "fp32",
        "teacher_top1_on_views": round(100 * hits / table.size, 4),
        "pixel_checksums": checksums,
    }
    (workspace.result / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True)
class TeacherLabels:
    """A cache of one seed, read and checked."""

    table: np.ndarray  # uint8 or uint16 [epochs, positions]
    meta: dict

    def at(self, epoch: int, positions: Tensor) -> Tensor:
        """The teacher's labels of these views, int64 [n]."""
        return torch.from_numpy(self.table[epoch, positions.numpy()].astype(np.int64))

    @classmethod
    def load(cls, folder: Path) -> TeacherLabels:
        """Read <cache>/seed<k>. Raises UserError where it is missing, cut short or altered."""
        try:
            meta = json.loads((folder / "meta.json").read_text())
            table = np.load(folder / "labels.npy")
        except FileNotFoundError as error:
            raise UserError(f"{error.filename}: missing; make the cache with stages/cache_logits.py") from None
        except Exception as error:  # a damaged file makes NumPy raise many kinds
            raise UserError(f"{folder}: cache cut short or unreadable ({error}); make it again") from None
        if table.shape != (meta["epochs"], meta["positions"]):
            raise UserError(
                f"{folder}: labels are {table.shape}, meta.json says {meta['epochs']} x {meta['positions']}"
            )
        check_labels(table, meta["num_classes"], f"{folder}/labels.npy")
        return cls(table, meta)

    def check(self, views: Views, data: LongTail, seed: int, epochs: int, where: str, sample: int = 2) -> None:
        """Refuse labels made for another dataset, recipe, seed, class order, or for other pixels in sampled epochs."""
        check_class_order(data, self.meta["class_order"], self.meta["class_names"], where)
        wanted = {
            "dataset": (data.name, "dataset"),
            "dataset_digest": (data.digest, "dataset content"),
            "views_hash": (views_hash(views.recipe), "view recipe"),
            "seed": (seed, "seed"),
        }
        for key, (value, name) in wanted.items():
            if self.meta[key] != value:
                raise UserError(
                    f"{where}: made for {name} {self.meta[key]}, this run has {value}; make the cache again"
                )
        if self.meta["epochs"] < epochs:
            raise UserError(
                f"{where}: holds {self.meta['epochs']} epochs, the run needs {epochs}; raise caches.*.epochs"
            )
        for epoch in sorted({0, epochs - 1} if sample >= 2 else {0}):
            if views.checksum(epoch) != self.meta["pixel_checksums"][epoch]:
                raise UserError(
                    f"{where}: pixels of epoch {epoch} differ from those the teacher labelled"
                    f" (Pillow or code of another version?); make the cache again"
                )


def verify(cache: TeacherLabels, teacher: nn.Module, views: Views, epochs: int) -> str:
    """Make evenly spaced epochs again; one line that says how many have equal pixels and how many labels agree."""
    device = next(teacher.parameters()).device
    sampled = sorted(set(np.linspace(0, len(cache.table) - 1, epochs).round().astype(int).tolist()))
    same_pixels = same_labels = total = 0
    for epoch in sampled:
        digests = []
        for step in range(views.steps_per_epoch):
            batch = views.step(epoch, step, digest=True)
            digests.append(batch.digest)
            labels = teacher_labels(teacher, batch.x.to(device), views.recipe).cpu()
            same_labels += int((labels == cache.at(epoch, batch.positions)).sum())
            total += len(labels)
        same_pixels += combine(digests) == cache.meta["pixel_checksums"][epoch]
    return (
        f"epochs {sampled}: pixels equal in {same_pixels} of {len(sampled)}, labels equal in {same_labels} of {total}"
    )
