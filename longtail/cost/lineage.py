"""What a run takes with all that it needs: the teachers, their labels, and the runs that its weights go on from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from longtail.base import params as tables
from longtail.cost.workload import Workload

Stage = tuple[str, str]  # a stage of dvc.yaml that makes a network or labels, and the entry


@dataclass(frozen=True)
class Cost:
    """Of one seed of a run."""

    params: int  # of its network, as it is tested
    views: int  # forward and backward passes of its own weights: with those of the runs that they go on from
    flop: int  # of the same runs, with their evaluations: 2 x multiply-adds
    total: int  # of all that has to be made for it, each once: teachers and labels too


def cost(workload: Workload, stage: str, entry: str) -> Cost:
    """stage: train_student or train_teacher. Raises UserError for an entry that is not there or lacks a key."""
    shape = (workload.student_shape if stage == "train_student" else workload.teacher_shape)(entry)
    flop = {made: _flop(workload, made) for made in needed(workload.params, (stage, entry))}
    mine = own(workload.params, (stage, entry))
    views = sum(_trained(workload, made) for made in mine)
    return Cost(shape.params, views, sum(flop[made] for made in mine), sum(flop.values()))


def needed(params: dict, made: Stage) -> dict[Stage, None]:
    """All that a stage goes back to, each once, before what needs it; itself last."""
    found: dict[Stage, None] = {}
    for before in _before(params, made):
        found |= needed(params, before)
    return found | {made: None}


def own(params: dict, made: Stage) -> dict[Stage, None]:
    """A run and those whose weights it goes on from; of an ensemble, which goes on from several, its members."""
    found = {made: None}
    for before in _begun(params, made):
        found |= own(params, before)
    return found


def _before(params: dict, made: Stage) -> Iterator[Stage]:
    stage, name = made
    if stage == "pretrain":
        return
    if stage == "cache_logits":
        cache = tables.entry(params, "caches", name)
        yield ("train_student" if cache["teacher_kind"] == "students" else "train_teacher"), cache["teacher"]
        return
    if stage == "train_teacher":
        sources = tables.entry(params, "teachers", name).get("sources") or ()
        yield from (("train_teacher", source) for source in sources if source != "none")
        return
    entry = tables.entry(params, "experiments", name)
    if entry["cache"] != "none":
        yield "cache_logits", entry["cache"]
    elif entry["teacher"] != "none":
        yield "train_teacher", entry["teacher"]
    yield from _begun(params, made)


def _begun(params: dict, made: Stage) -> Iterator[Stage]:
    stage, name = made
    if stage == "train_teacher":
        if tables.entry(params, "teachers", name).get("start"):
            yield from _before(params, made)
    elif stage == "train_student":
        start = tables.entry(params, "experiments", name)["start"]
        if start != "none":
            yield ("pretrain" if start in (params.get("pretrainings") or {}) else "train_student"), start


def _flop(workload: Workload, made: Stage) -> int:
    work = workload.of(*made)
    return work.flop if work else 0


def _trained(workload: Workload, made: Stage) -> int:
    work = workload.of(*made)
    return sum(load.count for load in work.loads if load.part == "train") if work else 0
