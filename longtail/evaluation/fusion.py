"""The two heads of a distilled student together: weighted logits, the more confident head, and how often they agree."""

from __future__ import annotations

import numpy as np

from longtail.evaluation.group_means import Groups, group_means
from longtail.evaluation.metrics import log_softmax

WEIGHTS = np.arange(21) / 20  # of CLS; 0.5 is the average of raw logits, of which the results are


def sweep(cls: np.ndarray, dist: np.ndarray, labels: np.ndarray, groups: Groups) -> dict[str, list[float | None]]:
    """{"all" or group: accuracy in % at each of WEIGHTS} of the RAW logits w CLS + (1 - w) DIST, [M, C] each."""
    cls, dist = np.asarray(cls, np.float64), np.asarray(dist, np.float64)
    found = []
    for weight in WEIGHTS:
        right = (weight * cls + (1.0 - weight) * dist).argmax(1) == labels
        found.append(group_means(right, labels, cls.shape[1], groups))
    return {name: [accuracies[name] for accuracies in found] for name in found[0]}


def best_weight(accuracies: list[float]) -> int:
    """Index into WEIGHTS of the largest accuracy; of equals that nearest to the average, then the smaller weight."""
    return max(range(len(WEIGHTS)), key=lambda i: (accuracies[i], -abs(2 * i - len(WEIGHTS) + 1)))


def routing(
    cls: np.ndarray, dist: np.ndarray, labels: np.ndarray, groups: Groups, logit_scale: float
) -> dict[str, dict[str, float | None]]:
    """Of each image the answer of the more confident head, CLS of equals; all in %, over all images and by group.

    accuracy: of that answer; to_dist: images answered by DIST; either_right: images that at least one head has right,
    which no choice between the two can exceed. Confidence: largest probability of softmax(logit_scale * logits).
    """
    answers, sure = {}, {}
    for head, z in (("cls", cls), ("dist", dist)):
        answers[head], sure[head] = np.argmax(z, 1), log_softmax(z, logit_scale).max(1)
    to_dist = sure["dist"] > sure["cls"]
    values = {
        "accuracy": np.where(to_dist, answers["dist"], answers["cls"]) == labels,
        "to_dist": to_dist,
        "either_right": (answers["cls"] == labels) | (answers["dist"] == labels),
    }
    return {name: group_means(v, labels, np.shape(cls)[1], groups) for name, v in values.items()}


def agreement(cls: np.ndarray, dist: np.ndarray, labels: np.ndarray, groups: Groups) -> dict[str, float | None]:
    """% of images for which both heads predict the same class, over all images and by group."""
    return group_means(np.argmax(cls, 1) == np.argmax(dist, 1), labels, np.shape(cls)[1], groups)
