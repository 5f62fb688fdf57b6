"""The two experts of distilled students: fusion weights from held-out images, and agreement on training views.

What stages/experts.py writes of students that have a DIST token; docs/schema/experts.schema.json has its fields.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from longtail.analysis.agreement import answers, compare, epochs_shown, over_seeds, taught_by
from longtail.analysis.student import Student, load_student
from longtail.base import params, yaml_file
from longtail.data.config import DatasetConfig
from longtail.data.heldout import HeldOut, held_out
from longtail.data.long_tail import LongTail
from longtail.evaluation.fusion import WEIGHTS, balanced_curve, choose, on_test
from longtail.evaluation.metrics import summarise
from longtail.evaluation.predictions import Predictions, TestSet, check, load_test_set
from longtail.models.vit import head_logits, special_tokens
from longtail.runs.seeds import pick_device
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views

VIEWS = 2048  # of an epoch that are compared


@torch.no_grad()
def heldout_curve(student: Student, held: HeldOut) -> list[float]:
    """Mean of per-class accuracies on the held-out images at each weight, in %; empty where there are none."""
    if not len(held.labels):
        return []
    logits = [head_logits(student.model, special_tokens(student.model, x)) for x in student.batches(held.images)]
    cls, dist = (torch.cat([part[head] for part in logits]).cpu().numpy() for head in ("cls", "dist"))
    return balanced_curve(cls, dist, held.labels)


def fusion(curves: dict[int, list[float]], tested: dict[int, Predictions], test: TestSet, held: HeldOut) -> dict:
    """The block `fusion`. curves: of each seed on the held-out images."""
    chosen = {seed: choose(curve) for seed, curve in curves.items() if curve}
    per_class = np.bincount(held.labels, minlength=len(test.class_names))
    return {
        "weights": WEIGHTS.tolist(),
        "heldout": {
            "uses_extra_labels": True,
            "origin": held.origin,
            "limit": held.limit,
            "images": len(held.labels),
            "per_class": per_class.tolist(),
            "missing_classes": [name for name, n in zip(test.class_names, per_class, strict=True) if not n],
            "balanced": [summarise(values) for values in zip(*curves.values(), strict=True)],
        },
        "chosen": {"seeds": {str(seed): w for seed, w in chosen.items()}, **summarise(list(chosen.values()))},
        "test": over_seeds([on_test(predictions, test, chosen.get(seed)) for seed, predictions in tested.items()]),
    }


def agreement(shown: Sequence[dict[int, dict]]) -> list[dict] | None:
    """The block `agreement`: an item an epoch, without kinds of views that it has none of. shown: of every seed that
    was trained here; None where all were imported, whose teacher and views are not at hand."""
    items = []
    for epoch in shown[0] if shown else ():
        kinds = over_seeds([seed[epoch] for seed in shown])
        kept = {kind: groups for kind, groups in kinds.items() if groups["all"]["views"]}
        items.append({"epoch": epoch, "kinds": kept})
    return items or None


def experts(
    run: Path,
    tested: dict[int, Predictions],
    data: LongTail,
    dataset: Path,
    config: DatasetConfig,
    source: dict[str, Path | None],
    limit: int,
    device: str,
) -> dict:
    """Both blocks. run: folder of the seeds; tested: their predictions; data: what they were trained on, of the file
    `dataset` and the entry `config`; source: the folders `cache` and `teacher`, of which a run's config.yaml says the
    one that is read; limit: held-out images a class. Raises UserError where a run or its labels are others than its
    files say."""
    test, chosen = load_test_set(dataset), pick_device(device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # METHODS trap 50
    held = held_out(data, config, limit)
    groups = {name: members for rule in test.groups.values() for name, members in rule.items()}
    curves, shown = {}, []
    for seed, predictions in tested.items():
        folder = run / f"seed{seed}"
        student = load_student(folder, data, chosen)
        made = yaml_file.mapping(folder / "config.yaml")
        facts = json.loads((folder / "identity.json").read_text())
        check(predictions, facts, test, str(folder), str(dataset))
        curves[seed] = heldout_curve(student, held)
        if facts.get("imported"):
            continue
        recipe = params.build(ViewRecipe, made["views"], f"{folder / 'config.yaml'}: views")
        views = Views(recipe, data.train_images, seed, device=chosen, labels=data.train_labels)
        which = "teacher" if made["cache"] == "none" else "cache"
        length, asked = made["train"]["epochs"], {which: source[which]}
        teacher = taught_by(folder, facts["teacher_digest"], views, data, length, **asked)
        epochs = epochs_shown(recipe, length)
        said = {epoch: answers(student, views, data.train_labels, teacher, epoch, VIEWS) for epoch in epochs}
        shown.append({epoch: compare(what, {"all": range(data.num_classes), **groups}) for epoch, what in said.items()})
        print(f"{run.name} seed {seed}: {len(held.labels)} held-out images, views of epochs {epochs}", flush=True)
    return {"fusion": fusion(curves, tested, test, held), "agreement": agreement(shown)}
