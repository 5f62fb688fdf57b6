"""A project as a user has it: the repository's tracked source in a git repository, tests/tiny.yaml as its params.yaml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from stage_processes import ROOT, TINY

TRACKED = (
    "stages",
    "longtail",
    "dvc.yaml",
    ".dvc",
    ".dvcignore",
    ".gitignore",
    "data/published",
    "data/none",
    "data/*/none",
)
UP_TO_DATE = "Data and pipelines are up to date."


def make_project(folder: Path) -> Path:
    """Commit the source and make report@tiny."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *TRACKED]
    for name in subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copy(TINY, folder / "params.yaml")
    run(folder, "git", "init", "--quiet")
    commit(folder, "source")
    out = run(folder, "dvc", "repro", "report@tiny")
    assert out.count("Running stage") == 14
    return folder


def copy_project(project: Path, folder: Path) -> Path:
    """A project to change: what was made, with its cache, in another place."""
    shutil.copytree(project, folder, symlinks=True, ignore=shutil.ignore_patterns("tmp", "__pycache__"))
    return folder


def run(folder: Path, *command: str) -> str:
    """Output of a command that must succeed, as a user would type it in an activated environment."""
    environment = os.environ | {"PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=folder, env=environment, **told)
    assert done.returncode == 0, done.stdout
    return done.stdout


def commit(folder: Path, message: str) -> None:
    """Everything git sees, committed."""
    run(folder, "git", "add", "--all")
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    run(folder, "git", *who, "commit", "--quiet", "--message", message)


@contextmanager
def edited(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    old = path.read_text() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(change(old or ""))
    try:
        yield
    finally:
        path.unlink() if old is None else path.write_text(old)


def put(path: str, value) -> Callable[[str], str]:
    """A change of params.yaml: the value at a dotted path."""

    def change(text: str) -> str:
        params = yaml.safe_load(text)
        *blocks, key = path.split(".")
        block = params
        for name in blocks:
            block = block[name]
        block[key] = value
        return yaml.safe_dump(params)

    return change
