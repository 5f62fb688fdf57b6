"""The epoch that is chosen on validation images, of students and of teachers."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longtail.base import params
from longtail.base.errors import UserError
from longtail.data.config import DatasetConfig
from longtail.data.long_tail import LongTail
from longtail.data.sources import make_longtail
from longtail.models.vit import build_vit, head_logits, special_tokens
from longtail.runs.workspace import Workspace
from longtail.training import student_evaluation, teacher_training
from longtail.training.experiment import resolve
from longtail.training.student import train_student
from longtail.training.teacher import TestSet, load_teacher
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_training import train_teacher
from longtail.training.validation import balanced_accuracy
from longtail.views.eval_views import eval_batch
from tests.helpers.interruption import Stop, stopping
from tests.helpers.small import DATASET, SIZE
from tests.helpers.small import Teacher as Labeller
from tests.training.test_student import changed
from tests.training.test_teacher import TINY

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SCORES = [20.0, 50.0, 50.0]  # of three epochs: the second is the first of the best


@pytest.fixture(scope="module")
def data() -> LongTail:
    entry = DATASET | {"validation": {"per_class": 2}}
    return make_longtail("tiny", params.build(DatasetConfig, entry, "datasets.tiny"))


@pytest.fixture
def scripted(monkeypatch):
    """Validation scores as told, one an evaluation. Of a student both heads and their average are asked for in turn."""

    def script(module, asked_at_once: int) -> None:
        told = iter([score for score in SCORES for _ in range(asked_at_once)])
        monkeypatch.setattr(module, "balanced_accuracy", lambda logits, labels: next(told))

    return script


def student(folder, data: LongTail, workspace=Workspace):
    config, _ = resolve(changed(("recipes.r.train.eval_every", 1)), "e")
    space = workspace(folder, "e", "f" * 64, CPU, quiet=True)
    train_student(config, data, 3, Labeller(), space, CPU)
    return config, space.result


def teacher(folder, data: LongTail, **changes):
    settings = TINY | {"epochs": 3, "drw_epoch": 2, "milestones": [], "factors": [], "sam_rho": None} | changes
    space = Workspace(folder, "t seed 0", "f" * 64, CPU, quiet=True)
    train_teacher(params.build(TeacherConfig, settings, "teachers.t"), data, 0, space)
    return space.result


def column(result, name: str) -> list[float]:
    with open(result / "history.csv", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_every_class_that_occurs_counts_alike():
    """Class 0: 2 of 3 right, class 2: 0 of 1; class 1 does not occur: (2/3 + 0) / 2."""
    logits = torch.eye(3)[[0, 0, 1, 0]]
    assert balanced_accuracy(logits, np.array([0, 0, 0, 2])) == 33.3333


def test_a_students_epoch_is_the_first_with_the_best_score(data, tmp_path, scripted):
    scripted(student_evaluation, 3)
    _, result = student(tmp_path, data)
    with np.load(result / "predictions.npz") as found:
        assert int(found["validation_epoch"]) == 1 and int(found["last_epoch"]) == 2
        assert found["logits_validation_dist"].shape == (len(data.test_labels), 10)  # of test images
        assert not np.array_equal(found["logits_validation_cls"], found["logits_last_cls"])
    assert column(result, "val_balanced_avg") == SCORES


def test_a_students_scores_are_of_validation_images_and_survive_an_interruption(data, tmp_path):
    config, whole = student(tmp_path / "whole", data)
    model = build_vit(config.model, 10, distilled=True).eval()
    model.load_state_dict(load_file(whole / "model.safetensors"))
    with torch.no_grad():
        logits = head_logits(model, special_tokens(model, eval_batch(data.val_images, SIZE, 18, "digits")))
    right = logits["cls"].argmax(1).numpy() == data.val_labels
    means = [right[data.val_labels == label].mean() for label in np.unique(data.val_labels)]
    assert column(whole, "val_balanced_cls")[-1] == pytest.approx(100 * np.mean(means), abs=1e-4)
    with pytest.raises(Stop):
        student(tmp_path / "parts", data, stopping(5))
    _, parts = student(tmp_path / "parts", data)
    for name in ("predictions.npz", "history.csv"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_test_images_of_a_student_show_how_far_cls_and_dist_are_apart(data, tmp_path):
    config, result = student(tmp_path, data)
    model = build_vit(config.model, 10, distilled=True).eval()
    model.load_state_dict(load_file(result / "model.safetensors"))
    with torch.no_grad():
        cls, dist = special_tokens(model, eval_batch(data.test_images, SIZE, 18, "digits")).double().unbind(1)
    apart = 1 - (cls * dist).sum(1) / (cls.norm(dim=1) * dist.norm(dim=1))
    assert column(result, "test_cls_dist_distance")[-1] == pytest.approx(apart.mean().item(), abs=1e-5)


def test_a_teacher_can_teach_with_the_epoch_chosen_on_validation(data, tmp_path, scripted):
    scripted(teacher_training, 1)
    result = teacher(tmp_path, data, select="validation")
    network, config = load_teacher(result, data)
    with np.load(result / "predictions.npz") as found:
        assert int(found["validation_epoch"]) == 1
        assert not np.array_equal(found["logits_validation_cls"], found["logits_last_cls"])
        again = TestSet(config, data, CPU).logits(network).numpy()
        assert np.allclose(again, found["logits_validation_cls"], atol=1e-5)
    assert column(result, "val_balanced") == SCORES


def test_without_validation_images_nothing_is_chosen_and_none_can_teach(data, tmp_path):
    bare = replace(data, val_images=None, val_labels=None, val_index=None)
    with pytest.raises(UserError, match="select: validation, but dataset tiny has no validation images"):
        teacher(tmp_path, bare, select="validation")
    result = teacher(tmp_path / "best", bare)
    assert not (result / "model_validation.safetensors").exists()
    with np.load(result / "predictions.npz") as found:
        assert not [name for name in found.files if "validation" in name]
