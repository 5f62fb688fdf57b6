"""What a CNN teacher does with a batch: classify a view, be held against its own teachers' answers, or PaCo's contrast.

Of PaCo's task here `batch` makes the keys and the queue too, which both of SAM's passes see.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from longtail.losses.losses import log_prior, paco_loss
from longtail.models.paco import PaCo
from longtail.runs.execution import Execution
from longtail.runs.parallel import ALONE, Team
from longtail.training.experts import DistilledExperts, Experts, Routing
from longtail.training.shared_batch import whole
from longtail.training.supervised import Order, Supervised, Task, in_memory
from longtail.training.taught import Distilled, Started
from longtail.training.teacher import Source, build_model
from longtail.training.teacher_config import TeacherConfig
from longtail.views.normalize import constants, normalize
from longtail.views.paco_views import PaCoViews
from longtail.views.teacher_views import LargeViews

if TYPE_CHECKING:
    from longtail.data.long_tail import LongTail

WINDOW = 2048  # PaCo's views that PyTorch makes at once, to use a GPU well; no effect on their bytes


def contrastive_views(
    config: TeacherConfig, data: LongTail, seed: int, device: torch.device | str
) -> LargeViews | PaCoViews:
    """PaCo's query and key. Raises UserError as `supervised_views`."""
    if config.views is not None:
        recipes = {"paco_query": config.views, "paco_key": config.paco.key_views}
        return LargeViews(recipes, data.train_images, config.key(seed), device)
    return PaCoViews(config.paco.views, config.crop_padding, config.hflip, in_memory(data), config.key(seed), device)


class Contrastive:
    """PaCo (METHODS §2.5). The momentum update and the queue move once a step, whatever SAM does (§2.6)."""

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
        self.paco = PaCo(build_model(config, data.num_classes), config.paco, config.key(seed))
        self.paco.to(device, memory_format=torch.channels_last)
        self.model, self.network, self.weights = self.paco.encoder, self.paco, self.paco.trained()
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
            return labels, queries, *self.paco.contrast(keys, labels, partial(whole, count=len(labels), team=self.team))

    def forward(
        self, epoch: int, labels: Tensor, queries: Tensor, contrast: Tensor, contrast_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        with self.execution.autocast(self.device):
            logits, query = (whole(made, len(labels), self.team) for made in self.paco(queries))
        of = self.config.paco
        return logits, paco_loss(logits, query, labels, contrast, contrast_labels, self.prior, of)

    def _pixels(self, epoch: int, rows: slice) -> tuple[Tensor, Tensor]:
        """Query and key views of this process's share of these rows of the epoch's order, uint8 [B, 3, S, S] in
        channels_last memory."""
        order, size, share = self._order.of(epoch)[0], self.config.batch_size, self.team.share
        if isinstance(self.views, LargeViews):
            return tuple(self.views.batch(epoch, rows, order, share))
        reach = max(1, WINDOW // size) * size if self.views.backend == "torch" else size
        first = rows.start // reach * reach
        if self._window[0] != (epoch, first):
            steps = (np.arange(start, start + size) for start in range(first, min(first + reach, len(order)), size))
            positions = np.concatenate([step[share(size)] for step in steps])
            index = order[positions]
            made = (make(epoch, positions, index) for make in (self.views.query, self.views.key))
            self._window = (epoch, first), *(m.contiguous(memory_format=torch.channels_last) for m in made)
        of_step, own = (share(count).stop - share(count).start for count in (size, rows.stop - rows.start))
        steps_before, rows_before = divmod(rows.start - first, size)  # a probe takes a few rows of a step
        before = steps_before * of_step + rows_before
        inside = slice(before, before + own)
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
    team: Team = ALONE,
) -> Task:
    """The task that the entry asks for; networks are initialised from torch's global generator. sources: whom the
    entry's `sources` name, on the device.

    Raises UserError where the images are files and the entry has views of images in memory alone."""
    if config.distil is not None:
        taught = Distilled if config.experts == 1 else DistilledExperts
        return taught(config, data, seed, device, execution, sources, team)
    if config.start is not None:
        begun = Started if config.router is None else Routing
        return begun(config, data, seed, device, execution, sources, team)
    alone = Contrastive if config.loss == "paco" else Supervised if config.experts == 1 else Experts
    return alone(config, data, seed, device, execution, team)
