"""How a finished study's files are spoiled, each as one function of the study's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from longtail.data.long_tail import LongTail, class_order, content_digest
from tests.helpers.stage_processes import finish, tiny_params
from tests.stages.bad_inputs.settings import put

Spoil = Callable[[Path], None]
NPZ = "data/datasets/tiny.npz"
TEACHER_RUN = "data/teachers/ldam_drw_sam-tiny/seed0"
CACHE_RUN = "data/caches/ldam_drw_sam-tiny/seed0"
STUDENT_RUN = "data/students/tiny-deit_lt/seed0"


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
