"""Made-up runs on disk: a dataset of four classes, a student with two seeds and two heads, a teacher with one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml

from longtail.data.long_tail import class_order

NAMES = ("ant", "bee", "cat", "dog")
ORDER = class_order(NAMES)
LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3])


def make(root: Path) -> None:
    """A dataset, a student with two seeds and two heads, a teacher with one seed and one head."""
    arrays = {"class_names": np.array(NAMES), "class_counts": np.array([200, 50, 10, 5]), "class_order": ORDER}
    arrays |= {"author_groups": np.array([0, 1, 1, 2]), "count_groups": np.array([0, 1, 2, 2]), "digest": "d" * 64}
    np.savez(root / "d.npz", test_labels=LABELS, train_images=np.zeros(3), **arrays)
    entries = {"study": "s", "seeds": [0, 1]}
    values = {"experiments": {"e": entries}, "teachers": {"t": {"study": "s", "seeds": [0]}}}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    for run, seed, heads in (("e", 0, "cls dist"), ("e", 1, "cls dist"), ("t", 0, "cls")):
        folder = root / run / f"seed{seed}"
        folder.mkdir(parents=True)
        predicted = {"cls": [0, 1, 1, 3, 0, 1, 1, 3 - 3 * seed], "dist": [0, 1, 2, 3, 0, 1, 2, 3]}
        logits = {h: np.eye(4, dtype=np.float32)[predicted[h]] for h in heads.split()}
        if "dist" in logits:
            logits["dist"] = logits["dist"] / 4
        save(folder, labels=LABELS, class_order=ORDER, logit_scale=1.0, last_epoch=9, best_epoch=7, **{
            f"logits_{phase}_{h}": z for phase in ("last", "best") for h, z in logits.items()
        })  # fmt: skip
        (folder / "identity.json").write_text(json.dumps({"identity": "1" * 64, "dataset_digest": "d" * 64}))
        (folder / "config.yaml").write_text(yaml.safe_dump({"lr": 0.1, "seed": seed}))
        (folder / "history.csv").write_text("epoch,loss,test_top1_avg\n0,2.5,\n1,1.23456789,75\n")


def save(folder: Path, **arrays) -> None:
    np.savez(folder / "predictions.npz", **arrays)


def change(folder: Path, **arrays) -> None:
    with np.load(folder / "predictions.npz") as file:
        save(folder, **{**{k: file[k] for k in file.files}, **arrays})
