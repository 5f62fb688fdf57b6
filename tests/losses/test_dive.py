"""DiVE's loss in float64 against values worked out by hand, and what its parts are (METHODS 6.1, 6.4)."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from longtail.base import params
from longtail.base.errors import UserError
from longtail.losses.dive import SoftDistillation, dive_loss, virtual_examples
from longtail.losses.losses import balanced_softmax_loss

COUNTS = [100, 20, 5]
TEACHER = torch.tensor([[3.0, 1.0, -1.0]], dtype=torch.float64)
STUDENT = torch.tensor([[2.0, 1.5, 0.0]], dtype=torch.float64)
Y = torch.tensor([2])
PRINTED = {"kind": "soft", "tau": 3.0, "power": 0.5, "alpha": 0.5}


def of(**changes) -> SoftDistillation:
    return params.build(SoftDistillation, PRINTED | changes, "distil")


def loss(label: bool = True, **changes) -> float:
    term = balanced_softmax_loss(STUDENT, Y, COUNTS) if label else None
    return dive_loss(STUDENT, Y, TEACHER, of(**changes), term).item()


def by_hand(logits: list[float], tau: float) -> list[float]:
    terms = [math.exp(z / tau) for z in logits]
    return [t / sum(terms) for t in terms]


def test_the_printed_loss_by_hand():
    """z_t (3, 1, -1), z_s (2, 1.5, 0), n (100, 20, 5), class 2, tau 3, power 1/2, alpha 1/2."""
    t = virtual_examples(TEACHER, 3.0, 0.5).exp()[0].tolist()
    assert t == pytest.approx([0.448440864, 0.321321920, 0.230237216], abs=1e-9)
    s = by_hand([2.0, 1.5, 0.0], 3)
    kl = sum(a * math.log(a / b) for a, b in zip(t, s, strict=True))
    assert kl == pytest.approx(0.003086643, abs=1e-9)
    label = -math.log(5 / (100 * math.exp(2) + 20 * math.exp(1.5) + 5))
    assert label == pytest.approx(5.116243049, abs=1e-9)
    assert loss() == pytest.approx(2.572011416, abs=1e-9)
    assert loss() == pytest.approx(0.5 * label + 0.5 * 9 * kl, abs=1e-12)


def test_the_factor_is_the_square_of_the_nominal_temperature():
    """9, not 36, though T is that of temperature 6; and the student keeps 3."""
    assert loss(factor=36.0) == pytest.approx(2.613681091, abs=1e-9) and loss(factor=9.0) == loss()
    assert of().weight == 9 and of().of_student == 3 and of(tau=6.0, power=1.0).weight == 36
    other = dive_loss(STUDENT / 2, Y, TEACHER, of(), None).item()  # a student at 6 is one at 3 of half its logits
    assert loss(label=False, student_tau=6.0) == pytest.approx(other, abs=1e-12)
    assert abs(other - loss(label=False)) > 1e-3


CELLS = {  # (student's temperature, factor): loss and its gradient by the student's logits; T is (3, 1/2)'s in all
    (3.0, 9.0): (2.572011416, [-0.037040831, 0.056058228, -0.019017397]),
    (3.0, 36.0): (2.613681091, [-0.148163324, 0.224232910, -0.076069587]),
    (6.0, 9.0): (2.605039979, [-0.051870773, 0.020724279, 0.031146494]),
    (6.0, 36.0): (2.745795343, [-0.207483093, 0.082897115, 0.124585978]),
}


@pytest.mark.parametrize("cell", CELLS)
def test_the_students_temperature_and_the_factor_apart(cell):
    """KL(T || S) is .003086643 with a student at 3, .010426323 at 6; (6, no power) is the last cell. The gradient of
    the term is alpha·factor / temperature·(S - T)."""
    tau, factor = cell
    expected, gradient = CELLS[cell]
    apart = {"student_tau": tau, "factor": factor}
    assert loss(**apart) == pytest.approx(expected, abs=1e-9)
    z = STUDENT.clone().requires_grad_()
    dive_loss(z, Y, TEACHER, of(**apart), z[0, 0] * 0).backward()
    assert z.grad[0].tolist() == pytest.approx(gradient, abs=1e-9)
    if factor == tau**2:  # one of the two settings that share T
        assert loss(tau=tau, power=tau / 6) == pytest.approx(expected, abs=1e-9)


def test_the_divergence_is_of_the_student_from_the_teacher():
    """KL(T || S) = sum T log(T / S); the other way round it is another number."""
    t, s = by_hand([3.0, 1.0, -1.0], 6), by_hand([2.0, 1.5, 0.0], 3)
    forward = sum(a * math.log(a / b) for a, b in zip(t, s, strict=True))
    backward = sum(b * math.log(b / a) for a, b in zip(t, s, strict=True))
    assert abs(forward - backward) > 1e-5
    assert loss(label=False, alpha=1.0, factor=1.0) == pytest.approx(forward, abs=1e-12)


def test_the_shift_of_balanced_softmax_is_in_the_label_term_alone():
    """With log n in the divergence's student too it would be 2.864269999."""
    s = by_hand([2 + math.log(100), 1.5 + math.log(20), math.log(5)], 3)
    t = by_hand([3.0, 1.0, -1.0], 6)
    wrong = 0.5 * 5.116243049 + 4.5 * sum(a * math.log(a / b) for a, b in zip(t, s, strict=True))
    assert wrong == pytest.approx(2.864269999, abs=1e-8) and abs(loss() - wrong) > 0.2


@pytest.mark.parametrize(("tau", "power"), [(3.0, 0.5), (2.0, 0.5), (1.0, 0.25), (9.0, 0.9)])
def test_a_power_is_a_temperature_divided_by_it(tau, power):
    z = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 8
    root = F.softmax(z / tau, 1) ** power  # the definition, of shares and not of logarithms
    expected = root / root.sum(1, keepdim=True)
    assert torch.allclose(virtual_examples(z, tau, power).exp(), expected, rtol=1e-12, atol=0)
    assert torch.allclose(virtual_examples(z, tau, power), virtual_examples(z, tau / power), rtol=1e-12, atol=1e-13)


MIXED = {"targets": "mixed", "tau": 1.0}
ROWS_OF_TABLE_6 = {  # of z_t (3, 1, -1), alpha 1/2: the target and its cross-entropy by hand; x tau²
    "5": (MIXED | {"power": 1.0}, [0.433406666, 0.058655214, 0.507938120], 1.600160767),
    "2, mix, then power": (MIXED | {"power_of": "mixed"}, [0.408087730, 0.150127086, 0.441785184], 1.513590831),
    "2, power, then mix": (MIXED | {"power_of": "teacher"}, [0.332620478, 0.122364236, 0.545015287], 1.706169611),
    "6": (MIXED | {"tau": 3.0, "power_of": "mixed"}, [0.317961889, 0.227829649, 0.454208463], None),
}


@pytest.mark.parametrize("row", ROWS_OF_TABLE_6)
def test_mixed_targets_by_hand(row):
    changes, target, expected = ROWS_OF_TABLE_6[row]
    tau = changes["tau"]
    s = by_hand([2.0, 1.5, 0.0], tau)
    ce = -sum(t * math.log(p) for t, p in zip(target, s, strict=True))
    assert expected is None or ce == pytest.approx(expected, abs=1e-8)
    assert loss(label=False, **changes) == pytest.approx(tau**2 * ce, abs=2e-8)


def test_the_teacher_alone_keeps_the_weight_of_its_term():
    """Rows 3 and 4: alpha·tau²·KL."""
    kl = sum(a * math.log(a / b) for a, b in zip(by_hand([3, 1, -1], 1), by_hand([2, 1.5, 0], 1), strict=True))
    assert loss(label=False, tau=1.0, power=1.0) == pytest.approx(0.5 * kl, abs=1e-12)
    assert loss(label=False) == pytest.approx(4.5 * 0.003086643, abs=1e-8)


def test_it_is_a_mean_over_images_and_its_gradient_reaches_the_student_alone():
    z = torch.cat([STUDENT, STUDENT + torch.tensor([0.0, 1.0, 2.0])]).requires_grad_()
    t = torch.cat([TEACHER, -TEACHER]).requires_grad_()
    y = torch.tensor([2, 0])
    each = [dive_loss(z[i : i + 1], y[i : i + 1], t[i : i + 1], of(), z[i, 0] * 0).item() for i in (0, 1)]
    both = dive_loss(z, y, t.detach(), of(), z[0, 0] * 0)
    assert both.item() == pytest.approx(sum(each) / 2, abs=1e-12)
    both.backward()
    expected = 0.5 * 9 / 3 * (F.softmax(z / 3, 1) - virtual_examples(t, 3.0, 0.5).exp()) / 2
    assert torch.allclose(z.grad, expected.detach(), rtol=1e-10, atol=1e-14)


def test_alpha_zero_is_the_label_term_and_a_label_mixed_whole_is_one_hot():
    assert loss(alpha=0.0) == pytest.approx(5.116243049, abs=1e-9)
    ce = F.cross_entropy(STUDENT, Y).item()
    assert loss(label=False, **MIXED | {"alpha": 0.0, "power_of": "mixed"}) == pytest.approx(ce, abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tau": 0.0}, "distil: tau must be above 0, found 0.0"),
        ({"student_tau": -3.0}, "distil: student_tau must be above 0, found -3.0"),
        ({"factor": 0.0}, "distil: factor must be above 0, found 0.0"),
        ({"alpha": 1.5}, "distil: alpha is from 0 to 1, found 1.5; published 0.5"),
        ({"alpha": -0.1}, "distil: alpha is from 0 to 1, found -0.1"),
        ({"power": 0.0}, "distil: power is above 0 and at most 1, found 0.0; published 0.5, and 1.0 is none"),
        ({"power": 2.0}, "distil: power is above 0 and at most 1, found 2.0"),
        ({"targets": "mixed"}, "distil: power 0.5 with mixed targets: say power_of: mixed (mix, then power) or"),
        ({"power_of": "mixed"}, "distil: power_of belongs to mixed targets with a power below 1; else write null"),
        ({"targets": "mix"}, "distil.targets: 'mix' is not one of teacher, mixed; did you mean 'mixed'?"),
        ({"temperature": 3.0}, "distil.temperature: unknown key"),
    ],
)
def test_wrong_blocks_are_one_line(changes, said):
    with pytest.raises(UserError) as error:
        of(**changes)
    assert said in str(error.value) and "\n" not in str(error.value)
