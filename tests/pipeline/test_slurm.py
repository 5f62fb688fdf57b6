"""`snakemake --profile slurm` on a real Slurm: after an edit of the miniature study to its report, while the training
is cancelled, near its time limit and preempted. Skipped where there can be no Slurm; a failure where
LONGTAIL_NEED_SLURM is set.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import yaml

from longtail.report.figures.captions import FIGURES
from tests.helpers import slurm_cluster
from tests.helpers.projects import STUDY, call, environment, fake_project, put, run

pytestmark = [
    pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning"),  # of DVC
    pytest.mark.timeout(900),  # a job's time limit is minutes
]

SNAKEMAKE = ("timeout", "-s", "KILL", "800", "snakemake", "--profile", "slurm")  # less than a hanging test is given
QUICK = ("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "10")
WARNED = ("--default-resources", "slurm_extra='--signal=URG@65'")  # 25 to 55 s after the start of two minutes
RESOURCES = {
    "*": {"gpus": 0, "cpus": 1, "mem_mb": 1500, "runtime": 10},
    "train_*": {"gpus": 1},
    "train_student@tiny-vit": {"runtime": 2},
}
TRAINING = "train_student@tiny-vit"
# found by every Python through PYTHONPATH. A training stands still in the step after its first checkpoint, until it is
# asked to stop or the file of its entry's name goes away; its probe, which makes steps too, has no checkpoint yet.
# Snakemake looks after its jobs every three seconds, where its plugin waits ever longer while none ends.
HOOK = """import glob, os, sys, time
stage, entry = (os.path.basename(a) for a in (*sys.orig_argv[1:3], "", "")[:2])
brake = os.path.join(os.path.dirname(__file__), entry)
state = f"scratch/{stage[6:-3]}s-{entry}-seed0-*/checkpoint.pt"

def stand():
    from longtail.runs.workspace import stop_requested
    while glob.glob(state) and os.path.exists(brake) and not stop_requested():
        time.sleep(0.1)

if stage.startswith("train_") and os.path.exists(brake):
    import inspect, torch
    def braked(*optimizer, step=inspect.unwrap(torch.optim.AdamW.step)):
        step(*optimizer)
        stand()
    torch.optim.AdamW.step = braked
if stage == "snakemake":
    import asyncio
    asyncio.sleep = lambda seconds, *more, wait=asyncio.sleep: wait(min(seconds, 3), *more)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurm_cluster.Cluster]:
    try:
        with slurm_cluster.up() as cluster:
            yield cluster
    except slurm_cluster.Unavailable as reason:
        without(reason)


def without(reason: slurm_cluster.Unavailable) -> None:
    (pytest.fail if os.environ.get("LONGTAIL_NEED_SLURM") else pytest.skip)(
        f"no Slurm for tests/pipeline/test_slurm.py: {reason}"
    )


@dataclass
class Study:
    """The finished run of what an edit made stale in the miniature study."""

    folder: Path
    cluster: slurm_cluster.Cluster
    process: subprocess.Popen
    seen: dict[str, str] = field(default_factory=dict)  # what a job's log said at the moment of interest

    def log(self) -> str:
        """Of the training, by its newest job."""
        path = self.folder / "logs" / f"{TRAINING.replace('@', '/')}.log"
        return path.read_text() if path.exists() else ""

    def jobs(self, stage: str) -> list[dict[str, str]]:
        """The Slurm jobs of a stage, oldest first."""
        return [job for job in self.cluster.jobs() if job.get("Comment") == f"rule_{stage}"]

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 150) -> None:
        end = time.monotonic() + seconds
        while not condition():
            said = (self.folder / "main.log").read_text()[-3000:]
            assert self.process.poll() is None, f"ended before {what}:\n{said}"
            assert time.monotonic() < end, f"not within {seconds} s: {what}\n{said}"
            time.sleep(0.5)  # asking Slurm costs both it and us

    def until_training(self, resumed: bool = False) -> dict[str, str]:
        """Wait until the newest job has made a step of its training, or has gone on with it; returns the job."""

        def training() -> bool:
            at_work = any((self.folder / "scratch").glob("students-tiny-vit-seed0-*/checkpoint.pt"))
            at_work = at_work and (not resumed or ("resumed" in self.log() and "asked to stop" not in self.log()))
            return at_work and self.jobs(TRAINING)[-1]["JobState"] == "RUNNING"

        self.until(training, "training")
        return self.jobs(TRAINING)[-1]


@pytest.fixture(scope="module")
def hook(tmp_path_factory) -> Path:
    """The folder of HOOK."""
    folder = tmp_path_factory.mktemp("hook")
    (folder / "sitecustomize.py").write_text(HOOK)
    return folder


@pytest.fixture(scope="module")
def study(cluster, hook, made_by_dvc, warm, tmp_path_factory) -> Study:
    """The miniature study with one training to be made anew and all that follows, disturbed on the way."""
    folder = shutil.copytree(made_by_dvc, tmp_path_factory.mktemp("slurm") / "repo", symlinks=True)
    (folder / "workflow/resources.yaml").write_text(yaml.safe_dump(RESOURCES, sort_keys=False))
    few = {figure: [] for figure in FIGURES if figure != "groups"}  # to draw all takes as long as a dozen stages
    for path, value in (("experiments.tiny-vit.set", {"train": {"lr": 2.0e-3}}), ("studies.tiny.figures", few)):
        (folder / "params.yaml").write_text(put(path, value)((folder / "params.yaml").read_text()))
    brake = hook / TRAINING.split("@")[1]
    brake.touch()
    command = [*SNAKEMAKE, "tiny", *QUICK, *WARNED, "--config", "gpu_partition=gpu"]
    told = {
        "cwd": folder,
        "env": environment(folder, warm, PYTHONPATH=f"{folder}{os.pathsep}{hook}", LONGTAIL_SAVE_EVERY_S="0"),
        "start_new_session": True,
    }
    with open(folder / "main.log", "w") as log:
        study = Study(folder, cluster, subprocess.Popen(command, stdout=log, stderr=log, **told))
    try:
        cluster.out("scancel", study.until_training()["JobId"])
        study.until(lambda: "state saved" in study.log(), "the state of the cancelled training", 60)
        study.until(lambda: len(study.jobs(TRAINING)) == 2, "a second job")
        study.until(lambda: study.jobs(TRAINING)[-1]["Restarts"] == "1", "a requeue before the time limit", 240)
        study.seen["warned"] = study.log()
        limited = study.until_training(resumed=True)
        urgent = ("--partition=urgent", "--gpus=1", f"--nodelist={limited['NodeList']}", "--output=/dev/null")
        cluster.out("sbatch", *urgent, "--wrap=sleep 1")
        study.until(lambda: "state saved" in study.log(), "the state of the preempted training", 60)
        study.seen["preempted"] = study.log()
        brake.unlink()
        study.process.wait()
    finally:
        brake.unlink(missing_ok=True)  # or what stands at it would stand there for ever
        with suppress(ProcessLookupError):
            os.killpg(study.process.pid, signal.SIGKILL)
    return study


def test_a_cluster_comes_alone_and_leaves_nothing(tmp_path):
    """Before the fixture's own cluster: no daemon, job or configuration outlives it."""
    before = processes()
    try:
        with slurm_cluster.up() as cluster:
            job = cluster.out("sbatch", "--parsable", "--output=/dev/null", "--wrap", f"touch {tmp_path}/on; sleep 99")
            with pytest.raises(slurm_cluster.Unavailable, match="another test run"), slurm_cluster.up():
                pass
            while not (tmp_path / "on").exists():
                assert cluster.out("squeue", "--noheader", "--job", job.strip())
                time.sleep(0.1)
            assert any("slurm_script" in process for process in processes() - before)
    except slurm_cluster.Unavailable as reason:
        without(reason)
    ours = (*slurm_cluster.DAEMONS, "slurmstepd", "slurm_script")
    assert not [process for process in processes() - before if any(name in process for name in ours)]
    assert not cluster.folder.exists() and not (slurm_cluster.ETC / "slurm.conf").exists()


def processes() -> set[str]:
    """Numbers and command lines of all processes that are not dead."""
    alive = (process for process in psutil.process_iter(["status", "cmdline"]) if process.info["status"] != "zombie")
    return {" ".join([str(process.pid), *(process.info["cmdline"] or ())]) for process in alive}


def test_the_study_runs_through_to_the_report(study):
    assert study.process.returncode == 0, (study.folder / "main.log").read_text()
    assert "A tiny study" in (study.folder / "reports/tiny.html").read_text()


def test_afterwards_nothing_is_left_to_do(study):
    assert "up to date" in run(study.folder, "dvc", "status", "--with-deps", "report@tiny")
    assert "Running stage" not in run(study.folder, "dvc", "repro", "report@tiny")
    assert "Nothing to be done" in run(study.folder, *SNAKEMAKE, "--dry-run", "tiny")


def test_stages_ask_slurm_for_gpus_and_the_others_do_not(study):
    for job in study.cluster.jobs():
        if not job.get("Comment", "").startswith("rule_"):
            continue  # the one that preempts
        asked = {key: value for key, value in job.items() if key.startswith("Tres")}
        if job["Comment"].startswith("rule_train_"):
            assert asked == {"TresPerJob": "gres:gpu:1"}
            assert job["Partition"] == "gpu" and job["NodeList"] in ("gpu1", "gpu2")
        else:
            assert asked == {} and job["Partition"] == "cpu"


def test_what_the_edit_made_stale_was_a_job_and_nothing_else(study):
    assert {job["Comment"] for job in study.cluster.jobs() if "Comment" in job} == {
        f"rule_{stage}" for stage in STUDY["vit"]
    }


def test_a_cancelled_training_is_retried_and_goes_on(study):
    first, _ = study.jobs(TRAINING)
    assert (first["JobState"], first["Restarts"]) == ("CANCELLED", "0")
    assert "resumed after" in study.seen["warned"]


def test_a_training_near_its_time_limit_saves_and_goes_back_into_the_queue(study):
    assert "asked to stop: state saved" in study.seen["warned"]
    assert "state saved before the time limit; scontrol requeue" in study.seen["warned"]


def test_a_preempted_training_saves_and_goes_back_into_the_queue(study):
    assert "resumed after" in study.seen["preempted"]
    assert "scontrol requeue" not in study.seen["preempted"]  # Slurm did it
    _, job = study.jobs(TRAINING)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "2")
    assert "resumed after" in study.log()
    assert epochs(study.folder / "data/students/tiny-vit") == ["0", "1", "2"]


def epochs(run: Path) -> list[str]:
    with open(run / "seed0/history.csv") as file:
        return [row["epoch"] for row in csv.DictReader(file)]


def test_a_failed_job_is_named_with_its_log_and_the_others_finish(cluster, hook, warm, tmp_path):
    """On quick stages, with GPUs asked for by --gres."""
    folder = fake_project(tmp_path / "fakes", good={}, bad={"fail": True})
    (folder / "workflow/resources.yaml").write_text(yaml.safe_dump(RESOURCES | {"make@*": {"gpus": 1}}))
    last = int(cluster.jobs()[-1]["JobId"]) if cluster.jobs() else 0
    asked = ("--retries", "0", "--config", "gres=gpu", "gpu_partition=gpu")
    done = call(folder, *SNAKEMAKE, *QUICK, *asked, PYTHONPATH=f"{folder}{os.pathsep}{hook}")
    assert done.returncode == 1
    assert "rule make@bad" in done.stdout and "logs/make/bad.log" in done.stdout
    assert "told to fail" in (folder / "logs/make/bad.log").read_text()
    jobs = {job["Comment"]: job for job in cluster.jobs() if int(job["JobId"]) > last}
    assert {name: job["JobState"] for name, job in jobs.items()} == {
        "rule_make@good": "COMPLETED",
        "rule_make@bad": "FAILED",
        "rule_follow@good": "COMPLETED",
    }
    assert jobs["rule_make@good"]["TresPerNode"] == "gres:gpu:1" and jobs["rule_make@good"]["Partition"] == "gpu"
    assert "TresPerNode" not in jobs["rule_follow@good"]
    assert "up to date" in run(folder, "dvc", "status", "--with-deps", "follow@good")
