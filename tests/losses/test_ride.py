"""RIDE's and RIDE-DiVE's losses in float64 against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from longtail.base import params
from longtail.base.errors import UserError
from longtail.losses.dive import dive_loss
from longtail.losses.losses import balanced_softmax_loss
from longtail.losses.ride import Diversity, class_temperatures, divergence, experts_wanted, over_experts, router_loss
from tests.losses.test_dive import COUNTS, TEACHER, Y, of

EXPERTS = torch.tensor([[[2.0, 1.5, 0.0], [1.0, 1.0, 1.0]]], dtype=torch.float64)
LN3 = math.log(3)


def test_dives_loss_of_each_expert_by_hand():
    """Experts (2, 1.5, 0), (1, 1, 1), teacher (3, 1, -1), n (100, 20, 5), class 2, tau 3, power 1/2, alpha 3/4:
    of each .25 · BSCE + .75 · 9 · KL, not of their mean."""
    config, terms = of(alpha=0.75), []

    def loss(logits):
        terms.append(dive_loss(logits, Y, TEACHER, config, balanced_softmax_loss(logits, Y, COUNTS)))
        return terms[-1]

    total = over_experts(EXPERTS, loss).item()
    assert [term.item() for term in terms] == pytest.approx([1.299895600, 1.047955510], abs=1e-9)
    assert total == pytest.approx(2.347851110, abs=1e-9)
    t = [0.448440864, 0.321321920, 0.230237216]  # (1, 1, 1) is uniform: its KL is log 3 less T's entropy
    second = 0.25 * math.log(25) + 0.75 * 9 * (LN3 + sum(share * math.log(share) for share in t))
    assert terms[1].item() == pytest.approx(second, abs=1e-7)
    assert loss(EXPERTS.mean(1)).item() * 2 != pytest.approx(total, abs=1e-2)


def test_temperatures_of_classes_by_hand():
    """n (100, 20, 5): C·n/N 2.4, .48, .12; weights 1.07, .974, .956 at .05."""
    found = class_temperatures(COUNTS, 0.05).tolist()
    assert found == pytest.approx([1.0, 0.974 / 1.07, 0.956 / 1.07], abs=1e-7)
    assert class_temperatures(COUNTS, 0.0).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("t", "expected"), [(1.0, math.log(4 / 3)), (2.0, 4 * math.log((1 + 3**0.5) ** 2 / 48**0.5))])
def test_the_divergence_of_two_experts_from_their_mean_by_hand(t, expected):
    """Experts (log 3, 0) and (0, log 3), mean even: KL(1/2, 1/2 || p, q) is -1/2 log 4pq of each; at 1 p is 3/4,
    at 2 the root of 3 over 1 + it."""
    each = torch.tensor([[[LN3, 0.0], [0.0, LN3]]], dtype=torch.float64)
    temperature = torch.full((2,), t, dtype=torch.float64)
    assert divergence(each, temperature).item() == pytest.approx(expected, abs=1e-12)
    assert divergence(each.repeat(5, 1, 1), temperature).item() == pytest.approx(
        expected, abs=1e-12
    )  # mean over images


def test_the_gradient_of_the_divergence_is_the_formulas_and_leaves_the_mean_alone():
    """d/dz_kj = mean(t)² / t_j · (p_kj - m_j), m the shares of the mean, which are held; and by finite differences."""
    torch.manual_seed(0)
    each = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([1.0, 0.9, 0.7, 0.5], dtype=torch.float64)
    divergence(each, t).backward()
    z = each.detach()
    m = (z.mean(1) / t).softmax(1)
    expected = t.mean() ** 2 / t * ((z / t).softmax(2) - m[:, None])
    torch.testing.assert_close(each.grad, expected, rtol=1e-10, atol=1e-12)

    def at(step: float) -> float:
        p = (z[0, 1] + step * torch.eye(4, dtype=torch.float64)[2]) / t
        return (t.mean() ** 2 * (m[0] * (m[0].log() - p.log_softmax(0))).sum()).item()

    assert each.grad[0, 1, 2].item() == pytest.approx((at(1e-5) - at(-1e-5)) / 2e-5, abs=1e-9)


def test_experts_are_wanted_where_they_will_be_right_and_are_not_yet():
    """Answers of the first one, two, three experts, of class 1: wrong, right, wrong; right, wrong, right; three wrong;
    wrong, wrong, right."""
    right, wrong = [0.0, 1.0, 0.5], [1.0, 0.0, 0.5]
    means = torch.tensor([[wrong, right, wrong], [right, wrong, right], [wrong] * 3, [wrong, wrong, right]])
    labels = torch.ones(4, dtype=torch.int64)
    wanted = [[True, False], [False, True], [False, False], [True, True]]
    assert experts_wanted(means, labels).tolist() == wanted
    asked = torch.tensor([[0.0, LN3]], dtype=torch.float64)
    found = router_loss(asked, means[:1].double(), labels[:1], 100.0).item()
    assert found == pytest.approx((100 * math.log(2) + math.log(4)) / 2, abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"factor": 0.0}, "diversity: factor: 0.0 is no diversity term"),
        ({"reweight": 1.0}, "diversity: reweight: 1.0 is not in [0, 1)"),
        ({"reweight_epoch": -1}, "diversity: reweight_epoch: -1 must not be negative"),
    ],
)
def test_wrong_numbers_are_one_line(changes, said):
    with pytest.raises(UserError) as error:
        params.build(Diversity, {"factor": -0.1, "reweight": 0.05, "reweight_epoch": 160} | changes, "diversity")
    assert said in str(error.value) and "\n" not in str(error.value)
