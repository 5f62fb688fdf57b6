from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from longtail.analysis import agreement
from longtail.analysis.agreement import (
    CUTMIX,
    MIXUP,
    UNMIXED,
    answers,
    compare,
    epochs_shown,
    kinds_of_step,
    over_seeds,
)
from longtail.analysis.student import Student
from longtail.training.labels import TeacherLabels
from longtail.views.student_views import Views
from tests.helpers.small import Teacher, digits, recipe

CPU = torch.device("cpu")


class Counting(nn.Module):
    """View number i is class 3i mod 10 to CLS and 7i mod 10 to DIST, whatever it shows."""

    num_prefix_tokens = 2

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward_features(self, x):
        assert not torch.is_grad_enabled()
        number = torch.arange(self.seen, self.seen + len(x))
        self.seen += len(x)
        return torch.stack([3 * number % 10, 7 * number % 10, number], 1)[..., None]  # CLS, DIST, a patch

    def head(self, token):
        return nn.functional.one_hot(token[:, 0], 10).float()

    head_dist = head


@pytest.fixture(scope="module")
def data():
    return digits()


def views_of(data, **changes) -> Views:
    return Views(recipe(**changes), data.train_images, 0, labels=data.train_labels)


def kind_by_pixels(views, epoch, batch) -> list[int]:
    """From what the views show: their own pixels, each pixel one of the two images', or something else."""
    alone = views.unmixed(epoch, batch.positions.numpy())
    found = []
    for group in batch.groups:
        for x, own, partner in zip(batch.x[group], alone[group], alone[group].flip(0), strict=True):
            either = ((x == own).all(0) | (x == partner).all(0)).all()
            found.append(UNMIXED if torch.equal(x, own) else CUTMIX if either else MIXUP)
    return found


def test_kinds_are_those_that_the_pixels_show(data):
    views = views_of(data, mix_prob=0.7)
    kinds = set()
    for epoch in range(4):
        for step in range(views.steps_per_epoch):
            found = kinds_of_step(views, epoch, step).tolist()
            assert found == kind_by_pixels(views, epoch, views.step(epoch, step))
            kinds |= set(found)
    assert kinds == {UNMIXED, MIXUP, CUTMIX}
    assert {k for step in range(views.steps_per_epoch) for k in kinds_of_step(views, 3, step)} == {UNMIXED}


@pytest.mark.parametrize("limit", [7, 20, 10_000])
def test_answers_are_of_the_first_views_in_order(data, monkeypatch, limit):
    """Whatever is passed through the model at once; the dominant image is the one with the larger weight."""
    monkeypatch.setattr(agreement, "BATCH", 5)
    views, epoch = views_of(data), 1
    table = np.random.default_rng(0).integers(0, 10, (3, views.positions_per_epoch), np.uint8)
    student = Student(Counting(), None, 16, "digits", CPU)
    said = answers(student, views, data.train_labels, TeacherLabels(table, {}), epoch, limit)
    n = min(limit, views.positions_per_epoch)
    assert {name: len(values) for name, values in said.items()} == dict.fromkeys(said, n)
    assert said["cls"].tolist() == [3 * i % 10 for i in range(n)]
    assert said["dist"].tolist() == [7 * i % 10 for i in range(n)]
    assert said["teacher"].tolist() == table[epoch, :n].tolist()
    dominant, other = [], 0
    for step in range(views.steps_per_epoch):
        batch = views.step(epoch, step)
        for lam, index, partner in zip(batch.lam.tolist(), batch.index.tolist(), batch.partner.tolist(), strict=True):
            dominant.append(data.train_labels[index if lam >= 0.5 else partner])
            other += lam < 0.5
    assert said["dominant"].tolist() == dominant[:n] and other


def test_a_teacher_that_is_asked_gives_what_a_cache_of_it_holds(data):
    views, teacher = views_of(data), Teacher()
    student = Student(Counting(), None, 16, "digits", CPU)
    said = answers(student, views, data.train_labels, teacher, 0, 30)
    x = torch.cat([views.step(0, step).x for step in range(views.steps_per_epoch)])[:30]
    with torch.no_grad():
        assert said["teacher"].tolist() == teacher(x[..., 1::2, 1::2].contiguous()).argmax(1).tolist()


def test_shares_are_counted_by_kind_and_by_the_class_of_the_dominant_image():
    """Six views by hand: unmixed, unmixed, mixup, mixup, mixup, cutmix."""
    said = {
        "kind": np.array([UNMIXED, UNMIXED, MIXUP, MIXUP, MIXUP, CUTMIX]),
        "cls": np.array([0, 1, 0, 0, 2, 2]),
        "dist": np.array([0, 2, 0, 2, 2, 1]),
        "teacher": np.array([0, 2, 1, 2, 2, 0]),
        "dominant": np.array([0, 1, 0, 0, 2, 2]),
    }
    found = compare(said, {"all": range(3), "head": [0], "tail": [1, 2]})
    assert found["unmixed"]["all"] == {
        "views": 2,
        "cls_dist": 50.0,
        "cls_teacher": 50.0,
        "cls_dominant": 100.0,
        "dist_teacher": 100.0,
        "dist_dominant": 50.0,
        "teacher_dominant": 50.0,
    }
    assert found["mixup"]["head"] == {
        "views": 2,
        "cls_dist": 50.0,
        "cls_teacher": 0.0,
        "cls_dominant": 100.0,
        "dist_teacher": 50.0,
        "dist_dominant": 50.0,
        "teacher_dominant": 0.0,
    }
    assert {kind: found[kind]["tail"]["views"] for kind in found} == {"unmixed": 1, "mixed": 2, "mixup": 1, "cutmix": 1}
    assert found["mixed"]["all"]["cls_teacher"] == 25.0 and found["mixed"]["all"]["dist_teacher"] == 50.0
    assert found["cutmix"]["head"] == {"views": 0} | dict.fromkeys(found["cutmix"]["all"].keys() - {"views"})


def test_over_seeds_adds_views_and_averages_the_rest():
    """Standard error of 10 and 14: their difference over two."""
    seeds = [{"a": {"views": 3, "x": 10.0}, "y": 1.0}, {"a": {"views": 4, "x": 14.0}, "y": None}]
    assert over_seeds(seeds) == {
        "a": {"views": 7, "x": {"mean": 12.0, "stderr": 2.0, "n": 2}},
        "y": {"mean": 1.0, "stderr": None, "n": 1},
    }


@pytest.mark.parametrize(
    ("changes", "epochs", "shown"),
    [
        ({"mix_until": 3}, 10, [2, 9]),
        ({"mix_until": 10}, 10, [9]),
        ({"mix_until": 12}, 10, [9]),
        ({"mix_until": 9}, 10, [8, 9]),
        ({"mix_prob": 0.0}, 10, [9]),
        ({"mix_until": 0}, 10, [9]),
    ],
)
def test_the_last_epoch_with_mixing_and_the_last_of_all(changes, epochs, shown):
    assert epochs_shown(recipe(**changes), epochs) == shown
