"""Finished results that are damaged: noticed by who makes and who reads them, set aside, made again, byte by byte."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from longtail.base import intact
from tests.helpers.stage_processes import ANALYSE, CACHE, EVALUATE, STUDENT, TEACHER, finish, start

WEIGHTS = {
    TEACHER: "model_best.safetensors",
    CACHE: "labels.npy",
    STUDENT: "model.safetensors",
}


def result(folder: Path, command: tuple) -> Path:
    return folder / command[-1] / "seed0"


@pytest.fixture
def copy(tiny, tmp_path) -> Path:
    """Everything that the stages made, with the records of their files."""
    shutil.copytree(tiny, tmp_path, True, shutil.ignore_patterns("scratch", "logs"), dirs_exist_ok=True)
    return tmp_path


def flip(path: Path, keep_time: bool = False) -> None:
    """A bit of the file's last byte: of numbers, not of a header."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("command", WEIGHTS, ids=[command[0] for command in WEIGHTS])
def test_its_own_stage_makes_it_again(command, copy):
    folder = result(copy, command)
    whole = files(folder)
    flip(folder / WEIGHTS[command])
    run = finish(copy, *command)
    assert f"{WEIGHTS[command]}: damaged, not what was written (its sha256 is another); set aside as " in run.out
    assert "already there" not in run.out and files(folder) == whole
    (aside,) = folder.parent.with_name(f"{folder.parent.name}.damaged").iterdir()
    assert files(aside).keys() == whole.keys()
    assert "already there" in finish(copy, *command).out


@pytest.mark.parametrize(("made", "reader"), [(TEACHER, CACHE), (CACHE, STUDENT), (STUDENT, ANALYSE)])
def test_who_reads_it_says_so_also_where_size_and_time_are_the_same(made, reader, copy):
    folder = result(copy, made)
    whole = files(folder)
    flip(folder / WEIGHTS[made], keep_time=True)
    if reader[0] != "analyse":
        shutil.rmtree(result(copy, reader))
    run = start(copy, *reader)
    assert run.wait() == 2
    (said,) = run.err.splitlines()
    assert said.startswith(f"error: {made[-1]}/seed0: {WEIGHTS[made]}: ") and "set aside as data/" in said
    assert not folder.exists()
    finish(copy, *made)
    assert files(folder) == whole
    finish(copy, *reader)


def test_predictions_are_checked_before_they_are_evaluated(copy):
    flip(result(copy, STUDENT) / "predictions.npz", keep_time=True)
    run = start(copy, *EVALUATE)
    assert run.wait() == 2 and "predictions.npz: damaged, not what was written" in run.err


def test_a_student_whose_teacher_is_another_is_trained_again(copy):
    """Its labels may be the same; its identity.json must not tell of a teacher that is no more."""
    path = result(copy, CACHE) / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"teacher_digest": "0" * 64}))
    intact.note(path.parent, intact.made(path.parent))
    run = finish(copy, *STUDENT)
    assert "tiny-deit_lt seed 0: trained anew, teacher_digest: another one now" in run.out
    assert json.loads((result(copy, STUDENT) / "identity.json").read_text())["teacher_digest"] == "0" * 64
