"""Which weight of CLS against DIST to take, chosen on labelled images that are neither trained on nor tested on.

The weights and their accuracies are those of evaluation.fusion; w = .5 is the published average (METHODS trap 43).
"""

from __future__ import annotations

import numpy as np

from longtail.evaluation.fusion import WEIGHTS, best_weight, sweep
from longtail.evaluation.metrics import DECIMALS
from longtail.evaluation.predictions import Predictions, TestSet

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
