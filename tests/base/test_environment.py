"""Variables of the environment: what they mean, and what each refuses, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtail.base import environment
from longtail.base.errors import UserError


@pytest.fixture(autouse=True)
def nothing_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in environment.READ:
        monkeypatch.delenv(name, raising=False)


def told() -> str:
    with pytest.raises(UserError) as error:
        environment.check()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_variables_everything_has_its_default_and_no_folder_is_made(tmp_path):
    environment.check()
    found = {name: environment.of(name) for name in environment.READ}
    assert found == {
        "LONGTAIL_SCRATCH": Path("scratch"),
        "LONGTAIL_SAVE_EVERY_S": 120.0,
        "LONGTAIL_RETRAIN": False,
        "LONGTAIL_ALLOW_WEAK_TEACHER": False,
        "LONGTAIL_NPROC": 1,
        "LONGTAIL_PRECISION": "auto",
        "LONGTAIL_ENGINE": "auto",
        "LONGTAIL_MICRO_BATCH": 0,
    }
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", environment.READ)
@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_value_is_none(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    environment.check()
    assert environment.of(name) == environment.READ[name][0]


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("LONGTAIL_SAVE_EVERY_S", " 0.5 ", 0.5),
        ("LONGTAIL_SAVE_EVERY_S", "0", 0.0),
        ("LONGTAIL_RETRAIN", "1", True),
        ("LONGTAIL_RETRAIN", "0", False),
        ("LONGTAIL_NPROC", "4", 4),
        ("LONGTAIL_PRECISION", "bf16", "bf16"),
        ("LONGTAIL_MICRO_BATCH", "512", 512),
    ],
)
def test_a_value_is_what_it_says(name, value, meant, monkeypatch):
    monkeypatch.setenv(name, value)
    environment.check()
    assert environment.of(name) == meant


@pytest.mark.parametrize(
    ("name", "value", "needle"),
    [
        ("LONGTAIL_SAVE_EVERY_S", "2m", "seconds are needed, a number from 0, e.g. 120"),
        ("LONGTAIL_SAVE_EVERY_S", "-1", "seconds are needed"),
        ("LONGTAIL_SAVE_EVERY_S", "nan", "seconds are needed"),
        ("LONGTAIL_SAVE_EVERY_S", "inf", "seconds are needed"),
        ("LONGTAIL_RETRAIN", "yes", "1 (yes) or 0 (no) is needed"),
        ("LONGTAIL_ALLOW_WEAK_TEACHER", "true", "1 (yes) or 0 (no) is needed"),
        ("LONGTAIL_NPROC", "0", "a whole number from 1 is needed"),
        ("LONGTAIL_NPROC", "²", "a whole number from 1 is needed"),
        ("LONGTAIL_NPROC", "2.0", "a whole number from 1 is needed"),
        ("LONGTAIL_PRECISION", "half", "must be one of auto, fp32, bf16, fp16"),
        ("LONGTAIL_ENGINE", "jit", "must be one of auto, eager, compiled"),
        ("LONGTAIL_MICRO_BATCH", "-8", "a whole number from 0 is needed"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(name, value, needle, monkeypatch):
    monkeypatch.setenv(name, value)
    assert told().startswith(f"{name}={value}: ") and needle in told()


def test_a_variable_that_nothing_reads_is_a_mistake(monkeypatch):
    monkeypatch.setenv("LONGTAIL_SCRACH", "/tmp")
    assert told() == "LONGTAIL_SCRACH: no such variable; did you mean 'LONGTAIL_SCRATCH'?"


def test_scratch_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LONGTAIL_SCRATCH", "~/scratch")
    environment.check()
    assert environment.scratch() == tmp_path / "home/scratch" and environment.scratch().is_dir()
    monkeypatch.setenv("LONGTAIL_SCRATCH", "~nobody-of-this-name/scratch")
    assert told().startswith("LONGTAIL_SCRATCH=~nobody-of-this-name/scratch: there is no such home folder")


def test_scratch_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for value in (f"{tmp_path}/file/scratch", f"{tmp_path}/file", "/proc/scratch"):
        monkeypatch.setenv("LONGTAIL_SCRATCH", value)
        assert told().startswith(f"LONGTAIL_SCRATCH={value}: {value} cannot be written (")
    monkeypatch.delenv("LONGTAIL_SCRATCH")
    (tmp_path / "scratch").touch()
    assert "the scratch folder (set LONGTAIL_SCRATCH to another one)" in told()
