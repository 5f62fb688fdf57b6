"""Repositories to run the real engines in: the project's own dvc.yaml with tiny.yaml, and two of fake stages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import yaml

from longtail.base import yaml_file
from tests.helpers.root import ROOT
from tests.helpers.stage_processes import TINY

ENGINES = (".dvc", ".dvcignore", ".gitignore", "Snakefile", "workflow", "longtail", "local", "slurm")
WARM: list[Path] = []  # the folder of the fixture `warm` (tests/conftest.py), once there is one
CODE = "workflow/dvc.yaml"  # its stage `code` says what each script is made of
TRACKED = (*ENGINES, "stages", "dvc.yaml", "data/published", "data/none", "data/*/none", "docs/words.yaml")
WHO = ("-c", "user.name=test", "-c", "user.email=test@localhost")


def tracked(folder: Path, names: tuple[str, ...] = TRACKED) -> Path:
    """Copy those files of this repository, as they are in the working tree."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *names]
    for name in subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def committed(folder: Path) -> Path:
    """Make a folder a git repository, all of it committed."""
    for arguments in (["init", "--quiet"], ["add", "--all"], [*WHO, "commit", "--quiet", "--message", "source"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def tiny_project(folder: Path) -> Path:
    """A git repository of the tracked source, with the tiny params; nothing is made in it."""
    tracked(folder)
    shutil.copy(TINY, folder / "params.yaml")
    return committed(folder)


def environment(folder: Path, *first: Path, **more: str) -> dict[str, str]:
    """As a user has it in an activated environment. first: folders whose programs come first (warm_python.py)."""
    path = os.pathsep.join(map(str, (*first, Path(sys.executable).parent, os.environ["PATH"])))
    return os.environ | {"PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": "", "PATH": path} | more


def call(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess:
    """Run a command to its end; its output, stderr included, is in .stdout. Python and `dvc` are warm ones
    (warm_python.py) where this process has such."""
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    first = [path for folder in WARM for path in (folder / "engines", folder)]
    return subprocess.run(command, cwd=folder, env=environment(folder, *first, **more), **told)


def run(folder: Path, *command: str, **more: str) -> str:
    """Output of a command that must succeed, as a user would type it in an activated environment."""
    done = call(folder, *command, **more)
    assert done.returncode == 0, done.stdout
    return done.stdout


def stale(folder: Path, target: str = "report@tiny") -> set[str]:
    """Stages that `dvc repro TARGET` would run, by a dry run that goes on to all that follows. What scripts are made of
    is looked at first, as it does."""
    from dvc.repo import Repo

    with chdir(folder), Repo() as dvc:
        if Path(CODE).exists():
            dvc.reproduce(f"{CODE}:code")
        return {stage.name for stage in dvc.reproduce(target, dry=True, force_downstream=True)}


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


def code(text: str) -> str:
    return f"{text}\nEDITED = True\n"


def put(path: str, value) -> Callable[[str], str]:
    """A change of params.yaml: the value at a dotted path."""

    def change(text: str) -> str:
        params = yaml_file.parse(text, "text")
        *blocks, key = path.split(".")
        block = params
        for name in blocks:
            block = block[name]
        block[key] = value
        return yaml.safe_dump(params)

    return change


REPORTS = {"tables@tiny", "figures@tiny", "report@tiny"}
OF_STUDENT = ("train_student", "evaluate", "analyse", "experts")
OF_TEACHER = ("train_teacher", "evaluate_teacher")
STUDY = {name: {f"{stage}@tiny-{name}" for stage in OF_STUDENT} | REPORTS for name in ("vit", "deit_lt")}
LABELS = {f"{stage}@ldam_drw_sam-tiny" for stage in ("cache_logits", "evaluate_labels", "teacher_entropy")}
TAUGHT = {f"{stage}@cbd-tiny" for stage in (*OF_TEACHER, "compare_features", "compare_predictions")}
TEACHER = {f"{stage}@ldam_drw_sam-tiny" for stage in (*OF_TEACHER, "virtual_examples")} | LABELS | TAUGHT
EDITS = {  # what is edited, how, and the stages of study `tiny` that it makes stale
    "an experiment": ("params.yaml", put("experiments.tiny-vit.set", {"train": {"lr": 2.0e-3}}), STUDY["vit"]),
    "a method's file": ("longtail/methods/vit.py", code, STUDY["vit"]),
    "a method's number": ("params.yaml", put("methods.deit_lt.alpha", 0.4), STUDY["deit_lt"]),
    "a teacher": ("params.yaml", put("teachers.ldam_drw_sam-tiny.lr", 0.2), TEACHER | STUDY["deit_lt"]),
    "code of training": (
        *("longtail/training/sam.py", code),
        TEACHER | STUDY["deit_lt"],
    ),
    "a cache": (
        *("params.yaml", put("caches.ldam_drw_sam-tiny.epochs", 4)),
        LABELS | STUDY["deit_lt"],
    ),
    "views": ("params.yaml", put("views.tiny.hflip", 0.5), LABELS | STUDY["deit_lt"] | STUDY["vit"]),
    "a study": ("params.yaml", put("studies.tiny.title", "Another title"), REPORTS),
    "how tables are drawn": ("longtail/report/tables/render.py", code, {"tables@tiny", "report@tiny"}),
}
UNREAD = {
    "params.yaml": lambda text: "# a comment\n" + put("teachers.ldam_drw-tiny.lr", 0.2)(text),  # of another study
    "longtail/methods/livt.py": lambda text: "from __future__ import annotations\n",  # another method
    "longtail/training/engine.py": comment,
    "stages/train_student.py": lambda text: text.replace('"""', '"""Said anew. ', 1),
    "stages/readme.py": code,  # no stage of the pipeline
    "docs/page.md": lambda text: "# A page\n",
    "README.md": lambda text: "# longtail\n",
}

# python fake.py STAGE ENTRY OUT: a line in calls.txt, half of OUT, a wait for the entry's gate, failure or the rest
FAKE_STAGE = """
import os, sys, time, pathlib, yaml

stage, entry, out = sys.argv[1:]
item = yaml.safe_load(open("params.yaml"))["items"][entry]
with open("calls.txt", "a") as calls:
    told = [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "LONGTAIL_NPROC")]
    print(f"{stage}@{entry}", *told, file=calls, flush=True)
pathlib.Path(out).parent.mkdir(exist_ok=True)
with open(out, "w") as file:
    print("first half of", stage, entry, file=file, flush=True)
    while stage == "make" and item.get("gate") and not os.path.exists(item["gate"]):
        time.sleep(0.05)
    if stage == "make" and item.get("fail"):
        sys.exit("error: told to fail")
    print(item["text"], file=file)
"""
FAKE_PIPELINE = """
stages:
  make:
    foreach: ${items}
    do:
      cmd: python fake.py make ${key} out/${key}.txt
      deps: [fake.py, "notes/${key}.txt"]
      params: ["items.${key}"]
      outs: ["out/${key}.txt"]
  follow:
    foreach: ${items}
    do:
      cmd: python fake.py follow ${key} out/${key}-follow.txt
      deps: [fake.py, "out/${key}.txt"]
      params: ["items.${key}"]
      outs: ["out/${key}-follow.txt"]
"""


def fake_project(folder: Path, **items: dict) -> Path:
    """Two quick stages an entry: make@ENTRY -> follow@ENTRY. Items: text, gate (a file to wait for), fail."""
    tracked(folder, ENGINES)
    (folder / CODE).unlink()
    (folder / "fake.py").write_text(FAKE_STAGE)
    (folder / "dvc.yaml").write_text(FAKE_PIPELINE)
    (folder / "params.yaml").write_text(yaml.safe_dump({"items": {k: {"text": k} | v for k, v in items.items()}}))
    (folder / "notes").mkdir()
    for entry in items:
        (folder / "notes" / f"{entry}.txt").write_text("a note\n")
    with open(folder / ".gitignore", "a") as ignored:
        ignored.write("/out/\n/calls.txt\n/gate*\n")
    return committed(folder)


PAPER_PIPELINE = """
stages:
  raw:
    foreach: ${raw}
    do:
      wdir: ${place.root}
      cmd: test -d ${item} || { echo told what is missing; exit 2; }
      outs:
        - ${item}: {cache: false, persist: true}
  subsample:
    foreach: ${datasets}
    do:
      wdir: ${place.root}
      cmd: mkdir -p out && echo ${item.kept} > out/${key}.npz
      deps: ["${item.raw}"]
      params:
        - ${place.params}: ["datasets.${key}"]
      outs: ["out/${key}.npz"]
  report:
    foreach: ${studies}
    do:
      wdir: ${place.root}
      cmd: cp out/${item.dataset}.npz out/${key}.html
      deps: ["out/${item.dataset}.npz"]
      params:
        - ${place.params}: ["studies.${key}"]
      outs: ["out/${key}.html"]
"""


def paper_project(folder: Path) -> Path:
    """Study `small` in the root, whose data are there; `large` of the paper `p`, cut from data/raw/x, which is not."""
    tracked(folder, ENGINES)
    (folder / CODE).unlink()
    (folder / "papers/p").mkdir(parents=True)
    (folder / "given").write_text("given\n")
    blocks = {
        "": {"raw": {}, "datasets": {"d": {"raw": "given", "kept": 1}}, "studies": {"small": {"dataset": "d"}}},
        "papers/p/": {
            "raw": {"x": "data/raw/x"},
            "datasets": {"e": {"raw": "data/raw/x", "kept": 2}},
            "studies": {"large": {"dataset": "e"}},
        },
    }
    for under, block in blocks.items():
        file = f"{under}params.yaml"
        place = {"root": "../.." if under else ".", "params": file, "methods": "params.yaml", "datasets": file}
        (folder / file).write_text(yaml.safe_dump({"place": place} | block))
        (folder / under / "dvc.yaml").write_text(PAPER_PIPELINE)
    with open(folder / ".gitignore", "a") as ignored:
        ignored.write("/out/\n")
    return committed(folder)
