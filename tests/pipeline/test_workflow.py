"""What a job asks for, which GPU it gets, and what stands beside the Snakefile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from longtail.base import yaml_file
from longtail.base.errors import UserError
from tests.helpers.root import ROOT
from workflow import gpus, job, resources
from workflow.bridge import SETTINGS
from workflow.plan import from_text, to_text
from workflow.resources import Resources

BLOCKS = """
"*": {gpus: 0, cpus: 1, mem_mb: 100, runtime: 5}
train@*: {gpus: 2, runtime: 60}
"*@small-*": {gpus: 0, mem_mb: 50}
"""


@pytest.fixture
def file(tmp_path):
    """Write a resources file of its own; load() keeps what it read by path."""

    def write(text: str) -> Path:
        path = tmp_path / "resources.yaml"
        path.write_text(text)
        return path

    return write


def test_later_patterns_come_over_earlier_ones_field_by_field(file):
    path = file(BLOCKS)
    assert resources.of("tables@digits", path) == Resources(gpus=0, cpus=1, mem_mb=100, runtime=5)
    assert resources.of("train@big", path) == Resources(gpus=2, cpus=1, mem_mb=100, runtime=60)
    assert resources.of("train@small-x", path) == Resources(gpus=0, cpus=1, mem_mb=50, runtime=60)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"*": {gpu: 1}', "resources.yaml: *.gpu: no such field; did you mean 'gpus'?"),
        ("train@*: {runtime: 1h}", "resources.yaml: train@*.runtime: '1h'; a whole number from 1 is needed"),
        ("train@*: {cpus: 0}", "resources.yaml: train@*.cpus: 0; a whole number from 1 is needed"),
        ("train@*: {gpus: -1}", "resources.yaml: train@*.gpus: -1; a whole number from 0 is needed"),
        ("train@*: {gpus: true}", "resources.yaml: train@*.gpus: True; a whole number from 0 is needed"),
        ("train@*: {gpus: 1}", "resources.yaml: train@x: no cpus, mem_mb, runtime; give them under '*'"),
        ("train@*: 4", "resources.yaml: train@*: fields are needed (gpus, cpus, mem_mb, runtime)"),
        ("", "resources.yaml: train@x: no gpus, cpus, mem_mb, runtime; give them under '*'"),
    ],
)
def test_a_mistake_in_the_file_is_named(text, message, file):
    with pytest.raises(UserError, match=re.escape(message)):
        resources.of("train@x", file(text))


def test_gpus_are_asked_for_as_the_site_wants_it():
    on_gpu, on_cpu = (
        Resources(gpus=2, cpus=4, mem_mb=100, runtime=60),
        Resources(gpus=0, cpus=4, mem_mb=100, runtime=60),
    )
    plain = {"mem_mb": 100, "runtime": 60}
    assert on_gpu.request(SETTINGS) == plain | {"gpu": 2}
    site = SETTINGS | {"gres": "gpu:h100", "gpu_partition": "accel"}
    assert on_gpu.request(site) == plain | {"gres": "gpu:h100:2", "slurm_partition": "accel"}
    assert on_cpu.request(SETTINGS) == on_cpu.request(site) == plain


def stages_with_a_device() -> set[str]:
    """Stages of dvc.yaml whose script takes --device."""
    found = set()
    for name, block in yaml_file.read(ROOT / "dvc.yaml")["stages"].items():
        script = re.search(r"stages/\w+\.py", block["do"]["cmd"])[0]
        if "add_device(" in (ROOT / script).read_text() or "train" in script:
            found.add(name)
    return found


def test_the_stages_that_use_a_gpu_get_one_and_no_others():
    families = yaml_file.read(ROOT / "dvc.yaml")["stages"]
    with_gpu = {name for name in families if resources.of(f"{name}@cifar10_if100").gpus}
    assert with_gpu == stages_with_a_device()
    for name in families:
        assert resources.of(f"{name}@digits").gpus == resources.of(f"{name}@ldam_drw-cifar10_if100-mini").gpus == 0


def holder(share: int, folder: Path, count: int = 1, visible: str = "0,1") -> subprocess.Popen:
    """A process that takes GPUs, says which, and holds them until its stdin ends."""
    code = (
        "import sys, os\nfrom workflow import gpus\n"
        f"with gpus.taken({count}, share={share}):\n"
        "    print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n    sys.stdin.read()\n"
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": visible, "TMPDIR": str(folder), "PYTHONPATH": path}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)


def devices(process: subprocess.Popen) -> list[str]:
    return process.stdout.readline().strip().split(",")


def test_each_process_holds_a_gpu_and_the_next_one_waits(tmp_path):
    first, second = holder(1, tmp_path), holder(1, tmp_path)
    held = {first: devices(first), second: devices(second)}
    assert sorted(held.values()) == [["0"], ["1"]]
    third = holder(1, tmp_path)
    time.sleep(1)
    assert third.poll() is None
    second.kill()  # however it ends
    second.wait()
    assert devices(third) == held[second]
    for process in (first, third):
        process.communicate()


def test_gpus_are_shared_only_when_none_is_empty(tmp_path):
    holders = []
    for _ in range(4):
        holders.append(holder(2, tmp_path))
        holders[-1].got = devices(holders[-1])
    assert sorted(h.got for h in holders[:2]) == sorted(h.got for h in holders[2:]) == [["0"], ["1"]]
    for process in holders:
        process.communicate()


def test_two_gpus_for_one_process_are_two(tmp_path):
    process = holder(1, tmp_path, count=2)
    assert devices(process) == ["0", "1"]
    process.communicate()


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UserError, match=r"2 asked for in .*, this machine has 1$"), gpus.taken(2):
        pass


def test_a_machine_without_gpus_gives_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with gpus.taken(1) as mine:
        assert mine == [] and os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_the_environment_file_has_the_dependencies_of_the_project():
    listed = yaml_file.read(ROOT / "workflow/environment.yaml")["dependencies"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert listed[-1]["pip"] == project["dependencies"]


def test_the_profiles_are_found_by_their_names():
    for name in ("local", "slurm"):
        assert (ROOT / name).is_symlink() and os.readlink(ROOT / name) == f"workflow/profiles/{name}"
        assert yaml_file.read(ROOT / name / "config.yaml")["keep-going"] is True


def test_the_snakefile_stays_short():
    """As snakefmt lays it out, a value a line."""
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 80


RECORD = {"cmd": "make a", "deps": [{"path": "a", "md5": "0" * 32, "size": 1}], "outs": []}


@pytest.mark.parametrize("content", [{}, RECORD])
def test_a_record_that_was_cut_or_flipped_says_nothing(content):
    text = to_text(content)
    assert from_text(text) == content
    assert [from_text(text[:at]) for at in range(len(text))] == [None] * len(text)
    flipped = (text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :] for at in range(len(text)))
    assert {json.dumps(from_text(other)) for other in flipped} <= {"null"}
    assert from_text(json.dumps(content)) is None  # of an earlier version


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("failed to run: make, exited with -9", "killed by signal 9 (out of memory?); start again"),
        ("failed to run: make, exited with 137", "killed by signal 9 (out of memory?); start again"),
        ("failed to run: make, exited with 143", "exited with 143"),
        ("failed to run: make, exited with 2", "exited with 2"),
    ],
)
def test_a_signal_that_ended_a_stage_is_named(said, told):
    assert told in job._ended(said) and ("killed" in job._ended(said)) == ("killed" in told)
