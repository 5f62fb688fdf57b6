"""What every file of the repository must keep to: no machine's paths, a lock that names no index, generated tables."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

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


def test_the_readme_and_its_badges_show_what_is_there():
    if not (ROOT / "README.md").is_file():
        pytest.skip("no README yet")
    place = ["--reports", "reports", "--coverage", "docs/coverage.yaml", "--published", "data/published"]
    check = [sys.executable, "stages/readme.py", *place, "--readme", "README.md", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_coverage_page_is_what_is_there():
    """docs/coverage.md, from docs/coverage.yaml, params.yaml and the reports in git."""
    place = ["--coverage", "docs/coverage.yaml", "--reports", "reports", "--out", "docs/coverage.md", "--check"]
    done = subprocess.run([sys.executable, "stages/coverage.py", *place], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ci_is_the_test_command():
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert "make test" in (ROOT / ".ci/run").read_text()
