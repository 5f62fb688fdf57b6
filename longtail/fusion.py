"""One answer of two experts: w * CLS + (1 - w) * DIST of raw logits, and which w to take.

w = .5 is the published average (METHODS trap 43). Another w has to be chosen on labelled images that are neither
trained on nor tested on. NumPy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from longtail.metrics import DECIMALS, confusion, group_mean, per_class_accuracy
from longtail.predictions import Predictions, TestSet

STEPS = 20
WEIGHTS = tuple(k / STEPS for k in range(STEPS + 1))  # of CLS: 0 is DIST alone, .5 the average, 1 CLS alone


def fuse(cls: np.ndarray, dist: np.ndarray, weight: float) -> np.ndarray:
    """weight * cls + (1 - weight) * dist of raw logits [M, C], float64 [M, C]."""
    return weight * np.asarray(cls, np.float64) + (1 - weight) * np.asarray(dist, np.float64)


def accuracies(logits: np.ndarray, labels: np.ndarray, groups: Mapping[str, Sequence[int]]) -> dict[str, float | None]:
    """top1 over images, and means of per-class accuracies: `balanced` of all classes that have images, and each group's
    (None where it has none). In %, rounded as metrics are. logits: [M, C]; labels: int64 [M]; groups: class indices."""
    counts = confusion(logits, labels)
    per_class = per_class_accuracy(counts)
    members = {"balanced": range(len(per_class)), **groups}
    values = {name: group_mean(per_class, np.asarray(classes, np.int64)) for name, classes in members.items()}
    values = {"top1": 100.0 * float(np.trace(counts)) / len(labels), **values}
    return {name: None if value is None else round(value, DECIMALS) for name, value in values.items()}


def balanced_curve(cls: np.ndarray, dist: np.ndarray, labels: np.ndarray) -> list[float]:
    """Mean of per-class accuracies at each of WEIGHTS, in %, over the classes that have images. Rounded as metrics are:
    equal numbers of hits are then equal values, whatever the order of a float sum."""
    return [accuracies(fuse(cls, dist, weight), labels, {})["balanced"] for weight in WEIGHTS]


def choose(curve: Sequence[float]) -> float:
    """The weight with the highest value; of equals the nearest to .5, of two as near the smaller. curve: as WEIGHTS."""
    best = max(range(len(WEIGHTS)), key=lambda k: (curve[k], -abs(2 * k - STEPS), -k))
    return WEIGHTS[best]


def on_test(predictions: Predictions, test: TestSet, chosen: float | None) -> dict[str, dict[str, float | None]]:
    """{way: accuracies} at the last epoch: of `cls` and `dist` alone, their `average`, and w `chosen` where there is
    one, with `gain`, its difference from the average."""
    heads, labels = predictions.logits["last"], predictions.labels
    groups = {name: members for rule in test.groups.values() for name, members in rule.items()}
    ways = {"cls": 1.0, "dist": 0.0, "average": 0.5} | ({} if chosen is None else {"chosen": chosen})
    found = {way: accuracies(fuse(heads["cls"], heads["dist"], w), labels, groups) for way, w in ways.items()}
    if chosen is not None:
        pairs = {name: (value, found["average"][name]) for name, value in found["chosen"].items()}
        found["gain"] = {k: None if a is None else round(c - a, DECIMALS) for k, (c, a) in pairs.items()}
    return found
