"""The probe of a label cache: the views that are labelled, and the teacher's answers to a few (longtail/probe.py)."""

from __future__ import annotations

from torch import nn

from longtail.batch import teacher_input
from longtail.cache import teacher_logits
from longtail.probe import Probe
from longtail.probe_numbers import epochs_of, norm_and_projection, numbers
from longtail.views import Views

LOGITS = 8  # views whose logits are kept, of as many of the first mix group as are labelled
LABELLED = 32  # views of an epoch; a RegNetY at 224 px takes a second for each


def cache_probe(teacher: nn.Module, views: Views, epochs: int) -> Probe:
    """Of one seed, on the CPU. teacher: in eval mode; epochs: of the cache."""
    probe = Probe()
    for epoch in epochs_of(epochs, [views.recipe.mix_until]):
        of, batch = f"of epoch {epoch}", views.step(epoch, 0, digest=True, groups=slice(1))
        probe.exact[f"views {of}"] = batch.digest.hex()
        probe.exact[f"order {of}"] = batch.index[:LOGITS].tolist()
        shown = batch.shown[:LABELLED]
        logits = teacher_logits(teacher, shown, views.recipe)
        probe.computed[f"teacher's views {of}"] = norm_and_projection(teacher_input(shown, views.recipe))
        probe.computed[f"teacher's logits {of}"] = numbers(logits[:LOGITS])
        probe.labels[f"teacher's labels {of}"] = logits.argmax(1).tolist()
    return probe
