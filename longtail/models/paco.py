"""Parametric contrastive learning: the loss, the queue and the momentum encoder (METHODS §2.5; PACO:PaCo/LT).

An encoder and its classifier are trained by one softmax over C class logits and a contrast set: the queries of the
batch, their keys (another view through a slowly following copy of the encoder) and the keys of earlier batches.
What is used afterwards is the encoder with its classifier alone, whose logits are plain W·h.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.base import rng
from longtail.training.paco_config import PaCoConfig

EPSILON = 1e-9  # added to the class frequencies before their logarithm


def log_prior(class_counts: Sequence[int]) -> Tensor:
    """log(n_c / N + 1e-9), float32 [C]; it belongs to the training loss alone (METHODS trap 27)."""
    counts = torch.as_tensor(class_counts).to(torch.float64)
    return (counts / counts.sum() + EPSILON).log().to(torch.float32)


def paco_loss(
    logits: Tensor,
    query: Tensor,
    labels: Tensor,
    contrast: Tensor,
    contrast_labels: Tensor,
    prior: Tensor,
    config: PaCoConfig,
) -> Tensor:
    """Mean over the N queries of L_i (METHODS §2.5); scalar, float32, or float64 where that is given.

    logits [N, C] of the classifier; query [N, d] and contrast [M, d] projections, those of the query and its key at
    unit length; labels int64 [N], contrast_labels [M]; prior [C] from `log_prior`. The contrast set of query i is all
    other queries and all of `contrast`, its own key included (trap 28); gradients go to both queries of a pair.

        u_c = (logits_ic + prior_c) / supt,  v_j = q_i·f_j / temperature
        log Z_i = log(sum_c e^{u_c} + gamma sum_j e^{v_j}),  P = those j with the label of i
        L_i = -[beta (u_y - log Z_i) + alpha sum_{j in P} (v_j - log Z_i)] / (beta + alpha |P|)
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logits, query, contrast = (x.to(dtype) for x in (logits, query, contrast))
    classes = (logits + prior.to(dtype)) / config.supt
    pairs = query @ torch.cat([query, contrast]).T / config.temperature
    itself = torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
    positive = (labels[:, None] == torch.cat([labels, contrast_labels])) & ~itself
    weighted = pairs.masked_fill(itself, -torch.inf) + (math.log(config.gamma) if config.gamma else -math.inf)
    log_z = torch.cat([classes, weighted], 1).logsumexp(1)
    number = positive.sum(1, dtype=dtype)
    of_class = classes.gather(1, labels[:, None]).squeeze(1) - log_z
    of_pairs = (pairs * positive).sum(1) - number * log_z
    return -((config.beta * of_class + config.alpha * of_pairs) / (config.beta + config.alpha * number)).mean()


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

    def __init__(self, encoder: nn.Module, config: PaCoConfig, seed: int) -> None:
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
    def contrast(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Once a step, before the queries: move the key network, make the keys, queue them in place of the oldest.

        images [N, 3, H, W], labels int64 [N]. Returns keys and labels, float32 [N + K, d] and int64 [N + K]: this
        batch's, then the queue as it was before. They are copies: a second pass of SAM finds them unchanged.
        """
        copies = [*self.key_encoder.parameters(), *self.key_projection.parameters()]
        torch._foreach_mul_(copies, self.momentum)
        torch._foreach_add_(copies, self.trained(), alpha=1 - self.momentum)
        keys = F.normalize(self.key_projection(self.key_encoder.features(images)).float(), dim=1)
        known = torch.cat([keys, self.queue]), torch.cat([labels, self.queue_labels])
        self.queue.copy_(torch.cat([self.queue[len(keys) :], keys]))
        self.queue_labels.copy_(torch.cat([self.queue_labels[len(keys) :], labels]))
        return known
