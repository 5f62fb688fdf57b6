"""Results whose files are no longer what was written: noticed by size, time or content, and set aside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from longtail.base import intact
from longtail.base.errors import UserError


@pytest.fixture
def result(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/entry/seed0"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(100)))
    (folder / "facts.json").write_text("{}")
    intact.note(folder, {"code": "c"})
    return folder


def flip(path: Path, keep_time: bool = False) -> None:
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (0 if keep_time else 10**9)))


def test_what_was_written_is_intact_and_its_record_knows_each_file(result):
    assert intact.damage(result) is None and intact.damage(result, ("weights",)) is None
    made = intact.made(result)
    assert made["code"] == "c" and made["files"]["weights"]["bytes"] == 100
    # printf of the bytes 0 to 99 | sha256sum
    assert made["files"]["weights"]["sha256"] == "bce0aff19cf5aa6a7469a30d61d04e4376e4bbf6381052ee9e7f33925c954d52"


def test_a_touched_or_copied_file_is_read_once(result, monkeypatch):
    os.utime(result / "weights", (1, 1))
    assert intact.damage(result) is None
    monkeypatch.setattr(intact, "file_digest", lambda path: pytest.fail("read again"))
    assert intact.damage(result) is None


@pytest.mark.parametrize(
    ("hurt", "said"),
    [
        (lambda f: flip(f / "weights"), "weights: damaged, not what was written (its sha256 is another)"),
        (lambda f: os.truncate(f / "weights", 7), "weights: cut short or damaged, 7 bytes of 100 that were written"),
        (lambda f: (f / "facts.json").unlink(), "facts.json: missing"),
    ],
)
def test_damage_is_noticed_and_set_aside(result, hurt, said):
    hurt(result)
    assert intact.damage(result) == said
    with pytest.raises(UserError) as error:
        intact.check(result)
    (aside,) = (result.parents[1] / "entry.damaged").iterdir()
    assert str(error.value).startswith(f"{result}: {said}; set aside as {aside}; start again")
    assert not result.exists() and not intact.environment_of(result).exists()
    assert os.access(aside / "weights", os.W_OK)


def test_what_keeps_size_and_time_is_noticed_where_it_is_read(result):
    flip(result / "weights", keep_time=True)
    assert intact.damage(result) is None and intact.damage(result, ("facts.json",)) is None
    assert "its sha256 is another" in intact.damage(result, ("weights",))


def test_a_result_without_a_record_is_taken_as_it_is(result):
    intact.environment_of(result).unlink()
    flip(result / "weights")
    assert intact.damage(result, ("weights",)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"code": "c", "sha256 of the rest": "0"}'])
def test_a_damaged_record_speaks_for_nothing(result, text):
    intact.environment_of(result).write_text(text)
    assert intact.made(result) == {} and intact.damage(result) is None


def test_a_flipped_sum_in_the_record_does_not_condemn_the_result(result):
    path = intact.environment_of(result)
    facts = json.loads(path.read_text())
    facts["files"]["weights"]["bytes"] += 1
    path.write_text(json.dumps(facts))
    assert intact.damage(result) is None


def test_only_a_seeds_folder_is_moved(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    assert str(intact.damaged(folder, "x: damaged")) == f"{folder}: x: damaged; make it again" and folder.exists()
