"""Checkpoints that are cut short, empty or flipped: set aside with a line, and the one before taken."""

from __future__ import annotations

import errno
import io
import os

import pytest
import torch

from longtail.base.errors import explained
from longtail.runs import saver
from longtail.runs.saver import BEFORE, CHECKPOINT, DAMAGED, Saver, last_saved


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With two checkpoints: steps 1 and 2."""
    monkeypatch.chdir(tmp_path)
    writer = Saver()
    for step in (1, 2):
        writer.save({"step": step, "weights": torch.arange(1000.0)}, tmp_path / CHECKPOINT)
    writer.wait()
    return tmp_path


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_the_newest_is_read_and_the_one_before_is_kept(folder):
    assert last_saved(folder, "run")["step"] == 2
    (folder / CHECKPOINT).unlink()  # killed between two renames where there are no hard links
    assert last_saved(folder, "run")["step"] == 1


@pytest.mark.parametrize(
    "hurt",
    [lambda d: b"", lambda d: d[:100], lambda d: d[:-1], lambda d: d[:-200]]
    + [lambda d, k=k: flip(d, k * (len(d) - 1) // 7) for k in range(8)],
    ids=["empty", "head", "tail", "no sum", *(f"flipped at {k}/7" for k in range(8))],
)
def test_a_damaged_one_is_set_aside(folder, hurt, capsys):
    path = folder / CHECKPOINT
    data = path.read_bytes()
    path.write_bytes(hurt(data))
    assert last_saved(folder, "run")["step"] == 1
    said = capsys.readouterr().out
    assert said.startswith(f"run: {path}: ") and said.endswith(f"set aside as {DAMAGED}, the one before it is taken\n")
    assert (folder / DAMAGED).read_bytes() == hurt(data) and not path.exists()
    (folder / BEFORE).write_bytes(b"")
    assert last_saved(folder, "run") is None and "begun anew" in capsys.readouterr().out


def test_one_of_an_earlier_version_has_no_sum_and_is_taken(folder):
    buffer = io.BytesIO()
    torch.save({"step": 7}, buffer)
    (folder / CHECKPOINT).write_bytes(buffer.getvalue())
    assert last_saved(folder, "run")["step"] == 7


def test_without_hard_links_two_are_kept_as_well(folder, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    writer = Saver()
    writer.save({"step": 3}, folder / CHECKPOINT)
    writer.wait()
    assert last_saved(folder, "run")["step"] == 3
    (folder / CHECKPOINT).unlink()
    assert last_saved(folder, "run")["step"] == 2


def test_any_tool_reads_one(folder):
    assert torch.load(folder / CHECKPOINT, weights_only=True)["step"] == 2


def test_a_full_disk_is_told_with_the_file_and_keeps_the_one_that_is_there(folder, monkeypatch):
    def write(self, data):
        self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise self.error

    monkeypatch.setattr(saver._Summed, "write", write)
    writer = Saver()
    writer.save({"step": 3}, folder / CHECKPOINT)
    with pytest.raises(OSError) as error:
        writer.wait()
    assert explained(error.value)[0].startswith(f"{folder / CHECKPOINT}: the disk is full")
    assert last_saved(folder, "run")["step"] == 2
