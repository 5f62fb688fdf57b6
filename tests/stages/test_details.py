"""What stages/evaluate.py tells beside the metrics, on made-up runs: its readers, and bad input in one line each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from longtail.base.errors import UserError
from longtail.data.long_tail import class_order
from longtail.evaluation.metrics import AUTHOR_GROUPS, COUNT_GROUPS
from longtail.report import reading
from tests.helpers.made_up_runs import LABELS, NAMES, change, make, save
from tests.helpers.reporting import run_stage

FILES = ("diagnostics.json", "predictions.npz", "run.json")


def detail(root: Path, entry: str = "e", kind: str = "experiment", out: str = "out") -> int:
    inputs = ["--run", root / entry, "--dataset", root / "d.npz", "--params", root / "params.yaml"]
    return run_stage("evaluate", entry, "--kind", kind, *inputs, "--out", root / "m.json", "--details", root / out)


@pytest.fixture
def made(tmp_path) -> Path:
    make(tmp_path)
    return tmp_path


def of_seeds(first: float, second: float) -> dict:
    return {"mean": (first + second) / 2, "stderr": abs(first - second) / 2, "n": 2}


def test_student(made):
    """CLS says class 1 for class 2, and in seed 1 class 0 for one of class 3. DIST is right but four times smaller."""
    assert detail(made) == 0
    assert sorted(p.name for p in (made / "out").iterdir()) == list(FILES)
    found = reading.diagnostics(made / "out")
    assert {k: found[k] for k in ("schema", "entry", "kind", "study", "dataset", "phase", "seeds", "logit_scale")} == {
        **{"schema": 1, "entry": "e", "kind": "experiment", "study": "s", "dataset": "d"},
        **{"phase": "last", "seeds": [0, 1], "logit_scale": 1.0},
    }
    assert (found["class_names"], found["class_counts"]) == (list(NAMES), [200, 50, 10, 5])
    assert found["test_counts"] == [2, 2, 2, 2] and set(found["heads"]) == {"cls", "dist", "avg"}
    cls = found["heads"]["cls"]
    assert cls["accuracy"]["all"] == of_seeds(75, 62.5)
    assert cls["accuracy"]["mid"] == of_seeds(50, 50) and cls["accuracy"]["tail"] == of_seeds(100, 50)
    assert cls["per_class"] == {"mean": [100.0, 100.0, 0.0, 75.0], "stderr": [0.0, 0.0, 0.0, 25.0]}
    assert cls["confusion"] == {
        "counts": [[4, 0, 0, 0], [0, 4, 0, 0], [0, 4, 0, 0], [1, 0, 0, 3]],
        "frequent": [{"true": 2, "predicted": 1, "images": 4}, {"true": 3, "predicted": 0, "images": 1}],
    }
    assert cls["flows"]["author"] == {
        "head": {"head": 100.0, "mid": 0.0, "tail": 0.0},
        "mid": {"head": 0.0, "mid": 100.0, "tail": 0.0},
        "tail": {"head": 25.0, "mid": 0.0, "tail": 75.0},
    }
    assert cls["flows"]["count"]["few"] == {"many": 12.5, "medium": 50.0, "few": 37.5}
    confidence = 100 * np.e / (np.e + 3)  # 47.5 %: the eighth bin
    bins = cls["reliability"]["all"]
    assert bins["count"] == [0] * 7 + [16] + [0] * 7
    assert (bins["confidence"][7], bins["accuracy"][7]) == (pytest.approx(confidence, abs=1e-4), 68.75)
    assert bins["ece"] == pytest.approx(of_seeds(75 - confidence, 62.5 - confidence), abs=1e-4)
    assert cls["reliability"]["tail"]["accuracy"][7] == 75.0 and cls["reliability"]["mid"]["count"][7] == 8
    # trunc(50 * 2^(-i/3)) = 50, 39, 31, 25 images
    forward = next(s for s in cls["shifts"] if (s["direction"], s["factor"]) == ("forward", 2))
    assert forward["raw"]["mean"] == pytest.approx((50 * 100 + 39 * 100 + 25 * 75) / 145, abs=1e-4)


def test_two_heads_together(made):
    """w CLS against (1 - w)/4 DIST: DIST decides below 0.2; at 0.2 they tie, and CLS has the lower class."""
    assert detail(made) == 0
    found = reading.diagnostics(made / "out")
    assert found["fusion"]["weights"] == pytest.approx(np.linspace(0, 1, 21))
    assert found["fusion"]["accuracy"]["all"]["mean"] == [100.0] * 4 + [68.75] * 17
    assert found["fusion"]["accuracy"]["tail"]["stderr"] == [0.0] * 4 + [25.0] * 17
    assert found["fusion"]["oracle_on_test"] == {"weight": 0.15, "accuracy": 100.0}
    assert found["routing"]["accuracy"]["all"] == of_seeds(75, 62.5)
    assert found["routing"]["to_dist"]["all"] == of_seeds(0, 0)
    assert found["routing"]["either_right"]["all"] == of_seeds(100, 100)
    assert found["agreement"]["all"] == of_seeds(75, 62.5) and found["agreement"]["mid"] == of_seeds(50, 50)


@pytest.mark.parametrize(("entry", "kind"), [("e", "experiment"), ("t", "teacher")])
def test_it_says_what_the_metrics_file_says(made, entry, kind):
    assert detail(made, entry, kind) == 0
    metrics, found = json.loads((made / "m.json").read_text()), reading.diagnostics(made / "out")
    assert {k: found[k] for k in ("config_hash", "groups", "class_counts")} == {
        k: metrics[k] for k in ("config_hash", "groups", "class_counts")
    }
    assert set(found["heads"]) == set(metrics["summary"]["last"])
    for head, summary in metrics["summary"]["last"].items():
        mine = found["heads"][head]
        assert mine["accuracy"] == {"all": summary["top1"]} | {g: summary[g] for g in (*AUTHOR_GROUPS, *COUNT_GROUPS)}
        assert mine["reliability"]["all"]["ece"] == summary["ece"]


def test_a_teacher_has_one_head_and_nothing_to_fuse(made):
    change(made / "t/seed0", logit_scale=30.0)
    assert detail(made, "t", "teacher") == 0
    found = reading.diagnostics(made / "out")
    assert set(found["heads"]) == {"cls", "avg"} and found["heads"]["cls"] == found["heads"]["avg"]
    assert found["fusion"] is found["routing"] is found["agreement"] is None
    assert found["logit_scale"] == 30.0
    bins = found["heads"]["cls"]["reliability"]["all"]  # a cosine of 1 against 0, times 30, is certainty
    assert bins["count"] == [0] * 14 + [8] and bins["ece"] == {"mean": 25.0, "stderr": None, "n": 1}


def test_run_record(made):
    facts = {"identity": "2" * 64, "dataset_digest": "d" * 64, "precision": "fp32"}
    facts |= {
        "hostname": "somewhere",
        "seconds": 1.5,
        "torch": "2.0",
    }  # what another machine changes does not come along
    (made / "e/seed1/identity.json").write_text(json.dumps(facts))
    (made / "e/seed1/history.csv").write_text("epoch,loss\n0,nan\n1,0.5\n")
    assert detail(made) == 0
    found = reading.run_record(made / "out")
    assert found["config"] == {"lr": 0.1} and set(found["seeds"]) == {"0", "1"}
    assert found["seeds"]["0"] == {
        "identity": {"identity": "1" * 64, "dataset_digest": "d" * 64},
        "curves": {"epoch": [0, 1], "loss": [2.5, 1.23457], "test_top1_avg": [None, 75]},
    }
    assert found["seeds"]["1"] == {
        "identity": {"identity": "2" * 64, "dataset_digest": "d" * 64, "precision": "fp32"},
        "curves": {"epoch": [0, 1], "loss": [None, 0.5]},
    }
    text = (made / "out/run.json").read_text()
    assert not any(word in text for word in ("somewhere", "seconds", "torch", str(made)))


def test_predictions_are_plain_numpy(made):
    assert detail(made) == 0
    with np.load(made / "out/predictions.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    named = {f"seed{s}_{p}_{h}" for s in (0, 1) for p in ("last", "best") for h in ("cls", "dist", "avg")}
    assert set(arrays) == named | {"labels", "class_counts", "groups_author"}
    assert {arrays[name].dtype for name in (*named, "labels")} == {np.dtype("uint8")}
    assert arrays["seed1_last_cls"].tolist() == [0, 1, 1, 3, 0, 1, 1, 0]
    assert arrays["seed0_last_dist"].tolist() == arrays["labels"].tolist() == LABELS.tolist()
    assert arrays["seed0_best_avg"].tolist() == [0, 1, 1, 3, 0, 1, 1, 3]  # raw logits: the larger CLS decides
    assert arrays["class_counts"].tolist() == [200, 50, 10, 5] and arrays["groups_author"].tolist() == [0, 1, 1, 2]
    read = reading.top1(made / "out")
    assert all((read[name] == array).all() and read[name].dtype == np.int64 for name, array in arrays.items())


def test_more_than_256_classes(made):
    """uint16 classes, no matrix of confusions; the last class is taken for the first."""
    names = tuple(f"c{i}" for i in range(300))
    labels, order = np.arange(300), class_order(names)
    groups = np.digitize(labels, (100, 200))
    facts = {"class_names": np.array(names), "class_counts": 300 - labels, "class_order": order, "digest": "d" * 64}
    np.savez(made / "d.npz", test_labels=labels, author_groups=groups, count_groups=groups, **facts)
    z = np.eye(300, dtype=np.float32)
    z[299] = z[0]
    logits = {"logits_last_cls": z, "logits_best_cls": z}
    save(made / "t/seed0", labels=labels, class_order=order, logit_scale=1.0, last_epoch=1, best_epoch=1, **logits)
    assert detail(made, "t", "teacher") == 0
    with np.load(made / "out/predictions.npz") as file:
        assert file["seed0_last_cls"].dtype == file["labels"].dtype == np.dtype("uint16")
        assert file["seed0_last_cls"].tolist() == [*range(299), 0]
    found = reading.diagnostics(made / "out")["heads"]["cls"]
    assert found["confusion"] == {"counts": None, "frequent": [{"true": 299, "predicted": 0, "images": 1}]}
    assert found["flows"]["author"]["tail"] == {"head": 1.0, "mid": 0.0, "tail": 99.0}


def test_the_seeds_of_the_entry_are_those_that_are_read(made):
    (made / "params.yaml").write_text(yaml.safe_dump({"experiments": {"e": {"study": "s", "seeds": [1]}}}))
    assert detail(made) == 0
    found = reading.diagnostics(made / "out")
    assert found["seeds"] == [1] and list(reading.run_record(made / "out")["seeds"]) == ["1"]
    assert found["heads"]["cls"]["accuracy"]["all"] == {"mean": 62.5, "stderr": None, "n": 1}
    assert "seed0_last_cls" not in reading.top1(made / "out")


def test_a_class_and_a_group_without_test_images_are_empty(made):
    """No test image of class 3, which is the tail: null, not zero, and left out of `few`."""
    kept = LABELS != 3
    with np.load(made / "d.npz") as file:
        np.savez(made / "d.npz", **{**{k: file[k] for k in file.files}, "test_labels": LABELS[kept]})
    for seed in (0, 1):
        folder = made / f"e/seed{seed}"
        with np.load(folder / "predictions.npz") as file:
            arrays = {k: file[k][kept] for k in file.files if k.startswith("logits_")}
        change(folder, labels=LABELS[kept], **arrays)
    assert detail(made) == 0
    found = reading.diagnostics(made / "out")
    cls, nothing = found["heads"]["cls"], {"mean": None, "stderr": None, "n": 0}
    assert cls["per_class"]["mean"] == [100.0, 100.0, 0.0, None]
    assert cls["accuracy"]["tail"] == nothing and cls["accuracy"]["few"] == of_seeds(0, 0)
    assert cls["flows"]["author"]["tail"] is None and cls["reliability"]["tail"]["ece"] == nothing
    assert cls["reliability"]["tail"]["accuracy"] == [None] * 15
    assert found["agreement"]["tail"] == nothing and found["fusion"]["accuracy"]["tail"]["mean"] == [None] * 21
    uniform = next(s for s in cls["shifts"] if s["direction"] == "uniform")
    assert uniform["raw"] == {"mean": 66.6667, "stderr": 0.0, "n": 2}  # two of the three classes that are there


def test_the_same_inputs_give_the_same_bytes(made):
    assert detail(made, out="a") == detail(made, out="b") == 0
    for name in FILES:
        assert (made / "a" / name).read_bytes() == (made / "b" / name).read_bytes()


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a seed that was not trained": (
        lambda r: (r / "params.yaml").write_text("experiments: {e: {study: s, seeds: [0, 2]}}"),
        "e/seed2/identity.json: no such file; the run is not complete, train it again",
    ),
    "no history": (lambda r: (r / "e/seed1/history.csv").unlink(), "seed1/history.csv: no such file"),
    "empty history": (lambda r: (r / "e/seed1/history.csv").write_text(""), "seed1: identity.json, config.yaml or"),
    "short row": (lambda r: (r / "e/seed1/history.csv").write_text("epoch,loss\n0\n"), "history.csv is damaged"),
    "no number": (
        lambda r: (r / "e/seed1/history.csv").write_text("epoch,loss\n0,abc\n"),
        "history.csv is damaged or lacks could not convert string to float: 'abc'",
    ),
    "no digest": (
        lambda r: (r / "e/seed0/identity.json").write_text('{"identity": "1"}'),
        "is damaged or lacks 'dataset_digest'",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line_and_leaves_what_is_there(made, capsys, what):
    spoil, message = BAD[what]
    assert detail(made) == 0
    before = {p: p.read_bytes() for p in (made / "m.json", *(made / "out" / name for name in FILES))}
    spoil(made)
    assert detail(made) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and message in said, said
    assert {p: p.read_bytes() for p in (made / "m.json", *(made / "out").iterdir())} == before
    assert not list(made.glob(".out*"))


# --- readers


def test_what_was_not_run_is_none(tmp_path):
    assert reading.run_record(tmp_path) is reading.diagnostics(tmp_path) is reading.top1(tmp_path) is None


def edit(name: str, change: Callable[[dict], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        change(found)
        (folder / name).write_text(json.dumps(found))

    return spoil


def arrays(folder: Path, **changes) -> None:
    with np.load(folder / "predictions.npz") as file:
        kept = {k: file[k] for k in file.files} | changes
    np.savez(folder / "predictions.npz", **{k: v for k, v in kept.items() if v is not None})


DAMAGED = {
    "schema of a record": (edit("run.json", lambda d: d.update(schema=2)), "run.json: schema is 2, expected 1"),
    "schema of diagnostics": (
        edit("diagnostics.json", lambda d: d.update(schema="1")),
        "diagnostics.json: schema is '1', expected 1",
    ),
    "no schema": (edit("run.json", lambda d: d.pop("schema")), "run.json: cut short or no such record ('schema')"),
    "no list": (lambda f: (f / "run.json").write_text("[]"), "run.json: cut short or no such record"),
    "cut short": (lambda f: (f / "diagnostics.json").write_text('{"schema"'), "diagnostics.json: cut short"),
    "lacks a key": (
        edit("diagnostics.json", lambda d: d.pop("fusion")),
        "not of schema 1: fusion: missing; Diagnostics",
    ),
    "no archive": (lambda f: (f / "predictions.npz").write_bytes(b"PK\x03\x04"), "predictions.npz: cut short"),
    "lacks labels": (lambda f: arrays(f, labels=None), "predictions.npz: no 'labels' in it"),
    "wrong shape": (
        lambda f: arrays(f, seed0_last_cls=np.zeros(3)),
        "predictions.npz: seed0_last_cls has shape (3,), labels (8,)",
    ),
    "no seed": (
        lambda f: np.savez(f / "predictions.npz", labels=[0], class_counts=[1], groups_author=[0]),
        "predictions.npz: no seed's predictions in it",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_refused_by_name(made, what):
    spoil, message = DAMAGED[what]
    assert detail(made) == 0
    spoil(made / "out")
    with pytest.raises(UserError, match=re.escape(message) + ".*; run stages/evaluate.py again"):
        for reader in (reading.run_record, reading.diagnostics, reading.top1):
            reader(made / "out")
