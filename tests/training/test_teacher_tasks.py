"""A PaCo teacher in miniature: what it learns, what is saved of it, and what a step moves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longtail.base import params, rng
from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.losses.losses import log_prior, paco_loss
from longtail.models.resnet import CifarResNet
from longtail.runs.parallel import ALONE
from longtail.runs.workspace import Workspace
from longtail.training import teacher_tasks
from longtail.training.gradients import Gradients
from longtail.training.teacher import evaluate, load_teacher
from longtail.training.teacher_tasks import build_task
from longtail.training.teacher_training import _step, epoch_size
from longtail.views.normalize import constants, normalize
from longtail.views.paco_views import PaCoViews
from tests.training.test_teacher import CPU, DIGITS, PACO, PACO_TEACHER, config_of, history_of, train
from tests.views.test_paco_views import unbatch

MILD = PACO["views"] | {"autoaugment": None, "crop_scale": [0.5, 1.0], "blur_prob": 0.0}
SHORT = PACO_TEACHER | {"epochs": 12, "milestones": [10], "factors": [0.1], "paco": PACO | {"views": MILD}}


@pytest.fixture(scope="module")
def data() -> LongTail:
    return make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))


class Remembering(Workspace):
    """Keeps the last state that a checkpoint would hold."""

    def tick(self, state):
        type(self).last = state()
        super().tick(state)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    return train(tmp_path_factory.mktemp("paco"), config_of(**SHORT), data, workspace=Remembering)


def test_it_learns_and_is_saved_as_one_network_with_plain_logits(trained, data):
    history = history_of(trained)
    assert max(row["test_top1"] for row in history) > 60 > 30 > history[0]["test_top1"]
    state = load_file(trained / "model.safetensors")
    assert set(state) == set(CifarResNet(1, 10, "linear").state_dict())  # no projection, queue or key network
    model, config = load_teacher(trained, data)
    assert config.logit_scale == 1.0
    saved = np.load(trained / "predictions.npz")
    images = torch.from_numpy(data.test_images)
    logits = evaluate(model, [images.permute(0, 3, 1, 2)], *constants("digits"))
    assert np.array_equal(logits.numpy(), saved["logits_best_cls"])
    x = normalize(images[:7].permute(0, 3, 1, 2), *constants("digits"))
    torch.testing.assert_close(model(x), model.features(x) @ model.fc.weight.T + model.fc.bias)  # no prior (trap 27)
    assert logits.abs().max() > 1.5  # no cosines


def test_the_checkpoint_alone_holds_the_queue_and_the_key_network(trained):
    names = set(Remembering.last["paco"])
    assert {"queue", "queue_labels", "key_encoder.fc.weight", "key_projection.3.bias", "projection.0.weight"} <= names
    assert not any(name.startswith("encoder.") for name in names)
    assert torch.equal(Remembering.last["model"]["fc.weight"], load_file(trained / "model.safetensors")["fc.weight"])


def test_an_epoch_leaves_out_what_fills_no_batch():
    config = config_of(**SHORT)
    assert epoch_size(config, 200) == (6, 192) and epoch_size(config_of(), 200) == (7, 200)
    assert epoch_size(config, 32) == (1, 32)
    with pytest.raises(UserError, match="31 images, no whole batch"):
        epoch_size(config, 31)


def test_images_in_files_are_refused(data):
    elsewhere = replace(data, train_images=[data.train_images[0]])
    for config in (config_of(), config_of(**SHORT)):
        with pytest.raises(UserError, match="dataset tiny: its images are files"):
            build_task(config, elsewhere, 0, CPU)


@pytest.mark.parametrize("rho", [None, 0.1])
def test_a_first_epoch_by_hand(data, tmp_path, rho):
    """Loss and accuracy of the history, from views, network and loss put together here."""
    batch, steps = 32, len(data.train_labels) // 32
    still = {"epochs": 1, "lr": 0.0, "weight_decay": 0.0, "sam_rho": rho, "milestones": [], "factors": []}
    config = config_of(**SHORT | still)
    row = history_of(train(tmp_path, config, data, seed=2))[0]
    torch.manual_seed(2)
    paco = build_task(config, data, 2, CPU).paco.train()
    views = PaCoViews(config.paco.views, 1, 0.0, data.train_images, 2)
    order, mean_std = rng.permutation(2, "teacher_order", 0, len(data.train_labels)), constants("digits")
    total, hits = 0.0, 0
    for step in range(steps):
        positions = np.arange(step * batch, (step + 1) * batch)
        query, key = (normalize(make(0, positions, order[positions]), *mean_std) for make in (views.query, views.key))
        y = torch.from_numpy(data.train_labels[order[positions]])
        with torch.no_grad():
            queue, queue_labels = paco.queue.clone(), paco.queue_labels.clone()
            known, _ = paco.contrast(key, y)
            known, known_labels = torch.cat([known[:batch], queue]), torch.cat([y, queue_labels])
            logits, projected = paco(query)
        prior = log_prior(data.class_counts)
        total += paco_loss(logits, projected, y, known, known_labels, prior, config.paco).item() * batch
        hits += int((logits.argmax(1) == y).sum())
    if rho is None:  # without an lr nothing moves but queue and key network, which stays equal
        assert row["train_loss"] == pytest.approx(total / (steps * batch), rel=1e-4)
        assert row["train_top1"] == pytest.approx(100 * hits / (steps * batch))
    else:
        assert row["train_loss"] > total / (steps * batch)  # logged at the perturbed weights


def test_views_made_ahead_are_those_of_the_step(data, monkeypatch):
    """By PyTorch several steps' views are made at once; the bytes are those of each step alone."""
    monkeypatch.setattr(teacher_tasks, "WINDOW", 96)
    config = config_of(**SHORT)
    task = build_task(config, data, 0, CPU)
    assert task.views.backend == "torch"
    alone = PaCoViews(config.paco.views, 1, 0.0, data.train_images, 0, backend="pil")
    order = rng.permutation(0, "teacher_order", 3, len(data.train_labels))
    for step in (0, 1, 2, 3, 5, 2):
        rows = slice(32 * step, 32 * step + 32)
        task.batch(3, rows)
        positions = np.arange(rows.start, rows.stop)
        for made, kind in zip(task._pixels(3, rows), (alone.query, alone.key), strict=True):
            np.testing.assert_array_equal(unbatch(made), unbatch(kind(3, positions, order[positions])))


def test_a_step_moves_the_queue_once_with_sam_too(data):
    task = build_task(config_of(**SHORT), data, 0, CPU)
    task.train()
    optimizer = torch.optim.SGD(task.weights, 0.05)
    queue, key = task.paco.queue.clone(), task.paco.key_encoder.conv1.weight.clone()
    batch = task.batch(0, slice(0, 32))
    labels = batch[0]
    _step(partial(task.forward, 0), optimizer, Gradients(task.weights, ALONE), 0.1, *batch)
    assert torch.equal(task.paco.queue[:32], queue[32:]) and torch.equal(task.paco.queue_labels[32:], labels)
    torch.testing.assert_close(task.paco.key_encoder.conv1.weight, key)  # it followed before the first step: no move
    batch = task.batch(0, slice(32, 64))
    moved = 0.9 * key + 0.1 * task.model.conv1.weight
    torch.testing.assert_close(task.paco.key_encoder.conv1.weight, moved)
    task.forward(0, *batch)
    task.forward(0, *batch)
    torch.testing.assert_close(task.paco.key_encoder.conv1.weight, moved)
    assert torch.equal(task.paco.queue_labels[:32], labels)


@pytest.mark.parametrize("rows", [slice(0, 8), slice(8, 16), slice(40, 48)])
def test_a_few_rows_of_a_step_are_those_rows(data, rows):
    """As a probe asks for them: fewer than a batch, labels and both views of the same images."""
    config = config_of(**SHORT)
    torch.manual_seed(0)
    task = build_task(config, data, 0, CPU)
    size = config.batch_size
    step = rows.start // size
    whole = [pixels.clone() for pixels in task._pixels(0, slice(step * size, (step + 1) * size))]
    few = task._pixels(0, rows)
    inside = slice(rows.start - step * size, rows.stop - step * size)
    assert all((a == b[inside]).all() for a, b in zip(few, whole, strict=True))
    labels, queries, contrast, contrast_labels = task.batch(0, rows)
    assert len(labels) == len(queries) == 8 and len(contrast) == len(contrast_labels) == 8 + config.paco.queue
