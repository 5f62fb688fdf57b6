"""What figures say of the runs that they show: data, networks, epochs, seeds, names of classes and predictions."""

from __future__ import annotations

import numpy as np
import pytest

from longtail.base.files import write_json
from longtail.report.figures import about
from longtail.report.results import load
from longtail.report.study import Item
from tests.helpers import run_files
from tests.helpers.reporting import study, write_metrics


def test_places_of_the_images_are_those_of_the_analysis():
    """Tail classes 1 and 3; their images at 0 2 5 6 and 4 7: the first of each class, then the second, ..."""
    pytest.importorskip("torch")
    from longtail.analysis.student import spread

    labels, groups = np.array([1, 0, 1, 2, 3, 1, 1, 3]), np.array([0, 2, 1, 2])
    tail = np.flatnonzero(groups[labels] == 2)
    for count in (1, 4, 9):
        found = about.in_turn(labels, groups, count)
        assert found.tolist() == [0, 4, 2, 7, 5, 6][:count] == spread(labels, tail, count).tolist()


def test_entries_alike_are_told_once(tmp_path):
    """Three seeds of the student, one of the teacher; without records no network and no epochs."""
    results = load(write_metrics(tmp_path), "s", study())
    data = "Data: digits (6 training images, from 3 to 1 a class)."
    told = about.sentence(study(), "groups", {"Teacher", "DeiT-LT", "ViT"}, results, {"d": "digits"})
    assert told == f"{data} Teacher: 1 seed. DeiT-LT: 3 seeds."
    assert about.sentence(study(), "groups", {"DeiT-LT"}, results, {"d": "digits"}) == f"{data} 3 seeds."
    assert about.sentence(study(), "groups", {"a panel"}, results, {"d": "digits"}) == told  # no entry's label: all
    assert about.sentence(study(), "entropy", {"Teacher"}, results, {"d": "digits"}) == data  # its cache was not run


def test_many_entries_alike_are_told_last_and_not_by_name(tmp_path, monkeypatch):
    results = load(write_metrics(tmp_path), "s", study())
    monkeypatch.setattr(about, "MANY", 0)
    told = about.sentence(study(), "groups", {"Teacher", "DeiT-LT", "ViT"}, results, {"d": "digits"})
    assert told.endswith(" a class). DeiT-LT: 3 seeds. All others: 1 seed.")
    one = about.sentence(study(), "groups", {"DeiT-LT"}, results, {"d": "digits"})
    assert one.endswith(" a class). 3 seeds.")


def test_networks_and_epochs_are_those_of_the_record(tmp_path):
    results = load(write_metrics(tmp_path / "metrics"), "s", study(), tmp_path / "runs")
    model = {"depth": 3, "dim": 64}
    for place, config in (
        ("s-deit_lt", {"model": model, "train": {"epochs": 120}}),
        ("teachers/t", {"arch": "resnet8", "epochs": 0}),
    ):
        made = run_files.recorded(place.rpartition("/")[2], "teacher" if "arch" in config else "experiment")
        write_json(tmp_path / "runs" / place / "run.json", made | {"config": made["config"] | config})
    told = about.sentence(study(), "groups", {"Teacher", "DeiT-LT"}, results, {})
    assert told.endswith(
        "Teacher: ResNet-8, no training of its own, 1 seed. DeiT-LT: ViT of 3 blocks, width 64, 120 epochs, 3 seeds."
    )


def test_weights_of_other_runs_are_called_so(tmp_path):
    """One that is taken over, an average of two, and one of which the record tells no source."""
    results = load(write_metrics(tmp_path / "metrics"), "s", study(), tmp_path / "runs")
    for sources, told in (
        (["a", "none"], "weights of another run"),
        (["a", "b", "none"], "weights of 2 other runs"),
        (["none", "none"], "no training of its own"),
    ):
        made = run_files.recorded("t", "teacher")
        config = made["config"] | {"arch": "resnet8", "epochs": 0, "sources": sources}
        write_json(tmp_path / "runs/teachers/t/run.json", made | {"config": config})
        assert about.sentence(study(), "groups", {"Teacher"}, results, {}).endswith(f" ResNet-8, {told}, 1 seed.")


def test_a_pretraining_is_told_by_the_run_that_starts_from_it(tmp_path):
    """Its network from that run's record, two epochs of two seeds from its own curves."""
    results = load(write_metrics(tmp_path / "metrics"), "s", study(), tmp_path / "runs")
    of = study(pretrainings=[{"name": "p", "label": "Masked"}])
    data = "Data: digits (6 training images, from 3 to 1 a class)."
    assert about.sentence(of, "reconstructions", {"Masked"}, results, {"d": "digits"}, tmp_path) == data
    made = run_files.recorded("s-deit_lt", "experiment")
    began = {"start": "p", "pretrained": {"depth": 2, "dim": 32}}
    write_json(tmp_path / "runs/s-deit_lt/run.json", made | {"config": made["config"] | began})
    curves = tmp_path / "pretrainings/p/curves.csv"
    curves.parent.mkdir(parents=True)
    curves.write_text("seed,epoch,loss\n0,0,2\n0,1,1\n1,0,2\n1,1,1\n")
    told = about.sentence(of, "reconstructions", {"Masked"}, results, {"d": "digits"}, tmp_path)
    assert told == f"{data} ViT of 2 blocks, width 32, 2 epochs, 2 seeds."


def test_predictions_are_told_of_the_images_that_are_shown(tmp_path):
    """A student with two heads, a network of one, whose average is its head, one of other images, one not run."""
    labels = np.array([0, 3, 3, 1, 3])
    outputs = {"cls": [0, 0, 3, 1, 2], "dist": [0, 3, 3, 1, 3], "avg": [0, 1, 3, 1, 3]}
    for name, heads in (("two", outputs), ("one", {"avg": outputs["avg"]}), ("other", outputs)):
        (tmp_path / name).mkdir()
        of = {f"seed{s}_{phase}_{h}": v for s in (0, 1) for phase in ("last", "best") for h, v in heads.items()}
        of |= {"labels": labels, "groups_author": [0, 1, 1, 2], "class_counts": [9, 5, 2, 1]}
        np.savez(tmp_path / name / "predictions.npz", **of)
    write_json(tmp_path / "two/diagnostics.json", run_files.diagnosed("two"))
    shown = {"labels": np.array([3, 3])}
    pictures = {"Two": shown, "One": shown, "Other": {"labels": np.array([2, 2])}, "Not run": shown}
    items = [Item(label.lower(), label) for label in pictures]
    said = about.said(items, pictures, tmp_path)
    found = {label: {head: of.tolist() for head, of in heads.items()} for label, heads in said.predicted.items()}
    two = {"cls": [0, 3], "dist": [3, 3], "avg": [1, 3]}
    assert found == {"Two": two, "One": {"cls": [1, 3], "avg": [1, 3]}}
    assert said.name(1) == "bee & <b>" and about.said(items, pictures, None) == about.Said()
