"""What the figure of taught images shows is what the student is trained on and what its teacher answers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from longtail.analysis.entropy import pixels, taught
from longtail.base import params
from longtail.views.batch import teacher_input
from longtail.views.normalize import constants, normalize
from longtail.views.student_views import ViewRecipe, Views
from tests.analysis.test_entropy import CPU, STRONG, Probe, dataset

RECIPE = params.build(ViewRecipe, STRONG, "views.toy")
SCALE = 3.0


def test_images_views_labels_and_answers_are_those_of_the_first_epoch():
    """Of each class the view that comes first; the label's share and the class mixed in by the batch, the answer by
    softmax of three times the teacher's output on its slice of the view, in float64."""
    data, network = dataset(), Probe()
    data = replace(data, train_labels=data.train_labels[::-1].copy())  # class 2 is the largest, 1 in the middle
    made = Views(RECIPE, data.train_images, 5, labels=data.train_labels)
    found = taught(SimpleNamespace(network=network, logit_scale=SCALE), made, data, CPU)
    counts = np.bincount(data.train_labels)
    assert found["labels"].tolist() == sorted(range(3), key=lambda c: (-counts[c], c))
    batches = list(Views(RECIPE, data.train_images, 5, labels=data.train_labels).steps(0))
    index, x, lam, partner = (
        torch.cat([getattr(b, name) for b in batches]) for name in ("index", "x", "lam", "partner")
    )
    for k, own in enumerate(found["labels"]):
        row = next(r for r, i in enumerate(index.tolist()) if data.train_labels[i] == own)
        assert np.array_equal(found["images"][k], data.train_images[index[row]])
        assert np.array_equal(found["views"][k], pixels(x[row], RECIPE))
        assert found["shares"][k] == lam[row].item()
        assert found["partners"][k] == data.train_labels[partner[row]]
        logits = SCALE * Probe()(teacher_input(x[row : row + 1], RECIPE))[0].double().numpy()
        share = np.exp(logits) / np.exp(logits).sum()
        assert found["answers"][k] == share.argmax()
        assert found["probabilities"][k] == pytest.approx(share.max(), rel=1e-12)


def test_a_class_that_the_epoch_does_not_show_is_left_out():
    data = dataset()
    kept = np.flatnonzero(data.train_labels != 1)
    few = replace(data, train_images=data.train_images[kept], train_labels=data.train_labels[kept])
    views = Views(RECIPE, few.train_images, 0, labels=few.train_labels)
    found = taught(SimpleNamespace(network=Probe(), logit_scale=1.0), views, few, CPU)
    assert found["labels"].tolist() == [0, 1 + 1][: len(found["labels"])] and len(found["labels"]) == 2


def test_nothing_is_shown_where_the_teacher_labels_other_views():
    data, weak = dataset(), replace(RECIPE, teacher_view="weak", mixup_alpha=0.0, mix_prob=0.0)
    views = Views(weak, data.train_images, 0, labels=data.train_labels)
    assert taught(SimpleNamespace(network=Probe(), logit_scale=1.0), views, data, CPU) is None


def test_pixels_are_those_before_they_were_normalized():
    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    mean, std = constants(RECIPE.normalization)
    x = normalize(torch.from_numpy(image).permute(2, 0, 1), mean, std)
    assert np.array_equal(pixels(x, RECIPE), image)
    assert set(pixels(torch.full((3, 2, 2), 1e3), RECIPE).flat) == {255}
    assert set(pixels(torch.full((3, 2, 2), -1e3), RECIPE).flat) == {0}
