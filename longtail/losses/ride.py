"""RIDE's losses (Wang et al., ICLR 2021; RIDE:model/loss.py): one term an expert, their diversity, and the router's.

    sum_k [ l(z_k) + factor·mean(t)²·KL(softmax(z / t) || softmax(z_k / t)) ],    z the experts' mean, without gradient

l is any loss on logits: LDAM in RIDE, balanced softmax in RIDE-DiVE's teacher, DiVE's in its student. A factor below 0
rewards experts that differ from their mean. t has a temperature for each class: 1 at first, from `reweight_epoch` on
lower for rare classes.

Shapes: each float [B, K, C], logits of K experts, scaled; labels int64 [B]; temperature float [C].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Diversity:
    """The block `diversity` of an entry of `teachers` with several experts."""

    factor: float  # of the divergence; published -.45 and -.2 by RIDE, -.1 for RIDE-DiVE on CIFAR
    reweight: float  # how far temperatures differ by class: .05 on CIFAR, .02 ImageNet-LT, .015 iNaturalist 2018
    reweight_epoch: int | None  # 0-based epoch from which they differ: 160 of 200, 80 of 100; null = never

    def __post_init__(self) -> None:
        if self.factor == 0:
            raise ValueError("factor: 0.0 is no diversity term; write null for diversity")
        if not 0 <= self.reweight < 1:
            raise ValueError(f"reweight: {self.reweight} is not in [0, 1); RIDE has 0.05 on CIFAR")
        if self.reweight_epoch is not None and self.reweight_epoch < 0:
            raise ValueError(f"reweight_epoch: {self.reweight_epoch} must not be negative; null = never")


def class_temperatures(class_counts, reweight: float) -> Tensor:
    """t_j = w_j / max w, w_j = reweight·C·n_j/N + 1 - reweight: float32 [C], 1 for the most frequent class.

    class_counts: [C]. reweight 0: all ones."""
    counts = torch.as_tensor(class_counts).to(torch.float64)
    shares = counts * (len(counts) / counts.sum())
    weights = reweight * shares + 1 - reweight
    return (weights / weights.max()).to(torch.float32)


def over_experts(each: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum of a loss of each expert's logits [B, C]; scalar."""
    return torch.stack([loss(logits) for logits in each.unbind(1)]).sum()


def divergence(each: Tensor, temperature: Tensor) -> Tensor:
    """Sum over experts of mean(t)²·KL(mean's shares || expert's), mean over images; scalar. What the factor of the
    diversity is multiplied by. The experts' mean gives no gradient."""
    shares = F.log_softmax(each.detach().mean(1) / temperature, dim=1)
    weight = temperature.mean() ** 2
    return over_experts(
        each,
        lambda logits: (
            weight
            * F.kl_div(F.log_softmax(logits / temperature, dim=1), shares, reduction="batchmean", log_target=True)
        ),
    )


def experts_wanted(means: Tensor, labels: Tensor) -> Tensor:
    """Whether a further expert helps, bool [B, K - 1]: the first k + 1 are wrong and with some more they are right.

    means: of the first 1, ... K experts, [B, K, C]."""
    right = means.argmax(2) == labels[:, None]
    later = right.flip(1).cumsum(1).flip(1)[:, 1:] > 0
    return ~right[:, :-1] & later


def router_loss(asked: Tensor, means: Tensor, labels: Tensor, pos_weight: float) -> Tensor:
    """Binary cross-entropy of `experts_wanted`, mean over images and places; scalar. asked: logits [B, K - 1].
    pos_weight: of "a further expert helps", which is rare; published 100."""
    wanted = experts_wanted(means, labels).to(asked.dtype)
    return F.binary_cross_entropy_with_logits(asked, wanted, pos_weight=torch.full_like(asked[0], pos_weight))
