"""Benchmark records stand by machine: the folder follows from the record, the newest is read, all are listed."""

from __future__ import annotations

import importlib
import json
import re
import sys

import pytest

from longtail.base.errors import UserError
from tests.helpers.root import ROOT

FOLDER = ROOT / "benchmarks"
EPYC = {"device": "cpu x1", "processor": "AMD EPYC (family 25, model 1)", "torch": "2.15.0+cu132"}
CARD = {"device": "NVIDIA H200", "processor": "Intel(R) Xeon(R) 8480C @ 2.00GHz", "torch": "2.16.0"}


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def recording():
    return importlib.import_module("recording")


@pytest.fixture
def filing():
    return importlib.import_module("filing")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        (EPYC, "amd-epyc-family-25-model-1_torch-2.15.0"),
        (CARD, "nvidia-h200_torch-2.16.0"),  # the card, not the processor beside it
        (CARD | {"device": "cpu x8"}, "intel-xeon-8480c-2-00ghz_torch-2.16.0"),
        ({"device": "cpu x2", "torch": "2.15.0"}, "cpu_torch-2.15.0"),  # no processor is made up
    ],
)
def test_the_folder_is_the_machine_of_the_record(recording, environment, name):
    assert recording.folder(environment) == name


@pytest.mark.parametrize("lacks", ["device", "torch"])
def test_a_record_that_tells_no_machine_is_not_filed(recording, lacks):
    with pytest.raises(UserError, match="no device or no torch"):
        recording.folder(EPYC | {lacks: None})


def test_no_machine_overwrites_another(recording, tmp_path):
    for value, where in enumerate((EPYC, EPYC | {"torch": "2.16.0"}, CARD, CARD | {"device": "cpu x4"})):
        path = recording.write(tmp_path, "views", {"environment": where, "value": value}, f"{value}")
        assert path.parent.name == recording.folder(where)
    found = [json.loads(path.read_text())["value"] for path in tmp_path.glob("*/views.json")]
    assert sorted(found) == [0, 1, 2, 3] and len(list(tmp_path.glob("*/views.md"))) == 4


def test_the_newest_record_is_read(recording, tmp_path):
    """Of a CPU unless a card is asked for; dates go before names, and any date before none."""
    assert recording.newest("views", tmp_path) is None
    unnamed = {"device": "cpu x1", "torch": "2.15.0"}
    for where in (unnamed, CARD | {"date": "2026-12-31"}):
        recording.write(tmp_path, "views", {"environment": where}, "")
    assert recording.newest("views", tmp_path).parent.name == "cpu_torch-2.15.0"
    assert recording.newest("views", tmp_path, card=True).parent.name == "nvidia-h200_torch-2.16.0"
    recording.write(tmp_path, "views", {"environment": EPYC}, "")  # no date either, but a name
    assert recording.newest("views", tmp_path).parent.name == recording.folder(EPYC)
    other, third = EPYC | {"processor": "A", "date": "2026-01-02"}, EPYC | {"processor": "Z", "date": "2025-01-02"}
    for where in (other, third):
        recording.write(tmp_path, "views", {"environment": where}, "")
    assert recording.newest("views", tmp_path).parent.name == "a_torch-2.15.0"
    assert recording.newest("cache", tmp_path) is None


def run(filing, monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["filing", *map(str, arguments)])
    try:
        filing.main()
    except SystemExit as end:
        return end.code
    return 0


def test_records_of_the_old_layout_move_and_all_are_listed(filing, monkeypatch, tmp_path):
    cpu = EPYC | {"git_commit": "a" * 40 + "-dirty", "cores": 2, "load": [1.7, 0, 0], "date": "2026-11-30"}
    for name, where in {"views_cpu": cpu, "views_cuda": CARD, "dag_300": {"python": "3"}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"environment": where}))
        (tmp_path / f"{name}.md").write_text(name)
    (tmp_path / "verdicts.json").write_text('{"trials": 1}')
    assert run(filing, monkeypatch, "--out", tmp_path, "--check") == 1 and (tmp_path / "views_cpu.md").exists()
    (tmp_path / "nvidia-h200_torch-2.16.0").mkdir()
    (tmp_path / "nvidia-h200_torch-2.16.0/old.md").touch()
    assert run(filing, monkeypatch, "--out", tmp_path) == 0
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    machines = "amd-epyc-family-25-model-1_torch-2.15.0", "nvidia-h200_torch-2.16.0"
    filed = {f"{machine}/views.{kind}" for machine in machines for kind in ("json", "md")}
    assert names == filed | {f"{machines[1]}/old.md", "dag_300.json", "dag_300.md", "verdicts.json", "README.md"}
    assert (tmp_path / machines[0] / "views.md").read_text() == "views_cpu"
    text = (tmp_path / "README.md").read_text()
    links = f"| [views]({machines[0]}/views.md) | [JSON]({machines[0]}/views.json) "
    assert links + "| 2026-11-30 | `aaaaaaaa` edited | cpu x1 | 2 | 1.7 | 2.15.0+cu132 |" in text
    assert "| (not committed) | – | NVIDIA H200 | – | – | 2.16.0 |" in text  # nothing is made up
    assert f"| [old]({machines[1]}/old.md) | – | (not committed) | – | – | – | – | – |" in text
    heads = re.findall("^## (.*)$", text, re.MULTILINE)
    assert heads == [f"{EPYC['processor']}: PyTorch 2.15.0", "NVIDIA H200: PyTorch 2.16.0", "Of no machine"]
    assert "* [`dag_300.md`](dag_300.md)" in text
    assert run(filing, monkeypatch, "--out", tmp_path, "--check") == 0
    (tmp_path / "views_cpu.json").write_text(json.dumps({"environment": EPYC}))
    with pytest.raises(UserError, match=r"views\.json is there already; remove the older one"):
        filing.unfiled(tmp_path)


def test_the_committed_records_are_filed_and_listed(filing, recording):
    """But for the days in brackets, which need the history of git."""
    assert filing.unfiled(recording.RESULTS) == {}
    text = (recording.RESULTS / "README.md").read_text(encoding="utf-8")
    days = re.compile(r"\((20\d\d-\d\d-\d\d|not committed)\)")
    made = filing.page(recording.RESULTS, lambda path: "not committed")
    assert days.sub("DAY", text) == days.sub("DAY", made), "out of date; run python benchmarks/filing.py"
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (recording.RESULTS / target).exists(), target
    for path in recording.RESULTS.glob("*/*.json"):
        assert path.parent.name == recording.folder(json.loads(path.read_text())["environment"]), path


def test_pages_name_records_that_are_there():
    """Every file of benchmarks/results that a page or a comment names."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("longtail/**/*.py"), *FOLDER.glob("*.py")]
    named = {
        (path.relative_to(ROOT), found)
        for path in pages
        for found in re.findall(r"benchmarks/results/([\w.-]+(?:/[\w.-]+)*\.(?:md|json))", path.read_text("utf-8"))
    }
    assert [pair for pair in sorted(named) if not (FOLDER / "results" / pair[1]).exists()] == []
    assert len(named) > 8
