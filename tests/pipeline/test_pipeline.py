"""The real pipeline, by the real DVC, on a miniature: the repository's dvc.yaml with tiny.yaml as params.yaml."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from longtail.base import yaml_file
from longtail.report.figures.captions import FIGURES
from tests.helpers.projects import EDITS, UNREAD, edited, put, run, stale

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of DVC

ENTRIES = ("tiny-vit", "tiny-deit_lt", "ldam_drw_sam-tiny")


@pytest.fixture(scope="module")
def repo(made_by_dvc, tmp_path_factory) -> Path:
    return shutil.copytree(made_by_dvc, tmp_path_factory.mktemp("pipeline") / "repo", symlinks=True)


def test_every_output_is_there(repo):
    lock = yaml_file.read(repo / "dvc.lock")["stages"]
    assert len(lock) == 24
    for stage in lock.values():
        for out in stage["outs"]:
            path = repo / out["path"]
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            assert files and all(p.stat().st_size for p in files), path
    tables = {p.name for p in (repo / "reports/tables/tiny").iterdir()}
    assert {f"{name}.{kind}" for name in ("overall", "experts") for kind in ("csv", "md", "tex", "html")} <= tables
    drawn = {p.stem for kind in ("svg", "png") for p in (repo / "reports/figures/tiny").glob(f"*.{kind}")}
    assert {name for name in drawn if not name.endswith("-dark")} == set(FIGURES)
    assert {p.stem for p in (repo / "reports/figures_print/tiny").glob("*.pdf")} == set(FIGURES)
    assert not any((repo / "scratch").iterdir())


def test_git_sees_what_is_small_and_dvc_holds_the_rest(repo):
    listed = run(repo, "git", "status", "--porcelain", "--untracked-files=all")
    new = {line[3:] for line in listed.splitlines()}
    small = tuple(f"reports/{part}/tiny/" for part in ("metrics", "analysis", "tables", "figures", "runs", "experts"))
    # the lists of code are committed: their lock changes in a tree whose edits have not been listed yet, and only there
    assert {"dvc.lock"} <= {name for name in new if not name.startswith(small)} <= {"dvc.lock", "workflow/dvc.lock"}
    assert sum((repo / name).stat().st_size for name in new) < 3e6


def test_the_report_names_everything(repo):
    page = (repo / "reports/tiny.html").read_text()
    for name in (*ENTRIES, "Plain ViT", "Distilled ViT", "SAM teacher", "A tiny study"):
        assert name in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script src" not in page
    drawn = list((repo / "reports/figures/tiny").glob("*.svg")) + list((repo / "reports/figures/tiny").glob("*.png"))
    assert page.count("data:image/") == sum(not path.stem.endswith("-dark") for path in drawn)
    assert "not run" not in page


@pytest.mark.parametrize(
    ("name", "kind", "heads"),
    [
        ("tiny-vit", "experiment", {"avg", "cls"}),
        ("tiny-deit_lt", "experiment", {"avg", "cls", "dist"}),
        ("teachers/ldam_drw_sam-tiny", "teacher", {"avg", "cls"}),
    ],
)
def test_metrics_follow_the_schema(repo, name, kind, heads):
    metrics = json.loads((repo / f"reports/metrics/tiny/{name}.json").read_text())
    about = {"schema": 1, "entry": Path(name).name, "kind": kind, "study": "tiny", "dataset": "tiny", "classes": 10}
    assert {key: metrics[key] for key in about} == about
    assert len(metrics["config_hash"]) == 64
    assert metrics["class_counts"] == [40, 30, 23, 18, 14, 11, 8, 6, 5, 4]  # trunc(40 * 10^(-i/9))
    assert metrics["groups"]["author"] == {"head": [0, 1, 2], "mid": [3, 4, 5, 6], "tail": [7, 8, 9]}
    assert metrics["groups"]["count"] == {"many": [], "medium": [0, 1, 2], "few": [3, 4, 5, 6, 7, 8, 9]}
    assert list(metrics["seeds"]) == ["0"]
    for phase in ("last", "best"):
        found = metrics["seeds"]["0"][phase]
        assert set(found) == heads | {"epoch"}
        for head in heads:
            values = found[head]
            assert all(0 <= v <= 100 for v in values["per_class"]) and len(values["per_class"]) == 10
            assert values["top1"] == pytest.approx(sum(values["per_class"]) / 10)  # the test set is balanced
            assert values["tail"] == pytest.approx(sum(values["per_class"][7:]) / 3, abs=1e-3)
            assert values["many"] is None
            assert metrics["summary"][phase][head]["top1"] == {"mean": values["top1"], "stderr": None, "n": 1}
    assert metrics["seeds"]["0"]["last"]["epoch"] == (1 if kind == "teacher" else 2)
    assert set(metrics["seeds"]["0"]) == {"last", "best"}


def test_afterwards_all_is_up_to_date(repo):
    assert "Data and pipelines are up to date." in run(repo, "dvc", "status", "--with-deps", "report@tiny")
    out = run(repo, "dvc", "repro", "report@tiny")
    assert "Data and pipelines are up to date." in out and "Running stage" not in out


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_makes_stale_what_reads_it_and_nothing_else(repo, what, monkeypatch):
    monkeypatch.chdir(repo)
    name, change, expected = EDITS[what]
    with edited(repo / name, change):
        assert stale(repo) == expected


def test_what_no_stage_reads_makes_nothing_stale(repo, monkeypatch):
    monkeypatch.chdir(repo)
    with ExitStack() as edits:
        for name, change in UNREAD.items():
            edits.enter_context(edited(repo / name, change))
        assert stale(repo) == set()


def test_adding_a_seed_trains_that_seed_alone(repo):
    """Run after the edits above: the folder of the old seed is not touched, not even by DVC."""
    old = repo / "data/students/tiny-vit/seed0"
    before = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in old.iterdir()}
    with edited(repo / "params.yaml", put("experiments.tiny-vit.seeds", [0, 1])):
        out = run(repo, "dvc", "repro", "--single-item", "train_student@tiny-vit")
        assert "tiny-vit seed 0: already there" in out
        assert {p.name: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in old.iterdir()} == before
        new = old.with_name("seed1")
        assert {p.name for p in new.iterdir()} == set(before)
        assert (new / "model.safetensors").read_bytes() != before["model.safetensors"][2]
        assert run(repo, "dvc", "status", "train_student@tiny-vit").strip() == "Data and pipelines are up to date."
