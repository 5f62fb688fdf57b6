"""What every file of the repository must keep to: no machine's paths, a lock that names no index, generated tables."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.helpers.projects import committed
from tests.helpers.root import ROOT

MACHINE = re.compile(r"(?<![\w.$}])/(?:work|root|home|Users)/[\w.]")
INDEX = re.compile(r"--(?:extra-)?index-url|--find-links|pypi\.org|/simple\b|files\.pythonhosted")


def tracked() -> list[str]:
    """Files that are in git, or would be with the next `git add --all`."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def matches(pattern: re.Pattern, names: list[str]) -> list[str]:
    found = []
    for name in names:
        text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
        found += [f"{name}: {text[m.start() : m.start() + 40]!r}" for m in pattern.finditer(text)]
    return found


def test_no_file_names_a_place_on_some_machine():
    assert matches(MACHINE, tracked()) == []


def test_the_pattern_finds_such_places():
    for path in ("work/main", "root/.cache", "home/ann"):
        assert MACHINE.search(f"see /{path}") and MACHINE.search(f'"/{path}"')
    assert not MACHINE.search("data/work/x") and not MACHINE.search("$HOME/root/x")


def lock_entries() -> dict[str, list[str]]:
    """{name==version: hashes} of requirements.lock."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    entries = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            entries[line.split()[0]] = re.findall(r"--hash=(\S+)", line)
    return entries


def test_the_lock_pins_every_package_by_hash_and_names_no_index():
    entries = lock_entries()
    assert len(entries) > 50
    for name, hashes in entries.items():
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==\S+", name), name
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), name
    assert matches(INDEX, ["requirements.lock", "pyproject.toml", "Makefile"]) == []


def test_the_lock_covers_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    locked = {name.partition("==")[0] for name in lock_entries()}
    assert {re.sub("[._]", "-", re.match(r"[\w.-]+", w)[0].lower()) for w in wanted} <= locked


def test_ci_is_the_two_commands_of_the_readme():
    """The quickstart, then the tests, then a look at what they left."""
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines[-3:] == ["make repro", "make test", ".ci/unchanged digits"]


@pytest.fixture
def clone(tmp_path) -> Path:
    """A repository with the script and a few reports; its Python says that the study was made at the same place."""
    for name in ("reports/metrics/s/a.json", "reports/metrics/t/a.json", "reports/index.html", "dvc.lock", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    (tmp_path / ".gitignore").write_text("/.venv/")
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/unchanged", tmp_path / ".ci")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    committed(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "same", "other"),
    [
        ((), 0, 0),
        (("reports/metrics/s/a.json", "reports/index.html", "dvc.lock"), 1, 0),
        (("reports/metrics/t/a.json",), 1, 1),
        (("reports/index.html", "README.md"), 1, 1),
        (("reports/metrics/s/b.json",), 1, 1),
    ],
)
def test_what_the_quickstart_may_leave(changed, same, other, clone):
    """Nothing at the place of the record; elsewhere its study's numbers and the pages with them, and no new file."""
    for name in changed:
        (clone / name).write_text("2")
    for python, code in (("true", same), ("false", other)):
        (clone / ".venv/bin/python").unlink(missing_ok=True)
        (clone / ".venv/bin/python").symlink_to(shutil.which(python))
        done = subprocess.run([clone / ".ci/unchanged", "s"], capture_output=True, text=True)
        assert done.returncode == code, done.stdout
        assert all((name in done.stdout) == bool(code) for name in changed if name.startswith("README"))


@pytest.mark.parametrize(
    ("told", "command"),
    [((), "/python -m workflow.study repro s"), (("JOBS=3",), "/snakemake --profile local --cores 3 s")],
    ids=["DVC", "Snakemake"],
)
def test_the_engine_that_make_repro_starts(told, command):
    said = subprocess.run(["make", "-n", "repro", "STUDY=s", *told], cwd=ROOT, capture_output=True, text=True).stdout
    assert next(line for line in said.splitlines() if line.endswith((".study repro s", "3 s"))).endswith(command)


def test_without_git_the_cure_is_said(tmp_path):
    """As in the ZIP of a release: DVC needs a git repository, and says so only when all is installed."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.ready"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    done = subprocess.run(["make", "repro"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: no git repository here, and DVC needs one")
    assert "git init && git add --all && git commit" in done.stderr
