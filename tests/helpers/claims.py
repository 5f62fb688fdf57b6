"""Constructed results for the claims: metrics, predictions, and a claim of two runs of study `s`."""

from __future__ import annotations

import numpy as np

from longtail.base import params
from longtail.base.files import write_json
from longtail.report.claims.judge import Claim, Judged, ledger
from tests.helpers.reporting import metrics_file

T2 = {"file": "deit_lt_table_2.csv", "dataset": "CIFAR-10-LT", "imbalance": 100, "backbone": "ViT-B"}
LABELS = np.repeat([0, 1, 2], 40)
GROUPS = {"author": {"head": [0], "mid": [1], "tail": [2]}, "count": {"many": [0, 1], "medium": [], "few": [2]}}


def claim(higher: dict, lower: dict, study: str | None = "s", **more) -> Claim:
    pair = {"higher": higher, "lower": lower} | ({"study": study} if study else {})
    return params.build(
        Claim, {"id": "c", "paper": "DeiT-LT", "where": "Table 9", "text": "A | B.", "full": [pair], **more}, "claim"
    )


def decided(claim: Claim, reports) -> Judged:
    (found,) = ledger([claim], reports)
    return found


AB = claim({"entry": "a"}, {"entry": "b"})


def put(reports, entry: str, top1: list[float], kind: str = "experiment", **more) -> None:
    under = {"teacher": "teachers/", "experiment": ""}[kind]
    found = metrics_file(entry, kind, top1) | {"groups": GROUPS} | more
    write_json(reports / f"metrics/s/{under}{entry}.json", found)


def put_predictions(reports, entry: str, right: list[list[int]], under: str = "", labels=LABELS) -> None:
    """predictions.npz of a run: right[seed][k] images of class k are right; its metrics file fits."""
    predicted = {}
    per_class = np.array([[100 * n / 40 for n in seed] for seed in right])
    for s, counts in enumerate(right):
        answers = [np.where(np.arange(40) < n, k, (k + 1) % 3) for k, n in enumerate(counts)]
        for head in ("avg", "cls"):
            for epoch in ("last", "best"):
                predicted[f"seed{s}_{epoch}_{head}"] = np.concatenate(answers).astype(np.uint8)
    folder = reports / "runs/s" / under / entry
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"labels": labels.astype(np.uint8), "class_counts": np.array([9, 5, 2]), **predicted}
    np.savez_compressed(folder / "predictions.npz", **arrays)
    found = metrics_file(entry, "teacher" if under else "experiment", per_class.mean(axis=1).tolist())
    for s, values in enumerate(per_class):
        for head in ("avg", "cls"):
            found["seeds"][str(s)]["last"][head] |= {"top1": values.mean(), "head": values[0], "tail": values[2]}
    write_json(reports / "metrics/s" / under / f"{entry}.json", found | {"groups": GROUPS})
