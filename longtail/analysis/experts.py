"""The two experts of distilled students: fusion weights from held-out images, and agreement on training views.

What stages/experts.py writes of students that have a DIST token; docs/schema/experts.schema.json has its fields.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import numpy as np
import torch

from longtail.analysis.agreement import answers, compare, epochs_shown, over_seeds, taught_by
from longtail.analysis.student import Student, load_student
from longtail.base import params, yaml_file
from longtail.base.errors import UserError
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


def experts(args: argparse.Namespace, name: str, config: DatasetConfig, tested: dict[int, Predictions]) -> dict:
    """Both blocks. args: of stages/experts.py; name, config: of the entry's dataset; tested: seeds' predictions.
    Raises UserError where the dataset, a run or its labels are others than the entry names."""
    device, data, test = pick_device(args.device), LongTail.load(args.dataset), load_test_set(args.dataset)
    if data.name != name:
        raise UserError(f"experiments.{args.entry}.dataset is '{name}' but {args.dataset} holds '{data.name}'")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # METHODS trap 50
    held = held_out(data, config, args.limit)
    groups = {name: members for rule in test.groups.values() for name, members in rule.items()}
    curves, shown = {}, []
    for seed, predictions in tested.items():
        folder = args.run / f"seed{seed}"
        student = load_student(folder, data, device)
        run = yaml_file.mapping(folder / "config.yaml")
        facts = json.loads((folder / "identity.json").read_text())
        check(predictions, facts, test, str(folder), str(args.dataset))
        curves[seed] = heldout_curve(student, held)
        if facts.get("imported"):
            continue
        recipe = params.build(ViewRecipe, run["views"], f"{folder / 'config.yaml'}: views")
        views = Views(recipe, data.train_images, seed, device=device, labels=data.train_labels)
        source = {"teacher": args.teacher} if run["cache"] == "none" else {"cache": args.cache}
        teacher = taught_by(folder, facts["teacher_digest"], views, data, run["train"]["epochs"], **source)
        epochs = epochs_shown(recipe, run["train"]["epochs"])
        said = {epoch: answers(student, views, data.train_labels, teacher, epoch, VIEWS) for epoch in epochs}
        shown.append({epoch: compare(what, {"all": range(data.num_classes), **groups}) for epoch, what in said.items()})
        print(f"{args.entry} seed {seed}: {len(held.labels)} held-out images, views of epochs {epochs}", flush=True)
    return {"fusion": fusion(curves, tested, test, held), "agreement": agreement(shown)}
