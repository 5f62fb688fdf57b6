"""LiVT's losses in float64, against values worked out by hand (METHODS 5.4, 11) and against sums written out."""

from __future__ import annotations

import math

import pytest
import torch

from longtail.losses import soft_target
from longtail.losses.losses import drw_weights, grouped_soft_target_cross_entropy, ldam_margins
from longtail.losses.targets import soft_targets

COUNTS = [500, 100, 20]
Z = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
HARD = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
MIXED = torch.tensor([[0.7, 0.0, 0.3]], dtype=torch.float64)
SMOOTHED = 0.9 * MIXED + 0.1 / 3
ONE = [1]

THEOREM_2 = [1.427116356, -1.648658626, -3.401197382]
EQUATION_10 = [2.120263536, -0.955511445, -2.708050201]  # with log(C - 1) = log 2


def bias(**changes) -> torch.Tensor:
    """In float64, from the float64 formula: the function rounds to float32."""
    return soft_target.sigmoid_bias(COUNTS, **{"tau": 1.0} | changes).double()


def test_biases_by_hand():
    assert bias().tolist() == pytest.approx(THEOREM_2, abs=2e-7)
    uniform = bias(test_prior=[1 / 3] * 3).tolist()
    assert uniform == pytest.approx(EQUATION_10, abs=2e-7)
    assert [b - a for a, b in zip(THEOREM_2, uniform, strict=True)] == pytest.approx([math.log(2)] * 3, abs=2e-7)
    assert bias(tau=2.0).tolist() == pytest.approx([2 * b for b in THEOREM_2], abs=4e-7)
    shares = [500 / 620, 100 / 620, 20 / 620]
    expected = [math.log(s) for s in shares]
    assert soft_target.softmax_bias(COUNTS, 1.0).tolist() == pytest.approx(expected, rel=1e-6)
    assert not bias(test_prior=shares).abs().max() > 1e-6  # the training prior at test: Theorem 3 adds nothing


def test_zero_logits_begin_at_the_prior():
    """Theorem 2's sigmoid is pi; Eq. 10's is not."""
    start = bias().sigmoid().tolist()
    assert start == pytest.approx([0.806451613, 0.161290323, 0.032258065], abs=1e-7)
    other = bias(test_prior=[1 / 3] * 3).sigmoid().tolist()
    assert other == pytest.approx([0.892857, 0.277778, 0.0625], abs=1e-6)


@pytest.mark.parametrize(
    ("target", "bce", "theorem_2", "equation_10", "tau_2", "ce", "bal_ce"),
    [
        (HARD, 3.319670556, 7.101001111, 7.221164396, 11.714319430, 2.407605964, 5.294900594),
        (MIXED, 1.919670556, 2.321181495, 2.441344780, 3.554680198, 1.007605964, 1.641687517),
        (SMOOTHED, 1.959670556, 2.479801707, 2.599964992, 3.831920621, 1.047605964, 1.746065033),
    ],
)
def test_losses_by_hand(target, bce, theorem_2, equation_10, tau_2, ce, bal_ce):
    """Sums over classes, means over images; at test no bias is added, so none is in what is compared here but the
    training losses."""
    exact = torch.tensor(THEOREM_2, dtype=torch.float64)
    shifts = (
        (0.0, bce),
        (exact, theorem_2),
        (torch.tensor(EQUATION_10, dtype=torch.float64), equation_10),
        (2 * exact, tau_2),
    )
    for shift, expected in shifts:
        assert soft_target.grouped_binary_sum(Z + shift, target, ONE).item() == pytest.approx(expected, abs=2e-8)
    assert grouped_soft_target_cross_entropy(Z, target, ONE).item() == pytest.approx(ce, abs=1e-8)
    log_prior = torch.tensor(COUNTS, dtype=torch.float64).div(620).log()
    assert grouped_soft_target_cross_entropy(Z + log_prior, target, ONE).item() == pytest.approx(bal_ce, abs=1e-8)


def test_the_smoothed_target_is_the_one_that_training_makes():
    own, other, lam = torch.tensor([0]), torch.tensor([2]), torch.tensor([0.7])
    torch.testing.assert_close(soft_targets(own, other, lam, 3, 0.1).double(), SMOOTHED, atol=1e-7, rtol=0)


def test_class_balanced_losses_by_hand():
    """Weights (1 - b)/(1 - b^n) that sum to C. CE: weighted mean over the batch; BCE: a factor of each class's term."""
    weight = drw_weights(COUNTS, 0.9999).double()
    assert weight.tolist() == pytest.approx([0.098973540, 0.485116713, 2.415909747], abs=1e-7)
    w = weight.tolist()
    p = [math.exp(v) / (math.e + 1 + 1 / math.e) for v in (1.0, 0.0, -1.0)]
    both = torch.cat([MIXED, HARD])
    top = -w[0] * 0.7 * math.log(p[0]) - w[2] * 1.3 * math.log(p[2])
    expected = top / (w[0] * 0.7 + w[2] * 1.3)
    z = torch.cat([Z, Z])
    assert soft_target.grouped_class_weighted(z, both, weight, [2]).item() == pytest.approx(expected, rel=1e-12)
    terms = [math.log1p(math.exp(-v)) for v in (1.0, 0.0, -1.0)], [math.log1p(math.exp(v)) for v in (1.0, 0.0, -1.0)]
    t = (0.7, 0.0, 0.3)
    binary = sum(w[c] * (t[c] * terms[0][c] + (1 - t[c]) * terms[1][c]) for c in range(3))
    got = soft_target.grouped_binary_sum(Z, MIXED, ONE, weight)
    assert got.item() == pytest.approx(binary, rel=1e-12)


def test_ldam_on_plain_logits_with_the_two_labels_of_a_mixture():
    """z (2, 0, -1), .7 of class 0 and .3 of class 2: 30·(2 + 1 + .5)·.3 = 31.5, the first term vanishing."""
    z, margins = torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64), ldam_margins(COUNTS, 0.5).double()
    labels = torch.tensor([0]), torch.tensor([2]), torch.tensor([0.7], dtype=torch.float64)
    assert soft_target.grouped_mixed_ldam(z, *labels, margins, 30.0, ONE).item() == pytest.approx(31.5, abs=1e-9)
    alone = soft_target.grouped_mixed_ldam(z, labels[1], labels[0], torch.ones(1).double(), margins, 1.0, ONE)
    by_hand = math.log(math.exp(2.0) + 1 + math.exp(-1.5)) + 1.5
    assert alone.item() == pytest.approx(by_hand, rel=1e-9)


def test_lade_by_hand():
    z = torch.tensor([[2.0, 0.0, -1.0], [1.0, 1.5, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    y, share = torch.tensor([0, 1, 0]), torch.tensor(COUNTS, dtype=torch.float64) / 620
    got = soft_target.grouped_lade(z, y, share, 0.1, [3])
    assert got.item() == pytest.approx(-0.305336724, abs=1e-8)
    total = 0.0
    for c in range(3):
        own = [row[c] for row, label in zip(z.tolist(), y.tolist(), strict=True) if label == c]
        mean = math.log(sum(math.exp(v) for v in z[:, c].tolist()) / 3 / 3 / share[c].item())
        total -= share[c].item() * (sum(own) / max(len(own), 1) - mean - 0.1 * mean**2)
    assert got.item() == pytest.approx(total, abs=1e-7)


def test_influence_balanced_by_hand():
    """|p - y| .312410531, |h| 3.5, weight 913.711917, loss 155.190332; and of a soft target the same rule."""
    z, y = torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64), torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    h = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    got = soft_target.grouped_influence_balanced(z, y, h, 1000.0, ONE)
    assert got.item() == pytest.approx(155.190332, abs=1e-5)
    p = [math.exp(v) / (math.exp(2) + 1 + math.exp(-1)) for v in (2.0, 0.0, -1.0)]
    t = (0.7, 0.0, 0.3)
    apart = sum(abs(a - b) for a, b in zip(p, t, strict=True))
    loss = -0.7 * math.log(p[0]) - 0.3 * math.log(p[2])
    soft = soft_target.grouped_influence_balanced(z, MIXED, h, 10.0, ONE)
    assert soft.item() == pytest.approx(loss * 10 / (apart * 3.5 + 1e-3), rel=1e-12)


def test_every_loss_is_a_mean_over_its_own_group():
    """Groups of 2 and 4 give what each gives alone."""
    generator = torch.Generator().manual_seed(5)
    z, h = torch.randn(6, 3, generator=generator), torch.randn(6, 4, generator=generator)
    y, partner = (torch.randint(0, 3, (6,), generator=generator) for _ in range(2))
    lam = torch.rand(6, generator=generator)
    t, share = soft_targets(y, partner, lam, 3, 0.1), torch.tensor(COUNTS) / 620
    weight, margins = drw_weights(COUNTS, 0.9999), ldam_margins(COUNTS, 0.5)
    made = {
        "bce": lambda r, g: soft_target.grouped_binary_sum(z[r], t[r], g),
        "cb": lambda r, g: soft_target.grouped_class_weighted(z[r], t[r], weight, g),
        "ldam": lambda r, g: soft_target.grouped_mixed_ldam(z[r], y[r], partner[r], lam[r], margins, 30.0, g),
        "lade": lambda r, g: soft_target.grouped_lade(z[r], y[r], share, 0.1, g),
        "ib": lambda r, g: soft_target.grouped_influence_balanced(z[r], t[r], h[r], 1000.0, g),
    }
    for name, loss in made.items():
        apart = torch.cat([loss(slice(0, 2), [2]), loss(slice(2, 6), [4])])
        torch.testing.assert_close(loss(slice(0, 6), [2, 4]), apart, msg=name)


def test_wrong_counts_and_priors_are_refused():
    for counts, prior, message in (
        ([5], None, "two classes or more"),
        ([5, 0], None, "class 1 has no training image"),
        ([5, 3], [0.2, 0.3, 0.5], "test_prior has 3 shares, the dataset 2 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            soft_target.sigmoid_bias(counts, 1.0, prior)
