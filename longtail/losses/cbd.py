"""Class-balanced distillation (Iscen, Araujo, Gong, Schmid, BMVC 2021): its losses (METHODS 7.1).

A student of class-balanced batches is held against the features of teachers that saw every image equally often:

    (1 - alpha)·label term + alpha·beta·(1 - cos(h, v_T))

v_T is one teacher's feature, or those of several, each at unit length, joined, and brought to unit length again; h is
the student's own feature, with several teachers projected to the width of v_T. The paper's Fig. 2 holds against this
the teacher's softened answers, alpha·tau²·CE(softmax(z_T / tau), softmax(z / tau)), and both terms together, each with
its own factor. Gradients reach the student alone.

Shapes: features float [B, d], logits float [B, C], scaled as a softmax takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class FeatureDistillation:
    """The block `distil` of an entry of `teachers`: how it learns from the features of others, or from answers."""

    kind: Literal["feature"]
    teachers: int  # K, how many `sources` names; published 1, and 4 of two kinds
    alpha: float  # weight of what is distilled; published .4
    beta: float | None  # factor of the features' term; published 100; null = it is left out (classifier distillation)
    tau: float | None = None  # temperature of the answers' term, of one teacher; best in print 2; null = it is left out
    teacher_dataset: str | None = None  # entry of `datasets` that the teachers were trained on, where it is another one

    def __post_init__(self) -> None:
        if not 1 <= self.teachers <= 5:
            raise ValueError(f"teachers is from 1 to 5, found {self.teachers}; published 1 and 4")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is from 0 to 1, found {self.alpha}; published 0.4")
        if self.beta is None and self.tau is None:
            raise ValueError("give beta (features, published 100.0), tau (answers, best in print 2.0) or both")
        for name in ("beta", "tau"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, found {value}; null leaves its term out")
        if self.tau is not None and self.teachers != 1:
            raise ValueError(f"tau holds against one teacher's answers, found teachers {self.teachers}")


def joined_features(features: Sequence[Tensor]) -> Tensor:
    """v_T [B, sum of d_k] of the teachers' features [B, d_k]: float32, or float64 where that is given."""
    dtype = torch.promote_types(features[0].dtype, torch.float32)
    return F.normalize(torch.cat([F.normalize(v.to(dtype), dim=1) for v in features], 1), dim=1)


def feature_distances(student: Tensor, target: Tensor) -> Tensor:
    """1 - cos(h, v_T) of each image, [B], float32, or float64 where that is given; only the directions count."""
    dtype = torch.promote_types(student.dtype, torch.float32)
    h, v = (F.normalize(x.to(dtype), dim=1) for x in (student, target))
    return 1 - (h * v).sum(1)


def feature_term(student: Tensor, target: Tensor) -> Tensor:
    """Mean over images of `feature_distances`, scalar."""
    return feature_distances(student, target).mean()


def answer_term(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Mean over images of tau²·CE(softmax(z_T / tau), softmax(z / tau)), scalar."""
    dtype = torch.promote_types(student.dtype, torch.float32)
    return tau**2 * F.cross_entropy(student.to(dtype) / tau, F.softmax(teacher.to(dtype) / tau, dim=1))


def cbd_loss(
    label_term: Tensor,
    features: Tensor,
    logits: Tensor,
    config: FeatureDistillation,
    target: Tensor | None,
    teacher: Tensor | None,
) -> Tensor:
    """Scalar. label_term: the student's own loss of these images; target: v_T, where beta is given; teacher: its
    logits, where tau is."""
    distilled = torch.zeros_like(label_term)
    if config.beta is not None:
        distilled = distilled + config.beta * feature_term(features, target)
    if config.tau is not None:
        distilled = distilled + answer_term(logits, teacher, config.tau)
    return (1 - config.alpha) * label_term + config.alpha * distilled
