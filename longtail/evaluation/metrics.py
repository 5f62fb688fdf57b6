"""Metrics of saved logits and means by class group: pure functions, NumPy alone.

Accuracies and calibration errors are percentages (0..100), NLL is in nats. A class without test images has no
accuracy (NaN inside, None in summaries) and is left out of means; an empty group is None.

Means of per-image values by class group, as the metrics files make theirs; and where a group's images go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

BINS = 15  # of the confidence histograms behind ECE, MCE and class-wise ECE
DECIMALS = 4
AUTHOR_GROUPS, COUNT_GROUPS = ("head", "mid", "tail"), ("many", "medium", "few")
SCALARS = (
    *("top1", "top5", "balanced", "macro_f1", "ece", "mce", "classwise_ece", "nll"),
    *AUTHOR_GROUPS,
    *COUNT_GROUPS,
)
EXPERTS = "experts"  # how many of a network's experts answered, mean over test images: of networks that have several


def average_heads(*logits: np.ndarray) -> np.ndarray:
    """Mean of the heads' RAW logits, float64 [M, C] (METHODS trap 43; P0 3.8).

    The heads' logits differ in scale, so the mean of their probabilities is another classifier.
    """
    return np.mean([np.asarray(z, np.float64) for z in logits], axis=0)


def topk(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """% of images whose label is among the k largest logits. Of equal logits the lower class index ranks first."""
    logits = np.asarray(logits)
    labels = np.asarray(labels)[:, None]
    own = np.take_along_axis(logits, labels, 1)
    ahead = (logits > own).sum(1) + ((logits == own) & (np.arange(logits.shape[1]) < labels)).sum(1)
    return 100.0 * float(np.mean(ahead < k))


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int64 [C, C]; entry [i, j] counts images of class i predicted as j."""
    classes = logits.shape[1]
    pairs = np.asarray(labels, np.int64) * classes + np.argmax(logits, 1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def per_class_accuracy(counts: np.ndarray) -> np.ndarray:
    """% right of each class, float64 [C], from a confusion matrix; NaN for a class without test images."""
    images = counts.sum(1)
    return np.divide(100.0 * np.diag(counts), images, out=np.full(len(counts), np.nan), where=images > 0)


def group_mean(accuracies: np.ndarray, members: np.ndarray) -> float | None:
    """Unweighted mean of the members' per-class accuracies (DLT:engine.py); None when no member has test images.

    members: boolean [C] or class indices.
    """
    chosen = accuracies[members]
    chosen = chosen[~np.isnan(chosen)]
    return float(chosen.mean()) if len(chosen) else None


def macro_f1(counts: np.ndarray) -> float:
    """Unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN), in %, from a confusion matrix.

    Classes neither present nor predicted are left out, as in scikit-learn.
    """
    hits, size = np.diag(counts), counts.sum(0) + counts.sum(1)
    return 100.0 * float(np.mean(2.0 * hits[size > 0] / size[size > 0]))


def log_softmax(logits: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Log-probabilities of softmax(scale * logits), float64 [M, C]; the maximum is subtracted first."""
    z = scale * np.asarray(logits, np.float64)
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def nll(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    return float(-np.take_along_axis(log_probs, np.asarray(labels)[:, None], 1).mean())


def calibration_gaps(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """|accuracy - mean confidence| and share of images for each non-empty bin (METHODS 5.5).

    confidence: float64 [M] in [0, 1]; right: 0/1 [M]. Equal bins with right-closed edges, (0, 1/bins] to (1-1/bins, 1];
    a confidence of exactly 0 counts in the first. Returns two float64 arrays, one value per non-empty bin.
    """
    bin_of = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
    images = np.bincount(bin_of, minlength=bins)
    gap = np.abs(np.bincount(bin_of, right, bins) - np.bincount(bin_of, confidence, bins))
    full = images > 0
    return gap[full] / images[full], images[full] / len(confidence)


def ece_mce(probs: np.ndarray, labels: np.ndarray, bins: int = BINS) -> tuple[float, float]:
    """Expected and maximum calibration error of the predicted class, in % (softmax also for BCE models, trap 48)."""
    gaps, shares = calibration_gaps(probs.max(1), probs.argmax(1) == labels, bins)
    return 100.0 * float(gaps @ shares), 100.0 * float(gaps.max())


def classwise_ece(probs: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Mean over classes of the ECE of "is it class k?" at confidence p_k, in % (Kull et al. 2019, arXiv:1910.12656)."""
    errors = []
    for k in range(probs.shape[1]):
        gaps, shares = calibration_gaps(probs[:, k], np.asarray(labels) == k, bins)
        errors.append(gaps @ shares)
    return 100.0 * float(np.mean(errors))


def group_indices(groups: np.ndarray, names: Sequence[str]) -> dict[str, list[int]]:
    """{name: class indices} from integer codes [C], code i being names[i]."""
    return {name: np.flatnonzero(np.asarray(groups) == i).tolist() for i, name in enumerate(names)}


def all_metrics(
    logits: np.ndarray, labels: np.ndarray, groups: Mapping[str, Sequence[int]], logit_scale: float = 1.0
) -> dict[str, float | list | None]:
    """Every metric of one head. groups: {name: class indices}; logit_scale: 30 for LDAM's cosines (trap 24), else 1."""
    labels = np.asarray(labels, np.int64)
    counts = confusion(logits, labels)
    accuracies = per_class_accuracy(counts)
    log_probs = log_softmax(logits, logit_scale)
    probs = np.exp(log_probs)
    ece, mce = ece_mce(probs, labels)
    values: dict[str, float | None] = {
        "top1": topk(logits, labels, 1),
        "top5": topk(logits, labels, 5),
        "balanced": group_mean(accuracies, np.arange(len(accuracies))),
        "macro_f1": macro_f1(counts),
        "ece": ece,
        "mce": mce,
        "classwise_ece": classwise_ece(probs, labels),
        "nll": nll(log_probs, labels),
    }
    for name, members in groups.items():
        values[name] = group_mean(accuracies, np.asarray(members, np.int64))
    rounded = {name: None if value is None else round(value, DECIMALS) for name, value in values.items()}
    return {**rounded, "per_class": [None if math.isnan(a) else round(float(a), DECIMALS) for a in accuracies]}


def summarise(per_seed: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean, standard error std(ddof=1)/sqrt(n) and n over seeds (METHODS 4.6). One seed has no standard error."""
    values = [v for v in per_seed if v is not None]
    n = len(values)
    if n == 0:
        return {"mean": None, "stderr": None, "n": 0}
    stderr = round(float(np.std(values, ddof=1)) / math.sqrt(n), DECIMALS) if n > 1 else None
    return {"mean": round(float(np.mean(values)), DECIMALS), "stderr": stderr, "n": n}


Groups = Mapping[str, Sequence[int]]  # {name: class indices}


def class_means(values: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Mean of `values` [M] over each class's images, in %, float64 [C]; NaN for a class without images."""
    images = np.bincount(labels, minlength=classes)
    total = np.bincount(labels, values, classes)
    return np.divide(100.0 * total, images, out=np.full(classes, np.nan), where=images > 0)


def group_means(values: np.ndarray, labels: np.ndarray, classes: int, groups: Groups) -> dict[str, float | None]:
    """{"all": mean over images, group: unweighted mean of its classes' means}, in %, of values [M] in [0, 1].

    Of "is the prediction right?" these are top1 and the group accuracies of evaluation.metrics, rounded alike. None for
    a group without images.
    """
    means = class_means(values, labels, classes)
    found = {name: group_mean(means, np.asarray(members, np.int64)) for name, members in groups.items()}
    found = {"all": 100.0 * float(np.mean(values)), **found}
    return {name: None if value is None else round(value, DECIMALS) for name, value in found.items()}


def group_codes(groups: Groups, classes: int) -> np.ndarray:
    """int64 [C]: position in `groups` of each class's group. The groups are of one rule: each class is in one."""
    codes = np.zeros(classes, np.int64)
    for i, members in enumerate(groups.values()):
        codes[np.asarray(members, np.int64)] = i
    return codes


def flows(predicted: np.ndarray, labels: np.ndarray, classes: int, groups: Groups) -> dict[str, dict | None]:
    """{group: {group predicted: share in %}}: unweighted mean over the group's classes; each row sums to 100.

    predicted, labels: int [M]. None for a group without images.
    """
    to = group_codes(groups, classes)[predicted]
    shares = np.stack([class_means(to == i, labels, classes) for i in range(len(groups))], 1)
    found: dict[str, dict | None] = {}
    for name, members in groups.items():
        rows = shares[np.asarray(members, np.int64)]
        rows = rows[~np.isnan(rows).any(1)]
        means = rows.mean(0).tolist() if len(rows) else None
        found[name] = means and {other: round(m, DECIMALS) for other, m in zip(groups, means, strict=True)}
    return found
