"""A study's run as an RO-Crate: held against the profile by its validator, and against dvc.lock by hand."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import rocrate

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.cost.upstream import needed_by, stages
from longtail.report.cards.run_crate import METADATA, build, pack
from tests.helpers.reporting import run_stage
from tests.helpers.root import ROOT

STUDY, DAY = "digits", "2026-01-31"
BIOSCHEMAS = "https://bioschemas.org/"
OF_1_1 = {  # where the context of RO-Crate 1.1 differs from that which the package rocrate has beside it, 1.3's
    **{name: BIOSCHEMAS + name for name in ("ComputationalWorkflow", "FormalParameter")},
    **{name: f"{BIOSCHEMAS}ComputationalWorkflow#{name}" for name in ("input", "output")},
}
RUN_TERMS = "https://w3id.org/ro/terms/workflow-run#"


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("crate") / "crate.zip"
    metadata, files = build(STUDY, ROOT, params.load_all(ROOT), DAY)
    pack(metadata, files, ROOT, out)
    return out


@pytest.fixture(scope="module")
def unpacked(packed) -> Path:
    folder = packed.parent / "crate"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def entities(unpacked) -> dict[str, dict]:
    graph = json.loads((unpacked / METADATA).read_text())["@graph"]
    found = {entity["@id"]: entity for entity in graph}
    assert len(found) == len(graph)
    return found


def contexts() -> dict[str, dict]:
    """What the validator would fetch: the vocabulary of RO-Crate, and the one term of workflow runs that is used."""
    vocabulary = json.loads((Path(rocrate.__file__).parent / "data/ro-crate.jsonld").read_text())
    vocabulary["@context"] |= OF_1_1
    return {
        "https://w3id.org/ro/crate/1.1/context": vocabulary,
        "https://w3id.org/ro/terms/workflow-run/context": {
            "@context": {"resourceUsage": f"{RUN_TERMS}resourceUsage"},
        },
    }


def problems(crate: Path, monkeypatch) -> list[str]:
    """What the profile requires and the crate lacks. No network: contexts are handed to the validator."""
    from rdflib.plugins.shared.jsonld.context import Context
    from rocrate_validator import models, services
    from rocrate_validator.utils import http

    known = contexts()

    def get(self, url: str, **options) -> SimpleNamespace:
        told = {"status_code": 200, "headers": {"Content-Type": "application/ld+json"}, "json": lambda: known[url]}
        return SimpleNamespace(**told, content=json.dumps(known[url]).encode(), text=json.dumps(known[url]))

    monkeypatch.setattr(http.HttpRequester, "get", get, raising=False)
    monkeypatch.setattr(Context, "_fetch_context", lambda self, url, base, seen: known[url]["@context"])
    settings = services.ValidationSettings(
        rocrate_uri=str(crate),
        profile_identifier="provenance-run-crate-0.5",
        requirement_severity=models.Severity.REQUIRED,
        no_cache=True,
    )
    return [f"{issue.check.identifier}: {issue.message}" for issue in services.validate(settings).get_issues()]


def test_it_has_all_that_the_profile_requires(unpacked, monkeypatch):
    assert problems(unpacked, monkeypatch) == []


def test_the_validator_sees_what_is_missing(unpacked, monkeypatch, tmp_path):
    """Of a crate with the workflow alone: nobody ran it."""
    metadata = json.loads((unpacked / METADATA).read_text())
    kept = ("./", METADATA, "dvc.yaml", "stages/report.py")
    metadata["@graph"] = [entity for entity in metadata["@graph"] if entity["@id"] in kept]
    (tmp_path / METADATA).write_text(json.dumps(metadata))
    shutil.copytree(unpacked / "stages", tmp_path / "stages")
    shutil.copy(unpacked / "dvc.yaml", tmp_path)
    assert any("reference the root data entity's mainEntity" in problem for problem in problems(tmp_path, monkeypatch))


def test_every_stage_that_made_the_report_is_an_action(entities):
    """With the inputs, outputs and checksums of dvc.lock, and the numbers that it read."""
    lock = yaml_file.read(ROOT / "dvc.lock")["stages"]
    actions = {name.removeprefix("#action/"): of for name, of in entities.items() if name.startswith("#action/")}
    assert "report@digits" in actions and "report@digits-livt" not in actions and set(actions) <= set(lock)
    wanted = needed_by("digits", stages(ROOT / "dvc.yaml", params.load_all(ROOT)))
    lacking = [stage.name for stage in wanted if stage.name not in lock]
    assert len(actions) + len(lacking) == len(wanted)
    assert entities["./"]["description"].endswith(f"Not run: {', '.join(lacking)}." if lacking else "recipes.")
    student = actions["train_student@digits-deit_lt"]
    assert student["description"] == " ".join(lock["train_student@digits-deit_lt"]["cmd"].split())
    read = {each["@id"] for each in student["object"]}
    assert {"#data/caches/ldam_drw_sam-digits", "#params/methods.deit_lt", "#data/code/train_student"} <= read
    out = lock["train_student@digits-deit_lt"]["outs"][0]
    made = entities[student["result"]["@id"]]
    assert (made["identifier"], made["contentSize"]) == (f"md5:{out['md5']}", str(out["size"]))
    numbers = json.loads(entities["#params/experiments.digits-deit_lt"]["value"])
    assert numbers["cache"] == "ldam_drw_sam-digits"


def test_trainings_tell_what_they_took(entities):
    record = json.loads((ROOT / "reports/machines/digits.json").read_text())["teachers"]["ldam_drw_sam-digits_if20"]
    spent = entities["#spent/train_teacher@ldam_drw_sam-digits_if20/seed0/seconds"]
    assert float(spent["value"]) == record["seeds"]["0"]["seconds"] and spent["unitCode"] == "SEC"


def test_what_git_has_lies_in_the_crate(unpacked, entities):
    for name in ("dvc.yaml", "params.yaml", "LICENSE", "stages/train_student.py", "reports/tables/digits/overall.csv"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()
    assert not (unpacked / "data/students").exists() and "DVC" in entities["#data/students/digits-vit"]["description"]


def test_the_stage_writes_the_same_bytes_again(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert run_stage("crate", STUDY, "--out", tmp_path / "again.zip", "--date", DAY) == 0
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    assert "again.zip: " in capsys.readouterr().out


def test_what_is_wrong_is_told_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert run_stage("crate", STUDY, "--out", tmp_path / "c.zip", "--date", "31.1.2026") == 2
    assert capsys.readouterr().err == "error: --date 31.1.2026: a day is needed, e.g. 2026-01-31\n"
    assert run_stage("crate", "livt-places_lt", "--out", tmp_path / "c.zip", "--date", DAY) == 2
    assert "in no dvc.lock, so it was not run; make repro STUDY=livt-places_lt" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    with pytest.raises(UserError, match=r"rocrate is not installed; pip install -e '\.\[crate\]'"):
        build(STUDY, ROOT, params.load_all(ROOT), DAY)
