"""What ends a stage is told in one line, with a code of its kind; a fault of the code keeps its traceback."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.base import yaml_file
from longtail.base.errors import UserError, explained, killed, run_main
from longtail.base.files import atomic_write, new_folder


def full(*_) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def huge() -> None:
    np.empty(2**62, np.uint8)


def huge_tensor() -> None:
    torch.empty(2**50)


def no_yaml() -> None:
    raise yaml_file.yaml.YAMLError("line 1: no end")


def long_field() -> None:
    list(csv.reader(["x" * 200_000]))


def missing() -> None:
    Path("/nowhere/file").read_text()


def interrupted() -> None:
    raise KeyboardInterrupt


def mistaken() -> None:
    raise UserError("a mistake\nof two lines")


@pytest.mark.parametrize(
    ("main", "code", "needles"),
    [
        (mistaken, 2, ["a mistake of two lines"]),
        (interrupted, 130, ["interrupted"]),
        (full, 1, ["the disk is full", "make room and start again"]),
        (huge, 1, ["out of memory: Unable to allocate"]),
        (huge_tensor, 1, ["out of memory: "]),
        (no_yaml, 2, ["a file is not read", "line 1"]),
        (long_field, 2, ["a file is not read: field larger than field limit"]),
        (missing, 1, ["/nowhere/file: No such file or directory (error ENOENT)"]),
    ],
)
def test_one_line_and_the_code_of_its_kind(main, code, needles, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run_main(main)
    said = capsys.readouterr()
    assert end.value.code == code and said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert all(needle in said.err for needle in needles), said.err


def test_a_fault_of_the_code_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert explained(ZeroDivisionError("x")) is None
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 / 0)


def test_the_environment_is_looked_at_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LONGTAIL_SAVE_EVERY_S", "2m")
    with pytest.raises(SystemExit) as end:
        run_main(lambda: (_ for _ in ()).throw(AssertionError("the stage began")))
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: LONGTAIL_SAVE_EVERY_S=2m: ")


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError) as error:
        atomic_write(tmp_path / "out.txt", full)
    assert explained(error.value)[0].startswith(f"{tmp_path}/out.txt: the disk is full (")
    with pytest.raises(OSError) as error, new_folder(tmp_path / "folder") as folder:
        (folder / "a").write_text("a")
        full()
    assert explained(error.value)[0].startswith(f"{tmp_path}/folder: the disk is full (")
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"] and not any((tmp_path / "scratch").iterdir())


def test_a_library_that_wraps_the_error_is_understood():
    said = explained(RuntimeError('Error while serializing: IoError(Os { message: "No space left on device" })'))
    assert "the disk is full" in said[0] and said[1] == 1


def test_how_a_child_was_killed():
    assert killed(9) == "killed by signal 9 (out of memory?)" and killed(15) == "killed by signal 15"
