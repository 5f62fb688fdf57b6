"""Runs whose code has changed, finished or half-trained: kept where the probe agrees, else trained anew."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from longtail.runs import single_run
from longtail.runs import workspace as workspaces
from longtail.runs.probe import Probe
from longtail.runs.seeds import run_seeds
from longtail.runs.single_run import environment_of, finished_identity
from longtail.runs.workspace import Workspace

OUT = Path("data/entry")
RESULT = OUT / "seed0"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("LONGTAIL_SCRATCH", "LONGTAIL_RETRAIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(workspaces, "_stop_requested", False)
    code(monkeypatch, "first")


def code(monkeypatch, digest: str) -> None:
    """What runs from now on has this digest."""
    monkeypatch.setattr("longtail.runs.seeds.code_digest", lambda: digest)


def work(seed: int, space: Workspace, note: str = "first") -> None:
    (space.result / "result.txt").write_text(note)
    space.write_meta({"seed": seed})


def stopped(seed: int, space: Workspace) -> None:
    """A run that is killed after its first checkpoint."""
    assert space.load() is None
    space.save({"step": 1})
    space.finish()
    raise KeyboardInterrupt


def resumed(seed: int, space: Workspace) -> None:
    state = space.load()
    work(seed, space, "begun anew" if state is None else f"resumed at {state['step']}")


class Code:
    """What the code computes: the learning rate of an epoch; counts how often it is asked."""

    def __init__(self, lr: float) -> None:
        self.lr, self.asked = lr, 0

    def __call__(self, seed: int) -> Probe:
        self.asked += 1
        torch.rand(3)  # as a network's first weights
        return Probe(close={"lr at epoch 1100": [self.lr]})


def run(probe, job=work, identity: str = "i") -> str:
    run_seeds(job, {0: identity}, OUT, torch.device("cpu"), 1, probe=probe)
    return (RESULT / "result.txt").read_text()


def files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in RESULT.iterdir()}


def test_a_result_has_a_probe_from_before_it_was_trained():
    def look(seed, space):
        assert Probe.load(space.result / "probe.json") == Probe(close={"lr at epoch 1100": [0.5]})
        work(seed, space)

    run(Code(0.5), look)
    assert set(files()) == {"result.txt", "probe.json", "config.yaml", "identity.json"}
    made = json.loads(environment_of(RESULT).read_text())
    assert made["code"] == "first" and made["seconds"] >= 0 and made["processor"] and made["instructions"]
    assert environment_of(RESULT) == Path("data/entry.environment/seed0.json")
    assert list(Path("scratch").iterdir()) == []


def test_by_the_same_code_no_probe_is_made(capsys):
    run(Code(0.5))
    same = Code(0.5)
    assert run(same, partial(work, note="second")) == "first" and same.asked == 0
    assert capsys.readouterr().out == "entry seed 0: already there\n"


def test_kept_where_the_probe_agrees_and_no_byte_of_it_changes(monkeypatch, capsys):
    run(Code(0.5))
    before, state = files(), torch.get_rng_state()
    code(monkeypatch, "second")
    assert run(Code(0.5), partial(work, note="second")) == "first"
    assert capsys.readouterr().out == "entry seed 0: kept: the code has changed, the probe agrees\n"
    assert files() == before and torch.equal(torch.get_rng_state(), state)
    again = Code(0.5)
    run(again)  # and this code is known from now on
    assert again.asked == 0 and "already there" in capsys.readouterr().out
    assert json.loads(environment_of(RESULT).read_text())["seconds"] >= 0


def test_trained_anew_where_it_does_not_and_the_line_says_why(monkeypatch, capsys):
    run(Code(2.5e-5))
    code(monkeypatch, "second")
    assert run(Code(2.0e-5), partial(work, note="second")) == "second"
    told = "entry seed 0: trained anew, the code computes something else: lr at epoch 1100: 2e-05, was 2.5e-05\n"
    assert capsys.readouterr().out == told
    assert Probe.load(RESULT / "probe.json").close == {"lr at epoch 1100": [2.0e-5]}


def test_without_the_note_of_its_code_the_probe_decides(capsys):
    """As after `dvc pull`, which brings the result alone."""
    run(Code(0.5))
    environment_of(RESULT).unlink()
    assert run(Code(0.5), partial(work, note="second")) == "first"
    assert "kept" in capsys.readouterr().out
    (RESULT / "probe.json").write_text("{")
    environment_of(RESULT).unlink()
    assert run(Code(0.5), partial(work, note="third")) == "third"
    assert "it has no probe" in capsys.readouterr().out


def test_another_identity_is_trained_without_asking(capsys):
    run(Code(0.5))
    assert run(Code(0.5), partial(work, note="second"), identity="j") == "second"
    assert finished_identity(RESULT) == "j" and capsys.readouterr().out == ""


def test_asked_to_it_trains_all_the_same(monkeypatch):
    run(Code(0.5))
    monkeypatch.setenv("LONGTAIL_RETRAIN", "1")
    assert run(Code(0.5), partial(work, note="second")) == "second"


def test_a_stage_without_a_probe_goes_by_the_identity_alone(monkeypatch):
    run(None)
    code(monkeypatch, "second")
    assert run(None, partial(work, note="second")) == "first" and not (RESULT / "probe.json").exists()


@pytest.mark.parametrize(
    ("lr", "digest", "result"),
    [
        (0.5, "first", "resumed at 1"),
        (0.5, "second", "resumed at 1"),
        (0.25, "second", "begun anew"),
    ],
)
def test_a_half_trained_state_is_resumed_under_the_same_rule(monkeypatch, capsys, lr, digest, result):
    with pytest.raises(KeyboardInterrupt):
        run(Code(0.5), stopped)
    code(monkeypatch, digest)
    assert run(Code(lr), resumed) == result
    assert ("begun anew, the code computes something else: lr" in capsys.readouterr().out) == (result == "begun anew")
    assert Probe.load(RESULT / "probe.json").close == {"lr at epoch 1100": [lr]}


def test_a_kill_before_the_note_leaves_no_word_of_the_old_code(monkeypatch, capsys):
    """Else the new result could pass for one of the code that made the old one."""
    run(Code(0.5))
    code(monkeypatch, "second")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(single_run.intact, "note", killed)
        with pytest.raises(KeyboardInterrupt):
            run(Code(0.25), partial(work, note="second"))
    assert (RESULT / "result.txt").read_text() == "second" and not environment_of(RESULT).exists()
    code(monkeypatch, "first")
    assert run(Code(0.5), partial(work, note="third")) == "third"
