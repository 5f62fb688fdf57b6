"""The real pipeline, by the real DVC, on a miniature: the repository's dvc.yaml with tests/tiny.yaml as params.yaml."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from stage_processes import ROOT, TINY

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of DVC

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
ENTRIES = ("tiny-vit", "tiny-deit_lt", "ldam_drw_sam-tiny")


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Path:
    """A git repository of the tracked source, with the tiny params; report@tiny was made in it."""
    folder = tmp_path_factory.mktemp("repo")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *TRACKED]
    for name in subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copy(TINY, folder / "params.yaml")
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "source"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    out = run(folder, "dvc", "repro", "report@tiny")
    assert out.count("Running stage") == 14
    return folder


def run(folder: Path, *command: str) -> str:
    """Output of a command that must succeed, as a user would type it in an activated environment."""
    environment = os.environ | {"PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=folder, env=environment, **told)
    assert done.returncode == 0, done.stdout
    return done.stdout


def stale(folder: Path) -> set[str]:
    """Stages that `dvc repro report@tiny` would run, by a dry run that goes on to all that follows."""
    from dvc.repo import Repo

    with Repo(str(folder)) as dvc:
        return {stage.name for stage in dvc.reproduce("report@tiny", dry=True, force_downstream=True)}


@contextmanager
def edited(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    old = path.read_text() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(change(old or ""))
    try:
        yield
    finally:
        path.unlink() if old is None else path.write_text(old)


def comment(text: str) -> str:
    return f"{text}\n# edited\n"


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


def test_every_output_is_there(repo):
    lock = yaml.safe_load((repo / "dvc.lock").read_text())["stages"]
    assert len(lock) == 14
    for stage in lock.values():
        for out in stage["outs"]:
            path = repo / out["path"]
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            assert files and all(p.stat().st_size for p in files), path
    tables = {p.name for p in (repo / "reports/tables/tiny").iterdir()}
    assert {f"{name}.{kind}" for name in ("overall", "experts") for kind in ("csv", "md", "tex", "html")} <= tables
    figures = {p.stem for p in (repo / "reports/figures/tiny").glob("*.png")}
    assert {"groups", "entropy", "cls_dist_distance", "attention_distance", "feature_rank", "rollout"} == figures
    assert not any((repo / "scratch").iterdir())


def test_git_sees_what_is_small_and_dvc_holds_the_rest(repo):
    listed = run(repo, "git", "status", "--porcelain", "--untracked-files=all")
    new = {line[3:] for line in listed.splitlines()}
    small = ("reports/metrics/tiny/", "reports/analysis/tiny/", "reports/tables/tiny/")
    assert {name for name in new if not name.startswith(small)} == {"dvc.lock"}
    assert sum((repo / name).stat().st_size for name in new) < 2e6


def test_the_report_names_everything(repo):
    page = (repo / "reports/tiny.html").read_text()
    for name in (*ENTRIES, "Plain ViT", "Distilled ViT", "SAM teacher", "A tiny study"):
        assert name in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script src" not in page
    assert page.count("data:image/png;base64,") == 6
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
    assert metrics["seeds"]["0"]["seconds"] > 0


def test_afterwards_all_is_up_to_date(repo):
    assert "Data and pipelines are up to date." in run(repo, "dvc", "status", "--with-deps", "report@tiny")
    out = run(repo, "dvc", "repro", "report@tiny")
    assert "Data and pipelines are up to date." in out and "Running stage" not in out


REPORTS = {"tables@tiny", "figures@tiny", "report@tiny"}
STUDY = {"vit": {f"{stage}@tiny-vit" for stage in ("train_student", "evaluate", "analyse")} | REPORTS}
STUDY["deit_lt"] = {f"{stage}@tiny-deit_lt" for stage in ("train_student", "evaluate", "analyse")} | REPORTS
LABELS = {f"{stage}@ldam_drw_sam-tiny" for stage in ("cache_logits", "teacher_entropy")}
TEACHER = {f"{stage}@ldam_drw_sam-tiny" for stage in ("train_teacher", "evaluate_teacher")} | LABELS
EDITS = {
    "an experiment": ("params.yaml", put("experiments.tiny-vit.set", {"train": {"lr": 2.0e-3}}), STUDY["vit"]),
    "a method's file": ("longtail/methods/vit.py", comment, STUDY["vit"]),
    "a method's number": ("params.yaml", put("methods.deit_lt.alpha", 0.4), STUDY["deit_lt"]),
    "a teacher": ("params.yaml", put("teachers.ldam_drw_sam-tiny.lr", 0.2), TEACHER | STUDY["deit_lt"]),
    "the teacher's code": ("longtail/sam.py", comment, TEACHER | STUDY["deit_lt"]),
    "a cache": (
        *("params.yaml", put("caches.ldam_drw_sam-tiny.epochs", 4)),
        LABELS | STUDY["deit_lt"],
    ),
    "views": ("params.yaml", put("views.tiny.hflip", 0.5), LABELS | STUDY["deit_lt"] | STUDY["vit"]),
    "a study": ("params.yaml", put("studies.tiny.title", "Another title"), REPORTS),
    "how tables are drawn": ("longtail/render.py", comment, {"tables@tiny", "report@tiny"}),
}
UNREAD = {
    "params.yaml": lambda text: "# a comment\n" + put("teachers.ldam_drw-tiny.lr", 0.2)(text),  # of another study
    "longtail/methods/livt.py": lambda text: "from __future__ import annotations\n",  # another method
    "stages/readme.py": comment,
    "docs/page.md": lambda text: "# A page\n",
    "README.md": lambda text: "# longtail\n",
}


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
