"""DiVE, distilling virtual examples (He, Wu, Wei, ICCV 2021): its loss and the variants of its Table 6 (METHODS 6).

A teacher's softened answer T to an image counts as T_k virtual examples of each class k. A student learns from them and
from the image's own label:

    (1 - alpha)·label term + alpha·tau²·KL(T || softmax(z_s / tau)),    T = softmax(z_t / tau)^power, made to sum to 1

The label term is the student's own loss, balanced softmax in print, and has no temperature. Logits z_t and z_s are
plain: log n_j is added in the label term alone (trap 30). A power of p makes T what a temperature of tau / p makes it,
but the student keeps tau, and the factor tau² too. Table 6 also drops the label term, or mixes the label into the
target.

Shapes: logits float [B, C], labels int64 [B]; targets float [B, C], whose rows sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class SoftDistillation:
    """The block `distil` of an entry of `teachers`: how it learns from the softened answers of another one."""

    kind: Literal["soft"]
    tau: float  # temperature of T, of the student and of the factor; published 3, 9 and 2
    power: float  # of T; published .5; 1.0 = none
    alpha: float  # weight of the distillation term, or of T in a mixed target; published .5
    # what the student is held against: T, or `mixed`, (1 - alpha)·one-hot label + alpha·T (Eq. 6), which goes with
    # `loss: none` and is a cross-entropy
    targets: Literal["teacher", "mixed"] = "teacher"
    # of mixed targets with a power, which the paper leaves open: taken of the mixed vector, or of T before it is mixed
    power_of: Literal["mixed", "teacher"] | None = None
    student_tau: float | None = None  # null: tau
    factor: float | None = None  # null: tau²
    teacher_dataset: str | None = None  # entry of `datasets` that the teacher was trained on, where it is another one

    def __post_init__(self) -> None:
        for name in ("tau", "student_tau", "factor"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, found {value}")
        if not 0 < self.power <= 1:
            raise ValueError(f"power is above 0 and at most 1, found {self.power}; published 0.5, and 1.0 is none")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is from 0 to 1, found {self.alpha}; published 0.5")
        open_question = self.targets == "mixed" and self.power != 1
        if open_question and self.power_of is None:
            raise ValueError(
                f"power {self.power} with mixed targets: say power_of: mixed (mix, then power) or power_of: teacher"
            )
        if not open_question and self.power_of is not None:
            raise ValueError("power_of belongs to mixed targets with a power below 1; else write null")

    @property
    def of_student(self) -> float:
        """The student's temperature."""
        return self.tau if self.student_tau is None else self.student_tau

    @property
    def weight(self) -> float:
        """What the distillation term is multiplied by: tau²."""
        return self.tau**2 if self.factor is None else self.factor


def powered(log_shares: Tensor, power: float) -> Tensor:
    """Logarithms of shares^power, made to sum to 1: power normalisation. [B, C]."""
    return log_shares if power == 1 else F.log_softmax(power * log_shares, dim=1)


def virtual_examples(logits: Tensor, tau: float, power: float = 1.0) -> Tensor:
    """log T of a teacher's plain logits, [B, C]; T_k is the share of class k of an image's virtual examples."""
    return powered(F.log_softmax(logits / tau, dim=1), power)


def distillation_targets(teacher: Tensor, labels: Tensor, config: SoftDistillation) -> Tensor:
    """Logarithms of what the student is held against, [B, C]; -inf is 0. teacher: its plain logits."""
    first = 1.0 if config.power_of == "mixed" else config.power
    log_t = virtual_examples(teacher, config.tau, first)
    if config.targets == "teacher":
        return log_t
    classes = torch.arange(teacher.shape[1], device=labels.device)  # one_hot would look at the labels on the host
    own = (labels[:, None] == classes).to(log_t.dtype)
    mixed = ((1 - config.alpha) * own + config.alpha * log_t.exp()).log()
    return powered(mixed, config.power) if config.power_of == "mixed" else mixed


def dive_loss(
    logits: Tensor, labels: Tensor, teacher: Tensor, config: SoftDistillation, label_term: Tensor | None
) -> Tensor:
    """Mean over images; scalar, float32, or float64 where that is given.

    logits, teacher: plain ones of the student and of its teacher. label_term: the student's own loss of these images,
    scalar; None: the distillation term stands alone, alpha·tau² times it (Table 6, rows 3 and 4). With mixed targets
    tau² times the cross-entropy, whose gradient is the divergence's (rows 2, 5 and 6).
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_s = F.log_softmax(logits.to(dtype) / config.of_student, dim=1)
    log_t = distillation_targets(teacher.to(dtype), labels, config)
    if config.targets == "mixed":
        return config.weight * F.cross_entropy(log_s, log_t.exp())
    term = config.alpha * config.weight * F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
    return term if label_term is None else (1 - config.alpha) * label_term + term
