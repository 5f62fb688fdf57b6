"""Saved test logits and the test set they belong to: read, and checked against one another.

NumPy alone: metrics are recomputable from the files of a run without torch and without a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from longtail.base import intact
from longtail.base.errors import UserError
from longtail.base.files import npz
from longtail.data.long_tail import check_labels
from longtail.evaluation.metrics import (
    AUTHOR_GROUPS,
    COUNT_GROUPS,
    DECIMALS,
    EXPERTS,
    all_metrics,
    average_heads,
    group_indices,
)

PHASES = ("last", "best")  # of every run
VALIDATION = "validation"  # a third one, of runs on a dataset with validation images
HEADS = ("cls", "dist")


@dataclass(frozen=True)
class TestSet:
    """What evaluation needs of a dataset file."""

    class_names: tuple[str, ...]
    class_counts: np.ndarray  # int64 [C], training images per class
    groups: dict[str, dict[str, list[int]]]  # {"author": {"head": [...], ...}, "count": {"many": [...], ...}}
    class_order: str  # sha256 of the ordered class list
    labels: np.ndarray  # int64 [M]
    digest: str  # sha256 of the whole dataset file

    __test__ = False  # no test case, whatever pytest thinks of the name


@dataclass(frozen=True)
class Predictions:
    """One seed's logits on the test set: at the last epoch, at the best one on the test set, and, of runs that have
    validation images, at the one chosen on these."""

    labels: np.ndarray  # int64 [M]
    logits: dict[str, dict[str, np.ndarray]]  # {"last": {"cls": float32 [M, C], "dist": ...}, "best": ...}
    epochs: dict[str, int]  # {"last": ..., "best": ...}
    class_order: str
    logit_scale: float  # 30 where logits are cosines (LDAM), else 1
    experts: dict[str, float] = field(default_factory=dict)  # {"last": mean number that answered, "best": ...}, if any

    @property
    def phases(self) -> tuple[str, ...]:
        """last, best, and validation where it was measured."""
        return tuple(self.logits)


def read_npz(path: Path, keys: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The named arrays of an npz file. Raises UserError when it is missing, cut short, or lacks a key."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage that makes it first")
    with npz(path, "cut short or damaged", "delete it and make it again") as file:
        wanted = keys + tuple(k for k in optional if k in file.files)
        lacking = [k for k in wanted if k not in file.files]
        if lacking:
            raise UserError(f"{path}: no '{lacking[0]}' in it; it has {', '.join(file.files)}")
        return {k: file[k] for k in wanted}


def load_test_set(path: Path) -> TestSet:
    """The test labels, classes and groups of data/datasets/<name>.npz; its images are not read."""
    keys = ("class_names", "class_counts", "author_groups", "count_groups", "class_order", "test_labels", "digest")
    data = read_npz(path, keys)
    check_labels(data["test_labels"], len(data["class_names"]), f"{path}: test labels")
    return TestSet(
        class_names=tuple(str(n) for n in data["class_names"]),
        class_counts=data["class_counts"].astype(np.int64),
        groups={
            "author": group_indices(data["author_groups"], AUTHOR_GROUPS),
            "count": group_indices(data["count_groups"], COUNT_GROUPS),
        },
        class_order=str(data["class_order"]),
        labels=data["test_labels"].astype(np.int64),
        digest=str(data["digest"]),
    )


def load_predictions(path: Path) -> Predictions:
    """predictions.npz of one seed of a run; the `dist` head is there for distilled students only, the number of experts
    for networks of several."""
    keys = ("labels", "logits_last_cls", "logits_best_cls", "last_epoch", "best_epoch", "class_order", "logit_scale")
    intact.check(path.parent, path.name)
    counted = {p: f"experts_{p}" for p in (*PHASES, VALIDATION)}
    known = [f"logits_{p}_{h}" for p in counted for h in HEADS]
    optional = (*(name for name in known if name not in keys), f"{VALIDATION}_epoch", *counted.values())
    data = read_npz(path, keys, optional=optional)
    phases = (*PHASES, *((VALIDATION,) if f"{VALIDATION}_epoch" in data else ()))
    logits = {p: {h: data[f"logits_{p}_{h}"] for h in HEADS if f"logits_{p}_{h}" in data} for p in phases}
    if lacking := [p for p in phases if logits[p].keys() != logits["last"].keys()]:
        raise UserError(f"{path}: other heads at {lacking[0]} than at last; train it again")
    for phase in phases:
        for head, z in logits[phase].items():
            if z.ndim != 2 or len(z) != len(data["labels"]):
                raise UserError(f"{path}: logits_{phase}_{head} has shape {z.shape} for {len(data['labels'])} labels")
            if not np.isfinite(z).all():
                raise UserError(f"{path}: logits_{phase}_{head} has values that are not finite; the training diverged")
    return Predictions(
        labels=data["labels"].astype(np.int64),
        logits=logits,
        epochs={p: int(data[f"{p}_epoch"]) for p in phases},
        class_order=str(data["class_order"]),
        logit_scale=float(data["logit_scale"]),
        experts={p: float(data[name].mean()) for p, name in counted.items() if name in data},
    )


def check(predictions: Predictions, facts: dict, test: TestSet, run: str, dataset: str) -> None:
    """Raises UserError unless the predictions of `run` are of this test set, in this class order.

    facts: its identity.json: dataset_digest, and class_names where the run tells them.
    """
    if len(predictions.labels) != len(test.labels):
        raise UserError(
            f"{run}: predictions for {len(predictions.labels)} test images, but {dataset} has {len(test.labels)}; "
            "evaluate it on the dataset entry it was trained on"
        )
    if predictions.class_order != test.class_order:
        raise UserError(
            f"{run}: class order {predictions.class_order[:12]}, but {dataset} has {test.class_order[:12]}; "
            + _reconcile(predictions.labels, facts.get("class_names"), test)
        )
    widths = {z.shape[1] for heads in predictions.logits.values() for z in heads.values()}
    if widths != {len(test.class_names)}:
        raise UserError(f"{run}: logits for {sorted(widths)} classes, but {dataset} has {len(test.class_names)}")
    check_labels(predictions.labels, len(test.class_names), f"{run}: predictions")
    differ = np.flatnonzero(predictions.labels != test.labels)
    if len(differ):
        i = differ[0]
        raise UserError(
            f"{run}: test image {i} has label {predictions.labels[i]}, but {dataset} says {test.labels[i]} "
            f"({len(differ)} differ); the test images are in another order"
        )
    if facts["dataset_digest"] != test.digest:
        raise UserError(
            f"{run}: trained on dataset content {facts['dataset_digest'][:12]}, but {dataset} is {test.digest[:12]}; "
            "train it again, or evaluate it on the dataset entry it was trained on"
        )


def _reconcile(labels: np.ndarray, names: list[str] | None, test: TestSet) -> str:
    """Which permutation of the run's classes gives the dataset's: by name, else from the two label lists."""
    if names is not None:
        if sorted(names) != sorted(test.class_names):
            return "not the same classes"
        moves = [(list(names).index(name), i) for i, name in enumerate(test.class_names)]
    else:
        moves = [(b, a) for a, b in sorted(set(zip(test.labels.tolist(), labels.tolist(), strict=True)))]
        one_to_one = len(moves) == len({a for _, a in moves}) == len({b for b, _ in moves}) == len(test.class_names)
        if not one_to_one or all(a == b for b, a in moves):
            return "the labels do not show which permutation would reconcile them: train it again on this dataset entry"
    listed = [f"{test.class_names[a]}: {b} -> {a}" for b, a in moves if a != b]
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return f"this permutation of the run's classes would reconcile them: {', '.join(listed[:10])}{more}"


def phase_metrics(predictions: Predictions, test: TestSet, phase: str) -> dict:
    """{"epoch", "avg": metrics, "cls": metrics, ...} of the epoch of a phase; avg is the mean of raw logits. Of
    networks of several experts, each with `experts`, the mean number of them that answered."""
    heads = predictions.logits[phase]
    groups = {name: members for rule in test.groups.values() for name, members in rule.items()}
    named = {"avg": average_heads(*heads.values()), **heads}
    metrics = {h: all_metrics(z, predictions.labels, groups, predictions.logit_scale) for h, z in named.items()}
    if phase in predictions.experts:
        metrics = {h: m | {EXPERTS: round(predictions.experts[phase], DECIMALS)} for h, m in metrics.items()}
    return {"epoch": predictions.epochs[phase], **metrics}
