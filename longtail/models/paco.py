"""Parametric contrastive learning: the queue and the momentum encoder (METHODS §2.5; PACO:PaCo/LT); no loss.

An encoder and its classifier are trained by one softmax over C class logits and a contrast set: the queries of the
batch, their keys (another view through a slowly following copy of the encoder) and the keys of earlier batches.
What is used afterwards is the encoder with its classifier alone, whose logits are plain W·h.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.base import rng


@dataclass(frozen=True)
class PaCoSizes:
    """The numbers of PaCo's network: its projection, its queue and how slowly its copies follow."""

    queue: int  # keys of earlier batches; a multiple of the batch
    key_momentum: float  # of the key encoder: how much of it stays at each step
    dim: int  # of the projection


def initial_queue(seed: int, size: int, dim: int, classes: int) -> tuple[Tensor, Tensor]:
    """N(0, 1) values divided by the length of their column (over the slots, not over the dimensions: such keys are not
    of unit length, as published), and random labels. Returns float32 [size, dim] and int64 [size]."""
    words = rng.draws(seed, "paco_queue", 0, np.arange(size), dim + 1)
    values = rng.normal_table()[words[:, :dim] >> 16]
    values = values / np.sqrt((values**2).sum(0))
    return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(rng.below(words[:, dim], classes))


def projection_head(width: int, dim: int, kaiming: bool) -> nn.Sequential:
    """Linear(width, width)-BN-ReLU-Linear(width, dim). The last is published as the encoder's own `fc` and starts as
    that does: kaiming, a CIFAR ResNet's; not kaiming, a layer of PyTorch's, as in torchvision's ResNet-50."""
    last = nn.Linear(width, dim)
    if kaiming:
        nn.init.kaiming_normal_(last.weight)
    return nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), last)


class PaCo(nn.Module):
    """An encoder with its classifier, their projection, slowly following copies of all three, and the queue.

    encoder: a network of models.backbone with a linear `fc`, which is the classifier. The copy of the classifier is
    kept as published although nothing uses it.
    """

    def __init__(self, encoder: nn.Module, config: PaCoSizes, seed: int) -> None:
        super().__init__()
        self.momentum = config.key_momentum
        self.encoder = encoder
        self.encoder.fc.reset_parameters()  # published: a layer of its own, with PyTorch's initialisation
        self.projection = projection_head(encoder.fc.in_features, config.dim, encoder.kaiming_fc)
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
        queue, labels = initial_queue(seed, config.queue, config.dim, encoder.fc.out_features)
        self.register_buffer("queue", queue)  # oldest first
        self.register_buffer("queue_labels", labels)

    def trained(self) -> list[nn.Parameter]:
        """What gradients change, and what SAM's norm goes over: encoder, classifier, projection."""
        return [*self.encoder.parameters(), *self.projection.parameters()]

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, 3, H, W] to logits [N, C] and projections of unit length, float32 [N, d]."""
        features = self.encoder.features(queries)
        return self.encoder.fc(features), F.normalize(self.projection(features).float(), dim=1)

    @torch.no_grad()
    def contrast(
        self, images: Tensor, labels: Tensor, together: Callable[[Tensor], Tensor] = lambda keys: keys
    ) -> tuple[Tensor, Tensor]:
        """Once a step, before the queries: move the key network, make the keys, queue them in place of the oldest.

        images [N, 3, H, W], labels int64 [N]. Returns keys and labels, float32 [N + K, d] and int64 [N + K]: this
        batch's, then the queue as it was before. They are copies: a second pass of SAM finds them unchanged.
        together: where several processes share the batch, so that `images` are its own ones, their keys from its own;
        the queue is then the same in all of them.
        """
        copies = [*self.key_encoder.parameters(), *self.key_projection.parameters()]
        torch._foreach_mul_(copies, self.momentum)
        torch._foreach_add_(copies, self.trained(), alpha=1 - self.momentum)
        keys = together(F.normalize(self.key_projection(self.key_encoder.features(images)).float(), dim=1))
        known = torch.cat([keys, self.queue]), torch.cat([labels, self.queue_labels])
        self.queue.copy_(torch.cat([self.queue[len(keys) :], keys]))
        self.queue_labels.copy_(torch.cat([self.queue_labels[len(keys) :], labels]))
        return known
