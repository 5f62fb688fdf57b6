"""Long-tail losses: pure functions, tensors in, tensors out (METHODS §2.2, §3.4, §3.10).

Shapes: logits float [B, C], labels int64 [B], weight float [C] (one per class), class_counts int64 [C]. Every weighted
loss is a weighted *mean*, sum(w_y·l) / sum(w_y), so the scale of the weights cancels and only their ratio acts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def _counts(class_counts) -> Tensor:
    """float64 [C]. Raises ValueError where a class has no image."""
    counts = torch.as_tensor(class_counts).to(torch.float64)
    if (counts < 1).any():
        raise ValueError(f"class {int((counts < 1).nonzero()[0])} has no training image")
    return counts


def drw_weights(class_counts, beta: float) -> Tensor:
    """Class-balanced weights (1-beta)/(1-beta^n_j), scaled to sum C; float32 [C]. beta 0: all ones (LDAM)."""
    counts = _counts(class_counts)
    weights = (1 - beta) / (1 - beta**counts)
    return (weights * (len(counts) / weights.sum())).to(torch.float32)


def ldam_margins(class_counts, max_margin: float) -> Tensor:
    """m_j = max_margin · n_j^(-1/4) / max_k n_k^(-1/4), float32 [C] (LDAM:losses.py)."""
    margins = _counts(class_counts).pow(-0.25)
    return (margins * (max_margin / margins.max())).to(torch.float32)


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean of -log softmax(logits)[label]; scalar."""
    return F.cross_entropy(logits, labels, weight)


def focal_loss(logits: Tensor, labels: Tensor, gamma: float, weight: Tensor | None = None) -> Tensor:
    """Mean over images of (1 - p)^gamma·l, l the (weighted) cross-entropy and p = exp(-l); scalar. With weights p is of
    the weighted one, and the mean is a plain one, as in LDAM:losses.py (trap 26)."""
    each = F.cross_entropy(logits, labels, weight, reduction="none")
    return ((1 - (-each).exp()) ** gamma * each).mean()


def head_smoothed_cross_entropy(logits: Tensor, labels: Tensor, epsilon: float, head: int) -> Tensor:
    """Cross-entropy in which images of the first `head` classes give 1 - epsilon to their own class and epsilon, shared
    evenly, to the others; other labels are hard. Scalar mean over images (DiVE §3.1, where there are two classes)."""
    log_p = F.log_softmax(logits, dim=1)
    own = log_p.gather(1, labels[:, None]).squeeze(1)
    others = (log_p.sum(1) - own) / (logits.shape[1] - 1)
    share = epsilon * (labels < head).to(log_p.dtype)
    return -((1 - share) * own + share * others).mean()


def _ldam_logits(cosines: Tensor, labels: Tensor, margins: Tensor, scale: float) -> Tensor:
    """scale·(z - m_y on the true class), [B, C]."""
    classes = torch.arange(cosines.shape[1], device=labels.device)  # one_hot would look at the labels on the host
    return scale * (cosines - torch.where(labels[:, None] == classes, margins, 0.0))


def ldam_loss(cosines: Tensor, labels: Tensor, margins: Tensor, scale: float, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of scale·(z - m_y on the true class); cosines in [-1, 1], margins [C]; scalar."""
    return F.cross_entropy(_ldam_logits(cosines, labels, margins, scale), labels, weight)


def balanced_softmax_loss(logits: Tensor, labels: Tensor, class_counts, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits + log n_j, in training only: at test the plain logits are used (BALMS); scalar."""
    shift = torch.as_tensor(class_counts, device=logits.device).to(logits.dtype).log()
    return F.cross_entropy(logits + shift, labels, weight)


def soft_target_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over images of -sum_c targets·log softmax(logits); targets float [B, C] (mixup, smoothing); scalar."""
    return F.cross_entropy(logits, targets)


def group_means(values: Tensor, groups: Sequence[int], weights: Tensor | None = None) -> Tensor:
    """(Weighted) mean of values [B] within each group of neighbours. groups: sizes, sum B. Returns [G]."""
    if weights is None:
        return torch.stack([part.mean() for part in values.split(list(groups))])
    pairs = zip((values * weights).split(list(groups)), weights.split(list(groups)), strict=True)
    return torch.stack([weighted.sum() / weight.sum() for weighted, weight in pairs])


def grouped_weighted_cross_entropy(
    logits: Tensor, labels: Tensor, weight: Tensor | None, groups: Sequence[int]
) -> Tensor:
    """DeiT-LT's DIST term: `cross_entropy` within each mix group of neighbours, one loss a group, [G].

    The published runs normalise by the sum of the weights of each micro-batch of 128, so merging micro-batches into a
    larger batch must keep that grouping (DLT:losses.py; METHODS §3.4). weight None: plain mean. groups: sizes, sum B.
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    return group_means(losses, groups, None if weight is None else weight[labels])


def grouped_soft_target_cross_entropy(logits: Tensor, targets: Tensor, groups: Sequence[int]) -> Tensor:
    """`soft_target_cross_entropy` within each mix group of neighbours, [G]; targets float [B, C]."""
    return group_means(F.cross_entropy(logits, targets, reduction="none"), groups)


def grouped_ldam_loss(cosines: Tensor, labels: Tensor, margins: Tensor, scale: float, groups: Sequence[int]) -> Tensor:
    """`ldam_loss` without class weights within each mix group of neighbours, [G]. groups: sizes, sum B."""
    losses = F.cross_entropy(_ldam_logits(cosines, labels, margins, scale), labels, reduction="none")
    return group_means(losses, groups)


def grouped_binary_cross_entropy(logits: Tensor, targets: Tensor, groups: Sequence[int]) -> Tensor:
    """Mean over images *and classes* of -t log s(z) - (1 - t) log s(-z), s the sigmoid, within each mix group, [G].

    targets float [B, C] from 0 to 1, any number of ones an image (DEIT: BCEWithLogitsLoss; METHODS §3.10).
    """
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return group_means(losses.mean(1), groups)


EPSILON = 1e-9  # added to the class frequencies before their logarithm


@dataclass(frozen=True)
class PaCoWeights:
    """The numbers of PaCo's loss (METHODS §2.5)."""

    alpha: float  # weight of each positive of the contrast set
    beta: float  # weight of the classifier's term
    gamma: float  # weight of the contrast set in the denominator
    supt: float  # temperature of the classifier's logits, prior included
    temperature: float  # of the similarities


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
    config: PaCoWeights,
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


def masked_patch_loss(predicted: Tensor, targets: Tensor) -> Tensor:
    """Masked autoencoding, of each view: mean over its hidden patches of the mean square of predicted - target, float
    [B] (METHODS 5.2). Both [B, M, P], of the hidden patches alone; targets of models/mae.py's `normalized_patches`."""
    dtype = torch.promote_types(predicted.dtype, torch.float32)
    return (predicted.to(dtype) - targets.to(dtype)).square().mean((1, 2))
