"""On which training views teacher and student answer alike, and whether they name the image that dominates a mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from longtail.analysis.student import BATCH, Student
from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail
from longtail.evaluation.metrics import DECIMALS, summarise
from longtail.models.vit import head_logits, special_tokens
from longtail.training.cache import teacher_labels
from longtail.training.labels import TeacherLabels, seed_folder
from longtail.training.teacher import load_teacher, teacher_digest
from longtail.views import mix
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views

UNMIXED, MIXUP, CUTMIX = range(3)
KINDS = {"unmixed": (UNMIXED,), "mixed": (MIXUP, CUTMIX), "mixup": (MIXUP,), "cutmix": (CUTMIX,)}
WHO = ("cls", "dist", "teacher", "dominant")  # dominant: the class of the image that most of the view is


def epochs_shown(recipe: ViewRecipe, epochs: int) -> list[int]:
    """The last epoch with mixing, if any has, and the last epoch of training where mixing has ended by then."""
    if not recipe.mixes:
        return [epochs - 1]
    return [recipe.mix_until - 1, epochs - 1] if recipe.mix_until < epochs else [epochs - 1]


def taught_by(
    folder: Path,
    digest: str,
    views: Views,
    data: LongTail,
    epochs: int,
    cache: Path | None = None,
    teacher: Path | None = None,
) -> TeacherLabels | nn.Module:
    """The labels, or else the teacher, that a student learnt from. folder: its result of one seed; digest: the
    teacher's weights by its identity.json; views, epochs: of the run; cache or teacher: a folder with seeds.

    Raises UserError where it is of another teacher, or the cache of other views.
    """
    if cache is not None:
        source = seed_folder(cache, views.seed)
        labels = TeacherLabels.load(source)
        labels.check(views, data, views.seed, epochs, str(source), sample=1)
        found = labels.meta["teacher_digest"]
    elif teacher is not None:
        source = seed_folder(teacher, views.seed)
        labels, found = load_teacher(source, data, views.device)[0], teacher_digest(source)
    else:
        raise UserError(f"{folder}: learnt from a teacher; pass --cache FOLDER, or --teacher FOLDER for `cache: none`")
    if found != digest:
        raise UserError(f"{source}: another teacher than {folder} learnt from; train the student again")
    return labels


@torch.no_grad()
def answers(
    student: Student, views: Views, classes: np.ndarray, labels: TeacherLabels | nn.Module, epoch: int, limit: int
) -> dict[str, np.ndarray]:
    """What each of WHO says of the first `limit` views of an epoch, and the `kind` of each view: int64 [n] by name.

    classes: int64 [N], of the training images; labels: the cache, or the teacher to ask. The student is in evaluation
    mode: no stochastic depth.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("kind", *WHO)}
    seen = 0
    with closing(views.steps(epoch)) as steps:
        for number, batch in enumerate(steps):
            chunks = batch.x.split(BATCH)
            heads = [head_logits(student.model, special_tokens(student.model, x.to(student.device))) for x in chunks]
            for head in ("cls", "dist"):
                parts[head].append(torch.cat([z[head].argmax(1) for z in heads]).cpu().numpy())
            if isinstance(labels, TeacherLabels):
                named = labels.at(epoch, batch.positions)
            else:
                shown = batch.shown.split(BATCH)
                named = torch.cat([teacher_labels(labels, x.to(student.device), views.recipe) for x in shown]).cpu()
            parts["teacher"].append(named.numpy())
            own = batch.lam.numpy() >= 0.5
            parts["dominant"].append(np.where(own, classes[batch.index], classes[batch.partner]))
            parts["kind"].append(kinds_of_step(views, epoch, number))
            seen += len(own)
            if seen >= limit:
                break
    return {name: np.concatenate(arrays)[:limit] for name, arrays in parts.items()}


def kinds_of_step(views: Views, epoch: int, step: int) -> np.ndarray:
    """UNMIXED, MIXUP or CUTMIX of each view of a step, int64 [n]."""
    groups = views.layout.groups_of_step(step)
    drawn = mix.draw(views.recipe, views.key, epoch, [views.layout.group_number(group) for group in groups])
    kinds = [UNMIXED if what.lam == 1.0 else MIXUP if what.box is None else CUTMIX for what in drawn]
    return np.repeat(kinds, [group.stop - group.start for group in groups])


def compare(said: Mapping[str, np.ndarray], groups: Mapping[str, Sequence[int]]) -> dict[str, dict[str, dict]]:
    """{kind: {group: {"views": n, "cls_teacher": %, ...}}}: of how many views each two of WHO name the same class.

    said: of `answers`; groups: {name: class indices}, by the class of the dominant image. None where it has no views.
    """
    result: dict[str, dict[str, dict]] = {}
    for kind, codes in KINDS.items():
        of_kind = np.isin(said["kind"], codes)
        for name, members in groups.items():
            rows = of_kind & np.isin(said["dominant"], members)
            shares = {f"{a}_{b}": _percent(said[a][rows] == said[b][rows]) for a, b in combinations(WHO, 2)}
            result.setdefault(kind, {})[name] = {"views": int(rows.sum()), **shares}
    return result


def over_seeds(parts: Sequence[Any]) -> Any:
    """Nested dictionaries of one shape with `views` added up, and mean, standard error and n of every other number."""
    if not isinstance(parts[0], dict):
        return summarise(parts)
    return {k: sum(p[k] for p in parts) if k == "views" else over_seeds([p[k] for p in parts]) for k in parts[0]}


def _percent(same: np.ndarray) -> float | None:
    return round(100.0 * float(same.mean()), DECIMALS) if len(same) else None
