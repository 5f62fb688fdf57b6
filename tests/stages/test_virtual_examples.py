"""stages/virtual_examples.py on a trained teacher: sums, groups, equal targets, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from longtail.base import params
from longtail.data.sources import DatasetConfig, make_longtail
from tests.helpers.reporting import run_stage
from tests.training.test_distilled import PLAIN
from tests.training.test_teacher import DIGITS, TINY, config_of, train

pytestmark = pytest.mark.usefixtures("one_thread")


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_image_is_counted_once_and_the_rule_is_told(tmp_path, monkeypatch, capsys):
    data = make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))
    train(tmp_path / "run", config_of(**PLAIN), data)
    (tmp_path / "run" / "result").rename(tmp_path / "run" / "seed0")
    data.save(tmp_path / "tiny.npz")
    teachers = {"t": TINY | PLAIN, "o": TINY | {"dataset": "x"}, "n": TINY}
    shown = {"t": {"study": "s", "dataset": "tiny"}, "o": {"study": "s", "dataset": "x"}}
    (tmp_path / "params.yaml").write_text(json.dumps({"teachers": teachers, "virtual_examples": shown}))
    monkeypatch.chdir(tmp_path)
    where = ("--dataset", "tiny.npz", "--run", "run", "--out", "out", "--params", "params.yaml", "--device", "cpu")
    assert run_stage("virtual_examples", "t", *where) == 0
    assert capsys.readouterr().out.count("t seed 0: power ") == 2
    of_class = rows(Path("out/classes.csv"))
    settings = {(row["tau"], row["power"]) for row in of_class}
    assert len(settings) == 1 + 2 * 11 and len(of_class) == 10 * len(settings)
    found = {key: [float(r["examples"]) for r in of_class if (r["tau"], r["power"]) == key] for key in settings}
    for values in found.values():
        assert sum(values) == pytest.approx(len(data.train_labels), abs=1e-2)
    assert found["0.0", "1.0"] == data.class_counts.tolist()
    assert found["3.0", "0.5"] == pytest.approx(found["6.0", "1.0"], abs=2e-4)
    flat = len(data.train_labels) / 10
    spread = [max(abs(v - flat) for v in found[f"{tau}.0", "1.0"]) for tau in (1, 5, 20)]
    assert spread == sorted(spread, reverse=True)  # the warmer, the flatter
    groups = {(r["tau"], r["power"], r["group"]): float(r["examples"]) for r in rows(Path("out/groups.csv"))}
    many = [v for v, g in zip(found["3.0", "0.5"], data.count_groups, strict=True) if g == 1]
    assert groups["3.0", "0.5", "medium"] == pytest.approx(sum(many) / len(many), abs=1e-3)
    assert [(r["seed"], r["power"]) for r in rows(Path("out/rule.csv"))] == [("0", "1.0"), ("0", "0.5")]
    assert run_stage("virtual_examples", "o", *where) == 2
    assert "virtual_examples.o.dataset is 'x' but tiny.npz holds 'tiny'" in capsys.readouterr().err
    assert run_stage("virtual_examples", "n", *where) == 2
    assert "virtual_examples.n: no such entry" in capsys.readouterr().err
    places = rows(Path("out/tsne.csv"))
    shown = {row["class"]: row["images"] for row in places}
    assert list(shown.items()) == [(str(k), str(n)) for k, n in enumerate(data.class_counts)]
    assert len(places) == len(data.test_labels) and len({(r["x"], r["y"]) for r in places}) > len(places) / 2
