"""dvc.lock cut anywhere is noticed and put back; what git or DVC wrote to its end is left as it is."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from longtail.base import yaml_file
from longtail.base.errors import UserError
from tests.helpers.projects import WHO
from workflow import lockfile

PIPELINE = {
    "stages": {
        name: {"foreach": "${items}", "do": {"cmd": f"{name} ${{key}}", "deps": ["code"], "outs": [f"{name}/${{key}}"]}}
        for name in ("make", "follow")
    }
}


def entry(name: str, digest: str = "d") -> dict:
    file = {"hash": "md5", "md5": digest * 32, "size": 12}
    return {
        "cmd": name,
        "deps": [{"path": "code", "hash": "md5", "md5": "c" * 32 + ".dir", "size": 34, "nfiles": 2}],
        "params": {"params.yaml": {"items.a": 1}},
        "outs": [{"path": name, **file}],
    }


NAMES = [f"{kind}@{key}" for kind in ("make", "follow") for key in ("a", "b")]
WHOLE = {"schema": "2.0", "stages": {name: entry(name) for name in NAMES}}


def text(lock: dict) -> bytes:
    return yaml_file.dump(lock).encode()


@pytest.fixture
def root(tmp_path) -> Path:
    """A pipeline of four stages whose dvc.lock is whole and kept."""
    (tmp_path / "params.yaml").write_text("items: {a: 1, b: 2}\n")
    (tmp_path / "dvc.yaml").write_text(yaml_file.dump(PIPELINE))
    (tmp_path / "dvc.lock").write_bytes(text(WHOLE))
    lockfile.keep(tmp_path)
    return tmp_path


def test_cut_anywhere_it_is_put_back(root, capsys):
    """At every line's end, where what is left often parses, and at a hundred other places."""
    whole = text(WHOLE)
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")][:-1]
    for at in [0, *ends, *random.Random(0).sample(range(len(whole)), 100)]:
        (root / "dvc.lock").write_bytes(whole[:at])
        lockfile.keep(root)
        assert (root / "dvc.lock").read_bytes() == whole, at
        assert (root / "dvc.lock.torn").read_bytes() == whole[:at]
        said = capsys.readouterr().err
        assert f"{root}/dvc.lock: cut short" in said and "the last whole one is put back" in said


def test_the_torn_new_text_gives_way_to_the_last_whole_one(root):
    newer = WHOLE["stages"] | {"make@a": entry("make@a", "e"), "follow@c": entry("follow@c")}
    torn = text(WHOLE | {"stages": newer})[:-60]
    (root / "dvc.lock").write_bytes(torn)
    lockfile.keep(root)
    assert (root / "dvc.lock").read_bytes() == text(WHOLE)


@pytest.mark.parametrize(
    "change",
    [
        {"make@a": entry("make@a", "e")},
        {"more@a": entry("more@a")},
    ],
    ids=["a stage made again", "a stage more"],
)
def test_what_dvc_wrote_to_its_end_is_kept(root, change, capsys):
    new = text(WHOLE | {"stages": WHOLE["stages"] | change})
    (root / "dvc.lock").write_bytes(new)
    lockfile.keep(root)
    assert (root / "dvc.lock").read_bytes() == new == (root / ".dvc.lock.whole").read_bytes()
    assert capsys.readouterr().err == ""


def test_what_git_put_there_is_kept_though_it_has_fewer_stages(root, capsys):
    few = text(WHOLE | {"stages": dict(list(WHOLE["stages"].items())[:2])})
    (root / "dvc.lock").write_bytes(few)
    for arguments in (["init", "-q"], ["add", "."], [*WHO, "commit", "-qm", "few"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    lockfile.keep(root)
    assert (root / "dvc.lock").read_bytes() == few and capsys.readouterr().err == ""


def test_without_a_copy_gits_is_taken_and_without_both_the_cure_is_said(root, capsys):
    (root / ".dvc.lock.whole").unlink()
    (root / "dvc.lock").write_bytes(text(WHOLE)[:200])
    with pytest.raises(UserError, match="there is no whole one; remove it: stages run again, finished runs stay"):
        lockfile.keep(root)
    (root / "dvc.lock").write_bytes(text(WHOLE))
    for arguments in (["init", "-q"], ["add", "."], [*WHO, "commit", "-qm", "whole"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    (root / "dvc.lock").write_bytes(text(WHOLE)[:200])
    with pytest.raises(UserError, match="puts the last whole one back"):
        lockfile.keep(root, mend=False)
    lockfile.keep(root)
    assert (root / "dvc.lock").read_bytes() == text(WHOLE) and "git's last one" in capsys.readouterr().err


def test_stages_that_are_no_longer_in_the_pipeline_are_not_missed(root, capsys):
    (root / "params.yaml").write_text("items: {a: 1}\n")
    few = text(WHOLE | {"stages": {name: entry(name) for name in NAMES[:3]}})
    (root / "dvc.lock").write_bytes(few)
    lockfile.keep(root)
    assert (root / "dvc.lock").read_bytes() == few and capsys.readouterr().err == ""


def test_a_merge_and_a_missing_file_are_left_alone(root):
    conflict = b"<<<<<<< HEAD\n" + text(WHOLE)
    (root / "dvc.lock").write_bytes(conflict)
    lockfile.keep(root)
    assert (root / "dvc.lock").read_bytes() == conflict
    (root / "dvc.lock").unlink()
    lockfile.keep(root)
    assert not (root / "dvc.lock").exists()


def test_a_damaged_file_of_the_cache_is_no_longer_trusted(root, capsys):
    """5d41...c592 is the md5 of `hello`; a listing's has `.dir` behind it."""
    folder = root / ".dvc/cache/files/md5/5d"
    folder.mkdir(parents=True)
    good, listing = folder / "41402abc4b2a76b9719d911017c592", folder / "41402abc4b2a76b9719d911017c592.dir"
    for path in (good, listing):
        path.write_text("hello")
        path.chmod(0o444)
    lockfile.keep(root)
    assert capsys.readouterr().err == ""
    listing.chmod(0o644)
    listing.write_text("hellp")
    listing.chmod(0o444)
    lockfile.keep(root)
    assert [path.stat().st_mode & 0o777 for path in (good, listing)] == [0o444, 0o644]
    assert f"{listing}: damaged" in capsys.readouterr().err


def test_nothing_is_done_while_dvc_is_at_work(root):
    import fcntl

    (root / "dvc.lock").write_bytes(b"schema")
    with open(root / ".dvc/tmp/lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        lockfile.keep(root)
        assert (root / "dvc.lock").read_bytes() == b"schema"
    lockfile.keep(root)
    assert (root / "dvc.lock").read_bytes() == text(WHOLE)
