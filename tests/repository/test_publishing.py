"""What registries and readers look for: licence, citation, changelog, catalog entry, least version of Snakemake."""

from __future__ import annotations

import re
import tomllib

import pytest

from longtail.base import yaml_file
from longtail.base.params import files
from longtail.report.review.shares import PAPERS
from tests.helpers.root import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml_file.read(ROOT / "CITATION.cff")


def test_one_licence_everywhere():
    assert PROJECT["license"] == CITATION["license"] == "MIT" and PROJECT["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License\n") and 'THE SOFTWARE IS PROVIDED "AS IS"' in text


def test_the_citation_has_what_its_format_requires():
    """Required by schema 1.2.0: cff-version, message, title, authors; of a reference type, title and authors. The whole
    file was held against the format's JSON schema when it was written."""
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert CITATION["message"] and CITATION["title"] and str(CITATION["version"]) == PROJECT["version"]
    known = {"family-names", "given-names", "name"}
    for work in (CITATION, *CITATION["references"]):
        assert work["title"] and work["authors"] and all(set(author) <= known for author in work["authors"])
    assert {work["type"] for work in CITATION["references"]} == {"conference-paper"}


@pytest.mark.parametrize("paper", [path.parent for name, path in files(ROOT).items() if name != "params.yaml"])
def test_the_citation_names_every_paper_as_its_own_page_does(paper):
    """By title and year; papers/common is no paper's."""
    page = (paper / "README.md").read_text(encoding="utf-8")
    found = re.search(r"title\s*= \{(.*)\},\n.*\n.*\n\s*year\s*= \{(\d+)\}", page)
    assert found or paper.name == "common"
    if found:
        cited = {work["title"].lower(): str(work["year"]) for work in CITATION["references"]}
        assert cited[re.sub("[{}]", "", found[1]).lower()] == found[2]
        assert len(cited) == len(PAPERS)


def test_the_changelog_keeps_its_form():
    """Versions newest first, an open one on top; of each, the kinds of Keep a Changelog, none twice."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert sections[0].startswith("[Unreleased]")
    kinds = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    for section in sections:
        found = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert found == [kind for kind in kinds if kind in found] and len(found) == len(set(found))
    for link in re.findall(r"\]\((?!https:)([^)]+)\)", text):
        assert (ROOT / link).exists(), link


def test_the_workflow_catalog_is_told_what_is_there():
    usage = yaml_file.read(ROOT / ".snakemake-workflow-catalog.yml")["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["software-stack-deployment"]["conda"]
    assert re.search(r'conda:\s+"workflow/environment.yaml"', snakefile())
    profile = re.match(r"--profile (\w+) (\w+)$", usage["mandatory-flags"]["flags"])
    assert (ROOT / profile[1]).exists() and profile[2] in yaml_file.read(ROOT / "params.yaml")["studies"]


def snakefile() -> str:
    return (ROOT / "Snakefile").read_text(encoding="utf-8")


def test_the_least_snakemake_is_the_one_that_is_asked_for():
    least = re.search(r'^min_version\("([\d.]+)"\)$', snakefile(), re.MULTILINE)[1]
    assert f"snakemake=={least}.*" in PROJECT["dependencies"]
    locked = re.search(r"^snakemake==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]
    assert tuple(map(int, locked.split("."))) >= tuple(map(int, least.split(".")))
