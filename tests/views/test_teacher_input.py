"""What a teacher is shown of a student's view: the published slice, or in the teacher's own normalisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from longtail.views.batch import teacher_input
from longtail.views.normalize import NORMALIZATION, constants, normalize
from tests.helpers.small import OFFSET, STRIDE, recipe

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 24, 24), np.uint8))
SAME = replace(recipe(), normalization="imagenet", teacher_normalization="none")
OWN = replace(SAME, teacher_renormalize=True)


def exact(name: str) -> np.ndarray:
    """float64: the slice of the pixels, normalised."""
    mean, std = (np.array(v).reshape(3, 1, 1) for v in NORMALIZATION[name])
    return (PIXELS.numpy()[..., OFFSET::STRIDE, OFFSET::STRIDE] / 255 - mean) / std


@pytest.mark.parametrize("own", ["none", "cifar", "imagenet"])
def test_the_students_normalisation_is_undone(own):
    x = normalize(PIXELS, *constants("imagenet"))
    seen = teacher_input(x, replace(OWN, teacher_normalization=own))
    np.testing.assert_allclose(seen.numpy(), exact(own), atol=2e-6)
    assert seen.is_contiguous() and seen.dtype == torch.float32


def test_the_published_runs_show_it_as_it_is():
    x = normalize(PIXELS, *constants("imagenet"))
    np.testing.assert_allclose(teacher_input(x, SAME).numpy(), exact("imagenet"), atol=2e-6)
    assert torch.equal(teacher_input(x, SAME), x[..., OFFSET::STRIDE, OFFSET::STRIDE])


def test_mixing_before_or_after_is_the_same():
    """The map is affine and a mixture's weights sum to 1."""
    a, b = normalize(PIXELS, *constants("imagenet"))[:2]
    mixed = teacher_input((0.3 * a + 0.7 * b)[None], OWN)
    apart = 0.3 * teacher_input(a[None], OWN) + 0.7 * teacher_input(b[None], OWN)
    torch.testing.assert_close(mixed, apart, atol=2e-6, rtol=0)


def test_weak_views_are_made_in_the_teachers_normalisation():
    weak = {"teacher_view": "weak", "mix_prob": 0.0}
    assert replace(SAME, **weak).shown_normalization == "none"
    assert (SAME.shown_normalization, OWN.shown_normalization) == ("imagenet", "none")
    with pytest.raises(ValueError, match="set teacher_renormalize to false"):
        replace(OWN, **weak)
