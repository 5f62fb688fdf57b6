"""Every stage that writes: stopped before any of its file operations and started again, it ends in the same bytes.

One stage of each kind, in this process. benchmarks/kills.py does the same to processes, under both engines.
"""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.base import intact, leftovers
from longtail.base.files import new_folder, write_json
from longtail.runs import workspace as workspaces
from longtail.runs.probe import Probe
from longtail.runs.seeds import run_seeds
from longtail.runs.workspace import Workspace
from longtail.training import cache as caches
from tests.helpers.crash_points import Stopped, stopping

OUT = Path("data/entries/entry")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch, one_thread):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LONGTAIL_SCRATCH", raising=False)
    monkeypatch.setenv("LONGTAIL_SAVE_EVERY_S", "0")  # a checkpoint after every step
    monkeypatch.setattr(workspaces, "_stop_requested", False)
    monkeypatch.setattr("longtail.runs.seeds.code_digest", lambda: "code")
    monkeypatch.setattr(workspaces, "_git_commit", lambda: None)  # a process of its own, hundreds of times
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # of a power cut no test can tell


def trained(seed: int, space: Workspace) -> None:
    """As training: steps with a state, then the files of a result."""
    state = space.load() or {"step": 0, "sum": torch.zeros(())}
    torch.manual_seed(state["step"])
    while state["step"] < 2:
        state = {"step": state["step"] + 1, "sum": state["sum"] + state["step"] + 1}
        space.tick(partial(dict, state))
    np.savez(space.result / "predictions.npz", total=state["sum"].numpy())
    space.write_meta({"seed": seed})


class Row:
    """What `build_cache` needs of views: two positions an epoch."""

    positions_per_epoch, recipe = 2, None


def labelled(seed: int, space: Workspace, monkeypatch) -> None:
    """As cache_logits: arrays filled epoch by epoch, of which the checkpoint tells how far they are."""
    made = ({"labels": np.array([1, 2], np.uint8)}, "sum", 2)
    with monkeypatch.context() as patch:
        patch.setattr(caches, "_label_epoch", lambda *a: made)
        patch.setattr(caches, "views_hash", lambda recipe: "views")
        caches.build_cache(None, Row(), np.zeros(2, np.int64), 2, {"num_classes": 3, "cache": "c"}, space)
    space.write_meta({"seed": seed})


def probe(seed: int) -> Probe:
    return Probe(exact={"seed": seed})


def run(work) -> None:
    run_seeds(work, {0: "identity"}, OUT, torch.device("cpu"), 1, probe=probe)


def folder() -> None:
    with new_folder(OUT) as made:
        (made / "a.txt").write_text("a")
        write_json(made / "b.json", {"b": 1})


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path("data").rglob("*")) if path.is_file()}


def whole() -> dict[str, bytes]:
    """All that a stage is to leave, of the record of its making what does not tell of time."""
    found = files()
    for name in [name for name in found if ".environment" in name]:
        facts = json.loads(found[name])
        sums = {file: was["sha256"] for file, was in facts[intact.FILES].items()}
        found[name] = json.dumps([facts["code"], sums], sort_keys=True).encode()
    return found


KINDS = ("training", "labels", "a file", "a folder")


def stage(kind: str, monkeypatch):
    return {
        "training": partial(run, trained),
        "labels": partial(run, partial(labelled, monkeypatch=monkeypatch)),
        "a file": lambda: write_json(OUT.with_suffix(".json"), {"a": 1}),
        "a folder": folder,
    }[kind]


@pytest.mark.parametrize(
    ("kind", "again"),
    [(kind, False) for kind in KINDS] + [(kind, True) for kind in KINDS if kind != "labels"],
    ids=lambda value: value if isinstance(value, str) else ("from nothing", "over another one")[value],
)
def test_a_stop_before_any_operation_changes_nothing_in_the_end(kind, again, monkeypatch, tmp_path, capsys):
    start = stage(kind, monkeypatch)

    def place(name: str) -> None:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        if again:
            start()
            if kind in ("training", "labels"):  # of another identity: to be replaced
                path = OUT / "seed0/identity.json"
                path.write_text(path.read_text().replace('"identity": "identity"', '"identity": "another"'))
                intact.note(OUT / "seed0", {"code": "code"})

    place("undisturbed")
    with stopping(0) as counter:
        start()
    wanted, operations = whole(), counter.count
    assert operations >= (2 if kind == "a file" else 4) and not any(Path("scratch").iterdir())
    for before in range(1, operations + 1):
        place(f"stopped before {before}")
        old = files()
        with stopping(before), pytest.raises(Stopped):
            start()
        for path in filter(os.path.exists, old):  # nothing half-written under its own name
            assert files()[path] in (old[path], None) or whole()[path] == wanted[path], (before, path)
        dead = next(iter(set(range(2, 2**15)) - {int(p) for p in os.listdir("/proc") if p.isdigit()}))
        for left in Path("scratch").glob(".making-*"):  # as a process that lives no more has left them
            left.rename(left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{dead}-")))
        leftovers.sweep()
        start()
        assert whole() == wanted, before
        assert not any(Path("scratch").iterdir()), before
    capsys.readouterr()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
