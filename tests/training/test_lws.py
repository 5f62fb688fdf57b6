"""Learnable weight scaling (Kang et al., METHODS 2.8): a number for each class' logit, and nothing else, is learnt."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from longtail.base import params
from longtail.base.errors import UserError
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.training.teacher import load_sources, load_teacher
from longtail.training.teacher_config import NONE
from longtail.training.teacher_tasks import build_task
from tests.training.test_distilled import PLAIN, train
from tests.training.test_teacher import CPU, DIGITS, FILES, Interrupted, Interrupting
from tests.training.test_teacher import config_of as teacher_of

pytestmark = pytest.mark.usefixtures("one_thread")

CE = PLAIN | {"loss": "ce", "epochs": 2, "milestones": [], "factors": [], "warmup_epochs": 0}
LWS = CE | {
    "sources": ["a", *NONE[1:]],
    "start": {"train": "scales", "classifier": "kept"},
    "sampler": "class_balanced",
}


@pytest.fixture(scope="module")
def data():
    return make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))


@pytest.fixture(scope="module")
def taught(tmp_path_factory, data) -> Path:
    """The folder of a plain teacher with one seed."""
    folder = tmp_path_factory.mktemp("taught") / "a"
    shutil.copytree(train(folder / "run", teacher_of(**CE), data), folder / "seed0")
    return folder


def task_of(taught: Path, data):
    config = teacher_of(**LWS)
    return build_task(config, data, 0, CPU, sources=load_sources(config, [taught], data, 0, CPU))


def test_it_begins_as_its_source_and_its_gradient_is_the_formulas(taught, data):
    """z_k = s_k (w_k f + b_k): dL/ds_k is the mean of (p_k - y_k)(w_k f + b_k), in float64."""
    task, first = task_of(taught, data), load_teacher(taught / "seed0", data)[0]
    task.train()
    assert not task.model.training and task.weights == [task.model.fc.scales]
    labels, images = task.batch(0, slice(0, 48))
    plain = first(images).double()
    logits, loss = task.forward(0, labels, images)
    torch.testing.assert_close(logits.double(), plain, rtol=1e-5, atol=1e-5)
    loss.backward()
    share = plain.softmax(1) - F.one_hot(labels, 10)
    torch.testing.assert_close(task.weights[0].grad.double(), (share * plain).mean(0), rtol=1e-4, atol=1e-6)
    assert all(w.grad is None for name, w in task.model.named_parameters() if name != "fc.scales")
    assert loss.item() == pytest.approx(F.cross_entropy(plain, labels).item(), rel=1e-5)


def test_only_the_scales_move_and_are_in_the_answers(taught, data, tmp_path):
    first = load_file(taught / "seed0" / "model.safetensors")
    result = train(tmp_path, teacher_of(**LWS), data, [taught])
    found = load_file(result / "model.safetensors")
    assert {name for name, value in found.items() if name not in first} == {"fc.scales"}
    assert all(torch.equal(found[name], value) for name, value in first.items())
    scales = found["fc.scales"].double().numpy()
    assert np.abs(scales - 1).min() > 0 and np.isfinite(scales).all()
    plain, scaled = (np.load(f / "predictions.npz")["logits_last_cls"] for f in (taught / "seed0", result))
    np.testing.assert_allclose(scaled, plain * scales, rtol=1e-4, atol=1e-4)
    network, _ = load_teacher(result, data)
    assert torch.equal(network.fc.scales, found["fc.scales"])


def test_an_interrupted_run_ends_in_the_same_bytes(taught, data, tmp_path):
    whole = train(tmp_path / "whole", teacher_of(**LWS), data, [taught])
    Interrupting.after = 4
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", teacher_of(**LWS), data, [taught], Interrupting)
    torch.manual_seed(99)
    parts = train(tmp_path / "parts", teacher_of(**LWS), data, [taught])
    for name in FILES:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale": 20.0}, "teachers.t: scale: 20.0 is of a cosine classifier; train: scales is of a linear one"),
        ({"start": {"train": "scales", "classifier": "new"}}, "a new classifier that is not trained answers at random"),
        ({"start": {"train": "scales", "classifier": "class_means"}}, "a classifier of class_means is not trained"),
        ({"start": {"train": "scale", "classifier": "kept"}}, "did you mean 'scales'?"),
        ({"sources": ["a", "b", *NONE[2:]]}, "an ensemble: write train: nothing and classifier: kept"),
        ({"epochs": 0}, "teachers.t: epochs: 0; 0 goes with start.train: nothing, and nothing else does"),
    ],
)
def test_wrong_entries_are_one_line(changes, said):
    with pytest.raises(UserError) as error:
        teacher_of(**LWS | changes)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_nothing_starts_from_learnt_scales(taught, data, tmp_path):
    folder = tmp_path / "scaled"
    shutil.copytree(train(tmp_path / "run", teacher_of(**LWS), data, [taught]), folder / "seed0")
    with pytest.raises(UserError, match=r"its logits have learnt scales \(train: scales\); start from"):
        load_sources(teacher_of(**LWS), [folder], data, 0, CPU)
