"""The table of bad inputs (bad_inputs/): each goes through the real stage that reads it and through the doctor.

Asserted of every row: one line that says what is wrong, exit code 2, and that nothing that was there has changed.
`python -m pytest tests/stages/test_bad_inputs.py -k count -s` prints how many there are.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from longtail.base import yaml_file
from tests.helpers.reporting import run_stage
from tests.stages.bad_inputs import checkpoints, files, lists, parameters, records
from tests.stages.bad_inputs.rows import Row, made

ROWS = [*lists.ROWS, *records.ROWS, *files.ROWS]
EARLIER = b"the dataset file of an earlier run"


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder."""
    found: dict[str, bytes | str] = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(place, name)
            found[path] = os.readlink(path) if os.path.islink(path) else "" if name in folders else read(path)
    return found


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def spoiled(row: Row, folder: Path) -> None:
    """The row's input, its params.yaml, and a dataset file that must stay."""
    block = made(folder, row.source)
    for key, value in (row.spoil(folder) or {}).items():
        (block if key in block else block["files"])[key] = value
    (folder / "params.yaml").write_text(yaml_file.dump({"datasets": {"own": block}}))
    (folder / "own.npz").write_bytes(EARLIER)


def refused(capsys, stage: str, *arguments: object) -> list[str]:
    """What a stage says that must end with exit code 2."""
    assert run_stage(stage, *arguments) == 2
    said = capsys.readouterr().err
    assert said.endswith("\n") and all(line.startswith("error: ") for line in said.splitlines()), said
    return said.splitlines()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_bad_input_is_told_in_one_line(row, tmp_path, monkeypatch, capsys):
    spoiled(row, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    (line,) = refused(capsys, "subsample", "own", "--out", "own.npz")
    assert row.said in line
    lines = refused(capsys, "doctor", "own", "--jobs", "1")
    assert any((row.doctor or row.said) in line for line in lines), lines
    assert tree(tmp_path) == before and before[str(tmp_path / "own.npz")] == EARLIER


@pytest.mark.parametrize("name", parameters.ROWS)
def test_bad_parameters_are_told_in_one_line(name, tmp_path, monkeypatch, capsys):
    text, said = parameters.ROWS[name]
    made(tmp_path, "list")
    (tmp_path / "params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    (tmp_path / "own.npz").write_bytes(EARLIER)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    for arguments in (("subsample", "own", "--out", "own.npz"), ("doctor", "own")):
        (line,) = refused(capsys, *arguments, "--params", "params.yaml")
        assert said in line
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", checkpoints.ROWS)
def test_a_bad_checkpoint_is_told_in_one_line(name, tmp_path, monkeypatch, capsys):
    make, said = checkpoints.ROWS[name]
    file = checkpoints.laid_out(tmp_path, make)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    (line,) = refused(capsys, *checkpoints.command(file))
    assert said in line and "weights_only" not in line and "torch.load" not in line
    after = tree(tmp_path)
    new = [path for path, what in after.items() if what and path not in before and "scratch" not in path]
    assert new == [] and {path: after[path] for path in before} == before  # an empty folder may be there


@pytest.mark.parametrize("source", ["list", "csv", "inat", "imagefolder"])
def test_what_the_rows_spoil_is_sound(source, tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text(yaml_file.dump({"datasets": {"own": made(tmp_path, source)}}))
    monkeypatch.chdir(tmp_path)
    assert run_stage("doctor", "own", "--jobs", "1") == 0
    assert run_stage("subsample", "own", "--out", "own.npz") == 0
    told = capsys.readouterr()
    assert told.err == "" and "note:" not in told.out and "6 test images" in told.out


def test_count_of_bad_inputs(capsys):
    """At least a hundred, of every kind that stages read, each different."""
    named = sum("name" in what for what in parameters.ROWS)
    kinds = Counter(row.kind for row in ROWS) + Counter(
        A=len(checkpoints.ROWS), B=len(parameters.ROWS) - named, L=named
    )
    with capsys.disabled():
        print(f"\n{kinds.total()} bad inputs: {', '.join(f'{kind} {kinds[kind]}' for kind in sorted(kinds))}")
    assert kinds.total() >= 100 and set("ABCFIJLM") <= set(kinds)
    assert len({row.id for row in ROWS}) == len(ROWS)
