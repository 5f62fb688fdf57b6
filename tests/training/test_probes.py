"""Probes of the real code: of every entry on made images, as committed; and of small entries, which an edit changes.

`python stages/probe.py --write` makes the committed ones again, after an edit that was meant to change them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
import torch

from longtail.base import rng
from longtail.runs.probe import Probe
from longtail.training import pretraining_probe, student_probe, teacher_probe
from longtail.training.entry_probe import PROBED, brief, committed, entry_probe
from tests.helpers.mutations import MUTATIONS, mutated
from tests.helpers.root import ROOT
from tests.helpers.small_entries import (
    PRETRAININGS,
    STUDENTS,
    TABLE,
    TEACHERS,
    probe_cache,
    probe_pretraining,
    probe_student,
    probe_teacher,
)

SMALL = ROOT / "tests" / "training" / "probes"
MADE = {
    **{kind: lambda name=name: probe_student(TABLE, name) for kind, name in STUDENTS.items()},
    **{kind: lambda name=name: probe_teacher(TABLE, name) for kind, name in TEACHERS.items()},
    **{kind: lambda name=name: probe_pretraining(TABLE, name) for kind, name in PRETRAININGS.items()},
    "cache": lambda: probe_cache(TABLE, STUDENTS["deit_lt"]),
}


@pytest.fixture(scope="module")
def plain(one_thread) -> dict[str, Probe]:
    return {kind: make() for kind, make in MADE.items()}


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("section", PROBED)
def test_every_entry_does_what_is_committed(section, monkeypatch):
    """Views, orders, parameters, schedules and targets of every entry, on made images."""
    monkeypatch.setattr(rng, "permutation", cache(rng.permutation))  # a second for each epoch of 437,513 images
    known = committed(ROOT, section)
    assert list(known) == list(TABLE[section]), "entries came or went: python stages/probe.py --write"
    changed = {n: d for n in known if (d := known[n].differences(brief(entry_probe(TABLE, section, n))))}
    assert not changed, "python stages/probe.py --write, if that is what was meant"


@pytest.mark.parametrize("kind", MADE)
def test_a_small_entry_of_each_method_computes_what_is_committed(kind, plain):
    """Losses, gradients, updates and outputs."""
    assert Probe.load(SMALL / f"{kind}.json").differences(plain[kind]) == []


def test_a_probe_is_the_same_twice_and_another_of_another_seed(plain):
    assert plain["deit_lt"].differences(MADE["deit_lt"]()) == []
    other = plain["deit_lt"].differences(probe_student(TABLE, STUDENTS["deit_lt"], seed=1))
    for fact in ("views of epoch 0", "order of epoch 0", "mixing of epoch 0", "first head.weight", "loss 1 of epoch 0"):
        assert any(line.startswith(fact) for line in other), fact


def test_a_teachers_probe_does_not_turn_with_the_threads_of_the_run(plain):
    with threads(2):
        again = MADE["focal"]()
        assert torch.get_num_threads() == 2
    assert again.computed == plain["focal"].computed


@pytest.mark.parametrize(("kind", "place", "old", "new"), MUTATIONS, ids=[f"{m[0]}: {m[3]}" for m in MUTATIONS])
def test_a_small_change_of_the_code_is_caught(kind, place, old, new, plain):
    """By what a probe holds of the first update of each epoch, or else by all of it."""
    with mutated(place, old, new):
        with one_update():
            begun = MADE[kind]()
        assert of_first_updates(plain[kind]).differences(of_first_updates(begun)) or (
            plain[kind].differences(MADE[kind]())
        )


@contextmanager
def one_update() -> Iterator[None]:
    """Probes stop after the first update of each epoch: a third of their time, of which the facts are the same."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (student_probe, teacher_probe, pretraining_probe):
            patch.setattr(module, "UPDATES", 1)
        yield


def of_first_updates(probe: Probe) -> Probe:
    """Without what further updates tell: they themselves, what all of them changed, and a teacher's labels."""
    later = re.compile(r"( [2-9] of epoch \d+$| change of )")
    return Probe(probe.exact, probe.close, {n: v for n, v in probe.computed.items() if not later.search(n)})


def test_the_facts_of_first_updates_are_those_of_the_whole_probe(plain):
    with one_update():
        begun = {kind: MADE[kind]() for kind in ("deit_lt", "paco_sam", "mgp")}
    for kind, probe in begun.items():
        kept = of_first_updates(plain[kind])
        assert kept == of_first_updates(probe) and 0 < len(kept.computed) < len(plain[kind].computed)


def test_there_are_changes_of_every_part():
    assert len(MUTATIONS) >= 25
    assert json.dumps(MUTATIONS)  # rows of text


def test_the_committed_table_has_every_edit():
    text = (ROOT / "benchmarks/results/probe_mutations.md").read_text()
    assert f"{len(MUTATIONS)} of {len(MUTATIONS)} edits are caught" in text
    rows = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row[0].removeprefix("| ") for row in rows if row[0] != "|:--"] == [kind for kind, *_ in MUTATIONS]
    assert [row[1].strip("`") for row in rows] == [place for _, place, *_ in MUTATIONS]
