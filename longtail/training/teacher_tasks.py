"""What a CNN teacher does with a batch: classify a view, be held against its own teacher's answer, or PaCo's contrast.

A task holds the network and the images. `batch` makes what a step is given, once a step, PaCo's keys and queue among
it; `forward` is what SAM does twice, a function of those tensors that a CUDA graph can hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base import rng
from longtail.base.device import upload
from longtail.base.errors import UserError
from longtail.losses.dive import dive_loss
from longtail.losses.losses import log_prior, paco_loss
from longtail.models.paco import PaCo
from longtail.runs.execution import Execution
from longtail.training.teacher import Source, build_loss, build_model
from longtail.training.teacher_config import TeacherConfig
from longtail.views.normalize import constants, normalize
from longtail.views.paco_views import PaCoViews
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
        return LargeViews(recipes, data.train_images, seed, device)
    return WeakViews(in_memory(data), seed, config.crop_padding, config.hflip, device)


def in_memory(data: LongTail) -> np.ndarray:
    """Training images uint8 [N, H, W, 3]. Raises UserError where they are files."""
    if not isinstance(data.train_images, np.ndarray):
        raise UserError(f"dataset {data.name}: its images are files; a teacher of them needs the block `views`")
    return data.train_images


WINDOW = 2048  # PaCo's views that PyTorch makes at once, to use a GPU well; no effect on their bytes


class Task(Protocol):
    """model: the network that is evaluated and saved; weights: all that is trained, in a fixed order."""

    model: nn.Module
    weights: list[nn.Parameter]

    def train(self) -> None: ...  # to training mode

    def batch(self, epoch: int, rows: slice) -> tuple[Tensor, ...]: ...  # of a step: labels int64 [B] and the rest

    def forward(self, epoch: int, *batch: Tensor) -> tuple[Tensor, Tensor]: ...  # logits [B, C], loss (float32)

    def state(self) -> dict[str, dict[str, Tensor]]: ...  # for a checkpoint

    def restore(self, saved: dict[str, dict[str, Tensor]]) -> None: ...


class Order:
    """The images of an epoch in the order that they are shown; the last epoch's is kept."""

    def __init__(self, config: TeacherConfig, data: LongTail, seed: int, device: torch.device) -> None:
        self.images, self.seed, self.device = len(data.train_labels), seed, device
        self.shown = self.images - self.images % config.batch_size if config.drop_last else self.images
        self._known: tuple = (None, None, None)

    def of(self, epoch: int) -> tuple[np.ndarray, Tensor]:
        """int64 [images shown], on the host and on the device."""
        if self._known[0] != epoch:
            order = rng.permutation(self.seed, "teacher_order", epoch, self.images)[: self.shown]
            self._known = epoch, order, upload(order, self.device)
        return self._known[1:]


def contrastive_views(
    config: TeacherConfig, data: LongTail, seed: int, device: torch.device | str
) -> LargeViews | PaCoViews:
    """PaCo's query and key. Raises UserError as `supervised_views`."""
    if config.views is not None:
        recipes = {"paco_query": config.views, "paco_key": config.paco.key_views}
        return LargeViews(recipes, data.train_images, seed, device)
    return PaCoViews(config.paco.views, config.crop_padding, config.hflip, in_memory(data), seed, device)


class Supervised:
    """Any loss on the logits of views (METHODS §2.3, §2.4)."""

    def __init__(
        self, config: TeacherConfig, data: LongTail, seed: int, device: torch.device, execution: Execution
    ) -> None:
        self.config, self.device, self.execution = config, device, execution
        self.model = build_model(config, data.num_classes).to(device, memory_format=torch.channels_last)
        self.weights = list(self.model.parameters())
        self.loss = build_loss(config, data.class_counts, device, data.cuts[0])
        self.views = supervised_views(config, data, seed, device)
        self.labels = torch.from_numpy(data.train_labels).to(device)
        self.mean, self.std = constants(config.normalization, device)
        self._order = Order(config, data, seed, device)

    def train(self) -> None:
        self.model.train()

    def batch(self, epoch: int, rows: slice) -> tuple[Tensor, Tensor]:
        order, index = self._order.of(epoch)
        (images,) = self.views.batch(epoch, rows, order)
        return self.labels[index[rows]], normalize(images, self.mean, self.std)

    def forward(self, epoch: int, labels: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        with self.execution.autocast(self.device):
            logits = self.model(images)
        return logits, self.loss(logits, labels, epoch)

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {"model": self.model.state_dict()}

    def restore(self, saved: dict[str, dict[str, Tensor]]) -> None:
        self.model.load_state_dict(saved["model"])


class Distilled(Supervised):
    """A network that is held against the softened answer of a trained one to the same view (DiVE, METHODS §6).

    The teacher answers once a step, in eval mode; SAM's second pass sees the same answer.
    """

    def __init__(
        self,
        config: TeacherConfig,
        data: LongTail,
        seed: int,
        device: torch.device,
        execution: Execution,
        source: Source,
    ) -> None:
        super().__init__(config, data, seed, device, execution)
        self.source = source

    def batch(self, epoch: int, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        labels, images = super().batch(epoch, rows)
        with torch.no_grad(), self.execution.autocast(self.device):
            answer = self.source.network(images)
        return labels, images, self.source.logit_scale * answer.float()

    def forward(self, epoch: int, labels: Tensor, images: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
        with self.execution.autocast(self.device):
            logits = self.model(images)
        own = None if self.config.loss == "none" else self.loss(logits, labels, epoch)
        return logits, dive_loss(logits.float(), labels, answer, self.config.distil, own)


class Contrastive:
    """PaCo (METHODS §2.5). The momentum update and the queue move once a step, whatever SAM does (§2.6)."""

    def __init__(
        self, config: TeacherConfig, data: LongTail, seed: int, device: torch.device, execution: Execution
    ) -> None:
        self.config, self.device, self.execution = config, device, execution
        self.paco = PaCo(build_model(config, data.num_classes), config.paco, seed)
        self.paco.to(device, memory_format=torch.channels_last)
        self.model, self.weights = self.paco.encoder, self.paco.trained()
        self.prior = log_prior(data.class_counts).to(device)
        self.views = contrastive_views(config, data, seed, device)
        self.labels = torch.from_numpy(data.train_labels).to(device)
        self.mean, self.std = constants(config.normalization, device)
        self._order = Order(config, data, seed, device)
        self._window: tuple = (None, None, None)  # (epoch, first row), query pixels, key pixels

    def train(self) -> None:
        self.paco.train()

    def batch(self, epoch: int, rows: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        queries, keys = (normalize(pixels, self.mean, self.std) for pixels in self._pixels(epoch, rows))
        labels = self.labels[self._order.of(epoch)[1][rows]]
        with self.execution.autocast(self.device):
            return labels, queries, *self.paco.contrast(keys, labels)

    def forward(
        self, epoch: int, labels: Tensor, queries: Tensor, contrast: Tensor, contrast_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        with self.execution.autocast(self.device):
            logits, query = self.paco(queries)
        of = self.config.paco
        return logits, paco_loss(logits, query, labels, contrast, contrast_labels, self.prior, of)

    def _pixels(self, epoch: int, rows: slice) -> tuple[Tensor, Tensor]:
        """Query and key views of these rows of the epoch's order, uint8 [B, 3, S, S] in channels_last memory."""
        order, size = self._order.of(epoch)[0], self.config.batch_size
        if isinstance(self.views, LargeViews):
            return tuple(self.views.batch(epoch, rows, order))
        reach = max(1, WINDOW // size) * size if self.views.backend == "torch" else size
        first = rows.start // reach * reach
        if self._window[0] != (epoch, first):
            positions = np.arange(first, min(first + reach, len(order)))
            index = order[positions]
            made = (make(epoch, positions, index) for make in (self.views.query, self.views.key))
            self._window = (epoch, first), *(m.contiguous(memory_format=torch.channels_last) for m in made)
        inside = slice(rows.start - first, rows.stop - first)
        return self._window[1][inside], self._window[2][inside]

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All but the encoder, whose state is the model's, under its own name."""
        rest = {name: v for name, v in self.paco.state_dict().items() if not name.startswith("encoder.")}
        return {"model": self.model.state_dict(), "paco": rest}

    def restore(self, saved: dict[str, dict[str, Tensor]]) -> None:
        encoder = {f"encoder.{name}": value for name, value in saved["model"].items()}
        self.paco.load_state_dict(saved["paco"] | encoder)


def build_task(
    config: TeacherConfig,
    data: LongTail,
    seed: int,
    device: torch.device,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    sources: Sequence[Source] = (),
) -> Task:
    """The task that the entry asks for; networks are initialised from torch's global generator. sources: whom the
    entry's `sources` name, on the device.

    Raises UserError where the images are files and the entry has views of images in memory alone."""
    if config.distil is not None:
        return Distilled(config, data, seed, device, execution, *sources)
    return (Contrastive if config.loss == "paco" else Supervised)(config, data, seed, device, execution)
