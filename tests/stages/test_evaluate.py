"""stages/evaluate.py on made-up runs: the numbers, the schema, and each kind of bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from longtail.data.long_tail import class_order
from longtail.evaluation.metrics import SCALARS
from tests.helpers.made_up_runs import LABELS, NAMES, change, make, save
from tests.helpers.reporting import run_stage


def evaluate(root: Path, entry: str = "e", kind: str = "experiment") -> int:
    inputs = ["--run", root / entry, "--dataset", root / "d.npz", "--params", root / "params.yaml"]
    return run_stage("evaluate", entry, "--kind", kind, *inputs, "--out", root / f"{entry}.json")


def test_student(tmp_path):
    """CLS says class 1 for class 2, and in seed 1 class 0 for one of class 3. DIST is right but four times smaller."""
    make(tmp_path)
    assert evaluate(tmp_path) == 0
    text = (tmp_path / "e.json").read_text()
    found = json.loads(text)
    assert text == json.dumps(found, indent=1, sort_keys=True) + "\n"
    assert {k: found[k] for k in ("schema", "entry", "kind", "study", "dataset", "classes")} == {
        **{"schema": 1, "entry": "e", "kind": "experiment", "study": "s", "dataset": "d", "classes": 4}
    }
    assert found["groups"]["author"] == {"head": [0], "mid": [1, 2], "tail": [3]}
    assert found["groups"]["count"] == {"many": [0], "medium": [1], "few": [2, 3]}
    first, second = found["seeds"]["0"], found["seeds"]["1"]
    assert set(first) == {"last", "best"} and (first["last"]["epoch"], first["best"]["epoch"]) == (9, 7)
    assert (first["last"]["cls"]["top1"], second["last"]["cls"]["top1"]) == (75.0, 62.5)
    assert first["last"]["avg"] == first["last"]["cls"] | {
        k: first["last"]["avg"][k] for k in ("nll", "ece", "mce", "classwise_ece", "top5")
    }  # raw logits: the larger CLS decides
    assert first["last"]["dist"]["top1"] == 100.0
    assert first["last"]["cls"]["per_class"] == [100.0, 100.0, 0.0, 100.0]
    assert (first["last"]["cls"]["mid"], second["last"]["cls"]["few"]) == (50.0, 25.0)
    assert found["summary"]["last"]["cls"]["top1"] == {"mean": 68.75, "stderr": 6.25, "n": 2}
    assert set(found["summary"]["best"]["avg"]) == set(SCALARS)
    assert len(found["config_hash"]) == 64


def test_teacher_has_one_head_which_is_the_average(tmp_path):
    make(tmp_path)
    change(tmp_path / "t/seed0", logit_scale=30.0)
    assert evaluate(tmp_path, "t", "teacher") == 0
    found = json.loads((tmp_path / "t.json").read_text())
    last = found["seeds"]["0"]["last"]
    assert last["avg"] == last["cls"] and "dist" not in last
    assert found["summary"]["last"]["avg"]["top1"]["stderr"] is None
    assert last["cls"]["nll"] == pytest.approx(30 * 2 / 8, abs=1e-3)  # two of eight wrong by 30 nats, the rest right


def shuffled(root: Path, names: tuple[str, ...] | None) -> None:
    """The run numbers its classes in another order; with or without their names beside it."""
    other = ("bee", "ant", "cat", "dog")
    theirs = np.array([other.index(NAMES[y]) for y in LABELS])
    change(root / "e/seed0", class_order=class_order(other), labels=theirs)
    if names:
        facts = {"identity": "1", "dataset_digest": "d" * 64, "class_names": names}
        (root / "e/seed0/identity.json").write_text(json.dumps(facts))


BAD = {
    "missing": (lambda r: (r / "e/seed1/predictions.npz").unlink(), "e/seed1/predictions.npz: no such file"),
    "cut short": (
        lambda r: (r / "e/seed0/predictions.npz").write_bytes((r / "e/seed0/predictions.npz").read_bytes()[:400]),
        "cut short or damaged",
    ),
    "no key": (lambda r: save(r / "e/seed0", labels=LABELS), "no 'logits_last_cls' in it"),
    "no dataset": (lambda r: (r / "d.npz").unlink(), "d.npz: no such file"),
    "no config": (lambda r: (r / "e/seed0/config.yaml").unlink(), "config.yaml: no such file; the run is not complete"),
    "number of images": (
        lambda r: change(
            r / "e/seed0",
            labels=LABELS[:4],
            **{f"logits_{p}_{h}": np.eye(4) for p in ("last", "best") for h in ("cls", "dist")},
        ),
        "predictions for 4 test images, but",
    ),
    "rows": (lambda r: change(r / "e/seed0", logits_last_cls=np.eye(4)), "logits_last_cls has shape (4, 4) for 8"),
    "label": (lambda r: change(r / "e/seed0", labels=np.full(8, 4)), "label 4 out of range"),
    "order of images": (lambda r: change(r / "e/seed0", labels=LABELS[::-1]), "test image 0 has label 3"),
    "diverged": (lambda r: change(r / "e/seed0", logits_last_cls=np.full((8, 4), np.nan)), "not finite"),
    "permutation by name": (
        lambda r: shuffled(r, ("bee", "ant", "cat", "dog")),
        "reconcile them: ant: 1 -> 0, bee: 0 -> 1",
    ),
    "permutation by label": (lambda r: shuffled(r, None), "reconcile them: ant: 1 -> 0, bee: 0 -> 1"),
    "other classes": (lambda r: shuffled(r, ("bee", "ant", "cat", "elk")), "not the same classes"),
    "unknown order": (lambda r: change(r / "e/seed0", class_order="f" * 64), "do not show which permutation"),
    "other dataset": (
        lambda r: (r / "e/seed0/identity.json").write_text('{"identity": "1", "dataset_digest": "eeee"}'),
        "trained on dataset content eeee",
    ),
    "seeds differ": (
        lambda r: (r / "e/seed1/config.yaml").write_text("{lr: 0.2, seed: 1}"),
        "train the entry again, all seeds alike",
    ),
    "no study": (
        lambda r: (r / "params.yaml").write_text("experiments: {e: {seeds: [0]}}"),
        "experiments.e.study: missing",
    ),
    "unknown entry": (lambda r: (r / "params.yaml").write_text("experiments: {ee: {}}"), "did you mean 'ee'"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line(tmp_path, capsys, what):
    spoil, message = BAD[what]
    make(tmp_path)
    spoil(tmp_path)
    assert evaluate(tmp_path) == 2 and not (tmp_path / "e.json").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and message in said, said


# --- teachers on the views they label


def label(root: Path, entry: str = "c", **changes) -> int:
    """stages/evaluate_labels.py on a cache of two seeds, 50 % and 53 % right; changes: of seed 1's meta.json."""
    (root / "params.yaml").write_text(
        yaml.safe_dump({"caches": {"c": {"study": "s", "teacher": "t", "seeds": [0, 1]}}})
    )
    for seed, share in ((0, 50.0), (1, 53.0)):
        folder = root / "c" / f"seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        meta = {"cache": "c", "teacher_top1_on_views": share} | (changes if seed else {})
        (folder / "meta.json").write_text(json.dumps({k: v for k, v in meta.items() if v is not None}))
    return run_stage(
        "evaluate_labels", entry, "--cache", root / "c", "--out", root / "c.json", "--params", root / "params.yaml"
    )


def test_teacher_on_the_views_it_labels(tmp_path):
    """Mean of 50 and 53 is 51.5; standard error sqrt(4.5)/sqrt(2) = 1.5."""
    assert label(tmp_path) == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert {k: found[k] for k in ("schema", "entry", "kind", "study", "teacher")} == {
        **{"schema": 1, "entry": "c", "kind": "cache", "study": "s", "teacher": "t"}
    }
    assert found["seeds"]["1"] == {"teacher_top1_on_views": 53.0}
    assert found["summary"]["teacher_top1_on_views"] == {"mean": 51.5, "stderr": 1.5, "n": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache": "d"}, "of cache 'd', expected 'c'"),
        ({"teacher_top1_on_views": None}, "lacks 'teacher_top1_on_views'; make the cache again"),
        ({"teacher_top1_on_views": "x"}, "make the cache again"),
    ],
)
def test_a_cache_that_does_not_tell_is_refused(tmp_path, capsys, changes, message):
    assert label(tmp_path, **changes) == 2
    said = capsys.readouterr().err
    assert message in said and "seed1" in said and not (tmp_path / "c.json").exists()
