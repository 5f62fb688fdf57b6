"""What every CNN teacher's task has, and the plainest one: a loss on the logits of the views of an epoch's order.

A task holds the network and the images. `batch` makes what a step is given, once a step; `forward` is what SAM does
twice, a function of those tensors that a CUDA graph can hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base import rng
from longtail.base.device import upload
from longtail.base.errors import UserError
from longtail.runs.execution import Execution
from longtail.runs.parallel import ALONE, Team
from longtail.training.shared_batch import whole
from longtail.training.teacher import build_loss, build_model
from longtail.training.teacher_config import TeacherConfig
from longtail.views.epoch import balanced_copies, class_balanced
from longtail.views.normalize import constants, normalize
from longtail.views.teacher_views import LargeViews, WeakViews

if TYPE_CHECKING:
    from longtail.data.long_tail import LongTail


def supervised_views(
    config: TeacherConfig, data: LongTail, seed: int, device: torch.device | str
) -> LargeViews | WeakViews:
    """The views that the entry's network classifies; of PaCo's two on large images, the query. Raises UserError where
    there are none of images in files."""
    if config.views is not None:
        recipes = {"teacher_view": config.views}
        return LargeViews(recipes, data.train_images, config.key(seed), device)
    return WeakViews(in_memory(data), config.key(seed), config.crop_padding, config.hflip, device)


def in_memory(data: LongTail) -> np.ndarray:
    """Training images uint8 [N, H, W, 3]. Raises UserError where they are files."""
    if not isinstance(data.train_images, np.ndarray):
        raise UserError(f"dataset {data.name}: its images are files; a teacher of them needs the block `views`")
    return data.train_images


class Task(Protocol):
    """model: the network that is evaluated and saved; network: that and what is trained or kept beside it; weights: all
    that is trained, in a fixed order.

    In a team a batch has the labels of all images of the step and the views of this process's own; logits and loss are
    of all images, in each process.
    """

    model: nn.Module
    network: nn.Module
    weights: list[nn.Parameter]

    def train(self) -> None: ...  # to training mode

    def batch(self, epoch: int, rows: slice) -> tuple[Tensor, ...]: ...  # of a step: labels int64 [B] and the rest

    def forward(self, epoch: int, *batch: Tensor) -> tuple[Tensor, Tensor]: ...  # logits [B, C], loss (float32)

    def state(self) -> dict[str, dict[str, Tensor]]: ...  # for a checkpoint

    def restore(self, saved: dict[str, dict[str, Tensor]]) -> None: ...


class Order:
    """The images of an epoch in the order that they are shown, with copies where the sampler balances classes; the last
    epoch's is kept. Raises UserError where a class that is to be shown as often as the others has no image."""

    def __init__(self, config: TeacherConfig, data: LongTail, seed: int, device: torch.device) -> None:
        self.images, self.seed, self.device = len(data.train_labels), config.key(seed), device
        self.shown = self.images - self.images % config.batch_size if config.drop_last else self.images
        self.sampler, self.labels = config.sampler, data.train_labels
        empty = np.flatnonzero(np.bincount(data.train_labels, minlength=data.num_classes) == 0)
        if self.sampler != "shuffle" and len(empty):
            raise UserError(
                f"dataset {data.name}: class {empty[0]} ({data.class_names[empty[0]]}) has no training image; sampler "
                f"{self.sampler} shows every class equally often: leave the class out, or write sampler: shuffle"
            )
        self._known: tuple = (None, None, None)

    def of(self, epoch: int) -> tuple[np.ndarray, Tensor]:
        """int64 [images shown], on the host and on the device."""
        if self._known[0] != epoch:
            order = self._made(epoch)
            self._known = epoch, order, upload(order, self.device)
        return self._known[1:]

    def _made(self, epoch: int) -> np.ndarray:
        if self.sampler == "class_balanced":
            return class_balanced(self.seed, epoch, self.labels)[: self.shown]
        if self.sampler == "balanced_copies":
            return balanced_copies(self.seed, epoch, self.labels, self.shown)
        return rng.permutation(self.seed, "teacher_order", epoch, self.images)[: self.shown]


class Supervised:
    """Any loss on the logits of views (METHODS §2.3, §2.4)."""

    def __init__(
        self,
        config: TeacherConfig,
        data: LongTail,
        seed: int,
        device: torch.device,
        execution: Execution,
        team: Team = ALONE,
    ) -> None:
        self.config, self.device, self.execution, self.team = config, device, execution, team
        self._order = Order(config, data, seed, device)
        self.model = build_model(config, data.num_classes).to(device, memory_format=torch.channels_last)
        self.network = self.model
        self.weights = list(self.model.parameters())
        self.loss = build_loss(config, data.class_counts, device, data.cuts[0])
        self.views = supervised_views(config, data, seed, device)
        self.labels = torch.from_numpy(data.train_labels).to(device)
        self.mean, self.std = constants(config.normalization, device)

    def train(self) -> None:
        self.model.train()

    def batch(self, epoch: int, rows: slice) -> tuple[Tensor, Tensor]:
        order, index = self._order.of(epoch)
        (images,) = self.views.batch(epoch, rows, order, self.team.share)
        return self.labels[index[rows]], normalize(images, self.mean, self.std)

    def forward(self, epoch: int, labels: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        with self.execution.autocast(self.device):
            logits = self.model(images)
        logits = whole(logits, len(labels), self.team)
        return logits, self.loss(logits, labels, epoch)

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {"model": self.model.state_dict()}

    def restore(self, saved: dict[str, dict[str, Tensor]]) -> None:
        self.model.load_state_dict(saved["model"])
