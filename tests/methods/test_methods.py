from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from longtail.base import params
from longtail.base.errors import UserError
from longtail.losses.losses import ldam_margins
from longtail.losses.targets import Targets
from longtail.methods import deit_iii, deit_lt, vit, vit_ldam

COUNTS = [1000, 50, 2]
GROUPS = [4, 2]
BETA, SMOOTHING = 0.9999, 0.1
CONFIG = deit_lt.Config(alpha=0.5, smoothing=SMOOTHING, smoothing_until=7, drw_epoch=7, drw_beta=BETA)
Y = [0, 1, 2, 0, 1, 0]
PARTNER = [0, 2, 1, 0, 0, 1]
LAM = [1.0, 0.75, 0.75, 1.0, 0.3, 0.3]
TEACHER = [1, 1, 0, 2, 0, 2]  # differs from Y in five of six


def made() -> tuple[dict[str, torch.Tensor], Targets]:
    generator = torch.Generator().manual_seed(0)
    logits = {head: 3 * torch.randn(6, 3, generator=generator) for head in ("cls", "dist")}
    return logits, Targets(
        torch.tensor(Y), torch.tensor(PARTNER), torch.tensor(LAM), torch.tensor(TEACHER), list(GROUPS)
    )


def log_softmax(row) -> list[float]:
    """float64, the slow way."""
    row = [float(z) for z in row]
    total = math.log(sum(math.exp(z - max(row)) for z in row)) + max(row)
    return [z - total for z in row]


def by_group(values: list[float], weights: list[float]) -> list[float]:
    means, start = [], 0
    for size in GROUPS:
        part = range(start, start + size)
        means.append(sum(values[i] * weights[i] for i in part) / sum(weights[i] for i in part))
        start += size
    return means


def cls_by_hand(logits, smoothing: float) -> list[float]:
    """Soft-target cross-entropy of each group: lam on the own label, 1 - lam on the partner's, each smoothed."""
    losses = []
    for row, y, partner, lam in zip(logits, Y, PARTNER, LAM, strict=True):
        target = [smoothing / 3] * 3
        target[y] += (1 - smoothing) * lam
        target[partner] += (1 - smoothing) * (1 - lam)
        losses.append(-sum(t * z for t, z in zip(target, log_softmax(row), strict=True)))
    return by_group(losses, [1.0] * 6)


def dist_by_hand(logits, labels: list[int], drw: bool) -> list[float]:
    """Cross-entropy with the teacher's label, a weighted mean in each group with weights 1/e, e = (1-b^n)/(1-b)."""
    losses = [-log_softmax(row)[t] for row, t in zip(logits, TEACHER, strict=True)]
    return by_group(losses, [(1 - BETA) / (1 - BETA ** COUNTS[c]) if drw else 1.0 for c in labels])


@pytest.mark.parametrize("alpha", [0.5, 0.0, 1.0, 0.2])
@pytest.mark.parametrize("epoch", [0, 6, 7, 8])
def test_deit_lt_loss_is_the_one_worked_out_by_hand(alpha, epoch):
    """Before epoch 7 smoothed and unweighted; from it on plain targets and DRW (0-based, METHODS trap 39)."""
    logits, targets = made()
    loss = deit_lt.Method(replace(CONFIG, alpha=alpha), COUNTS).loss(logits, targets, epoch)
    cls = cls_by_hand(logits["cls"], SMOOTHING if epoch < 7 else 0.0)
    dist = dist_by_hand(logits["dist"], TEACHER, drw=epoch >= 7)
    expected = [(1 - alpha) * c + alpha * d for c, d in zip(cls, dist, strict=True)]
    assert loss.shape == (2,) and loss.dtype == torch.float32
    assert loss.tolist() == pytest.approx(expected, rel=1e-5)


def test_drw_weights_index_the_teachers_label():
    """METHODS trap 22: the true label's weights would give another loss."""
    logits, targets = made()
    dist = deit_lt.Method(replace(CONFIG, alpha=1.0), COUNTS).loss(logits, targets, 7).tolist()
    assert dist == pytest.approx(dist_by_hand(logits["dist"], TEACHER, drw=True), rel=1e-5)
    for wrong in (dist_by_hand(logits["dist"], Y, drw=True), dist_by_hand(logits["dist"], TEACHER, drw=False)):
        assert all(abs(a - b) > 0.05 for a, b in zip(dist, wrong, strict=True))


@pytest.mark.parametrize("epoch", [6, 7])
def test_without_distillation_dist_learns_the_label_of_the_larger_part(epoch):
    """Of two images mixed .75 : .25 the own one, of .3 : .7 the partner; weights are that label's. CLS is as it was."""
    logits, targets = made()
    larger = [0, 1, 2, 0, 0, 1]
    method = deit_lt.Method(replace(CONFIG, alpha=1.0, dist_labels="own"), COUNTS)
    loss = method.loss(logits, replace(targets, teacher=None), epoch)
    losses = [-log_softmax(row)[t] for row, t in zip(logits["dist"], larger, strict=True)]
    weights = [(1 - BETA) / (1 - BETA ** COUNTS[c]) if epoch == 7 else 1.0 for c in larger]
    assert loss.tolist() == pytest.approx(by_group(losses, weights), rel=1e-5)
    assert method.needs_teacher is False and deit_lt.Method(CONFIG, COUNTS).needs_teacher is True
    of_cls = [
        deit_lt.Method(replace(CONFIG, alpha=0.0, dist_labels=labels), COUNTS).loss(logits, targets, epoch)
        for labels in ("teacher", "own")
    ]
    assert torch.equal(*of_cls)


def test_only_the_ratio_of_the_weights_acts():
    """METHODS trap 21: a weighted mean, not a weighted sum over the batch size."""
    logits, targets = made()
    method = deit_lt.Method(CONFIG, COUNTS)
    before = method.loss(logits, targets, 7)
    method.weights = method.weights * 64
    assert torch.allclose(method.loss(logits, targets, 7), before, rtol=1e-6)


@pytest.mark.parametrize("epoch", [0, 7, 10**6])
def test_drw_off_is_unweighted_from_the_first_epoch_to_the_last(epoch):
    """METHODS trap 23: the released code would weight from epoch 0."""
    logits, targets = made()
    dist = deit_lt.Method(replace(CONFIG, alpha=1.0, drw_epoch=None), COUNTS).loss(logits, targets, epoch)
    assert dist.tolist() == pytest.approx(dist_by_hand(logits["dist"], TEACHER, drw=False), rel=1e-5)


def test_the_cls_term_is_never_weighted():
    logits, targets = made()
    method = deit_lt.Method(replace(CONFIG, alpha=0.0, smoothing_until=100), COUNTS)
    assert torch.equal(method.loss(logits, targets, 6), method.loss(logits, targets, 7))
    gradient = {}
    for epoch in (6, 7):
        cls = logits["cls"].clone().requires_grad_()
        both = deit_lt.Method(replace(CONFIG, smoothing_until=100), COUNTS)
        both.loss({"cls": cls, "dist": logits["dist"]}, targets, epoch).sum().backward()
        gradient[epoch] = cls.grad
    assert torch.equal(gradient[6], gradient[7])


def test_smoothing_ends_by_itself_whatever_drw_does():
    """METHODS trap 19."""
    logits, targets = made()
    for drw_epoch in (None, 7):
        method = deit_lt.Method(replace(CONFIG, alpha=0.0, drw_epoch=drw_epoch), COUNTS)
        for epoch, smoothing in ((6, SMOOTHING), (7, 0.0)):
            expected = cls_by_hand(logits["cls"], smoothing)
            assert method.loss(logits, targets, epoch).tolist() == pytest.approx(expected, rel=1e-5)
    assert cls_by_hand(logits["cls"], 0.0) != pytest.approx(cls_by_hand(logits["cls"], SMOOTHING), rel=1e-3)


def test_soft_targets_of_ten_classes():
    """METHODS 11: on .91, off .01 with smoothing .1; a mixed image shares the on part."""
    targets = Targets(torch.tensor([3, 3]), torch.tensor([3, 8]), torch.tensor([1.0, 0.25]), None, [2])
    soft = targets.soft(10, 0.1)
    assert soft.dtype == torch.float32 and torch.allclose(soft.sum(1), torch.ones(2))
    assert soft[0].tolist() == pytest.approx([0.01] * 3 + [0.91] + [0.01] * 6, abs=1e-6)
    assert soft[1].tolist() == pytest.approx([0.01] * 3 + [0.235] + [0.01] * 4 + [0.685, 0.01], abs=1e-6)
    assert targets.soft(10, 0.0)[1].tolist() == [0, 0, 0, 0.25, 0, 0, 0, 0, 0.75, 0]


def test_a_mix_group_keeps_its_own_mean():
    """Merging micro-batches must not change a loss that is normalised within each."""
    logits, targets = made()
    method = deit_lt.Method(CONFIG, COUNTS)
    together = method.loss(logits, targets, 7)
    for part, group in ((slice(0, 4), 0), (slice(4, 6), 1)):
        one = Targets(*(getattr(targets, k)[part] for k in ("y", "partner", "lam", "teacher")), [GROUPS[group]])
        alone = method.loss({head: z[part] for head, z in logits.items()}, one, 7)
        assert torch.allclose(alone, together[group : group + 1], rtol=1e-6)
    merged = method.loss(logits, replace(targets, groups=[6]), 7)
    assert abs(float(merged) - np.average(together, weights=GROUPS)) > 0.01


def test_losses_of_half_precision_logits_are_float32():
    logits, targets = made()
    half = {head: z.bfloat16() for head, z in logits.items()}
    methods = [deit_lt.Method(CONFIG, COUNTS), vit.Method(vit.Config(0.1, 7), COUNTS)]
    methods += [deit_iii.Method(deit_iii.Config(0.0), COUNTS), vit_ldam.Method(vit_ldam.Config(0.5, 30.0), COUNTS)]
    for method in methods:
        loss = method.loss(half, targets, 7)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, method.loss({head: z.float() for head, z in half.items()}, targets, 7))


@pytest.mark.parametrize("epoch", [6, 7])
def test_plain_vit_is_the_cls_term_alone(epoch):
    logits, targets = made()
    method = vit.Method(vit.Config(smoothing=SMOOTHING, smoothing_until=7), COUNTS)
    loss = method.loss({"cls": logits["cls"]}, replace(targets, teacher=None), epoch)
    assert loss.tolist() == pytest.approx(cls_by_hand(logits["cls"], SMOOTHING if epoch < 7 else 0.0), rel=1e-5)
    assert (vit.Method.distilled, vit.Method.needs_teacher) == (False, False)
    assert (deit_lt.Method.distilled, deit_lt.Method.needs_teacher) == (True, True)


def bce_by_hand(logits, multi_hot: list[list[int]]) -> list[float]:
    """-log s(z) of targets, -log s(-z) of the rest; mean over classes, then over each group."""
    losses = []
    for row, target in zip(logits.double().tolist(), multi_hot, strict=True):
        terms = [math.log1p(math.exp(-z if t else z)) for z, t in zip(row, target, strict=True)]
        losses.append(sum(terms) / len(terms))
    return by_group(losses, [1.0] * 6)


BOTH = [[1, 0, 0], [0, 1, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]]  # own and partner's class
LARGER = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0]]  # the one with more than half


@pytest.mark.parametrize(("threshold", "multi_hot"), [(0.0, BOTH), (0.5, LARGER)])
@pytest.mark.parametrize("epoch", [0, 1000])
def test_deit_iii_is_binary_cross_entropy_with_both_mixed_classes(threshold, multi_hot, epoch):
    """METHODS 3.10: targets > 0 become 1, whatever lam; no smoothing, no phase."""
    logits, targets = made()
    method = deit_iii.Method(deit_iii.Config(threshold), COUNTS)
    loss = method.loss({"cls": logits["cls"]}, replace(targets, teacher=None), epoch)
    assert loss.shape == (2,) and loss.dtype == torch.float32
    assert loss.tolist() == pytest.approx(bce_by_hand(logits["cls"], multi_hot), rel=1e-5)


def test_a_partner_without_a_share_is_no_target_of_deit_iii():
    """lam = 1: the partner's class is not in the image."""
    logits, targets = made()
    partner = torch.tensor([1, 2, 1, 2, 0, 1])  # of views 0 and 3, which are not mixed, another than their own
    method = deit_iii.Method(deit_iii.Config(0.0), COUNTS)
    loss = method.loss({"cls": logits["cls"]}, replace(targets, partner=partner), 0)
    assert loss.tolist() == pytest.approx(bce_by_hand(logits["cls"], BOTH), rel=1e-5)


def test_ldam_of_a_vit_by_hand():
    """Hard labels, no weights; margins of METHODS 2.2, n^(-1/4) scaled to the largest."""
    logits, targets = made()
    cosines = torch.tanh(logits["cls"])
    method = vit_ldam.Method(vit_ldam.Config(max_margin=0.5, scale=30.0), COUNTS)
    losses = []
    for row, y in zip(cosines.double().tolist(), Y, strict=True):
        row[y] -= 0.5 * (COUNTS[y] / min(COUNTS)) ** -0.25
        losses.append(-log_softmax([30 * z for z in row])[y])
    for epoch in (0, 1199):
        loss = method.loss({"cls": cosines}, replace(targets, teacher=None, lam=torch.ones(6)), epoch)
        assert loss.dtype == torch.float32 and loss.tolist() == pytest.approx(by_group(losses, [1.0] * 6), rel=1e-4)
    assert torch.equal(method.margins, ldam_margins(COUNTS, 0.5)) and method.logit_scale == 30.0


def test_methods_say_which_head_and_views_they_take():
    configs = {deit_lt: CONFIG, vit: vit.Config(0.1, 7), deit_iii: deit_iii.Config(0.0)}
    for module, config in configs.items():
        method = module.Method(config, COUNTS)
        assert (method.head, method.takes_mixed, method.logit_scale) == ("linear", True, 1.0)
    assert (vit_ldam.Method.head, vit_ldam.Method.takes_mixed) == ("normed", False)
    for module in (deit_iii, vit_ldam):
        assert (module.Method.distilled, module.Method.needs_teacher) == (False, False)


@pytest.mark.parametrize(
    ("method", "change", "expected"),
    [
        (deit_lt, {"alpha": 1.5}, "methods.m: alpha is a weight from 0 to 1, found 1.5"),
        (deit_lt, {"drw_beta": 1.0}, "methods.m: drw_beta is from 0 to below 1, found 1.0"),
        (deit_lt, {"smoothing": -0.1}, "methods.m: smoothing is from 0 to below 1, found -0.1"),
        (vit, {"smoothing": 1.0}, "methods.m: smoothing is from 0 to below 1, found 1.0"),
        (deit_iii, {"threshold": 1.0}, "methods.m: threshold is from 0 to below 1, found 1.0"),
        (vit_ldam, {"max_margin": -0.1}, "methods.m: max_margin must not be negative, found -0.1"),
        (vit_ldam, {"scale": 0.0}, "methods.m: scale must be above 0, found 0.0"),
        (deit_lt, {"drw_epoch": 0.5}, "methods.m.drw_epoch: expected int, found 0.5"),
        (vit, {"alpha": 0.5}, "methods.m.alpha: unknown key"),
    ],
)
def test_wrong_settings_are_refused(method, change, expected):
    good = {
        deit_lt: params.plain(CONFIG),
        vit: {"smoothing": 0.1, "smoothing_until": 7},
        deit_iii: {"threshold": 0.0},
        vit_ldam: {"max_margin": 0.5, "scale": 30.0},
    }[method]
    with pytest.raises(UserError, match=expected.replace(".", r"\.")):
        params.build(method.Config, good | change, "methods.m")
