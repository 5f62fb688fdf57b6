"""A disk that is really full, a small tmpfs: one line, an exit code, nothing half-written; with room, the result."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.helpers.reporting import run_stage
from tests.helpers.stage_processes import SUBSAMPLE, TEACHER, tiny_params

MADE = {"subsample": (SUBSAMPLE, "data/datasets/tiny.npz"), "train_teacher": (TEACHER, f"{TEACHER[-1]}/seed0")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, one_thread) -> Path:
    """A folder with what both stages make."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny_params(folder)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.chdir(folder)
        assert [run_stage(*command) for command, _ in MADE.values()] == [0, 0]
    return folder


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of 16 kB, less than what either stage writes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and not mount(folder, "size=16k").returncode
    if not mounted:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def mount(folder: Path, options: str) -> subprocess.CompletedProcess:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def of(result: Path) -> dict[str, bytes]:
    return files(result) if result.is_dir() else {result.name: result.read_bytes()}


@pytest.mark.parametrize("full", ["scratch", "data"])
@pytest.mark.parametrize("stage", MADE)
def test_a_full_disk_is_told_and_nothing_is_half_written(
    stage, full, undisturbed, disk, tmp_path, monkeypatch, capsys, one_thread
):
    command, name = MADE[stage]
    folder = tmp_path / "project"
    tiny_params(folder)
    result, out = folder / name, folder / command[-1]
    if stage == "train_teacher":
        shutil.copytree(undisturbed / "data/datasets", folder / "data/datasets")
    monkeypatch.chdir(folder)
    if full == "scratch":
        monkeypatch.setenv("LONGTAIL_SCRATCH", str(disk))
    else:
        where = out if out.suffix == "" else out.parent
        where.parent.mkdir(parents=True, exist_ok=True)
        where.symlink_to(disk)
    with torch.random.fork_rng(devices=[]):
        assert run_stage(*command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "the disk is full" in line
    assert not result.exists()
    if full == "data":
        assert files(disk) == {}
    assert mount(disk, "remount,size=64m").returncode == 0
    with torch.random.fork_rng(devices=[]):
        assert run_stage(*command) == 0
    assert of(result) == of(undisturbed / name)
    assert [path for place in (folder, disk) for path in place.rglob(".making-*")] == []
