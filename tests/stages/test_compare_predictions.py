"""stages/compare_predictions.py on made-up logits: which images it shows, how many there are, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from longtail.base import params
from longtail.data.long_tail import LongTail
from longtail.data.sources import DatasetConfig, make_longtail
from tests.helpers.made_up_runs import change, save
from tests.helpers.reporting import run_stage
from tests.training.test_teacher import DIGITS

ENTRY = {"study": "s", "dataset": "tiny", "others": ["ce", "bsce"], "images": 2}
RUNS = ("ce", "bsce", "dive")
WRONG = {  # test images that a network answers with the next class; seed 1 of all three is right everywhere but there
    "ce": ([3, 10, 50, 60, 99], [1]),
    "bsce": ([3, 10, 60, 99, 4], []),
    "dive": ([99, 7], [2, 3]),
}


@pytest.fixture(scope="module")
def tiny() -> LongTail:
    return make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))


@pytest.fixture
def place(tiny, tmp_path, monkeypatch) -> Path:
    """Three runs of two seeds, whose best epoch is wrong everywhere."""
    tiny.save(tmp_path / "tiny.npz")
    for run in RUNS:
        for seed in (0, 1):
            folder = tmp_path / run / f"seed{seed}"
            folder.mkdir(parents=True)
            said = tiny.test_labels.copy()
            said[WRONG[run][seed]] = (said[WRONG[run][seed]] + 1) % 10
            given = {
                f"logits_{phase}_cls": np.eye(10, dtype=np.float32)[z]
                for phase, z in (("last", said), ("best", 9 - said))
            }
            facts = {"labels": tiny.test_labels, "class_order": tiny.class_order, "logit_scale": 1.0}
            save(folder, **given, **facts, last_epoch=9, best_epoch=7)
            (folder / "identity.json").write_text(json.dumps({"identity": "1" * 64, "dataset_digest": tiny.digest}))
            (folder / "config.yaml").write_text("lr: 0.1\n")
            (folder / "history.csv").write_text("epoch,loss\n0,2.5\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stage(shown: dict | None = None, others=("ce", "bsce"), **teachers) -> int:
    blocks = {run: {"dataset": "tiny", "seeds": [0, 1]} for run in RUNS} | teachers
    table = {"teachers": blocks, "compare_predictions": {"dive": ENTRY | (shown or {})}}
    Path("params.yaml").write_text(json.dumps(table))
    given = ("--dataset", "tiny.npz", "--run", "dive", "--others", *others)
    return run_stage("compare_predictions", "dive", *given, "--out", "out", "--params", "params.yaml")


def test_the_first_images_of_both_kinds_in_the_order_of_the_test_set(place, tiny, capsys):
    """Alone right in seed 0: 3, 10 and 60, not 50 (one other is right) nor 99 (all are wrong); alone wrong: 7."""
    assert stage() == 0
    assert "dive seed 0: alone right on 3, alone wrong on 1 test images" in capsys.readouterr().out
    assert Path("out/counts.csv").read_text() == "seed,images,right_alone,wrong_alone\n0,200,3,1\n1,200,0,2\n"
    with np.load("out/predictions.npz") as file:
        found = dict(file)
    assert found["networks"].tolist() == ["ce", "bsce", "dive"]
    assert found["query"].tolist() == [3, 10, 7] and found["right_alone"].tolist() == [True, True, False]
    label = tiny.test_labels[[3, 10, 7]]
    following = (label + 1) % 10
    assert np.array_equal(found["label"], label)
    expected = np.where([[1, 1, 0], [1, 1, 0], [0, 0, 1]], following, label)
    assert np.array_equal(found["answer"], expected)
    names = np.array(tiny.class_names)
    assert np.array_equal(found["answer_name"], names[expected]) and np.array_equal(found["label_name"], names[label])
    assert np.array_equal(found["picture"], tiny.test_images[[3, 10, 7]])


def test_beside_one_other_alone(place):
    """CE is right on 4 and wrong on 50, which then counts."""
    assert stage({"others": ["ce", "none"], "images": 9}, ("ce", "none")) == 0
    with np.load("out/predictions.npz") as file:
        assert file["networks"].tolist() == ["ce", "dive"] and file["query"].tolist() == [3, 10, 50, 60, 7]


@pytest.mark.parametrize(
    ("shown", "teachers", "said"),
    [
        ({"others": ["bsce", "bsce"]}, {}, "others: ['bsce', 'bsce']; name one or two different entries, else none"),
        ({"others": ["none", "none"]}, {}, "others: ['none', 'none']; name one or two different entries, else none"),
        ({"others": ["ce", "dive"]}, {}, "compare_predictions.dive.others: names the student itself"),
        ({"images": 0}, {}, "images: 0; at least 1"),
        ({"dataset": "x"}, {}, "compare_predictions.dive.dataset: x, but teachers.dive.dataset is tiny; write"),
        ({}, {"dive": {"dataset": "tiny"}}, "teachers.dive.seeds: missing"),
        ({}, {"dive": {"dataset": "tiny", "seeds": [2]}}, "ce/seed2"),
    ],
    ids=["twice", "nobody", "itself", "no image", "dataset", "no seeds", "not trained"],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(place, capsys, shown, teachers, said):
    assert stage(shown, **teachers) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1 and not Path("out").exists()


def test_predictions_of_another_test_set_are_one_line(place, tiny, capsys):
    change(place / "bsce/seed0", labels=tiny.test_labels[::-1])
    assert stage() == 2
    assert "bsce/seed0: test image 0 has label 9, but tiny.npz says 0" in capsys.readouterr().err
    assert stage(others=("ce", "bcse")) == 2
    assert "bcse/seed0/identity.json: no such file" in capsys.readouterr().err


def test_a_file_of_another_dataset_is_one_line(place, tiny, capsys):
    blocks = {run: {"dataset": "x", "seeds": [0]} for run in RUNS}
    assert stage({"dataset": "x"}, **blocks) == 2
    assert "teachers.dive.dataset is 'x' but tiny.npz holds 'tiny'" in capsys.readouterr().err
