"""Snakemake and DVC on the same dvc.yaml, by the real tools: they agree, and what goes wrong is not recorded as done.

The agreement is on the project's own stages (tiny.yaml), the faults are of fake stages that do as they are told.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from longtail.base import yaml_file
from longtail.base.errors import UserError
from longtail.report.figures.captions import FIGURES
from tests.helpers.projects import EDITS, UNREAD, WHO, call, edited, environment, fake_project, put, run, stale
from workflow import bridge
from workflow.plan import from_text

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of DVC

NOTHING = "Nothing to be done"
CLEAN = "Data and pipelines are up to date."


def snakemake(*arguments: str) -> tuple[str, ...]:
    return ("snakemake", "--cores", "3", "--keep-going", *arguments)


def started(folder: Path, *command: str, python: Path | None = None, **more: str) -> subprocess.Popen:
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment(folder, *filter(None, [python]), **more), **told)


def until(condition: Callable[[], bool], process: subprocess.Popen, timeout: float = 120) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, f"not within {timeout} s"
        time.sleep(0.05)


def calls(folder: Path) -> list[str]:
    """Stages that were started, in order; a stage served from DVC's run cache is not."""
    path = folder / "calls.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def recorded(folder: Path) -> set[str]:
    """Stages with an entry in dvc.lock."""
    path = folder / "dvc.lock"
    return set(yaml_file.read(path)["stages"]) if path.exists() else set()


def log(folder: Path, stage: str) -> str:
    path = folder / bridge.log_of(stage, ".log")
    return path.read_text() if path.exists() else ""


# ---- agreement, on the project's own stages


@pytest.fixture(scope="module")
def repo(made_by_dvc, tmp_path_factory) -> Path:
    """What `dvc repro report@tiny` made, in a place of its own."""
    return shutil.copytree(made_by_dvc, tmp_path_factory.mktemp("engines") / "repo", symlinks=True)


def planned(out: str) -> set[str]:
    """Stages in Snakemake's table of jobs."""
    return set(re.findall(r"^(\w+@\S+) +\d+$", out, flags=re.MULTILINE))


def wanted(plan: bridge.Plan, target: str) -> set[str]:
    """The stages that Snakemake would run for a target: it if it is stale, and the stale ones above it."""
    found, open_ = set(), [target]
    while open_:
        stage = open_.pop()
        if stage in plan.stale and stage not in found:
            found.add(stage)
            open_ += plan.stale[stage]
    return found


def test_after_dvc_repro_snakemake_has_nothing_to_do(repo):
    for path in (p for p in repo.rglob("*") if p.is_file() and ".git" not in p.parts and ".dvc" not in p.parts):
        path.touch()
    for _ in range(2):
        run(repo, "dvc", "checkout", "--quiet", "--force", "--with-deps", "report@tiny")
        run(repo, "git", "checkout", "--quiet", "--force", ".")
    assert NOTHING in run(repo, *snakemake("--dry-run", "tiny"))


@pytest.mark.parametrize("what", ["a method's number", "a method's file", "how tables are drawn", "code of training"])
def test_an_edit_makes_the_same_stages_stale_in_both(repo, what, monkeypatch):
    monkeypatch.chdir(repo)
    name, change, expected = EDITS[what]
    with edited(repo / name, change):
        assert stale(repo) == expected
        assert wanted(bridge.plan(dry=True), "report@tiny") == expected


def test_snakemake_lists_those_stages(repo):
    name, change, expected = EDITS["a study"]
    with edited(repo / name, change), ExitStack() as edits:
        for other in UNREAD.keys() - {name}:
            edits.enter_context(edited(repo / other, UNREAD[other]))
        assert planned(run(repo, *snakemake("--dry-run", "tiny"))) == expected


def test_a_clone_that_pulled_has_nothing_to_do(repo, tmp_path):
    assert stale(repo) == set()  # after the edits above
    run(repo, "git", "add", "--all")
    run(repo, "git", *WHO, "commit", "--quiet", "--message", "results")
    run(repo, "dvc", "remote", "modify", "--local", "local", "url", str(tmp_path / "store"))
    run(repo, "dvc", "push", "--quiet", "--with-deps", "report@tiny")
    clone = tmp_path / "clone"
    run(repo, "git", "clone", "--quiet", str(repo), str(clone))
    run(clone, "dvc", "remote", "modify", "--local", "local", "url", str(tmp_path / "store"))
    run(clone, "dvc", "pull", "--quiet", "--with-deps", "report@tiny")
    assert NOTHING in run(clone, *snakemake("--dry-run", "tiny"))
    assert CLEAN in run(clone, "dvc", "status", "--with-deps", "report@tiny")


def test_the_report_shows_the_figures_with_their_captions(repo):
    run(repo, "snakemake", "--report", "reports/snakemake.html", "tiny")
    page = (repo / "reports/snakemake.html").read_text()
    drawn = [path for kind in ("svg", "png") for path in (repo / "reports/figures/tiny").glob(f"*.{kind}")]
    for figure in (path for path in drawn if not path.stem.endswith("-dark")):
        assert figure.name in page
        for text in FIGURES[figure.stem]:
            assert json.dumps(text)[1:-1] in page


def test_snakemake_runs_an_edit_and_a_killed_training_goes_on(repo, monkeypatch):
    """The training is killed in mid-epoch, Snakemake tries again, and what follows is made; test_slurm goes on to the
    report."""
    change = put("experiments.tiny-vit.set", {"train": {"epochs": 60}})
    (repo / "params.yaml").write_text(change((repo / "params.yaml").read_text()))
    process = started(repo, *snakemake("--retries", "1", "evaluate@tiny-vit"), LONGTAIL_SAVE_EVERY_S="0.01")
    until(lambda: any(repo.glob("scratch/*/checkpoint.pt")), process)
    below = psutil.Process(process.pid).children(recursive=True)
    next(p for p in below if p.cmdline()[1:2] == ["stages/train_student.py"]).kill()
    out = process.communicate()[0]
    assert process.returncode == 0, out
    assert "Error in rule train_student@tiny-vit" in out
    assert "resumed after" in log(repo, "train_student@tiny-vit")
    assert not any(repo.glob("scratch/*"))
    assert planned(out) == {"train_student@tiny-vit", "evaluate@tiny-vit"}
    monkeypatch.chdir(repo)
    assert stale(repo, "evaluate@tiny-vit") == set()


# ---- faults, on fake stages


def test_a_failure_and_an_edit_while_running(tmp_path, warm):
    repo = fake_project(tmp_path / "repo", good={}, bad={"fail": True}, changed={"gate": "gate"})
    process = started(repo, *snakemake(), python=warm)
    until(lambda: "make@changed" in calls(repo), process)
    (repo / "notes/changed.txt").write_text("edited while its stage runs\n")
    (repo / "params.yaml").write_text(put("items.changed.text", "edited too")((repo / "params.yaml").read_text()))
    until(lambda: "follow@good" in calls(repo) and "told to fail" in log(repo, "make@bad"), process)
    (repo / "gate").touch()
    out = process.communicate()[0]
    assert process.returncode == 1
    # the siblings are finished and recorded, what needs the failed ones waits
    assert recorded(repo) == {"make@good", "follow@good"}
    assert sorted(calls(repo)) == ["follow@good", "make@bad", "make@changed", "make@good"]
    # the message names the stage and its log
    assert "Error in rule make@bad" in out and "logs/make/bad.log" in out
    assert "error: make@bad: failed to run: python fake.py make bad out/bad.txt, exited with 1" in log(repo, "make@bad")
    message = "error: make@changed: notes/changed.txt, params.yaml changed while it ran; not recorded, run it again"
    assert message in log(repo, "make@changed")
    assert "Traceback" not in out + log(repo, "make@bad") + log(repo, "make@changed")

    # a half-written output and an unrecorded one count as nothing: both stages run again, no other
    assert (repo / "out/bad.txt").read_text() == "first half of make bad\n"
    (repo / "calls.txt").unlink()
    (repo / "params.yaml").write_text(put("items.bad.fail", False)((repo / "params.yaml").read_text()))
    run(repo, *snakemake())
    assert sorted(calls(repo)) == ["follow@bad", "follow@changed", "make@bad", "make@changed"]
    assert (repo / "out/bad.txt").read_text() == "first half of make bad\nbad\n"
    assert CLEAN in run(repo, "dvc", "status")


def test_a_killed_controller_loses_nothing_and_a_second_one_stops(tmp_path, warm):
    repo = fake_project(tmp_path / "repo", quick={}, slow={"gate": "gate"})
    first = started(repo, *snakemake(), python=warm)
    until(lambda: {"make@slow", "follow@quick"} <= set(calls(repo)), first)
    until(lambda: any(repo.glob(".snakemake/dvc/records/*/follow@quick.json")), first)

    second = call(repo, *snakemake())
    assert second.returncode == 2
    assert f"error: another snakemake is at work in this repository (process {first.pid} on " in second.stdout
    assert "Traceback" not in second.stdout

    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (repo / "dvc.lock").exists()
    third = started(repo, *snakemake(), python=warm)
    until(lambda: "a job of an earlier run is still at it" in log(repo, "make@slow"), third)
    assert recorded(repo) == {"make@quick", "follow@quick"}  # at once, when the next run starts
    (repo / "gate").touch()
    out = third.communicate()[0]
    assert third.returncode == 0, out
    assert sorted(calls(repo)) == ["follow@quick", "follow@slow", "make@quick", "make@slow"]  # each once, in all
    assert CLEAN in run(repo, "dvc", "status")


def job(repo: Path, stage: str, plan: str) -> Path:
    """A job as an earlier controller started it, which did not live to record it."""
    record = Path(".snakemake/dvc/records") / plan / f"{stage}.json"
    run(repo, "python", "-m", "workflow.job", stage, "--record", str(record))
    return repo / record


def test_old_records_do_not_replace_newer_work(tmp_path, monkeypatch, warm):
    repo = fake_project(tmp_path / "repo", one={}, two={})
    monkeypatch.chdir(repo)
    monkeypatch.setattr(bridge, "_lock", None)
    old, good = job(repo, "make@one", "1"), job(repo, "make@two", "1")
    assert from_text(old.read_text())["outs"][0]["path"] == "out/one.txt"
    (repo / "params.yaml").write_text(put("items.one.text", "newer")((repo / "params.yaml").read_text()))
    run(repo, "dvc", "repro", "make@one")
    newer = yaml_file.read(repo / "dvc.lock")["stages"]["make@one"]

    assert set(bridge.plan(dry=True).stale) == {"follow@one", "follow@two"}
    assert old.exists() and good.exists() and recorded(repo) == {"make@one"}  # a dry run writes nothing
    assert set(bridge.plan(dry=False).stale) == {"follow@one", "follow@two"}
    assert not old.exists() and not good.exists()
    stages = yaml_file.read(repo / "dvc.lock")["stages"]
    assert stages["make@one"] == newer and stages["make@two"]["cmd"].startswith("python fake.py make two")
    assert CLEAN in run(repo, "dvc", "status", "make@one", "make@two")


def test_a_record_of_an_edited_stage_or_one_cut_short_is_not_believed(tmp_path, monkeypatch, capfd, warm):
    repo = fake_project(tmp_path / "repo", one={}, two={}, three={}, four={})
    monkeypatch.chdir(repo)
    monkeypatch.setattr(bridge, "_lock", None)
    for stage in ("make@one", "make@two", "make@three"):
        job(repo, stage, "1")
    cut = job(repo, "make@four", "1")
    cut.write_text(cut.read_text()[:-20])
    (repo / "notes/one.txt").write_text("another note\n")
    (repo / "out/two.txt").chmod(0o644)
    (repo / "out/two.txt").write_text("another output\n")
    follow = {f"follow@{name}" for name in ("one", "two", "three", "four")}
    assert set(bridge.plan(dry=False).stale) == {"make@one", "make@two", "make@four"} | follow
    assert f"{cut.relative_to(repo)}: cut short or damaged; DVC judges the stage without it" in capfd.readouterr().err
    assert recorded(repo) == {"make@three"}


def test_each_job_gets_a_gpu_of_its_own(tmp_path, warm):
    repo = fake_project(tmp_path / "repo", **{name: {"gate": "gate"} for name in ("a", "b", "c")})
    (repo / "workflow/resources.yaml").write_text('"*": {gpus: 1, cpus: 1, mem_mb: 10, runtime: 1}\n')
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text('#!/bin/sh\necho "GPU 0: Fake"\necho "GPU 1: Fake"\n')
    (tools / "nvidia-smi").chmod(0o755)
    path = f"{tools}{os.pathsep}{environment(repo, warm)['PATH']}"
    process = started(repo, "env", "-u", "CUDA_VISIBLE_DEVICES", *snakemake(), TMPDIR=str(tmp_path), PATH=path)
    until(lambda: len(calls(repo)) == 2, process)
    time.sleep(3)
    assert len(calls(repo)) == 2  # three cores, two GPUs
    devices = [line.split()[1] for line in (repo / "calls.txt").read_text().splitlines()]
    assert sorted(devices) == ["0", "1"]
    (repo / "gate").touch()
    assert process.communicate()[0] and process.returncode == 0
    assert len(calls(repo)) == 6


def test_a_stage_with_several_gpus_is_told_how_many_processes_to_run(tmp_path, warm):
    """Those that this machine gave it, or a cluster; never more than it asked for."""
    repo = fake_project(tmp_path / "repo", a={}, b={})
    asked = '"*": {gpus: 1, cpus: 1, mem_mb: 10, runtime: 1}\nmake@*: {gpus: 2}\n'
    (repo / "workflow/resources.yaml").write_text(asked)
    for stage, visible, options in (
        ("make@a", "0,1,2", ("--gpus", "2")),
        ("follow@a", "0,1,2", ("--gpus", "1")),
        ("make@b", "4,5,6", ()),
        ("follow@b", "", ("--gpus", "1")),
    ):
        given = ("env", f"CUDA_VISIBLE_DEVICES={visible}", f"TMPDIR={tmp_path}")
        run(repo, *given, "python", "-m", "workflow.job", stage, "--record", f"{stage}.json", *options)
    seen = [line.split(" ") for line in (repo / "calls.txt").read_text().splitlines()]
    assert [processes for *_, processes in seen] == ["2", "1", "2", "1"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"stuy": "digits"}, "--config stuy: no such setting; did you mean 'study'?"),
        ({"gpu_share": 0}, "--config gpu_share: 0; a whole number from 1 is needed"),
        ({"gpu_share": "two"}, "--config gpu_share: 'two'; a whole number from 1 is needed"),
    ],
)
def test_settings_are_checked(config, message):
    with pytest.raises(UserError, match=re.escape(message)):
        bridge.settings(config)


def test_a_mistake_is_told_in_one_line(fakes):
    done = call(fakes, *snakemake("--dry-run", "--config", "study=digit"))
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == "error: study: no study 'digit' in any params.yaml; valid: nothing"
    assert "Traceback" not in done.stdout


def test_one_stage_is_a_target(fakes):
    assert planned(run(fakes, *snakemake("--dry-run", "follow@one"))) == {"make@one", "follow@one"}


def test_lint_finds_nothing(fakes):
    assert "in a good condition" in run(fakes, "snakemake", "--lint")


@pytest.fixture(scope="module")
def fakes(tmp_path_factory) -> Path:
    """A fake project in which nothing ran; to be left so."""
    return fake_project(tmp_path_factory.mktemp("fakes"), one={}, two={})


def test_a_job_that_waits_for_another_ends_at_once_when_it_is_cancelled(tmp_path):
    repo = fake_project(tmp_path, a={})
    path = repo / bridge.STATE / "jobs/make@a"
    path.parent.mkdir(parents=True)
    with open(path, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        command = ("python", "-u", "-m", "workflow.job", "make@a", "--record", "record.json")
        told = {"cwd": repo, "env": environment(repo), "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **told) as job:
            assert any("waiting" in line for line in job.stdout)
            time.sleep(0.2)  # from the line to the lock
            job.terminate()
            assert job.wait(30) == 143
    assert not (repo / "record.json").exists() and not (repo / "out").exists()
