"""A mistake is told in one line with exit code 2, through the real stage scripts, and costs nothing that was made."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from longtail.base import yaml_file
from longtail.data.long_tail import LongTail, class_order, content_digest
from tests.helpers.stage_processes import (
    ANALYSE,
    CACHE,
    DIAGNOSE,
    ENTROPY,
    EVALUATE,
    EVALUATE_LABELS,
    EVALUATE_TEACHER,
    FIGURES,
    OVERVIEW,
    REPORT,
    STUDENT,
    SUBSAMPLE,
    TABLES,
    TEACHER,
    VIT,
    finish,
    start,
    tiny_params,
    without,
)

Spoil = Callable[[Path], None]
NPZ = "data/datasets/tiny.npz"
TEACHER_RUN = "data/teachers/ldam_drw_sam-tiny/seed0"
CACHE_RUN = "data/caches/ldam_drw_sam-tiny/seed0"
STUDENT_RUN = "data/students/tiny-deit_lt/seed0"
COMMANDS = (SUBSAMPLE, TEACHER, CACHE, STUDENT, EVALUATE, EVALUATE_LABELS, ENTROPY, ANALYSE, TABLES, FIGURES, REPORT)
COMMANDS += (DIAGNOSE, OVERVIEW)
STAGES = {command[0]: command for command in COMMANDS}


def content(folder: Path) -> dict[str, str]:
    """sha256 of everything that stages made."""
    files = [p for part in ("data", "reports") for p in sorted((folder / part).rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def refused(folder: Path, command: tuple, lines: int = 1, aside: bool = False) -> str:
    """Run a stage that must refuse its input; what it says on stderr. aside: a result may get another name, no more."""
    before = content(folder)
    run = start(folder, *command)
    code = run.wait()
    assert "Traceback" not in run.err, run.err
    assert code == 2, (code, run.out, run.err)
    said = run.err.splitlines()
    assert len(said) == lines and all(line.startswith("error: ") for line in said), run.err
    after = content(folder)
    assert sorted(after.values()) == sorted(before.values()) if aside else after == before
    return run.err.rstrip("\n")


@pytest.fixture
def copy(tiny, tmp_path) -> Path:
    """Everything the stages made, to be spoiled; without the sums of its files, which would say no more than that."""
    left_out = shutil.ignore_patterns("scratch", "logs", "*.environment")
    shutil.copytree(tiny, tmp_path, True, left_out, dirs_exist_ok=True)
    return tmp_path


def anew(command: tuple) -> tuple:
    """The same command to another place, where it cannot say that it is done already."""
    return (*command[:-1], f"{command[-1]}-new")


# --- params.yaml


@pytest.mark.parametrize("stage", STAGES)
def test_unknown_entry(stage, copy):
    command = STAGES[stage]
    wrong = command[1][:-1] + "u"
    said = refused(copy, (command[0], wrong, *command[2:]))
    assert f"{wrong}: no such entry in params.yaml; did you mean '{command[1]}'?" in said


def put(path: str, value) -> Callable[[dict], None]:
    """A change of params.yaml: the value at a dotted path."""

    def change(params: dict) -> None:
        *blocks, key = path.split(".")
        for block in blocks:
            params = params[block]
        params[key] = value

    return change


def take(path: str) -> Callable[[dict], None]:
    def change(params: dict) -> None:
        *blocks, key = path.split(".")
        for block in blocks:
            params = params[block]
        del params[key]

    return change


def other_dataset(params: dict) -> None:
    put("datasets.other", params["datasets"]["tiny"])(params)
    put("experiments.tiny-vit.dataset", "other")(params)


PARAMS = {  # what is wrong: (change, command, what is said)
    "unknown key of a dataset": (
        *(put("datasets.tiny.imbalance", 10.0), SUBSAMPLE),
        "datasets.tiny.imbalance: unknown key; did you mean 'imbalance_factor'?",
    ),
    "unknown key of a teacher": (
        *(put("teachers.ldam_drw_sam-tiny.momentums", 0.9), TEACHER),
        "teachers.ldam_drw_sam-tiny.momentums: unknown key; did you mean 'momentum'?",
    ),
    "a teacher of no known kind": (
        *(put("caches.ldam_drw_sam-tiny.teacher_kind", "student"), CACHE),
        "caches.ldam_drw_sam-tiny.teacher_kind: 'student' is not one of teachers, students; did you mean 'students'?",
    ),
    "unknown key of a cache": (
        *(put("caches.ldam_drw_sam-tiny.epoch", 3), CACHE),
        "caches.ldam_drw_sam-tiny.epoch: unknown key; did you mean 'epochs'?",
    ),
    "unknown key of views": (
        *(put("views.tiny.repeat", 3), CACHE),
        "views.tiny.repeat: unknown key; did you mean 'repeats'?",
    ),
    "unknown key of an experiment": (
        *(put("experiments.tiny-vit.recipes", "tiny"), VIT),
        "experiments.tiny-vit.recipes: unknown key; did you mean 'recipe'?",
    ),
    "unknown key of a recipe": (
        *(put("recipes.tiny.train.lrs", 1.0), VIT),
        "experiments.tiny-vit (recipes.tiny.train).lrs: unknown key; did you mean 'lr'?",
    ),
    "unknown block of a recipe": (
        *(put("recipes.tiny.trains", {}), VIT),
        "recipes.tiny.trains: unknown block; a recipe has model and train",
    ),
    "unknown key of a method": (
        *(put("methods.deit_lt.alfa", 0.5), STUDENT),
        "experiments.tiny-deit_lt (methods.deit_lt).alfa: unknown key; did you mean 'alpha'?",
    ),
    "unknown key of an override": (
        *(put("experiments.tiny-vit.set", {"model": {"dims": 8}}), VIT),
        "experiments.tiny-vit.set.model.dims: unknown key; did you mean 'dim'?",
    ),
    "unknown key of a study": (
        *(put("studies.tiny.titel", "x"), TABLES),
        "studies.tiny.titel: unknown key; did you mean 'title'?",
    ),
    "unknown section": (put("teacher", {}), SUBSAMPLE, "unknown section 'teacher'; did you mean 'teachers'?"),
    "missing key": (
        *(take("teachers.ldam_drw_sam-tiny.lr"), TEACHER),
        "teachers.ldam_drw_sam-tiny.lr: missing; TeacherConfig needs it",
    ),
    "1e-3 in quotes": (
        *(put("teachers.ldam_drw_sam-tiny.lr", "1e-3"), TEACHER),
        "teachers.ldam_drw_sam-tiny.lr: expected float, found '1e-3' (str); write 0.001",
    ),
    "1e-3 in quotes in a recipe": (
        *(put("recipes.tiny.train.lr", "1e-3"), STUDENT),
        "experiments.tiny-deit_lt (recipes.tiny.train).lr: expected float, found '1e-3' (str); write 0.001",
    ),
    "text for a number": (
        *(put("views.tiny.size", "large"), CACHE),
        "views.tiny.size: expected int, found 'large' (str)",
    ),
    "float for an int": (put("datasets.tiny.n_max", 40.5), SUBSAMPLE, "datasets.tiny.n_max: expected int, found 40.5"),
    "a value for a list": (
        *(put("caches.ldam_drw_sam-tiny.seeds", 0), CACHE),
        "caches.ldam_drw_sam-tiny.seeds: expected a list, found 0",
    ),
    "an unknown choice": (
        *(put("datasets.tiny.source", "digit"), SUBSAMPLE),
        "datasets.tiny.source: 'digit' is not one of digits, cifar10, cifar100, imagefolder, list, inat, csv;"
        " did you mean 'digits'?",
    ),
    "an unknown method": (
        *(put("experiments.tiny-vit.method", "deit_tl"), VIT),
        "experiments.tiny-vit.method: no entry 'deit_tl' in methods; did you mean 'deit_lt'?",
    ),
    "an unknown cache": (
        *(put("experiments.tiny-deit_lt.cache", "ldam_drw_sam-tin"), STUDENT),
        "experiments.tiny-deit_lt.cache: no entry 'ldam_drw_sam-tin' in caches; did you mean 'ldam_drw_sam-tiny'?",
    ),
    "no teacher": (
        *(put("experiments.tiny-deit_lt.cache", "none"), STUDENT),
        "method deit_lt needs a teacher; name a cache, or a teacher to run online",
    ),
    "no seeds": (put("experiments.tiny-vit.seeds", []), VIT, "no seed"),
    "another dataset's file": (
        *(other_dataset, VIT),
        "experiments.tiny-vit.dataset is 'other' but data/datasets/tiny.npz holds 'tiny'",
    ),
    "evaluation smaller than the input": (
        *(put("recipes.tiny.train.eval_resize", 16), VIT),
        "experiments.tiny-vit: eval_resize 16 is below the model's 24 px",
    ),
    "views of another size": (
        *(put("recipes.tiny.model.image_size", 30), VIT),
        "experiments.tiny-vit: the model takes 30 px, views.tiny makes 24",
    ),
    "odd groups": (put("views.tiny.mix_group", 7), VIT, "views.tiny: mix_group must be even, found 7"),
    "no probability": (put("views.tiny.hflip", 1.5), CACHE, "views.tiny: hflip is a probability, found 1.5"),
    "more ranks than images": (put("views.tiny.virtual_world", 500), VIT, "159 images are too few for 500 ranks"),
    "more ranks than images to label": (put("views.tiny.virtual_world", 500), CACHE, "are too few for 500 ranks"),
    "an empty tail": (put("datasets.tiny.cuts", [3, 10]), SUBSAMPLE, "datasets.tiny.cuts: [3, 10] leaves no tail"),
    "more images than there are": (
        *(put("datasets.tiny.n_max", 4000), SUBSAMPLE),
        "datasets.tiny: class '0' would keep 4000 of its",
    ),
    "a teacher that diverges": (
        *(put("teachers.ldam_drw_sam-tiny.lr", 1.0e30), TEACHER),
        "teacher diverged: training loss is nan in epoch",
    ),
    "a student that diverges": (
        *(put("recipes.tiny.train.lr", 1.0e30), VIT),
        "student diverged: training loss is nan in epoch",
    ),
}


@pytest.mark.parametrize("what", PARAMS)
def test_params(what, copy):
    change, command, message = PARAMS[what]
    tiny_params(copy, change)
    assert message in refused(copy, command)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "params.yaml: no such file; run from the repository root or pass --params"),
        ("teachers: {a: [}", "params.yaml: not valid YAML"),
        ("- a list", "params.yaml: expected sections"),
        ("experiments: {tiny-vit: 3}", "experiments.tiny-vit: expected a block of keys, found 3"),
    ],
)
def test_params_file(text, message, copy):
    (copy / "params.yaml").unlink()
    if text:
        (copy / "params.yaml").write_text(text)
    assert message in refused(copy, VIT)


# --- raw data


def folders(root: Path, classes: dict[str, int], change: dict | None = None) -> None:
    """Class folders of 12-pixel images, and a dataset entry that reads them."""
    random = np.random.default_rng(0)
    for name, count in classes.items():
        (root / "data/raw" / name).mkdir(parents=True)
        for i in range(count):
            image = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
            image.save(root / "data/raw" / name / f"{i}.png")
    block = {"source": "imagefolder", "raw": "data/raw", "cuts": [1, 2], "n_max": 4, "imbalance_factor": 4.0}
    block |= {"test_per_class": 2, "image_size": None, "download": False, "subset_seed": 0, **(change or {})}
    tiny_params(root, lambda params: params["datasets"].update(tiny=block))


SIX = {"ant": 6, "bee": 6, "cat": 6}


def damage(root: Path) -> None:
    """Every image cut short: whichever is used."""
    folders(root, SIX)
    for path in (root / "data/raw/bee").iterdir():
        path.write_bytes(path.read_bytes()[:200])


def wrong_archive(root: Path) -> None:
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]
    folder = root / "data/raw/cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"no such batch")
    cifar(root)


def cifar(root: Path) -> None:
    change = {"source": "cifar10", "raw": "data/raw", "test_per_class": None, "n_max": None}
    tiny_params(root, lambda params: params["datasets"]["tiny"].update(change))


def other_size(root: Path) -> None:
    folders(root, SIX)
    for path in (root / "data/raw/cat").iterdir():
        Image.new("RGB", (9, 9)).save(path)


RAW: dict[str, tuple[Spoil, str]] = {
    "missing folder": (lambda r: folders(r, {}), "data/raw: no such folder; datasets.tiny.raw names a folder of class"),
    "missing archive": (cifar, "data/raw/cifar-10-batches-py/data_batch_1: missing; unpack the official archive into"),
    "wrong checksum": (wrong_archive, "cifar-10-batches-py/data_batch_1: wrong checksum, expected md5 c99cafc152244af"),
    "class with no image": (
        lambda r: folders(r, SIX | {"dog": 0}),
        "data/raw/dog: class with no image; expected file",
    ),
    "class with too few": (lambda r: folders(r, SIX | {"cat": 2}), "test_per_class: class 2 has 2 images, 2 asked"),
    "one class": (lambda r: folders(r, {"ant": 6}), "data/raw: 1 class folders found; expected one folder a class"),
    "image cut short": (damage, ".png: not a readable image, or cut short"),
    "images of two sizes": (other_size, "9x9 pixels where others have 12x12; set datasets.tiny.image_size"),
    "no test set": (lambda r: folders(r, SIX, {"test_per_class": None}), "imagefolder has no test set of its own"),
}


@pytest.mark.parametrize("what", RAW)
def test_raw_data(what, tmp_path):
    spoil, message = RAW[what]
    spoil(tmp_path)
    (tmp_path / NPZ).parent.mkdir(parents=True)
    (tmp_path / NPZ).write_bytes(b"of an earlier run")  # must stay
    assert message in refused(tmp_path, SUBSAMPLE)


def test_an_image_folder_that_is_right(tmp_path):
    """The folder that the cases above spoil is accepted as it is."""
    folders(tmp_path, SIX)
    finish(tmp_path, *SUBSAMPLE)
    assert LongTail.load(tmp_path / NPZ).class_counts.tolist() == [4, 2, 1]


# --- files of other stages


def cut(path: str, keep: float = 0.6) -> Spoil:
    """A file cut short."""

    def spoil(root: Path) -> None:
        data = (root / path).read_bytes()
        (root / path).write_bytes(data[: int(len(data) * keep)])

    return spoil


def gone(path: str) -> Spoil:
    def spoil(root: Path) -> None:
        if (root / path).is_dir():
            shutil.rmtree(root / path)
        else:
            (root / path).unlink()

    return spoil


def dataset(seal: bool = True, **values) -> Spoil:
    """A dataset file with other content, and a digest that fits it (seal) or not."""

    def spoil(root: Path) -> None:
        data = LongTail.load(root / NPZ)
        changed = {k: v(data) if callable(v) else v for k, v in values.items()}
        data = replace(data, **changed)
        replace(data, digest=content_digest(data) if seal else data.digest).save(root / NPZ)

    return spoil


def swapped(root: Path) -> None:
    """The same dataset with the first two classes numbered the other way round."""
    data = LongTail.load(root / NPZ)
    names = (data.class_names[1], data.class_names[0], *data.class_names[2:])
    dataset(class_names=names, class_order=class_order(names))(root)


def renamed(root: Path) -> None:
    """Another set of classes."""
    names = tuple("abcdefghij")
    dataset(class_names=names, class_order=class_order(names))(root)


def meta(path: str, **values) -> Spoil:
    def spoil(root: Path) -> None:
        found = json.loads((root / path).read_text())
        changed = {k: v(found) if callable(v) else v for k, v in values.items()}
        (root / path).write_text(json.dumps({**found, **changed}))

    return spoil


def labels(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    def spoil(root: Path) -> None:
        np.save(root / CACHE_RUN / "labels.npy", change(np.load(root / CACHE_RUN / "labels.npy")))

    return spoil


def predictions(**values) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / STUDENT_RUN / "predictions.npz"
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        np.savez(path, **{**arrays, **values})

    return spoil


def teacher_of(root: Path, name: str) -> None:
    """A teacher whose weights say that it was trained on another dataset entry."""
    for path in (root / TEACHER_RUN).glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            about = json.loads(file.metadata()["longtail"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        save_file(state, path, {"longtail": json.dumps({**about, "dataset": name})})


def other_entry(root: Path) -> None:
    """A second dataset entry of the same content, and a cache entry that labels it with the first one's teacher."""

    def change(params: dict) -> None:
        params["datasets"]["other"] = params["datasets"]["tiny"]
        params["caches"]["ldam_drw_sam-tiny"]["dataset"] = "other"

    tiny_params(root, change)
    finish(root, "subsample", "other", "--out", "data/datasets/other.npz")


def only_seed_one(root: Path) -> None:
    meta(f"{CACHE_RUN}/meta.json", seed=1)(root)
    (root / CACHE_RUN).rename(root / CACHE_RUN.replace("seed0", "seed1"))


def two_other_seeds(root: Path) -> None:
    for seed in (3, 4):
        shutil.copytree(root / CACHE_RUN, root / CACHE_RUN.replace("seed0", f"seed{seed}"))
    shutil.rmtree(root / CACHE_RUN)


def other_cache_epochs(root: Path) -> None:
    tiny_params(root, put("recipes.tiny.train.epochs", 9))


def other_views(root: Path) -> None:
    tiny_params(root, put("views.tiny.rand_magnitude", 5.0))


def checksum(found: dict) -> list[str]:
    return ["0" * 64, *found["pixel_checksums"][1:]]


other_run = meta(f"{STUDENT_RUN}/identity.json", dataset_digest="0" * 64)
FILES: dict[str, tuple[Spoil, tuple, str]] = {
    "dataset missing": (gone(NPZ), TEACHER, "data/datasets/tiny.npz: no such dataset file; make it with stages/subsam"),
    "dataset cut short": (cut(NPZ), TEACHER, "data/datasets/tiny.npz: cut short or no dataset file"),
    "dataset altered": (
        *(dataset(seal=False, test_labels=lambda d: d.test_labels[::-1]), VIT),
        "data/datasets/tiny.npz: wrong checksum, the content was altered",
    ),
    "dataset's label out of range": (
        *(dataset(train_labels=lambda d: np.where(d.train_labels == 9, 10, d.train_labels)), TEACHER),
        "data/datasets/tiny.npz: train labels: label 10 out of range, 10 classes are 0 to 9",
    ),
    "teacher missing": (gone(TEACHER_RUN), CACHE, "data/teachers/ldam_drw_sam-tiny: holds no seed, seed 0 is asked"),
    "teacher's weights missing": (
        *(gone(f"{TEACHER_RUN}/model_best.safetensors"), anew(CACHE)),
        "model_best.safetensors: no such file; run the stage that makes it first",
    ),
    "teacher's weights cut short": (
        *(cut(f"{TEACHER_RUN}/model_best.safetensors"), anew(CACHE)),
        "model_best.safetensors: damaged or cut short",
    ),
    "teacher's config cut short": (
        *(cut(f"{TEACHER_RUN}/config.yaml"), ENTROPY),
        "ldam_drw_sam-tiny/seed0/config.yaml",
    ),
    "teacher of another class order": (
        *(swapped, anew(CACHE)),
        "same classes, other order; its output column for class i is [1, 0, 2, 3, 4, 5, 6, 7, 8, 9][i]",
    ),
    "teacher of other classes": (renamed, anew(CACHE), ": not the same classes"),
    "teacher of another dataset entry": (
        *(lambda r: teacher_of(r, "places"), anew(CACHE)),
        "teacher trained on dataset 'places', asked to label 'tiny'",
    ),
    "teacher of another dataset entry of the same content": (
        *(other_entry, tuple(a.replace("tiny.npz", "other.npz") for a in anew(CACHE))),
        "teacher trained on dataset 'tiny', asked to label 'other'",
    ),
    "no cache given": (
        *(lambda r: None, without(STUDENT, "--cache")),
        "experiments.tiny-deit_lt learns from a teacher; pass --cache FOLDER",
    ),
    "cache missing": (gone(CACHE_RUN), STUDENT, "data/caches/ldam_drw_sam-tiny: holds no seed, seed 0 is asked for"),
    "cache's labels missing": (
        *(gone(f"{CACHE_RUN}/labels.npy"), anew(STUDENT)),
        "ldam_drw_sam-tiny/seed0/labels.npy: no such file",
    ),
    "cache's labels cut short": (
        *(cut(f"{CACHE_RUN}/labels.npy"), anew(STUDENT)),
        "ldam_drw_sam-tiny/seed0: cache cut short or unreadable",
    ),
    "cache's meta cut short": (
        *(cut(f"{CACHE_RUN}/meta.json"), anew(STUDENT)),
        "ldam_drw_sam-tiny/seed0: cache cut short or unreadable",
    ),
    "cache of fewer rows": (labels(lambda t: t[:2]), anew(STUDENT), "labels are (2, 128), meta.json says 3 x 128"),
    "cache's label out of range": (
        *(labels(lambda t: np.where(t == t[0, 0], 77, t)), anew(STUDENT)),
        "labels.npy: label 77 out of range, 10 classes are 0 to 9",
    ),
    "cache of another class order": (
        *(swapped, anew(STUDENT)),
        "same classes, other order; its output column for class i is [1, 0, 2, 3, 4, 5, 6, 7, 8, 9][i]",
    ),
    "cache of another dataset": (
        *(meta(f"{CACHE_RUN}/meta.json", dataset="places"), anew(STUDENT)),
        "made for dataset places, this run has tiny",
    ),
    "cache of another dataset content": (
        *(dataset(train_images=lambda d: d.train_images[::-1]), anew(STUDENT)),
        "made for dataset content",
    ),
    "cache of another seed": (only_seed_one, anew(STUDENT), "made for seed 1, this run has 0; make the cache again"),
    "cache of two other seeds": (
        *(two_other_seeds, anew(STUDENT)),
        "data/caches/ldam_drw_sam-tiny: holds seed3, seed4, seed 0 is asked for",
    ),
    "cache of too few epochs": (other_cache_epochs, STUDENT, "holds 3 epochs, the run needs 9; raise caches.*.epochs"),
    "cache of other views": (other_views, STUDENT, "made for view recipe"),
    "cache of other pixels": (
        *(meta(f"{CACHE_RUN}/meta.json", pixel_checksums=checksum), anew(STUDENT)),
        "pixels of epoch 0 differ from those the teacher labelled",
    ),
    "predictions missing": (gone(f"{STUDENT_RUN}/predictions.npz"), EVALUATE, "predictions.npz: no such file"),
    "predictions cut short": (cut(f"{STUDENT_RUN}/predictions.npz"), EVALUATE, "predictions.npz: cut short or damaged"),
    "predictions' label out of range": (
        *(predictions(labels=np.full(100, 10)), EVALUATE),
        "predictions: label 10 out of range, 10 classes are 0 to 9",
    ),
    "predictions of another class order": (
        *(swapped, EVALUATE),
        "this permutation of the run's classes would reconcile them: 1: 1 -> 0, 0: 0 -> 1",
    ),
    "predictions of another dataset content": (other_run, EVALUATE, "trained on dataset content 000000000000, but"),
    "run's facts cut short": (
        *(cut(f"{STUDENT_RUN}/identity.json"), EVALUATE),
        "identity.json or config.yaml is damaged",
    ),
    "teacher's predictions cut short": (
        *(cut(f"{TEACHER_RUN}/predictions.npz"), EVALUATE_TEACHER),
        "predictions.npz: cut short or damaged",
    ),
    "student missing": (gone("data/students/tiny-deit_lt"), ANALYSE, "data/students/tiny-deit_lt: no such folder"),
    "student's seed missing": (gone(STUDENT_RUN), ANALYSE, "seed0/config.yaml: no such file; train the entry first"),
    "student's weights cut short": (
        *(cut(f"{STUDENT_RUN}/model.safetensors"), ANALYSE),
        "model.safetensors: damaged or cut short",
    ),
    "student's history cut short": (
        *(cut(f"{STUDENT_RUN}/history.csv", 0.5), ANALYSE),
        "history.csv: cut short",
    ),
    "student of another class order": (swapped, ANALYSE, "same classes, other order; its output column for class i is"),
}


@pytest.mark.parametrize("what", FILES)
def test_files(what, copy):
    spoil, command, message = FILES[what]
    spoil(copy)
    aside = message.endswith(("damaged or cut short", "cache cut short or unreadable"))  # and said to be set aside
    said = refused(copy, command, aside=aside)
    assert message in said and ("; set aside as data/" in said) == aside


def test_one_bad_seed_leaves_the_others_to_finish(copy):
    """Two seeds at a time: the good one is kept, the bad one is named, and once more in the last line."""
    shutil.copytree(copy / CACHE_RUN, copy / CACHE_RUN.replace("seed0", "seed1"))
    shutil.rmtree(copy / STUDENT_RUN)
    tiny_params(copy, put("experiments.tiny-deit_lt.seeds", [0, 1]))
    run = start(copy, *STUDENT, "--jobs", 2, cores=2)
    assert run.wait() == 2
    said = run.err.splitlines()
    assert "seed1: made for seed 0, this run has 1" in said[0]
    assert said[1] == "error: tiny-deit_lt: seed 1 failed; finished seeds are kept"
    assert len(said) == 2
    assert [p.name for p in (copy / STUDENT_RUN).parent.iterdir()] == ["seed0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "cuda"), "--device cuda: no CUDA device here; use --device cpu or auto"),
        (("--micro-batch", 3), "--micro-batch 3: must be a multiple of mix_group 8"),
    ],
)
def test_execution_settings(arguments, message, copy):
    assert message in refused(copy, (*anew(VIT), *arguments))


def test_the_folder_that_the_cases_spoil_is_right(copy):
    for command in (TEACHER, CACHE, STUDENT, EVALUATE, EVALUATE_TEACHER, EVALUATE_LABELS, ANALYSE, ENTROPY):
        finish(copy, *anew(command))
    config = yaml_file.read(copy / f"{STUDENT[-1]}-new/seed0/config.yaml")
    assert config["views"]["mix_group"] == 8
