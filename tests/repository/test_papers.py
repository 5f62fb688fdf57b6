"""A paper is a folder: its params file, a copy of the one pipeline, its own dvc.lock; names are unique."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.report.study import OF_STUDENTS
from longtail.training.experiment import resolve
from tests.helpers.projects import WHO, call, paper_project, put, run
from tests.helpers.reporting import run_stage
from tests.helpers.root import ROOT
from workflow import bridge

PAPERS = sorted(path.parent.name for path in ROOT.glob("papers/*/params.yaml"))
FILES = params.files(ROOT)


# --- the repository's own folders


@pytest.mark.parametrize("paper", PAPERS)
def test_the_pipeline_of_a_paper_is_the_roots(paper):
    copy = ROOT / "papers" / paper / "dvc.yaml"
    assert not copy.is_symlink(), "DVC reads old revisions out of git, where a link is a text: run `make papers`"
    assert copy.read_text() == (ROOT / "dvc.yaml").read_text(), "out of date: edit the root's, then run `make papers`"


@pytest.mark.parametrize("file", FILES)
def test_a_params_file_tells_the_pipeline_where_things_are(file):
    own, path = params.own(FILES[file]), FILES[file]
    looped = {block["foreach"][2:-1] for block in yaml_file.read(ROOT / "dvc.yaml")["stages"].values()}
    assert looped <= set(own), "DVC wants every section that dvc.yaml goes over, if empty"
    place = own["place"]
    assert (path.parent / place["root"]).resolve() == ROOT and place["params"] == file
    for section in params.SHARED:
        assert section in params.own(ROOT / place[section]), place
        assert (place[section] == file) == bool(own.get(section)), f"{section}: in {place[section]} or in {file}"


def test_raw_data_have_one_owner():
    """Whatever is not embedded is cut from a folder that a stage `raw` answers for."""
    for file, path in FILES.items():
        own = params.own(path)
        wanted = {block["raw"] for block in own["datasets"].values()} - {"data/none"}
        assert sorted(own["raw"].values()) == sorted(wanted), file


def test_what_a_study_says_is_in_no_identity_of_a_run():
    """Titles, notes, captions and labels may be mended: without any of them, every student whose results are in git has
    the configuration that its record tells."""
    everything = params.load_all(ROOT)
    silent = everything | {"studies": {key: {} for key in everything["studies"]}}
    records = [json.loads(path.read_text()) for path in sorted(ROOT.glob("reports/metrics/*/*.json"))]
    students = [record for record in records if record["kind"] == "experiment"]
    assert len(students) > 10
    for record in students:
        assert params.digest(resolve(silent, record["entry"])[0]) == record["config_hash"], record["entry"]


def test_the_root_needs_no_download():
    assert not params.own(ROOT / "params.yaml")["raw"]


def test_every_folder_that_a_report_waits_for_is_made():
    """By an entry of the study, or it stands in git, with a file `none` that says so: DVC stops at an input that is
    not there, after all of the study is trained."""
    made = {"metrics": ("teachers", "experiments", "caches"), "runs": ("teachers", "experiments")}
    made |= {"experts": ("experiments",)}
    made["analysis"] = ("experiments", "caches", "pretrainings", "virtual_examples", *set(OF_STUDENTS.values()))
    table = params.load_all(ROOT)
    by_part = {part: {block["study"] for name in of for block in table[name].values()} for part, of in made.items()}
    waited = {f"reports/{part}/{study}/none" for part, of in by_part.items() for study in set(table["studies"]) - of}
    listed = subprocess.run(["git", "ls-files", "reports/*/*/none"], cwd=ROOT, capture_output=True, text=True).stdout
    assert waited <= set(listed.split())


@pytest.mark.parametrize("paper", PAPERS)
def test_the_page_of_a_paper_is_what_is_there(paper, warm):
    """`make papers` brings up to date whatever folder there is; the paper's name is its README's title."""
    readme = ROOT / "papers" / paper / "README.md"
    name = readme.read_text().splitlines()[0].removeprefix("# ") if readme.exists() else None
    place = ["--reports", "reports", "--published", "data/published", "--review", "docs/review.yaml", "--check"]
    place += ["--coverage", "docs/coverage.yaml", "--claims", "docs/claims.yaml"]
    named = ["--name", name] if name else []
    line = [warm / "python", "stages/paper.py", f"papers/{paper}", *named, *place]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    make = subprocess.run(["make", "--dry-run", "papers"], cwd=ROOT, capture_output=True, text=True).stdout
    assert "dirname papers/*/params.yaml" in make, make


# --- reading


@pytest.fixture
def two(tmp_path) -> Path:
    """The root's and one paper's params file."""
    place = {"root": "../..", "params": "papers/p/params.yaml", "methods": "params.yaml", "datasets": "params.yaml"}
    (tmp_path / "papers/p").mkdir(parents=True)
    (tmp_path / "params.yaml").write_text("methods: {m: {a: 1}}\ndatasets: {d: {b: 2}}\nstudies: {s: {}}\n")
    own = {"place": place, "datasets": {"e": {}}, "studies": {"t": {}}}
    (tmp_path / "papers/p/params.yaml").write_text(yaml.safe_dump(own))
    return tmp_path


def test_a_file_has_the_sections_that_it_shares(two):
    read = params.load(two / "papers/p/params.yaml")
    assert read == {"datasets": {"d": {"b": 2}, "e": {}}, "methods": {"m": {"a": 1}}, "studies": {"t": {}}}
    assert params.load(two / "params.yaml")["studies"] == {"s": {}}


def test_all_files_are_one(two, monkeypatch):
    monkeypatch.chdir(two)
    read = params.load(None)
    assert list(read["studies"]) == ["s", "t"] and list(read["datasets"]) == ["d", "e"] and read["views"] == {}
    assert read["place"] == {"t": "papers/p/dvc.yaml:"}


def test_a_name_stands_in_one_file(two):
    path = two / "papers/p/params.yaml"
    path.write_text(put("datasets.d", {})(path.read_text()))
    with pytest.raises(UserError, match=r"^datasets.d: stands in params.yaml and in papers/p/params.yaml; rename one"):
        params.load_all(two)


# --- the stage `raw`, and the line that it says


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    shutil.copy(ROOT / "papers/common/params.yaml", tmp_path / "all.yaml")
    text = (
        (tmp_path / "all.yaml").read_text().replace("../..", ".").replace("methods: params.yaml", "methods: all.yaml")
    )
    (tmp_path / "all.yaml").write_text(text.replace("papers/common/params.yaml", "all.yaml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_missing_raw_data_are_told_in_a_line(folder, capsys):
    line = ("raw_data", "cifar10", "--folder", "data/raw/cifar10", "--params", "all.yaml")
    assert run_stage(*line) == 2
    assert capsys.readouterr().err == (
        "error: data/raw/cifar10: no such folder, and data sets cifar10_if100, cifar10_if50, cifar10_if10, cifar10_if1 "
        "are cut from it; "
        "`python stages/doctor.py cifar10_if100` says what belongs there\n"
    )
    assert run_stage("doctor", "cifar10_if100", "--params", "all.yaml") == 2
    assert "unpack the official archive into data/raw/cifar10" in capsys.readouterr().err
    (folder / "data/raw/cifar10").mkdir(parents=True)
    assert run_stage(*line) == 0


def test_so_are_images_that_lists_name(folder, capsys):
    line = ("raw_data", "places_lt", "--folder", "data/raw/places_lt", "--params", "all.yaml")
    (folder / "data/raw/places_lt").mkdir(parents=True)
    assert run_stage(*line) == 2
    assert "error: data/images/places365: no such folder, and data set places_lt is cut" in capsys.readouterr().err
    assert run_stage("raw_data", "x", "--folder", "data/x", "--params", "all.yaml") == 2
    assert capsys.readouterr().err == "error: raw.x: no data set names data/x as its `raw`\n"


def test_the_doctor_reads_what_has_no_lists(capsys):
    assert run_stage("doctor", "digits_if20", "--params", ROOT / "params.yaml") == 0
    assert capsys.readouterr().out.startswith(
        "digits_if20: 438 training images in 10 classes, 130 to 6 a class; 400 test"
    )


# --- both engines, on fake stages


def locked(path: Path) -> set[str]:
    return set(yaml_file.read(path)["stages"]) if path.exists() else set()


def test_both_engines_know_all_folders(tmp_path, monkeypatch, warm):
    repo = paper_project(tmp_path / "repo")
    lines = ["left out, their raw data are not here (`python stages/doctor.py DATA_SET` says what belongs there):"]
    lines.append("  data/raw/x: data sets e; studies large")
    out = run(repo, "snakemake", "--cores", "1")
    assert "\n".join(lines) in out and out.count("left out") == 1
    assert locked(repo / "dvc.lock") == {"subsample@d", "report@small"} and not (repo / "papers/p/dvc.lock").exists()
    assert "up to date" in run(repo, "dvc", "repro")  # bare: the root's, and nothing else

    done = call(repo, "snakemake", "--cores", "1", "large")
    assert done.returncode == 2 and done.stdout.splitlines()[-1] == (
        "error: report@large: its data set e is cut from data/raw/x, which is not here; "
        "`python stages/doctor.py e` says what belongs there"
    )
    done = call(repo, "dvc", "repro", "papers/p/dvc.yaml:report@large")
    assert done.returncode and "told what is missing" in done.stdout and "Errno" not in done.stdout

    (repo / "data/raw/x").mkdir(parents=True)
    (repo / "data/raw/x/image").write_text("raw\n")
    assert "left out" not in run(repo, "snakemake", "--cores", "1")
    assert locked(repo / "dvc.lock") == {"subsample@d", "report@small"}
    assert locked(repo / "papers/p/dvc.lock") == {"raw@x", "subsample@e", "report@large"}
    assert "up to date" in run(repo, "dvc", "repro", "-P")

    # what reads old revisions sees the papers' files there, too
    run(repo, "git", "add", "--all")
    run(repo, "git", *WHO, "commit", "--quiet", "--message", "results")
    path = repo / "papers/p/params.yaml"
    path.write_text(put("datasets.e.kept", 3)(path.read_text()))
    changed = json.loads(run(repo, "dvc", "params", "diff", "--json"))
    assert changed == {"papers/p/params.yaml": {"datasets.e.kept": {"old": 2, "new": 3, "diff": 1}}}
    address = run(repo, "python", "-m", "workflow.address", "report@large", "report@small")
    assert address == "papers/p/dvc.yaml:report@large report@small\n"
    path.write_text(put("studies.small", {"dataset": "e"})(path.read_text()))
    monkeypatch.chdir(repo)
    with pytest.raises(UserError, match=r"report@small: stands in dvc.yaml and in papers/p/dvc.yaml; rename one entry"):
        bridge.plan(dry=True)
