"""Means of per-image values by class group, as the metrics files make theirs; and where a group's images go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from longtail.evaluation.metrics import DECIMALS, group_mean

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
