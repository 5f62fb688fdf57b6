from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from longtail.base import lock, yaml_file
from longtail.base.errors import UserError
from longtail.base.files import atomic_write, file_digest
from longtail.base.params import digest
from longtail.runs import seeds as runs
from longtail.runs import workspace as workspaces
from longtail.runs.parallel import Team
from longtail.runs.seeds import run_seeds
from longtail.runs.single_run import code_digest, finished_identity, identity
from longtail.runs.workspace import STOP_SIGNALS, STOPPED, Workspace
from tests.helpers.projects import committed

CPU = torch.device("cpu")
fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Scratch under tmp_path; what a run sets in its process is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LONGTAIL_SCRATCH", raising=False)
    monkeypatch.setattr(workspaces, "_stop_requested", False)
    handlers = {s: signal.getsignal(s) for s in STOP_SIGNALS}
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


def workspace(folder: Path, **changes) -> Workspace:
    return Workspace(folder, "entry seed 0", "f" * 64, CPU, **{"quiet": True} | changes)


# ---- identities


@dataclass(frozen=True)
class Config:
    lr: float = 0.1
    cuts: tuple[int, ...] = (3, 7)


def test_an_identity_tells_every_part_apart():
    parts = [(Config(), 0, "a"), (Config(lr=0.2), 0, "a"), (Config(), 1, "a"), (Config(), 0, "b"), (Config(), 0, None)]
    assert len({identity(*p) for p in parts}) == len(parts)
    assert identity(Config(), {"a": 1, "b": 2}) == identity(Config(), {"b": 2, "a": 1})


@pytest.mark.parametrize("name", ["longtail.made_up", "longtail.methods.made_up", "__main__"])
def test_a_code_digest_depends_on_what_runs(tmp_path, monkeypatch, name):
    """And not on how it is written: comments, docstrings, line breaks."""
    module, before = ModuleType(name), code_digest()
    module.__file__ = str(tmp_path / "made_up.py")
    monkeypatch.setitem(sys.modules, name, module)

    def of(source: str) -> str:
        Path(module.__file__).write_text(source)
        return code_digest()

    plain = "def f(x, y=1):\n    return [x in {'a', 'b', 'c'}, (y, 2.5), lambda z: z + 1]\n"
    written = "# a comment\ndef f(x, y=1):\n    'What it does.'\n\n    return [\n        x in {'a', 'b', 'c'},\n"
    written += "        (y, 2.5),  # a pair\n        lambda z: z + 1,\n    ]\n"
    assert of(plain) == of(written) != before
    other = ("z + 1", "z + 2"), ("z + 1", "z - 1"), ("2.5", "2.25"), ("'c'", "'d'"), ("y=1", "y=2"), ("f(", "g(")
    found = {of(plain.replace(was, now)) for was, now in other}
    assert len(found | {before, of(plain)}) == len(other) + 2


def test_a_code_digest_does_not_depend_on_other_packages(tmp_path, monkeypatch):
    before = code_digest()
    module = ModuleType("longtails")  # not ours
    module.__file__ = str(tmp_path / "m.py")
    Path(module.__file__).write_text("a = 1\n")
    monkeypatch.setitem(sys.modules, "longtails", module)
    assert code_digest() == before


# ---- files


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file"
    atomic_write(path, lambda p: p.write_text("old"))

    def fail(p):
        p.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, fail)
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_the_digest_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert file_digest(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(UserError, match="no such file; run the stage that makes it first"):
        file_digest(tmp_path / "g")


# ---- one workspace


def test_a_checkpoint_brings_state_and_random_numbers_back(tmp_path):
    first = workspace(tmp_path / "w")
    assert first.load() is None
    torch.manual_seed(5)
    torch.rand(3)
    first.earlier = 100.0
    first.save({"step": 7, "weights": torch.arange(3.0), "array": np.array([1, 2]), "rows": [{"loss": 0.5}]})
    first.finish()
    expected = torch.rand(4)
    torch.manual_seed(99)
    second = workspace(tmp_path / "w")
    state = second.load()
    assert state["step"] == 7 and state["rows"] == [{"loss": 0.5}]
    assert torch.equal(state["weights"], torch.arange(3.0)) and state["array"].tolist() == [1, 2]
    assert torch.equal(torch.rand(4), expected)
    assert 100 <= second.earlier <= second.seconds() < 160
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == ["checkpoint.pt", "result", "run.log"]


def test_state_is_saved_only_when_due(tmp_path, monkeypatch):
    space, asked = workspace(tmp_path / "w"), []
    space.tick(lambda: asked.append(1) or {"step": 1})
    assert asked == [] and space.load() is None  # making the state costs time too
    monkeypatch.setattr(space, "save_every_s", 0.0)
    space.tick(lambda: {"step": 2})
    assert space.load() == {"step": 2}


def test_a_stop_request_saves_and_ends_with_143(tmp_path, monkeypatch):
    space = workspace(tmp_path / "w")
    workspaces.request_stop()
    with pytest.raises(SystemExit) as end:
        space.tick(lambda: {"step": 3})
    assert end.value.code == STOPPED == 143 and space.load() == {"step": 3}


@dataclass(frozen=True)
class Asked(Team):
    """A team whose processes are of one mind; when they asked each other is kept."""

    backend: str = "gloo"
    seen: tuple[list, ...] = ([],)

    def largest(self, numbers):
        self.seen[0].append(workspaces.time.monotonic())
        return numbers

    def from_first(self, value=None):
        return value


@pytest.mark.parametrize(("step_s", "least", "most"), [(0.01, 90, 130), (5.0, 2000, 2000)])
def test_a_team_asks_once_a_second_whether_to_stop_and_not_at_every_step(tmp_path, monkeypatch, step_s, least, most):
    now = [0.0]
    monkeypatch.setattr(workspaces.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("LONGTAIL_SAVE_EVERY_S", "1e9")
    team = Asked(seen=([],))
    space = workspace(tmp_path / "w", team=team)
    ticks = int(100 / 0.01) if step_s < 1 else 2000
    for _ in range(ticks):
        now[0] += step_s
        space.tick(dict)
    assert least <= len(team.seen[0]) <= most
    assert max(np.diff(team.seen[0])) <= max(1.0, step_s) + 2 * step_s
    workspaces.request_stop()
    with pytest.raises(SystemExit) as end:
        for _ in range(ticks):
            now[0] += step_s
            space.tick(lambda: {"step": 3})
    assert end.value.code == STOPPED and space.load() == {"step": 3}
    assert now[0] - team.seen[0][-2] <= max(1.0, step_s) + 2 * step_s


def test_only_the_first_process_of_a_team_writes_and_speaks(tmp_path, capsys):
    space = workspace(tmp_path / "w", quiet=False, team=Asked(rank=1, size=2))
    space.log("a line", always=True)
    workspaces.request_stop()
    made = []
    with pytest.raises(SystemExit):
        space.tick(lambda: made.append("state") or {})  # which may be made together
    assert made == ["state"] and not (tmp_path / "w").exists() and capsys.readouterr().out == ""


def test_a_child_without_its_parent_stops_and_leaves_the_folder_alone(tmp_path):
    space = workspace(tmp_path / "w")
    space.parent = os.getppid()
    space.tick(dict)
    space.parent = os.getpid()  # not the parent of this process
    with pytest.raises(SystemExit) as end:
        space.tick(lambda: {"step": 3})
    assert end.value.code == STOPPED and not (tmp_path / "w" / "checkpoint.pt").exists()


def test_at_most_one_line_a_minute(tmp_path, monkeypatch, capsys):
    space = workspace(tmp_path / "w", quiet=False)
    space.log("early")
    space.log("important", always=True)
    monkeypatch.setattr(workspaces, "LOG_EVERY_S", 0.0)
    space.log("due")
    lines = (tmp_path / "w" / "run.log").read_text().splitlines()
    assert [line.partition(" entry seed 0: ")[2] for line in lines] == ["important", "due"]
    assert capsys.readouterr().out.splitlines() == lines


def test_what_is_written_beside_a_result(tmp_path):
    space = workspace(tmp_path / "w")
    space.write_meta(Config(), seed=3, class_order="c")
    assert yaml_file.read(space.result / "config.yaml") == {"lr": 0.1, "cuts": [3, 7]}
    facts = json.loads((space.result / "identity.json").read_text())
    assert facts["seed"] == 3 and facts["class_order"] == "c" and facts["identity"] == "f" * 64
    assert facts["config_hash"] == digest(Config()) and facts["processes"] == 1
    made = json.loads((space.folder / "environment.json").read_text())
    assert made["torch"] == torch.__version__ and made["processor"] and made["instructions"]
    assert made["seconds"] >= 0 and made["peak_memory_mb"] > 0 and made["device"].startswith("cpu x")
    assert not facts.keys() & made.keys()
    assert finished_identity(space.result) == "f" * 64


def test_the_commit_says_whether_the_tree_was_edited(tmp_path, monkeypatch):
    file = tmp_path / "module.py"
    file.write_text("a = 1\n")
    committed(tmp_path)
    monkeypatch.setattr(workspaces, "__file__", str(file))
    commit = workspaces.environment(CPU)["git_commit"]
    assert re.fullmatch("[0-9a-f]{40}", commit)
    file.write_text("a = 2\n")
    assert workspaces.environment(CPU)["git_commit"] == f"{commit}-dirty"


def test_a_machine_without_git_only_lacks_the_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert workspaces.environment(CPU)["git_commit"] is None


@pytest.mark.parametrize("content", [None, "{", "{}", ""])
def test_a_folder_without_a_whole_identity_is_not_finished(tmp_path, content):
    if content is not None:
        (tmp_path / "identity.json").write_text(content)
    assert finished_identity(tmp_path) is None


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runs.pick_device("auto") == runs.pick_device("cpu") == CPU
    with pytest.raises(UserError, match="no CUDA device here; use --device cpu or auto"):
        runs.pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runs.pick_device("auto").type == "cuda"


# ---- all seeds of an entry


def work(seed: int, space: Workspace, *, note: str = "") -> None:
    """A run: its result says which seed, in which process and with how many threads."""
    (space.result / "result.txt").write_text(f"{seed} {note}")
    (space.result / "process.txt").write_text(f"{os.getpid()} {torch.get_num_threads()}")
    space.write_meta({"seed": seed})


def run(job, prints: dict[int, str], jobs: int = 1) -> Path:
    run_seeds(job, prints, Path("data/entry"), CPU, jobs)
    return Path("data/entry")


def results(out: Path) -> dict[str, str]:
    return {folder.name: (folder / "result.txt").read_text() for folder in sorted(out.iterdir())}


def process_of(out: Path, seed: int) -> list[int]:
    return [int(n) for n in (out / f"seed{seed}" / "process.txt").read_text().split()]


@pytest.mark.parametrize("jobs", [1, 2])
def test_finished_seeds_stay_changed_ones_run_again_and_unnamed_ones_go(jobs, capfd):
    out = run(partial(work, note="first"), {0: "a0", 1: "a1"}, jobs)
    assert results(out) == {"seed0": "0 first", "seed1": "1 first"}
    run(partial(work, note="second"), {0: "a0", 1: "a1", 2: "a2"}, jobs)  # a seed more
    assert results(out) == {"seed0": "0 first", "seed1": "1 first", "seed2": "2 second"}
    assert "entry seed 0: already there" in capfd.readouterr().out
    run(partial(work, note="third"), {0: "b0", 2: "a2"}, jobs)  # seed 0 has another configuration, seed 1 is gone
    assert results(out) == {"seed0": "0 third", "seed2": "2 second"}
    assert finished_identity(out / "seed0") == "b0"
    assert list(Path("scratch").iterdir()) == []  # neither folders nor locks


def test_no_seed_at_all_is_a_mistake_and_removes_nothing():
    out = run(work, {0: "a0"})
    with pytest.raises(UserError, match="entry: no seed to run"):
        run(work, {})
    assert results(out) == {"seed0": "0 "}


def test_a_result_appears_only_when_it_is_complete():
    out = run(partial(work, note="old"), {0: "old"})

    def half(seed, space):
        (space.result / "result.txt").write_text("half")
        assert results(out) == {"seed0": "0 old"}
        raise UserError("stopped in the middle")

    with pytest.raises(UserError, match="stopped in the middle"):
        run(half, {0: "new"})
    assert results(out) == {"seed0": "0 old"} and finished_identity(out / "seed0") == "old"
    run(partial(work, note="new"), {0: "new"})
    assert results(out) == {"seed0": "0 new"}


def test_two_processes_work_side_by_side():
    def together(seed, space):
        Path(f"here{seed}").touch()
        other = Path(f"here{1 - seed}") if seed < 2 else Path("here2")
        end = time.monotonic() + 20
        while not other.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        work(seed, space)

    out = run(together, {0: "a", 1: "b", 2: "c"}, jobs=2)
    assert len({process_of(out, seed)[0] for seed in range(3)} | {os.getpid()}) == 4


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("error", "code"), [(UserError("bad cache"), 2), (ZeroDivisionError("a bug"), 1)])
def test_a_failing_seed_leaves_the_others_to_finish(jobs, error, code, capfd):
    def fail(seed, space):
        if seed == 0:
            raise error
        work(seed, space)

    with pytest.raises(SystemExit) as end:
        run(fail, {0: "a", 1: "b", 2: "c"}, jobs)
    assert end.value.code == code
    told = capfd.readouterr().err
    assert "error: entry: seed 0 failed; finished seeds are kept" in told
    assert ("Traceback" in told) == (code == 1) and str(error) in told
    assert results(Path("data/entry")) == {"seed1": "1 ", "seed2": "2 "}


def test_threads_follow_from_the_seeds_of_the_entry_and_not_from_those_left(monkeypatch):
    """Sums depend on the number of threads, so a run resumed alone must have as many as beside others."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    out = run(work, {0: "a", 1: "b"}, jobs=0)
    assert [process_of(out, seed)[1] for seed in (0, 1)] == [2, 2]
    run(work, {0: "a", 1: "c"}, jobs=0)
    assert process_of(out, 1) == [os.getpid(), 2]
    run(work, {0: "d"}, jobs=0)
    assert process_of(out, 0) == [os.getpid(), 4]


def test_scratch_may_lie_on_another_file_system(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGTAIL_SCRATCH", str(tmp_path / "elsewhere"))
    refused = []

    def strict(source, target, *, rename=os.rename):
        if ("elsewhere" in Path(source).parts) != ("elsewhere" in Path(target).parts):
            refused.append(target)
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(source, target)

    monkeypatch.setattr(os, "rename", strict)
    for note in ("first", "second"):
        out = run(partial(work, note=note), {0: note})
        assert results(out) == {"seed0": f"0 {note}"}
    assert len(refused) >= 4 and list((tmp_path / "elsewhere").iterdir()) == []
    assert [path.name for path in (tmp_path / "data/entry.environment").iterdir()] == ["seed0.json"]


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_two_callers_of_one_run_do_it_once(monkeypatch, capsys):
    def slow(seed, space):
        Path("started").touch()
        wait_for(Path("asked").exists)
        work(seed, space, note="first")

    def say(*line, original=print, **how):
        original(*line, **how)
        if "another process is at work" in line[0]:
            Path("asked").touch()

    monkeypatch.setattr(lock, "print", say, raising=False)
    first = fork.Process(target=run, args=(slow, {0: "a"}))
    first.start()
    wait_for(Path("started").exists)
    out = run(partial(work, note="second"), {0: "a"})
    first.join()
    assert first.exitcode == 0 and results(out) == {"seed0": "0 first"}
    assert "another process is at work on it (process " in capsys.readouterr().out
    assert list(Path("scratch").iterdir()) == []


# ---- stopped and started again


STEPS = 40


def steps(seed: int, space: Workspace, pause: float = 0.0) -> None:
    """Sums random numbers, one a step; `pause` seconds at each."""
    torch.manual_seed(seed)
    state = space.load() or {"step": 0, "sum": torch.zeros(())}
    with open(f"began{seed}", "a") as file:
        file.write(f"{state['step']}\n")
    while state["step"] < STEPS:
        state = {"step": state["step"] + 1, "sum": state["sum"] + torch.rand(())}
        time.sleep(pause)
        Path(f"step{seed}").write_text(str(state["step"]))
        space.tick(lambda state=state: state)
    work(seed, space, note=f"{state['sum'].item()!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_stopped_run_continues_to_the_same_result(tmp_path, seeds, number):
    prints = {seed: f"p{seed}" for seed in seeds}
    process = fork.Process(target=run, args=(partial(steps, pause=0.05), prints, len(seeds)))
    process.start()
    wait_for(lambda: all(Path(f"step{seed}").exists() for seed in seeds))
    os.kill(process.pid, number)
    process.join(20)
    assert process.exitcode == STOPPED
    assert list(Path("data/entry").iterdir()) == []
    assert len(list(Path("scratch").glob("*/checkpoint.pt"))) == len(seeds)
    out = run(steps, prints, len(seeds))
    for seed in seeds:
        first, second = map(int, Path(f"began{seed}").read_text().split())
        assert first == 0 < second < STEPS
        torch.manual_seed(seed)
        expected = torch.zeros(())
        for _ in range(STEPS):
            expected = expected + torch.rand(())
        assert (out / f"seed{seed}" / "result.txt").read_text() == f"{seed} {expected.item()!r}"
    assert list(Path("scratch").iterdir()) == []


def test_children_of_a_killed_pool_stop_by_themselves():
    process = fork.Process(target=run, args=(partial(steps, pause=0.05), {0: "a", 1: "b"}, 2))
    process.start()
    wait_for(lambda: Path("step0").exists() and Path("step1").exists())
    os.kill(process.pid, signal.SIGKILL)
    process.join(20)
    out = run(steps, {0: "a", 1: "b"}, 2)  # waits for the locks that they hold
    assert results(out).keys() == {"seed0", "seed1"}
    for seed in (0, 1):
        assert Path(f"began{seed}").read_text() == "0\n0\n"  # they neither finished nor saved
