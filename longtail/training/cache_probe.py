"""The probe of a label cache: the views that are labelled, and the teacher's answers to a few (runs/probe.py)."""

from __future__ import annotations

from torch import nn

from longtail.runs.probe import Probe
from longtail.runs.probe_numbers import epochs_of, norm_and_projection, numbers
from longtail.training.cache import teacher_logits
from longtail.training.student_probe import view_facts
from longtail.views.batch import teacher_input
from longtail.views.student_views import Views

LOGITS = 8  # views whose logits are kept
LABELLED = 32  # views of an epoch; a RegNetY at 224 px takes a second for each


def cache_probe(teacher: nn.Module, views: Views, epochs: int) -> Probe:
    """Of one seed, on the CPU. teacher: in eval mode; epochs: of the cache."""
    probe = cache_facts(views, epochs)
    for epoch in _epochs(views, epochs):
        of = f"of epoch {epoch}"
        shown = views.step(epoch, 0, groups=slice(1)).shown[:LABELLED]
        logits = teacher_logits(teacher, shown, views.recipe)
        probe.computed[f"teacher's input {of}"] = norm_and_projection(teacher_input(shown, views.recipe))
        probe.computed[f"teacher's logits {of}"] = numbers(logits[:LOGITS])
        probe.labels[f"teacher's labels {of}"] = logits.argmax(1).tolist()
    return probe


def cache_facts(views: Views, epochs: int, count: int | None = None) -> Probe:
    """What needs no teacher. count: views of the first mix group that are made; None = all of it."""
    probe = Probe()
    for epoch in _epochs(views, epochs):
        probe.exact |= view_facts(views, epoch, count)
    return probe


def _epochs(views: Views, epochs: int) -> list[int]:
    return epochs_of(epochs, [views.recipe.mix_until])
