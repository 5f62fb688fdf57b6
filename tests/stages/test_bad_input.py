"""A mistake is told in one line with exit code 2, through the real stage scripts, and costs nothing that was made.

The rows stand in bad_inputs/: these need the files of other stages; test_bad_inputs.py has what is read first."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from longtail.base import yaml_file
from tests.helpers.stage_processes import (
    ANALYSE,
    CACHE,
    ENTROPY,
    EVALUATE,
    EVALUATE_LABELS,
    EVALUATE_TEACHER,
    FIGURES,
    OVERVIEW,
    REPORT,
    STUDENT,
    SUBSAMPLE,
    TABLES,
    TEACHER,
    VIT,
    finish,
    start,
    tiny_params,
)
from tests.stages.bad_inputs.artefacts import FILES, anew
from tests.stages.bad_inputs.settings import PARAMS, put
from tests.stages.bad_inputs.spoiling import CACHE_RUN, STUDENT_RUN

COMMANDS = (SUBSAMPLE, TEACHER, CACHE, STUDENT, EVALUATE, EVALUATE_LABELS, ENTROPY, ANALYSE, TABLES, FIGURES, REPORT)
COMMANDS += (OVERVIEW,)
STAGES = {command[0]: command for command in COMMANDS}


def content(folder: Path) -> dict[str, str]:
    """sha256 of everything that stages made."""
    files = [p for part in ("data", "reports") for p in sorted((folder / part).rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def refused(folder: Path, command: tuple, lines: int = 1, aside: bool = False) -> str:
    """Run a stage that must refuse its input; what it says on stderr. aside: a result may get another name, no more."""
    before = content(folder)
    run = start(folder, *command)
    code = run.wait()
    assert "Traceback" not in run.err, run.err
    assert code == 2, (code, run.out, run.err)
    said = run.err.splitlines()
    assert len(said) == lines and all(line.startswith("error: ") for line in said), run.err
    after = content(folder)
    assert sorted(after.values()) == sorted(before.values()) if aside else after == before
    return run.err.rstrip("\n")


@pytest.fixture
def copy(tiny, tmp_path) -> Path:
    """Everything the stages made, to be spoiled; without the sums of its files, which would say no more than that."""
    left_out = shutil.ignore_patterns("scratch", "logs", "*.environment")
    shutil.copytree(tiny, tmp_path, True, left_out, dirs_exist_ok=True)
    return tmp_path


# --- params.yaml


@pytest.mark.parametrize("stage", STAGES)
def test_unknown_entry(stage, copy):
    command = STAGES[stage]
    wrong = command[1][:-1] + "u"
    said = refused(copy, (command[0], wrong, *command[2:]))
    assert f"{wrong}: no such entry in params.yaml; did you mean '{command[1]}'?" in said


@pytest.mark.parametrize("what", PARAMS)
def test_params(what, copy):
    change, command, message = PARAMS[what]
    tiny_params(copy, change)
    assert message in refused(copy, command)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "params.yaml: no such file; run from the repository root or pass --params"),
        ("teachers: {a: [}", "params.yaml: not valid YAML"),
        ("- a list", "params.yaml: expected sections"),
        ("experiments: {tiny-vit: 3}", "experiments.tiny-vit: expected a block of keys, found 3"),
    ],
)
def test_params_file(text, message, copy):
    (copy / "params.yaml").unlink()
    if text:
        (copy / "params.yaml").write_text(text)
    assert message in refused(copy, VIT)


# --- files of other stages


@pytest.mark.parametrize("what", FILES)
def test_files(what, copy):
    spoil, command, message = FILES[what]
    spoil(copy)
    aside = message.endswith(("damaged or cut short", "cache cut short or unreadable"))  # and said to be set aside
    said = refused(copy, command, aside=aside)
    assert message in said and ("; set aside as data/" in said) == aside


def test_one_bad_seed_leaves_the_others_to_finish(copy):
    """Two seeds at a time: the good one is kept, the bad one is named, and once more in the last line."""
    shutil.copytree(copy / CACHE_RUN, copy / CACHE_RUN.replace("seed0", "seed1"))
    shutil.rmtree(copy / STUDENT_RUN)
    tiny_params(copy, put("experiments.tiny-deit_lt.seeds", [0, 1]))
    run = start(copy, *STUDENT, "--jobs", 2, cores=2)
    assert run.wait() == 2
    said = run.err.splitlines()
    assert "seed1: made for seed 0, this run has 1" in said[0]
    assert said[1] == "error: tiny-deit_lt: seed 1 failed; finished seeds are kept"
    assert len(said) == 2
    assert [p.name for p in (copy / STUDENT_RUN).parent.iterdir()] == ["seed0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "cuda"), "--device cuda: no CUDA device here; use --device cpu or auto"),
        (("--micro-batch", 3), "--micro-batch 3: must be a multiple of mix_group 8"),
    ],
)
def test_execution_settings(arguments, message, copy):
    assert message in refused(copy, (*anew(VIT), *arguments))


def test_the_folder_that_the_cases_spoil_is_right(copy):
    for command in (TEACHER, CACHE, STUDENT, EVALUATE, EVALUATE_TEACHER, EVALUATE_LABELS, ANALYSE, ENTROPY):
        finish(copy, *anew(command))
    config = yaml_file.read(copy / f"{STUDENT[-1]}-new/seed0/config.yaml")
    assert config["views"]["mix_group"] == 8
