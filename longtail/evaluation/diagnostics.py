"""Long-tail evaluation of a run at its last epoch, from saved test logits: diagnostics.json.

Every accuracy and share is in %; over seeds {mean, stderr, n} as in the metrics files. Counts are summed over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.evaluation import fusion
from longtail.evaluation.metrics import (
    BINS,
    DECIMALS,
    average_heads,
    class_means,
    flows,
    group_codes,
    group_means,
    log_softmax,
    summarise,
)
from longtail.evaluation.predictions import Predictions, TestSet
from longtail.evaluation.shifts import TESTS, shifted_accuracies


def bin_sums(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> np.ndarray:
    """float64 [3, bins]: images, sum of confidences, images predicted rightly. Bins as metrics.calibration_gaps has
    them (METHODS 5.5): equal, right-closed edges.

    confidence: float64 [M] in [0, 1]; right: 0/1 [M].
    """
    bin_of = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
    return np.stack([np.bincount(bin_of, weights, bins) for weights in (np.ones(len(right)), confidence, right)])


def ece(sums: np.ndarray) -> float | None:
    """Expected calibration error in %, from bin_sums; None without images."""
    images, confidence, right = sums
    return round(100.0 * float(np.abs(right - confidence).sum() / images.sum()), DECIMALS) if images.any() else None


def diagram(sums: np.ndarray) -> dict[str, list]:
    """{"count": images a bin, "confidence": mean in %, "accuracy": %}; None in an empty bin."""
    images, confidence, right = sums

    def percent(total: np.ndarray) -> list[float | None]:
        return [round(100.0 * t / n, DECIMALS) if n else None for t, n in zip(total.tolist(), images, strict=True)]

    return {"count": images.astype(int).tolist(), "confidence": percent(confidence), "accuracy": percent(right)}


SCHEMA = 1
LARGEST_MATRIX = 100  # classes up to which a confusion matrix is kept
FREQUENT = 20  # confusions listed


def all_groups(test: TestSet) -> dict[str, list[int]]:
    """{group: class indices} of both rules together: head, mid, tail, many, medium, few."""
    return {name: members for rule in test.groups.values() for name, members in rule.items()}


def with_average(heads: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """avg beside cls (and dist), as in the metrics files; of one head it is that head."""
    return {"avg": average_heads(*heads.values()), **heads}


def top1(predictions: Predictions) -> dict[str, dict[str, np.ndarray]]:
    """{"last" | "best" | "validation": {head: predicted class, int64 [M]}}; the lower class of equals."""
    return {p: {h: z.argmax(1) for h, z in with_average(heads).items()} for p, heads in predictions.logits.items()}


def classes_file(test: TestSet, predicted: dict[int, dict]) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz: seed<k>_<phase>_<head> and labels, uint8 or uint16 [M], and the classes' [C]."""
    classes = len(test.class_names)
    small = np.min_scalar_type(classes - 1)
    found = {
        f"seed{seed}_{phase}_{head}": answers
        for seed, phases in predicted.items()
        for phase, heads in phases.items()
        for head, answers in heads.items()
    }
    return {
        **{name: array.astype(small) for name, array in {"labels": test.labels, **found}.items()},
        "class_counts": test.class_counts,
        "groups_author": group_codes(test.groups["author"], classes).astype(np.uint8),
    }


def measure(predictions: Predictions, test: TestSet) -> dict[str, Any]:
    """One seed: {"heads": {head: {accuracy, per_class, shifts, bins}}, "fusion", "routing", "agreement"}.

    The last three are None for a run with one head. bins: {"all" or group: sums of longtail.evaluation.diagnostics}.
    """
    labels, scale, groups = test.labels, predictions.logit_scale, all_groups(test)
    heads, classes = predictions.logits["last"], len(test.class_names)
    found: dict[str, Any] = {"heads": {}, "fusion": None, "routing": None, "agreement": None}
    for head, z in with_average(heads).items():
        right, confidence = z.argmax(1) == labels, np.exp(log_softmax(z, scale).max(1))
        per_class = class_means(right, labels, classes).tolist()
        members = {"all": np.ones(len(labels), bool)} | {g: np.isin(labels, of) for g, of in groups.items()}
        found["heads"][head] = {
            "accuracy": group_means(right, labels, classes, groups),
            "per_class": [None if a != a else round(a, DECIMALS) for a in per_class],
            "shifts": shifted_accuracies(z, labels, test.class_counts, scale),
            "bins": {name: bin_sums(confidence[m], right[m]) for name, m in members.items()},
        }
    if "dist" in heads:
        pair = heads["cls"], heads["dist"], labels, groups
        found["fusion"], found["agreement"] = fusion.sweep(*pair), fusion.agreement(*pair)
        found["routing"] = fusion.routing(*pair, scale)
    return found


def over_seeds(values: Sequence[Any]) -> Any:
    """Trees of one shape, a seed each: numbers become {mean, stderr, n}, lists of numbers {mean: [...], stderr: [...]}.

    A number may be None, which is then left out.
    """
    first = values[0]
    if isinstance(first, dict):
        return {key: over_seeds([v[key] for v in values]) for key in first}
    if not isinstance(first, list):
        return summarise(values)
    each = [over_seeds(column) for column in zip(*values, strict=True)]
    return {key: [e[key] for e in each] for key in ("mean", "stderr")}


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, list | None]:
    """{"counts": [[int]], [i][j] being images of class i predicted as j, None of more than 100 classes; "frequent": the
    largest entries off the diagonal, {true, predicted, images} each, by images, then by class}.
    """
    pairs, images = np.unique(labels * classes + predicted, return_counts=True)
    counts = None
    if classes <= LARGEST_MATRIX:
        counts = np.bincount(pairs, images, classes**2).astype(int).reshape(classes, classes).tolist()
    true, other = np.divmod(pairs, classes)
    order = np.argsort(-images, kind="stable")
    wrong = order[(true != other)[order]][:FREQUENT].tolist()
    frequent = [{"true": int(true[i]), "predicted": int(other[i]), "images": int(images[i])} for i in wrong]
    return {"counts": counts, "frequent": frequent}


def _head(measured: Sequence[dict], predicted: Sequence[np.ndarray], test: TestSet) -> dict[str, Any]:
    """A head's block from one measure and one array of predicted classes a seed."""
    classes, stacked = len(test.class_names), np.concatenate(predicted)
    labels = np.tile(test.labels, len(predicted))
    shifts = [over_seeds(at) for at in zip(*(m["shifts"] for m in measured), strict=True)]
    return {
        "accuracy": over_seeds([m["accuracy"] for m in measured]),
        "per_class": over_seeds([m["per_class"] for m in measured]),
        "confusion": confusion(stacked, labels, classes),
        "flows": {rule: flows(stacked, labels, classes, groups) for rule, groups in test.groups.items()},
        "reliability": {
            name: {
                "ece": summarise([ece(m["bins"][name]) for m in measured]),
                **diagram(np.sum([m["bins"][name] for m in measured], 0)),
            }
            for name in measured[0]["bins"]
        },
        "shifts": [
            {"direction": direction, "factor": factor, **values}
            for (direction, factor), values in zip(TESTS, shifts, strict=True)
        ],
    }


def _fusion(sweeps: Sequence[dict]) -> dict[str, Any]:
    """The sweep over seeds, and the weight that turns out best on these test images: no result, but its bound."""
    accuracy = over_seeds(sweeps)
    best = fusion.best_weight(accuracy["all"]["mean"])
    return {
        "weights": fusion.WEIGHTS.tolist(),
        "accuracy": accuracy,
        "oracle_on_test": {"weight": float(fusion.WEIGHTS[best]), "accuracy": accuracy["all"]["mean"][best]},
    }


def combine(
    about: dict[str, Any], test: TestSet, measured: dict[int, dict], predicted: dict[int, dict], logit_scale: float
) -> dict[str, Any]:
    """The content of diagnostics.json (docs/schema/diagnostics.schema.json), from measure() and top1() of every seed.

    about: entry, kind, study, dataset, config_hash.
    """
    seeds = list(measured.values())
    distilled = seeds[0]["fusion"] is not None
    return {
        "schema": SCHEMA,
        **about,
        "phase": "last",
        "seeds": list(measured),
        "logit_scale": logit_scale,
        "class_names": list(test.class_names),
        "class_counts": test.class_counts.tolist(),
        "test_counts": np.bincount(test.labels, minlength=len(test.class_names)).tolist(),
        "groups": test.groups,
        "heads": {
            head: _head([s["heads"][head] for s in seeds], [p["last"][head] for p in predicted.values()], test)
            for head in seeds[0]["heads"]
        },
        "fusion": _fusion([s["fusion"] for s in seeds]) if distilled else None,
        "routing": over_seeds([s["routing"] for s in seeds]) if distilled else None,
        "agreement": over_seeds([s["agreement"] for s in seeds]) if distilled else None,
    }
