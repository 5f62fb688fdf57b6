"""Stages that find a finished run made by other code: the probe decides, and says what differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from longtail.runs.probe import Probe
from tests.helpers.stage_processes import CACHE, STUDENT, TEACHER, finish

CHANGED = {  # a fact of each, as code that did something else would have left it
    TEACHER: ("close", "lr at epoch 1", "lr at epoch 1: "),
    CACHE: ("exact", "views of epoch 0", "views of epoch 0 differ"),
    STUDENT: ("computed", "loss 2 of epoch 0", "loss 2 of epoch 0: "),
}


def by_other_code(run: Path) -> None:
    """The run's note says that another code made it."""
    note = run.with_name(f"{run.name}.environment") / "seed0.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"code": "another"}))


@pytest.mark.parametrize("command", CHANGED, ids=lambda command: command[0])
def test_an_edit_that_changes_nothing_keeps_the_run_and_one_that_does_trains_it_again(command, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True, symlinks=True)
    run = tmp_path / command[-1]
    files = {path.name: path.read_bytes() for path in (run / "seed0").iterdir()}
    by_other_code(run)
    assert "seed 0: kept: the code has changed, the probe agrees" in finish(tmp_path, *command).out
    assert {path.name: path.read_bytes() for path in (run / "seed0").iterdir()} == files
    assert "seed 0: already there" in finish(tmp_path, *command).out
    kind, name, told = CHANGED[command]
    probe = Probe.load(run / "seed0" / "probe.json")
    facts = getattr(probe, kind)
    facts[name] = "0" * 64 if kind == "exact" else [2 * value + 1 for value in facts[name]]
    probe.save(run / "seed0" / "probe.json")
    by_other_code(run)
    assert f"seed 0: trained anew, the code computes something else: {told}" in finish(tmp_path, *command).out
    assert {path.name: path.read_bytes() for path in (run / "seed0").iterdir()} == files
