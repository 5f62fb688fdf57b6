"""The two heads of a distilled student together: weighted, by confidence, and which weight to take.

Which weight of CLS against DIST to take, chosen on labelled images that are neither trained on nor tested on.

The weights and their accuracies are those of evaluation.fusion; w = .5 is the published average (METHODS trap 43).
"""

from __future__ import annotations

import numpy as np

from longtail.evaluation.metrics import DECIMALS, Groups, group_means, log_softmax
from longtail.evaluation.predictions import Predictions, TestSet

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


ALONE = {"cls": 1.0, "dist": 0.0, "average": 0.5}


def balanced_curve(cls: np.ndarray, dist: np.ndarray, labels: np.ndarray) -> list[float]:
    """Mean of per-class accuracies at each of WEIGHTS, in %, over the classes that have images. cls, dist: raw logits
    [M, C]; labels: int64 [M]."""
    return sweep(cls, dist, labels, {"balanced": range(cls.shape[1])})["balanced"]


def choose(curve: list[float]) -> float:
    """The weight with the highest value; of equals the nearest to .5, of two as near the smaller. curve: as WEIGHTS."""
    return float(WEIGHTS[best_weight(curve)])


def on_test(predictions: Predictions, test: TestSet, chosen: float | None) -> dict[str, dict[str, float | None]]:
    """{way: {"top1", "balanced", groups: %}} at the last epoch: of `cls` and `dist` alone, their `average`, and w
    `chosen` where there is one, with `gain`, its difference from the average in points."""
    heads, labels = predictions.logits["last"], predictions.labels
    groups = {"balanced": range(len(test.class_names)), **test.groups["author"], **test.groups["count"]}
    curves = sweep(heads["cls"], heads["dist"], labels, groups)
    curves["top1"] = curves.pop("all")
    ways = ALONE | ({} if chosen is None else {"chosen": chosen})
    at = {way: WEIGHTS.tolist().index(weight) for way, weight in ways.items()}
    found = {way: {name: curve[k] for name, curve in curves.items()} for way, k in at.items()}
    if chosen is not None:
        pairs = {name: (value, found["average"][name]) for name, value in found["chosen"].items()}
        found["gain"] = {k: None if a is None else round(c - a, DECIMALS) for k, (c, a) in pairs.items()}
    return found
