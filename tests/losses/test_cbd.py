"""CBD's losses in float64 against values worked out by hand (METHODS 7.1)."""

from __future__ import annotations

import math

import pytest
import torch

from longtail.base import params
from longtail.base.errors import UserError
from longtail.losses.cbd import (
    FeatureDistillation,
    answer_term,
    cbd_loss,
    feature_distances,
    feature_term,
    joined_features,
)
from longtail.losses.losses import cross_entropy

PRINTED = {"kind": "feature", "teachers": 1, "alpha": 0.4, "beta": 100.0}


def of(**changes) -> FeatureDistillation:
    return params.build(FeatureDistillation, PRINTED | changes, "distil")


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def unit(values: list[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in values))
    return [v / length for v in values]


def test_the_printed_loss_by_hand():
    """v (3, 4, 0), teacher (1, 0, 0), cosines (.6, .1, -.2) at scale 20, class 1: .6·CE + 40·(1 - .6)."""
    logits, y = row(12.0, 2.0, -4.0), torch.tensor([1])
    ce = math.log(math.exp(12) + math.exp(2) + math.exp(-4)) - 2
    assert ce == pytest.approx(10.000045511, abs=1e-9)
    label = cross_entropy(logits, y)
    found = cbd_loss(label, row(3, 4, 0), logits, of(), joined_features([row(1, 0, 0)]), None).item()
    assert found == pytest.approx(22.000027307, abs=1e-9) and found == pytest.approx(0.6 * ce + 40 * 0.4, abs=1e-12)


def test_each_teacher_is_at_unit_length_and_so_are_all_together():
    """Teachers (3, 4) and (0, 2): without the first normalisation the cosine would be .964901281."""
    target = joined_features([row(3, 4), row(0, 2)])
    root = math.sqrt(2)
    assert target[0].tolist() == pytest.approx([0.6 / root, 0.8 / root, 0, 1 / root], abs=1e-12)
    assert target[0].tolist() == pytest.approx([0.424264069, 0.565685425, 0, 0.707106781], abs=1e-9)
    h = row(1, 1, 0, 1)
    assert 1 - feature_term(h, target).item() == pytest.approx(0.979795897, abs=1e-9)
    once = unit([3, 4, 0, 2])
    assert sum(a * b for a, b in zip(unit([1, 1, 0, 1]), once, strict=True)) == pytest.approx(0.964901281, abs=1e-9)
    assert torch.linalg.vector_norm(target).item() == pytest.approx(1, abs=1e-12)
    assert joined_features([row(3, 4).float().half()]).dtype == torch.float32


def test_the_term_is_the_mean_of_the_images_distances():
    """Cosines .6, 0 and -1, whatever the lengths: distances .4, 1 and 2."""
    student = torch.tensor([[3, 4], [0, 9], [-0.5, 0]], dtype=torch.float64)
    target = torch.tensor([[2, 0], [7, 0], [1, 0]], dtype=torch.float64)
    assert feature_distances(student, target).tolist() == pytest.approx([0.4, 1, 2], abs=1e-12)
    assert feature_term(student, target).item() == pytest.approx(3.4 / 3, abs=1e-12)
    assert feature_distances(student.half(), target.half()).dtype == torch.float32


def test_classifier_distillation_by_hand():
    """T = 2, z_T (1, 2, 0), z (2, 1, 0): CE 1.119833589, times T²."""
    t = [math.exp(z / 2) for z in (1, 2, 0)]
    s = [math.exp(z / 2) for z in (2, 1, 0)]
    ce = -sum(a / sum(t) * math.log(b / sum(s)) for a, b in zip(t, s, strict=True))
    assert ce == pytest.approx(1.119833589, abs=1e-9)
    assert answer_term(row(2, 1, 0), row(1, 2, 0), 2.0).item() == pytest.approx(4.479334358, abs=1e-9)
    label = cross_entropy(row(2, 1, 0), torch.tensor([0]))
    found = cbd_loss(label, row(1, 0), row(2, 1, 0), of(beta=None, tau=2.0), None, row(1, 2, 0)).item()
    own = math.log(math.exp(2) + math.e + 1) - 2
    assert found == pytest.approx(0.6 * own + 0.4 * 4 * ce, abs=1e-12)


def test_the_hybrid_has_both_terms_each_with_its_factor():
    label, h, z = row(0.25).sum(), row(1, 2), row(2, 1, 0)
    found = cbd_loss(label, h, z, of(tau=2.0, beta=7.0), row(0, 1), row(1, 2, 0)).item()
    expected = 0.6 * 0.25 + 0.4 * (7 * (1 - 2 / math.sqrt(5)) + 4.479334358)
    assert found == pytest.approx(expected, abs=1e-8)


def test_alpha_zero_is_the_label_term_and_equal_features_add_nothing():
    label, h = row(1.5).sum(), row(2, -1, 3)
    assert cbd_loss(label, h, h, of(alpha=0.0), row(1, 1, 1), None).item() == 1.5
    assert cbd_loss(label, h, h, of(alpha=1.0), 5 * h, None).item() == pytest.approx(0, abs=1e-12)


def test_it_is_a_mean_over_images_and_its_gradient_is_the_formulas():
    """d(1 - cos)/dh = -(v - cos·h/|h|)/|h| with v of unit length, over the number of images."""
    h = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    v = joined_features([torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)])
    term = feature_term(h, v)
    assert term.item() == pytest.approx((0.4 + 1 - 1 / math.sqrt(2)) / 2, abs=1e-12)
    term.backward()
    for grad, mine, its in zip(h.grad.tolist(), h.tolist(), v.tolist(), strict=True):
        length, u = math.hypot(*mine), unit(mine)
        cosine = sum(a * b for a, b in zip(u, its, strict=True))
        assert grad == pytest.approx([-(b - cosine * a) / length / 2 for a, b in zip(u, its, strict=True)], abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teachers": 0}, "distil: teachers is from 1 to 5, found 0; published 1 and 4"),
        ({"teachers": 6}, "distil: teachers is from 1 to 5, found 6"),
        ({"alpha": 1.5}, "distil: alpha is from 0 to 1, found 1.5; published 0.4"),
        ({"beta": None}, "distil: give beta (features, published 100.0), tau (answers, best in print 2.0) or both"),
        ({"beta": 0.0}, "distil: beta must be above 0, found 0.0; null leaves its term out"),
        ({"tau": -1.0}, "distil: tau must be above 0, found -1.0; null leaves its term out"),
        ({"tau": 2.0, "teachers": 2}, "distil: tau holds against one teacher's answers, found teachers 2"),
        ({"gamma": 2.0}, "distil.gamma: unknown key"),
    ],
)
def test_wrong_blocks_are_one_line(changes, said):
    with pytest.raises(UserError) as error:
        of(**changes)
    assert said in str(error.value) and "\n" not in str(error.value)
