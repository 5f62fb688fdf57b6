"""LiVT's losses (CVPR 2023) and those it compares with: of logits and soft targets, by mix group (METHODS 5.4).

Shapes: logits z and targets t float [B, C], groups sizes that sum to B; each returns [G]. A class's bias is added in
training alone: at test the plain logits are used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.losses.losses import _counts, _ldam_logits, group_means

PRIOR_EPSILON, COUNT_EPSILON = 1e-9, 1e-8  # of LADE, LADE:losses.py
INFLUENCE_EPSILON = 1e-3  # of the influence-balanced loss, its default


def softmax_bias(class_counts, tau: float) -> Tensor:
    """tau·log pi_c, pi the shares of the training images, float32 [C] (Bal-CE; logit adjustment)."""
    counts = _counts(class_counts)
    return (tau * (counts / counts.sum()).log()).to(torch.float32)


def sigmoid_bias(class_counts, tau: float, test_prior: Sequence[float] | None = None) -> Tensor:
    """tau·[log pi_c - log(1 - pi_c) - (log q_c - log(1 - q_c))], float32 [C]: Bal-BCE.

    test_prior None: without q, LiVT's Theorem 2, which its released code is (LIVT:util/loss.py). Else q, shares of each
    class at test that sum to 1: Theorem 3. Uniform shares make the second part -log(C - 1), which is Eq. 10. Raises
    ValueError for fewer than two classes, and for a prior of another length or none.
    """
    counts = _counts(class_counts)
    if len(counts) < 2:
        raise ValueError("a sigmoid's bias needs two classes or more")
    bias = _log_odds(counts / counts.sum())
    if test_prior is not None:
        prior = torch.tensor(test_prior, dtype=torch.float64)
        if len(prior) != len(counts):
            raise ValueError(f"test_prior has {len(prior)} shares, the dataset {len(counts)} classes")
        bias = bias - _log_odds(prior)
    return (tau * bias).to(torch.float32)


def _log_odds(share: Tensor) -> Tensor:
    return share.log() - (1 - share).log()


def grouped_binary_sum(logits: Tensor, targets: Tensor, groups: Sequence[int], weight: Tensor | None = None) -> Tensor:
    """BCE: mean over images of sum_c w_c [-t_c log s(z_c) - (1 - t_c) log s(-z_c)], s the sigmoid. weight: float [C],
    CB-BCE's; None = ones. The sum over classes is LIVT's `C *` a mean."""
    losses = F.binary_cross_entropy_with_logits(logits, targets, weight, reduction="none")
    return group_means(losses.sum(1), groups)


def grouped_class_weighted(logits: Tensor, targets: Tensor, weight: Tensor, groups: Sequence[int]) -> Tensor:
    """CB-CE: sum over images and classes of -w_c t_c log softmax(z)_c, over that of w_c t_c; on hard targets
    `cross_entropy`'s weighted mean. weight: float [C]."""
    shares = weight * targets
    each, sums = -(shares * F.log_softmax(logits, 1)).sum(1), shares.sum(1)
    return group_means(each / sums, groups, sums)


def grouped_mixed_ldam(
    logits: Tensor, y: Tensor, partner: Tensor, lam: Tensor, margins: Tensor, scale: float, groups: Sequence[int]
) -> Tensor:
    """LDAM on plain logits: lam times the loss of the own label plus 1 - lam times that of the partner's: LIVT's two
    largest targets. y, partner: int64 [B]; lam: float [B]; margins: float [C]."""
    own, other = (
        F.cross_entropy(_ldam_logits(logits, of, margins, scale), of, reduction="none") for of in (y, partner)
    )
    return group_means(lam * own + (1 - lam) * other, groups)


def grouped_lade(logits: Tensor, y: Tensor, share: Tensor, strength: float, groups: Sequence[int]) -> Tensor:
    """LADE's regulariser alone, which LIVT's code takes for the whole loss (METHODS 5.4):
    -sum_c pi_c [mean of z_c over images of class c - m_c - strength·m_c^2], where m_c is the logarithm of the mean over
    all images of exp(z_c) / (C pi_c). y: int64 [B], hard; share: pi, float [C]."""
    found = []
    classes = torch.arange(logits.shape[1], device=logits.device)
    shift = (share + PRIOR_EPSILON).log() - torch.log(torch.ones_like(share) / len(share) + PRIOR_EPSILON)
    for z, labels in zip(logits.split(list(groups)), y.split(list(groups)), strict=True):
        mine = (labels[:, None] == classes).to(z.dtype)
        own = (z * mine).sum(0) / (mine.sum(0) + COUNT_EPSILON)
        every = (z - shift).logsumexp(0) - torch.log(torch.full_like(share, len(z)))
        found.append(-(share * (own - every - strength * every**2)).sum())
    return torch.stack(found)


def grouped_influence_balanced(
    logits: Tensor, targets: Tensor, features: Tensor, alpha: float, groups: Sequence[int]
) -> Tensor:
    """Influence-balanced loss (Park et al., ICCV 2021): mean of CE·alpha / (|p - t|_1·|h|_1 + 1e-3), p the softmax, h
    the features [B, d] that the head reads. The factor takes part in the gradient, as in the authors' code."""
    influence = (logits.softmax(1) - targets).abs().sum(1) * features.abs().sum(1)
    each = F.cross_entropy(logits, targets, reduction="none")
    return group_means(each * alpha / (influence + INFLUENCE_EPSILON), groups)
