"""A CNN that others have a part in: held against their answers or features, or gone on from their weights.

The first learns beside its teachers (DiVE, METHODS §6; CBD, §7). The second is fine-tuned, has its classifier trained
anew, or is several as one (METHODS 7.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from longtail.losses.cbd import FeatureDistillation, cbd_loss, joined_features
from longtail.losses.dive import dive_loss
from longtail.models.combined import Mean, class_means
from longtail.runs.execution import Execution
from longtail.runs.parallel import ALONE, Team
from longtail.training.shared_batch import whole
from longtail.training.supervised import Supervised
from longtail.training.teacher import Source, TestSet, features
from longtail.training.teacher_config import TeacherConfig

if TYPE_CHECKING:
    from longtail.data.long_tail import LongTail


class Distilled(Supervised):
    """A network that is held against what trained ones make of the same view: one's softened answer (DiVE, METHODS §6),
    or the features of up to five (CBD, §7).

    The teachers are asked one after another, once a step, in eval mode; SAM's second pass sees the same answers.
    """

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
        self.sources = sources

    def batch(self, epoch: int, rows: slice) -> tuple[Tensor, ...]:
        labels, images = super().batch(epoch, rows)
        with torch.no_grad(), self.execution.autocast(self.device):
            return labels, images, *(whole(answer, len(labels), self.team) for answer in self._answers(images))

    def _answers(self, images: Tensor) -> list[Tensor]:
        """float32: joined features [B, D] and scaled logits [B, C], those of the two that the loss reads."""
        distil = self.config.distil
        if not isinstance(distil, FeatureDistillation):
            (source,) = self.sources
            return [source.logit_scale * source.network(images).float()]
        found = [] if distil.beta is None else [source.network.features(images) for source in self.sources]
        answers = [joined_features(found)] if found else []
        if distil.tau is not None:
            network, scale = self.sources[0].network, self.sources[0].logit_scale
            whole = not found or isinstance(network, Mean)  # an ensemble has no one classifier
            answers.append(scale * (network(images) if whole else network.fc(found[0])).float())
        return answers

    def forward(self, epoch: int, labels: Tensor, images: Tensor, *answers: Tensor) -> tuple[Tensor, Tensor]:
        with self.execution.autocast(self.device):
            features = self.model.features(images)
            logits = self.model.fc(features)
        features, logits = (whole(made, len(labels), self.team) for made in (features, logits))
        own = None if self.config.loss == "none" else self.loss(logits, labels, epoch)
        scaled, distil = logits.float() * self.config.logit_scale, self.config.distil
        if not isinstance(distil, FeatureDistillation):
            return logits, dive_loss(scaled, labels, *answers, distil, own)
        target = None if distil.beta is None else answers[0]
        teacher = None if distil.tau is None else answers[-1]
        return logits, cbd_loss(own, features, scaled, distil, target, teacher)


class Started(Supervised):
    """Any loss on the logits of views, as Supervised. Where the classifier alone is trained (cRT, CBD's baseline), or
    its scales alone (LWS), the rest of the network is in eval mode and gives no gradient."""

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
        self.start, members = config.start, self.model.members if isinstance(self.model, Mean) else [self.model]
        for member, source in zip(members, sources, strict=True):
            state = source.network.state_dict()
            if self.start.classifier != "kept":
                state = {name: v for name, v in state.items() if not name.startswith("fc.")}
                state |= {f"fc.{name}": value for name, value in member.fc.state_dict().items()}
            if self.start.train == "scales":
                state |= {"fc.scales": member.fc.scales.detach()}
            member.load_state_dict(state)
        if self.start.train in ("classifier", "scales"):
            self.model.requires_grad_(False)
            fc = self.model.fc
            self.weights = [fc.scales] if self.start.train == "scales" else list(fc.parameters())
            for weight in self.weights:
                weight.requires_grad_(True)

    def train(self) -> None:
        self.model.train(self.start.train == "all")

    def forward(self, epoch: int, labels: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.start.train not in ("classifier", "scales"):
            return super().forward(epoch, labels, images)
        with self.execution.autocast(self.device):
            with torch.no_grad():
                found = self.model.features(images)
            logits = whole(self.model.fc(found), len(labels), self.team)
        return logits, self.loss(logits, labels, epoch)

    @torch.no_grad()
    def settle(self, data: LongTail) -> None:
        """What is left to do where nothing is trained: a classifier of class means of un-augmented training images."""
        if self.start.classifier == "class_means":
            if self.team.leads:
                found = features(self.model, TestSet(self.config, as_tested(data), self.device))
                labels = torch.from_numpy(data.train_labels).to(self.device)
                self.model.fc.weight.copy_(class_means(found, labels, data.num_classes).T)
            self.team.copy_first_(self.model.fc.parameters())
        self.model.eval()


def as_tested(data: LongTail) -> LongTail:
    """The training images in the place of the test set."""
    return replace(data, test_images=data.train_images, test_labels=data.train_labels)
