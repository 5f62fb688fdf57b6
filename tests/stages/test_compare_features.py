"""stages/compare_features.py on a trained student and its teachers: what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.base import params
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.training.teacher import load_teacher
from longtail.training.teacher_config import NONE
from longtail.views.normalize import constants, normalize
from tests.helpers.reporting import run_stage
from tests.training.test_cbd import CBD, ENS, PLAIN, config_of
from tests.training.test_distilled import train
from tests.training.test_teacher import DIGITS, TINY

pytestmark = pytest.mark.usefixtures("one_thread")

SHOWN = {"study": "s", "dataset": "tiny", "groups": "author", "neighbours": 3, "queries": 2}


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two teachers, a student of both, and one without sources that has half as wide features."""
    folder = tmp_path_factory.mktemp("compared")
    data = make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))
    data.save(folder / "tiny.npz")
    runs = {"a": PLAIN | {"epochs": 2}, "b": PLAIN | {"epochs": 1, "family": 1}, "ens": ENS | {"epochs": 1}}
    for name, block in runs.items():
        config = config_of(block)
        given = [folder / source for source in config.sources if source != "none"]
        result = train(folder / "work" / name, config, data, taught_by=given)
        shutil.copytree(result, folder / name / "seed0")
    return folder


def of(student: dict, **changes) -> dict:
    """An entry of compare_features for it."""
    return SHOWN | {"sources": student.get("sources", list(NONE))} | changes


def stage(place: Path, name: str, teachers: dict, shown: dict, *teacher: str, dataset: str = "tiny.npz") -> int:
    table = {"teachers": {key: TINY | block for key, block in teachers.items()}, "compare_features": shown}
    (place / "params.yaml").write_text(json.dumps(table))
    given = (*teacher, *["none"] * (5 - len(teacher)))
    where = ("--dataset", dataset, "--run", name, "--teacher", *given, "--out", "out", "--params", "params.yaml")
    return run_stage("compare_features", name, *where, "--device", "cpu")


def test_numbers_are_those_of_the_networks_in_float64(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    ens = ENS | {"epochs": 1}
    assert stage(place, "ens", {"ens": ens}, {"ens": of(ens)}, "a", "b") == 0
    said = capsys.readouterr().out
    data = make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))
    (ours, _), *theirs = (load_teacher(place / name / "seed0", data) for name in ("ens", "a", "b"))

    def unit(x):
        return x / x.square().sum(1, keepdim=True).sqrt()

    found = {}
    for images, pixels in (("train", data.train_images), ("test", data.test_images)):
        x = normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), *constants("none"))
        target = unit(torch.cat([unit(teacher.features(x).double()) for teacher, _ in theirs], 1))
        found[images] = {"teacher": target.numpy(), "student": unit(ours.features(x).double()).numpy()}
    apart = {images: 1 - (two["teacher"] * two["student"]).sum(1) for images, two in found.items()}
    drift = {(r["images"], r["group"]): float(r["drift"]) for r in rows(Path("out/drift.csv"))}
    of_class = {(r["images"], int(r["class"])): r for r in rows(Path("out/classes.csv"))}
    for images, labels in (("train", data.train_labels), ("test", data.test_labels)):
        means = np.array([apart[images][labels == k].mean() for k in range(10)])
        assert [float(of_class[images, k]["drift"]) for k in range(10)] == pytest.approx(means.tolist(), abs=2e-6)
        assert [int(of_class[images, k]["training_images"]) for k in range(10)] == data.class_counts.tolist()
        expected = {"all": means.mean(), "head": means[:3].mean(), "mid": means[3:7].mean(), "tail": means[7:].mean()}
        for group, value in expected.items():
            assert drift[images, group] == pytest.approx(value, abs=2e-6)
    assert f"ens seed 0: drift {drift['train', 'all']:.6f} on training images" in said
    shares = {(r["features"], r["group"]): r for r in rows(Path("out/neighbours.csv"))}
    with np.load("out/neighbours.npz") as file:
        pictures = dict(file)
    assert pictures["group"].tolist() == ["head"] * 2 + ["mid"] * 2 + ["tail"] * 2
    assert pictures["label"].tolist() == [0, 1, 3, 4, 7, 8]
    assert np.array_equal(pictures["picture"], data.test_images[pictures["query"]])
    for features in ("teacher", "student"):
        cosines = found["test"][features] @ found["train"][features].T
        right = data.train_labels[np.argsort(-cosines, 1, kind="stable")[:, :3]] == data.test_labels[:, None]
        tail = np.mean([right[data.test_labels == k].mean() for k in (7, 8, 9)])
        assert float(shares[features, "tail"]["share"]) == pytest.approx(tail, abs=0.01)
        assert float(shares[features, "tail"]["most"]) == 1 and shares[features, "tail"]["k"] == "3"
        places = pictures[f"{features}_place"]
        assert np.array_equal(data.train_labels[places], pictures[f"{features}_label"])
        assert np.array_equal(data.train_images[places], pictures[f"{features}_picture"])
        near = np.take_along_axis(cosines[pictures["query"]], places, 1)
        np.testing.assert_allclose(pictures[f"{features}_cosine"], near, atol=2e-6)
        best = -np.sort(-cosines[pictures["query"]], 1)[:, :3]
        np.testing.assert_allclose(near, best, atol=2e-6)


NARROW = PLAIN | {"sources": ["a", *NONE[1:]], "distil": {"kind": "soft", "tau": 3.0, "power": 1.0, "alpha": 0.5}}


@pytest.mark.parametrize(
    ("name", "teachers", "shown", "said"),
    [
        ("a", {"a": PLAIN}, {"a": of({})}, "compare_features.a: teachers.a has no `sources`, so nothing to compare it"),
        ("a", {"a": PLAIN}, {}, "compare_features.a: no such entry in params.yaml"),
        ("ens", {"b": PLAIN}, {"ens": of(ENS)}, "teachers.ens: no such entry in params.yaml"),
        ("ens", {"ens": ENS}, {"ens": of(CBD)}, "compare_features.ens.sources: ['a', 'none', 'none', 'none', "),
        ("ens", {"ens": ENS}, {"ens": of(ENS, dataset="x")}, "compare_features.ens.dataset: x, but teachers.ens"),
        ("ens", {"ens": ENS}, {"ens": of(ENS, neighbours=0)}, "at least 1: neighbours, queries; found 0, 2"),
        ("ens", {"ens": ENS}, {"ens": of(ENS, neighbours=9999)}, "training images, 9999 nearest are asked for"),
        ("ens", {"ens": ENS | {"dataset": "x"}}, {"ens": of(ENS, dataset="x")}, "is 'x' but tiny.npz holds 'tiny'"),
        ("ens", {"ens": NARROW}, {"ens": of(NARROW)}, "ens: has features of 128, what it is held against of 64 (a 64)"),
    ],
    ids=["no sources", "not named", "unknown", "sources", "dataset", "none", "too many", "file", "width"],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(place, monkeypatch, capsys, name, teachers, shown, said):
    monkeypatch.chdir(place)
    given = [source for source in teachers.get(name, {}).get("sources", ()) if source != "none"]
    assert stage(place, name, teachers, shown, *given) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1


def test_a_teacher_that_is_not_there_is_one_line(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert stage(place, "ens", {"ens": ENS}, {"ens": of(ENS)}, "a", "nowhere") == 2
    assert "nowhere: holds no seed, seed 0 is asked for" in capsys.readouterr().err
