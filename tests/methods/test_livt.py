"""LiVT's method: which loss a setting is, with which numbers of the classes, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch

from longtail.base import params
from longtail.base.errors import UserError
from longtail.losses.targets import Targets
from longtail.methods import livt
from tests.helpers.root import params_table

NUMBERS = params_table()["methods"]["livt"]
COUNTS = [500, 100, 20]
Z = torch.tensor([[1.0, 0.0, -1.0], [1.0, 0.0, -1.0]])


def config(**changes) -> livt.Config:
    return params.build(livt.Config, NUMBERS | changes, "methods.livt")


def loss(epoch: int = 0, features: torch.Tensor | None = None, lam: float = 0.7, **changes) -> float:
    """Of two equal views, .7 of class 0 and .3 of class 2."""
    targets = Targets(torch.tensor([0, 0]), torch.tensor([2, 2]), torch.full((2,), lam), None, [2])
    found = livt.Method(config(**changes), COUNTS).loss({"cls": Z}, targets, epoch, features)
    assert found.shape == (1,) and found.dtype == torch.float32
    return found.item()


def test_published_numbers():
    assert asdict(config()) == NUMBERS
    published = {"tau": 1.0, "test_prior": "none", "cb_beta": 0.9999, "max_margin": 0.5, "scale": 30.0}
    assert published.items() <= NUMBERS.items() and NUMBERS["lade_strength"] == 0.1 and NUMBERS["ib_alpha"] == 1000.0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"loss": "ce"}, 1.007605964),
        ({"loss": "bal_ce"}, 1.641687517),
        ({"loss": "bce"}, 1.919670556),
        ({"loss": "bal_bce"}, 2.321181495),
        ({"loss": "bal_bce", "test_prior": "uniform"}, 2.441344780),
        ({"loss": "bal_bce", "test_prior": [1 / 3, 1 / 3, 1 / 3]}, 2.441344780),
        ({"loss": "bal_bce", "test_prior": [500 / 620, 100 / 620, 20 / 620]}, 1.919670556),
        ({"loss": "bal_bce", "tau": 2.0}, 3.554680198),
        ({"loss": "bal_bce", "tau": 0.0}, 1.919670556),
        ({"loss": "bal_ce", "tau": 0.0}, 1.007605964),
        ({"loss": "ce", "smoothing": 0.1}, 1.047605964),
        ({"loss": "bal_bce", "smoothing": 0.1}, 2.479801707),
    ],
)
def test_losses_are_the_worked_examples(changes, expected):
    assert loss(**changes) == pytest.approx(expected, rel=2e-6)


def test_class_balanced_weights_are_of_terms_in_bce_and_of_labels_in_ce():
    w = [0.098973540, 0.485116713, 2.415909747]
    log_p = [v - math.log(math.e + 1 + 1 / math.e) for v in (1.0, 0.0, -1.0)]
    ce = -(w[0] * 0.7 * log_p[0] + w[2] * 0.3 * log_p[2]) / (w[0] * 0.7 + w[2] * 0.3)
    assert loss(loss="cb_ce") == pytest.approx(ce, rel=1e-6)
    down, up = ([math.log1p(math.exp(sign * v)) for v in (1.0, 0.0, -1.0)] for sign in (-1, 1))
    bce = sum(w[c] * (t * down[c] + (1 - t) * up[c]) for c, t in enumerate((0.7, 0.0, 0.3)))
    assert loss(loss="cb_bce") == pytest.approx(bce, rel=1e-6)


def test_ldam_lade_and_ib_read_what_they_need():
    assert loss(loss="ldam") == pytest.approx(0.3 * 30 * (1 + 1 + 0.5), rel=1e-6)
    share = [500 / 620, 100 / 620, 20 / 620]
    means = [z - math.log(3 * s) for z, s in zip((1.0, 0.0, -1.0), share, strict=True)]
    own = [1.0, 0.0, 0.0]  # the mean of z over the two images of class 0; none of the others
    lade = -sum(s * (o - m - 0.1 * m * m) for s, o, m in zip(share, own, means, strict=True))
    assert loss(loss="lade", lam=1.0) == pytest.approx(lade, rel=1e-5)
    features = torch.tensor([[1.0, -2.0, 0.5]] * 2)
    p = [math.exp(v) / (math.e + 1 + 1 / math.e) for v in (1.0, 0.0, -1.0)]
    apart = sum(abs(a - b) for a, b in zip(p, (0.7, 0.0, 0.3), strict=True))
    late = {"loss": "ib", "ib_epoch": 3, "features": features}
    assert loss(epoch=3, **late) == pytest.approx(1.007605964 * 1000 / (apart * 3.5 + 1e-3), rel=1e-5)
    assert loss(epoch=2, **late) == pytest.approx(1.007605964, rel=1e-6)  # plain cross-entropy until then
    assert livt.Method(config(loss="ib"), COUNTS).needs_features
    assert not livt.Method(config(), COUNTS).needs_features


def test_what_a_class_has_of_its_own_is_what_a_probe_keeps():
    def own(**changes):
        return livt.Method(config(**changes), COUNTS).class_weights(0)

    assert own(loss="ce") is own(loss="bce") is own(loss="ib") is None
    assert own(loss="bal_bce").tolist() == pytest.approx([1.427116356, -1.648658626, -3.401197382], rel=1e-6)
    assert own(loss="bal_ce", tau=0.5).tolist() == pytest.approx([0.5 * math.log(n / 620) for n in COUNTS], rel=1e-6)
    assert own(loss="ldam").tolist() == pytest.approx([0.2236068, 0.3343702, 0.5], rel=1e-6)
    assert own(loss="lade").tolist() == pytest.approx([n / 620 for n in COUNTS], rel=1e-6)


def test_loss_at_zero_logits_with_the_counts_of_imagenet_lt_in_short():
    """Theorem 2 begins low, Eq. 10 near C log 2, whatever the logits are divided by (METHODS 5.4)."""
    counts = [1280 - i for i in range(1000)]
    z, y = torch.zeros(2, 1000), torch.tensor([0, 999])
    targets = Targets(y, y, torch.ones(2), None, [2])
    first, second = (
        livt.Method(config(test_prior=prior), counts).loss({"cls": z}, targets, 0).item()
        for prior in ("none", "uniform")
    )
    shares = [c / sum(counts) for c in counts]
    exact = (
        sum(-math.log1p(-s) for s in shares) + sum(math.log1p(-shares[i]) - math.log(shares[i]) for i in (0, 999)) / 2
    )
    assert first == pytest.approx(exact, rel=1e-5) and first < 10
    assert 400 < second < 1000 * math.log(2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "balbce"}, "loss: 'balbce' is not one of .*did you mean 'bal_bce'"),
        ({"tau": -1.0}, "tau must not be negative"),
        ({"smoothing": 1.0}, "smoothing is from 0 to below 1"),
        ({"loss": "lade", "smoothing": 0.1}, "loss lade reads labels; smoothing must be 0.0, found 0.1"),
        ({"loss": "ldam", "smoothing": 0.1}, "loss ldam reads labels"),
        (
            {"loss": "bal_ce", "test_prior": "uniform"},
            "test_prior belongs to loss bal_bce; with bal_ce it must be none",
        ),
        ({"test_prior": [0.5, 0.4]}, "shares above 0 that sum to 1"),
        ({"scale": 0.0}, "scale must be above 0"),
    ],
)
def test_a_wrong_setting_is_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        config(**changes)
    assert "\n" not in str(error.value)


def test_a_prior_of_other_classes_is_refused():
    with pytest.raises(ValueError, match="test_prior has 2 shares, the dataset 3 classes"):
        livt.Method(config(test_prior=[0.5, 0.5]), COUNTS)
