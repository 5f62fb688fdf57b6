"""Networks of several experts in training (RIDE; RIDE-DiVE, METHODS 6.3): a loss an expert and their diversity; held
against a teacher's answers, each expert by itself; and the router, alone, in front of a finished network.

What is exported is the mean of the experts' cosines; the entry's scale makes logits of them (LDAM's convention).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from longtail.losses.dive import dive_loss
from longtail.losses.ride import divergence, over_experts, router_loss
from longtail.models.experts import chosen, in_use, running_means
from longtail.runs.execution import Execution
from longtail.runs.parallel import ALONE, Team
from longtail.training.shared_batch import whole
from longtail.training.supervised import Supervised
from longtail.training.taught import Distilled
from longtail.training.teacher import Source, diversity_reweighted, diversity_temperatures
from longtail.training.teacher_config import TeacherConfig

if TYPE_CHECKING:
    from longtail.data.long_tail import LongTail


class Experts(Supervised):
    """Any loss on logits, of each expert; their sum, and the diversity where the entry has one."""

    def __init__(
        self,
        config: TeacherConfig,
        data: LongTail,
        seed: int,
        device: torch.device,
        execution: Execution,
        team: Team = ALONE,
    ) -> None:
        super().__init__(config, data, seed, device, execution, team)
        self.diversity = ExpertDiversity(config, data, device)

    def forward(self, epoch: int, labels: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        each = of_each(self, labels, images)
        loss = over_experts(each, lambda logits: self.loss(logits, labels, epoch))
        return each.mean(1), loss + self.diversity(each, epoch)


class DistilledExperts(Distilled):
    """Each expert by itself is held against the teacher's answer and the labels: DiVE's loss K times (eq. 15)."""

    def __init__(
        self,
        config: TeacherConfig,
        data: LongTail,
        seed: int,
        device: torch.device,
        execution: Execution,
        sources: Sequence[Source],
        team: Team = ALONE,
    ) -> None:
        super().__init__(config, data, seed, device, execution, sources, team)
        self.diversity = ExpertDiversity(config, data, device)

    def forward(self, epoch: int, labels: Tensor, images: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
        each = of_each(self, labels, images)

        def loss(logits: Tensor) -> Tensor:
            own = None if self.config.loss == "none" else self.loss(logits, labels, epoch)
            return dive_loss(logits * self.config.logit_scale, labels, answer, self.config.distil, own)

        return each.mean(1), over_experts(each, loss) + self.diversity(each, epoch)


class Routing(Supervised):
    """The router alone is trained; the rest is its source's, in eval mode and without gradient. Its logits are the
    routed answer."""

    def __init__(
        self,
        config: TeacherConfig,
        data: LongTail,
        seed: int,
        device: torch.device,
        execution: Execution,
        sources: Sequence[Source],
        team: Team = ALONE,
    ) -> None:
        super().__init__(config, data, seed, device, execution, team)
        (source,), fc = sources, self.model.fc
        own = {f"fc.{name}": value.detach() for name, value in fc.router().items()}
        self.model.load_state_dict(source.network.state_dict() | own)
        self.model.requires_grad_(False)
        self.weights = [weight.requires_grad_(True) for weight in fc.router().values()]

    def train(self) -> None:
        self.model.eval()

    def forward(self, epoch: int, labels: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        fc = self.model.fc
        with self.execution.autocast(self.device):
            with torch.no_grad():
                features = self.model.features(images)
                each = fc.each(features)
            asked = fc.asked(features, each)
        asked, means = (whole(made, len(labels), self.team) for made in (asked, running_means(each)))
        return chosen(means, in_use(asked)), router_loss(asked, means, labels, self.config.router.pos_weight)


class ExpertDiversity:
    """The diversity term of an entry, or 0 where it has none: (each expert's output, 0-based epoch) to a scalar."""

    def __init__(self, config: TeacherConfig, data: LongTail, device: torch.device) -> None:
        self.config, self.of, self.temperatures = config, config.diversity, []
        if self.of is not None:
            epochs = -1, self.of.reweight_epoch or 0  # before and after the step; without one both are before
            made = (diversity_temperatures(config, data.class_counts, epoch) for epoch in epochs)
            self.temperatures = [temperature.to(device) for temperature in made]

    def __call__(self, each: Tensor, epoch: int) -> Tensor | float:
        if self.of is None:
            return 0.0
        temperature = self.temperatures[diversity_reweighted(self.config, epoch)]
        return self.of.factor * divergence(each * self.config.logit_scale, temperature)


def of_each(task: Supervised, labels: Tensor, images: Tensor) -> Tensor:
    """Each expert's output of the whole batch, before the scale, float32 [B, K, C]."""
    with task.execution.autocast(task.device):
        each = task.model.fc.each(task.model.features(images))
    return whole(each, len(labels), task.team)
