"""The quicker writing of dvc.lock: DVC's own bytes, and DVC's own way for whatever looks different."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys

import dvc.rwlock
import pytest
from dvc.dependency.param import read_param_file
from dvc.fs import LocalFileSystem
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.utils.serialize import ParseError, dumps_yaml, modify_yaml, parse_yaml

from tests.helpers.root import ROOT
from workflow import once
from workflow.once import HEADER
from workflow.quick_dvc import modify, texts

LOCK = (ROOT / "papers/dive/dvc.lock").read_text()
STAGE = {
    "cmd": f"python stages/tables.py {'x' * 70} --out reports/tables",
    "deps": [{"path": "a b", "hash": "md5", "md5": "0" * 32, "size": 12}],
    "params": {
        "params.yaml": {"studies.s": {"title": "on: # 'x'", "rate": 2.5e-05, "none": None, "yes": "yes", "l": []}}
    },
    "outs": [{"path": "reports/ü", "hash": "md5", "md5": "1" * 32, "size": 1, "nfiles": 2}],
}


def both(tmp_path, text: str | None, edit) -> tuple[str, str]:
    """The file after `edit` of its content, by DVC and by ours."""
    written = []
    for name, how in {"theirs": modify_yaml, "ours": modify}.items():
        path = tmp_path / name / "dvc.lock"
        path.parent.mkdir()
        if text is not None:
            path.write_text(text)
        with how(path) as data:
            edit(data)
        written.append(path.read_text())
    return tuple(written)


def update(name: str):
    return lambda data: data["stages"].update({name: STAGE})


def test_stages_are_taken_apart_and_put_together():
    names = ["train_teacher@a", "b"]
    text = "schema: '2.0'\nstages:\n  train_teacher@a:\n    cmd: c\n    deps:\n    - path: p\n  b:\n    cmd: d\n"
    assert texts(text, names) == {
        "train_teacher@a": "  train_teacher@a:\n    cmd: c\n    deps:\n    - path: p\n",
        "b": "  b:\n    cmd: d\n",
    }
    assert texts(text, ["b"]) is None and texts("a: 1\n" + text, names) is None


@pytest.mark.parametrize("which", ["first", "middle", "last", "new"])
def test_a_stage_that_ran_is_written_as_dvc_writes_it(tmp_path, which):
    names = [line[2:-1] for line in LOCK.splitlines() if line.startswith("  ") and line[2] != " "]
    name = {"first": names[0], "middle": names[len(names) // 2], "last": names[-1], "new": "tables@ünew"}[which]
    theirs, ours = both(tmp_path, LOCK, update(name))
    assert ours == theirs != LOCK and "2.5e-05" in ours


def test_a_stage_that_is_as_it_was_writes_nothing(tmp_path):
    (tmp_path / "dvc.lock").write_text(LOCK)
    before = (tmp_path / "dvc.lock").stat()
    with modify(tmp_path / "dvc.lock") as data:
        name, stage = next(iter(data["stages"].items()))
        data["stages"].update({name: dict(stage)})
    after = (tmp_path / "dvc.lock").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "schema: '2.0'\nstages: {}\n",
        "schema: '2.0'\nstages:\n    a:\n        cmd: b\n",  # as another editor lays it out
        "schema: '2.0'\ndatasets: []\nstages:\n  a:\n    cmd: b\n",
    ],
)
def test_what_is_laid_out_otherwise_goes_dvcs_way(tmp_path, text):
    def edit(data):
        data.setdefault("schema", "2.0")
        data.setdefault("stages", {}).update({"tables@s": STAGE})

    theirs, ours = both(tmp_path, text, edit)
    assert ours == theirs and "tables@s" in ours


def test_anchors_are_numbered_through_the_file(tmp_path):
    """A list that params.yaml uses twice is written once, and the numbers of such lists are the whole file's."""
    shared = [1, 2]
    anchored = {"cmd": "c", "params": {"params.yaml": {"a": {"x": shared, "y": shared}}}}
    text = dumps_yaml({"schema": "2.0", "stages": {"a": anchored, "b": {"cmd": "d"}, "c": copy.deepcopy(anchored)}})
    assert text.startswith(HEADER) and "&id002" in text
    for number, edit in enumerate(
        (
            lambda data: data["stages"].update(b=copy.deepcopy(anchored)),  # one more, between
            lambda data: data["stages"].update(a={"cmd": "d"}),  # one less: those after it are counted anew
            lambda data: data["stages"].update(b={"cmd": "e"}),
        )
    ):
        (tmp_path / str(number)).mkdir()
        theirs, ours = both(tmp_path / str(number), text, edit)
        assert ours == theirs and parse_yaml(ours, "dvc.lock")["stages"]["c"] == anchored


def test_more_than_a_stage_is_written_too(tmp_path):
    theirs, ours = both(tmp_path, LOCK, lambda data: data.setdefault("datasets", []).append({"name": "n"}))
    assert ours == theirs and "datasets:" in ours


def test_an_error_of_dvc_leaves_the_file(tmp_path):
    path = tmp_path / "dvc.lock"
    path.write_text(LOCK)
    with pytest.raises(KeyError), modify(path) as data:
        data["stages"].update({"a": STAGE})
        data["missing"]
    assert path.read_text() == LOCK


@pytest.mark.parametrize(
    "names",
    [["studies.s.title", "datasets"], ["datasets.*.size"], ["datasets.l.0"], ["studies.absent", "datasets.d.size"]],
    ids=["names", "a pattern", "a number", "an absent one"],
)
def test_params_are_read_as_dvc_reads_them(tmp_path, names):
    """Also after the file has changed, and what is read belongs to its reader."""
    file, content = tmp_path / "params.yaml", {"studies": {"s": {"title": "T"}}, "datasets": {"d": {"size": 3}}}
    content["datasets"]["l"] = [5, 6]
    for title in ("T", "U"):
        content["studies"]["s"]["title"] = title
        file.write_text(dumps_yaml(content))
        theirs = read_param_file(LocalFileSystem(), str(file), names, flatten=True)
        assert once.params(LocalFileSystem(), str(file), names, flatten=True) == theirs
        once.params(LocalFileSystem(), str(file), ["datasets"], flatten=True)["datasets"].clear()
    with pytest.raises(ParseError):
        file.write_text("a: [")
        once.params(LocalFileSystem(), str(file), names, flatten=True)


@pytest.fixture
def repository(tmp_path):
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    return tmp_path


def test_a_lock_is_parsed_once_and_what_was_written_not_at_all(repository, monkeypatch):
    """In one process or two; what is read belongs to its reader, and another text is once."""
    path, told = repository / "papers/x/dvc.lock", []
    monkeypatch.setattr(once, "parse_yaml", lambda text, *rest: told.append(text) or parse_yaml(text, *rest))
    path.parent.mkdir(parents=True)
    path.write_text(LOCK)
    for _ in range(3):
        found = once.lock(LOCK, str(path))
        assert found == parse_yaml(LOCK, "")
        found.clear()
    assert told == [LOCK]
    with modify(path) as data:
        update("tables@s")(data)
    assert path.read_text() != LOCK and once.lock(path.read_text(), str(path)) == parse_yaml(path.read_text(), "")
    assert told == [LOCK]
    other = LOCK.replace("- path:", "- path: ", 1)
    assert once.lock(other, str(path)) == parse_yaml(LOCK, "") and told == [LOCK, other]


@pytest.mark.parametrize("torn", ["", "{}", "[]", '{"of": 1}', '{"of": "'])
def test_a_torn_record_of_a_lock_is_made_anew(repository, torn):
    path = repository / "dvc.lock"
    once.lock(LOCK, str(path))
    (kept,) = (repository / ".dvc/tmp/parsed").iterdir()
    kept.write_text(torn)
    assert once.lock(LOCK, str(path)) == parse_yaml(LOCK, "") and kept.stat().st_size > len(torn)


@pytest.mark.parametrize("value", ["2026-11-30", "{1: a}", ".nan"])
def test_what_json_cannot_hold_is_parsed(repository, value):
    text = f"{HEADER}  a:\n    cmd: x\n    params:\n      params.yaml:\n        v: {value}\n"
    for _ in range(2):
        assert str(once.lock(text, str(repository / "dvc.lock"))) == str(parse_yaml(text, ""))


def test_outside_of_a_repository_nothing_is_kept(tmp_path):
    assert once.lock(LOCK, str(tmp_path / "dvc.lock")) == parse_yaml(LOCK, "") and not list(tmp_path.iterdir())


def test_files_of_many_stages_are_locked_for_reading_in_one_go(tmp_path, monkeypatch):
    """DVC's list of locks is written as often for three stages as for one; who writes one of their files is heeded."""
    made = {name: {"cmd": "x", "deps": ["a"], "outs": [name]} for name in "pqr"}
    monkeypatch.chdir(tmp_path)
    repo = Repo.init(no_scm=True)
    (tmp_path / "dvc.yaml").write_text(dumps_yaml({"stages": made}))
    (tmp_path / "a").touch()
    stages, locks = list(repo.index.stages), tmp_path / ".dvc/tmp/rwlock"
    written, edit = [], dvc.rwlock._edit_rwlock
    monkeypatch.setattr(dvc.rwlock, "_edit_rwlock", lambda *place: written.append(1) or edit(*place))
    with lock_repo(repo), once.read_locked(stages):
        assert all(stage.changed() for stage in stages) and len(written) == 1
        assert set(json.loads(locks.read_text())["read"]) == {str(tmp_path / name) for name in "apqr"}
    assert not json.loads(locks.read_text()).get("read") and len(written) == 2
    locks.write_text(json.dumps({"write": {str(tmp_path / "q"): {"pid": os.getppid(), "cmd": "dvc repro q"}}}))
    with pytest.raises(LockError, match="dvc repro q"), lock_repo(repo), once.read_locked(stages):
        pass


def test_the_command_line_is_dvcs(tmp_path):
    """Two stages run, one after the other; a second time nothing does; DVC itself agrees."""
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  one: {cmd: echo 1 > one, outs: [one: {cache: false}]}\n"
        "  two: {cmd: cp one two, deps: [one], outs: [two: {cache: false}]}\n"
    )

    def dvc(*command: str) -> str:
        environment = {"PATH": f"{ROOT}/.venv/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    dvc("dvc", "init", "--no-scm", "-q")
    said = dvc("workflow.quick_dvc", "repro")
    assert "Running stage 'one'" in said and "Running stage 'two'" in said
    lock = (tmp_path / "dvc.lock").read_text()
    assert "up to date" in dvc("dvc", "status")
    assert "Running" not in dvc("workflow.quick_dvc", "repro")
    (tmp_path / "dvc.lock").unlink()
    shutil.rmtree(tmp_path / ".dvc/cache", ignore_errors=True)
    dvc("dvc", "repro", "-f")
    assert (tmp_path / "dvc.lock").read_text() == lock
