"""The teacher's labels of one seed's views, read and checked against the run that uses them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtail.base import intact
from longtail.base.errors import UserError
from longtail.base.files import file_digest
from longtail.base.params import digest
from longtail.data.long_tail import LongTail, check_class_order, check_labels
from longtail.views.student_views import ViewRecipe, Views

TEACHER = "teacher_digest"  # in meta.json and in a student's identity.json: sha256 of the weights that labelled


def seed_folder(folder: Path, seed: int) -> Path:
    """<folder>/seed<k> that serves `seed`: its own, or the only one. Raises UserError where there is neither."""
    available = sorted(path for path in folder.glob("seed*") if path.is_dir())
    if (wanted := folder / f"seed{seed}") in available:
        return wanted
    if len(available) == 1:
        return available[0]
    found = ", ".join(path.name for path in available) or "no seed"
    raise UserError(f"{folder}: holds {found}, seed {seed} is asked for; add it there, or keep a single seed for all")


def labels_digest(folder: Path) -> str:
    """sha256 (hex) of the labels of <cache>/seed<k>. Raises UserError where they are damaged, and sets them aside."""
    intact.check(folder)
    return file_digest(folder / "labels.npy")


def labelled_by(folder: Path) -> dict[str, str]:
    """The teacher of <cache>/seed<k>, as its student's identity.json names it; nothing where that cannot be read."""
    try:
        return {TEACHER: json.loads((folder / "meta.json").read_text())[TEACHER]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # TeacherLabels.load says what is wrong


def views_hash(recipe: ViewRecipe) -> str:
    """Identity of a view stream apart from seed and images."""
    return digest(recipe)


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


@dataclass(frozen=True)
class TeacherLabels:
    """A cache of one seed, read and checked."""

    table: np.ndarray  # uint8 or uint16 [epochs, positions]
    meta: dict
    topk: dict[str, np.ndarray] = field(default_factory=dict)  # classes, logprob (float16): [epochs, positions, top_k]

    def at(self, epoch: int, positions: Tensor) -> Tensor:
        """The teacher's labels of these views, int64 [n]."""
        return torch.from_numpy(self.table[epoch, positions.numpy()].astype(np.int64))

    def probabilities(self, epoch: int, positions: Tensor) -> Tensor:
        """The teacher's softmax of these views, float32 [n, C], rows sum to 1: the classes that were kept as they were
        (to float16), what is left shared evenly by the others. Raises UserError where only labels were kept."""
        if not self.topk:
            raise UserError(
                f"cache {self.meta['cache']} holds labels only; set caches.{self.meta['cache']}.top_k and make it again"
            )
        classes = torch.from_numpy(self.topk["topk_classes"][epoch, positions.numpy()].astype(np.int64))
        kept = torch.from_numpy(self.topk["topk_logprob"][epoch, positions.numpy()].astype(np.float32)).exp()
        number, others = self.meta["num_classes"], self.meta["num_classes"] - kept.shape[1]
        total = kept.sum(1, keepdim=True)
        if others == 0:
            return torch.zeros(len(kept), number).scatter_(1, classes, kept / total)
        rest = (1 - total).clamp(min=0)
        return (rest / others).repeat(1, number).scatter_(1, classes, kept) / (total + rest)

    @classmethod
    def load(cls, folder: Path) -> TeacherLabels:
        """Read <cache>/seed<k>. Raises UserError where it is missing, cut short or altered."""
        intact.check(folder)
        try:
            meta = json.loads((folder / "meta.json").read_text())
            arrays = {name: np.load(folder / f"{name}.npy") for name in meta["checksums"]}
        except FileNotFoundError as error:
            raise UserError(f"{error.filename}: missing; make the cache with stages/cache_logits.py") from None
        except Exception as error:  # a damaged file makes NumPy raise many kinds
            raise intact.damaged(folder, f"cache cut short or unreadable ({error})") from None
        table = arrays.pop("labels")
        if table.shape != (meta["epochs"], meta["positions"]):
            raise UserError(
                f"{folder}: labels are {table.shape}, meta.json says {meta['epochs']} x {meta['positions']}"
            )
        check_labels(table, meta["num_classes"], f"{folder}/labels.npy")
        for name, array in {"labels": table, **arrays}.items():
            if _sha256(array) != meta["checksums"][name]:
                raise intact.damaged(folder, f"{name}.npy: altered since it was made")
        return cls(table, meta, arrays)

    def check(self, views: Views, data: LongTail, seed: int, epochs: int, where: str, sample: int = 2) -> None:
        """Refuse labels made for another dataset, recipe, seed, class order, or for other pixels in `sample` epochs
        of these: the first and the last."""
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
        for epoch in sorted({0, epochs - 1})[:sample]:
            if views.checksum(epoch) != self.meta["pixel_checksums"][epoch]:
                raise UserError(
                    f"{where}: pixels of epoch {epoch} differ from those the teacher labelled"
                    f" (Pillow or code of another version?); make the cache again"
                )
