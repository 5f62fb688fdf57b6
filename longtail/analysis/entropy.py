"""Entropy of a teacher's predictions, in and out of its training distribution (METHODS 4.5, P0 Fig. 3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from longtail.data.long_tail import LongTail
from longtail.training.supervised import supervised_views
from longtail.training.teacher_config import TeacherConfig
from longtail.views.batch import teacher_input
from longtail.views.normalize import constants, normalize
from longtail.views.student_views import Views

BATCH = 500  # images


def softmax_entropy(logits: Tensor | np.ndarray, scale: float = 1.0) -> Tensor:
    """-sum p log p in nats of p = softmax(scale * logits). logits: [n, C]. Returns float64 [n], between 0 and log C.

    scale: 30 for LDAM, whose logits are cosines; without it every image has close to log C (METHODS trap 24).
    """
    logp = (scale * torch.as_tensor(logits).double()).log_softmax(-1)
    return -(logp.exp() * logp.clamp(min=torch.finfo(torch.float64).min)).sum(-1)  # 0 * -inf is 0


def entropy_histogram(entropies: Tensor | np.ndarray, classes: int, bins: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Counts on equal bins from 0 to log(classes). Returns edges float64 [bins + 1], counts int64 [bins].

    Bins depend on the number of classes alone, so that histograms of different teachers and domains line up.
    """
    edges = np.linspace(0.0, np.log(classes), bins + 1)
    inside = np.clip(np.asarray(entropies, np.float64), 0.0, edges[-1])  # log C can come out an ulp too large
    return edges, np.histogram(inside, edges)[0].astype(np.int64)


@torch.no_grad()
def entropy_in(teacher: nn.Module, config: TeacherConfig, data: LongTail, seed: int, device: torch.device) -> Tensor:
    """Entropy on every training image once, as the teacher was trained on it. float64 [N], on the CPU.

    In distribution: the views of its entry (PaCo's on large images: the query's recipe), else random crop and flip at
    native resolution; drawn as in a first epoch of this seed, in the teacher's own normalisation.
    """
    order = np.arange(len(data.train_labels))
    views = supervised_views(config, data, seed, device)
    mean, std = constants(config.normalization, device)
    entropies = []
    for start in range(0, len(order), BATCH):
        (pixels,) = views.batch(0, slice(start, min(start + BATCH, len(order))), order)
        entropies.append(softmax_entropy(teacher(normalize(pixels, mean, std)), config.logit_scale).cpu())
    return torch.cat(entropies)


@torch.no_grad()
def entropy_own_views(teacher: nn.Module, views: Views, device: torch.device) -> Tensor:
    """Entropy on every view of the first epoch of a student's own training. float64 [views.positions_per_epoch], CPU.

    In distribution for a CNN that was trained as a student is: views at full size, whatever a teacher of theirs sees.
    """
    steps = (views.step(0, step).x.to(device) for step in range(views.steps_per_epoch))
    return torch.cat([softmax_entropy(teacher(x)).cpu() for x in steps])


@torch.no_grad()
def entropy_out(teacher: nn.Module, views: Views, logit_scale: float, device: torch.device) -> Tensor:
    """Entropy on every view of the student's first epoch. float64 [views.positions_per_epoch], on the CPU.

    Out of distribution: strongly augmented and mixed, in the student's normalisation, brought to the teacher's size by
    the same slice as for its labels (METHODS 3.3). Weak views where those are what it labels.
    """
    entropies = []
    for batch in views.steps(0):
        seen = teacher_input(batch.shown.to(device), views.recipe)
        entropies.append(softmax_entropy(teacher(seen), logit_scale).cpu())
    return torch.cat(entropies)
