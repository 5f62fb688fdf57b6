import math

import numpy as np
import pytest
import torch

from longtail.losses import losses

C10_100 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
C10_50 = [int(5000 * (1 / 50) ** (i / 9)) for i in range(10)]
C100_100 = [int(500 * 0.01 ** (i / 99)) for i in range(100)]
C100_50 = [int(500 * 0.02 ** (i / 99)) for i in range(100)]


def log_softmax(z):
    m = max(z)
    total = math.log(sum(math.exp(v - m) for v in z)) + m
    return [v - total for v in z]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(11, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (11,), generator=generator)
    w = torch.rand(4, generator=generator, dtype=torch.float64) + 0.1
    return z, y, w


def test_drw_weights_of_cifar10():
    w100 = [0.0506, 0.0769, 0.1211, 0.1950, 0.3188, 0.5246, 0.8683, 1.4426, 2.4092, 3.9927]
    w50 = [0.0890, 0.1267, 0.1853, 0.2761, 0.4168, 0.6344, 0.9695, 1.4894, 2.2923, 3.5206]
    np.testing.assert_allclose(losses.drw_weights(C10_100, 0.9999), w100, atol=5.1e-5)
    np.testing.assert_allclose(losses.drw_weights(C10_50, 0.9999), w50, atol=5.1e-5)


@pytest.mark.parametrize(
    ("counts", "ratio"), [(C10_100, 78.89), (C10_50, 39.54), (C100_100, 97.57), (C100_50, 48.79), ([1280, 5], 240.35)]
)
def test_drw_ratio(counts, ratio):
    w = losses.drw_weights(np.array(counts), 0.9999).double()
    assert (w[-1] / w[0]).item() == pytest.approx(ratio, abs=6e-3)
    assert w.sum().item() == pytest.approx(len(counts), rel=1e-6)


def test_drw_weights_without_beta_are_ones():
    assert torch.equal(losses.drw_weights(C10_100, 0.0), torch.ones(10))


def test_drw_weights_of_an_empty_class_are_refused():
    with pytest.raises(ValueError, match="class 1 has no"):
        losses.drw_weights([3, 0, 2], 0.9999)


def test_ldam_margins():
    expected = [0.1581, 0.1797, 0.2042, 0.2321, 0.2638, 0.2998, 0.3407, 0.3872, 0.4405, 0.5]
    np.testing.assert_allclose(losses.ldam_margins(C10_100, 0.5), expected, atol=5.1e-5)
    assert losses.ldam_margins(C10_50, 0.5)[0].item() == pytest.approx(0.1880, abs=5e-5)
    imagenet = losses.ldam_margins([1280, 5], 0.3)
    assert imagenet.tolist() == pytest.approx([0.075, 0.3], abs=5e-5)


def test_cross_entropy_is_a_weighted_mean_whatever_the_scale_of_the_weights(batch):
    z, y, w = batch
    rows = [(w[c].item(), -log_softmax(row.tolist())[c]) for row, c in zip(z, y.tolist(), strict=True)]
    expected = sum(a * b for a, b in rows) / sum(a for a, _ in rows)
    assert losses.cross_entropy(z, y, w).item() == pytest.approx(expected, rel=1e-12)
    assert losses.cross_entropy(z, y, 1000 * w).item() == pytest.approx(expected, rel=1e-12)
    plain = sum(b for _, b in rows) / len(rows)
    assert losses.cross_entropy(z, y).item() == pytest.approx(plain, rel=1e-12)
    assert abs(plain - expected) > 1e-3


def test_ldam_by_hand(batch):
    z, y, w = batch
    cosines = torch.tanh(z)
    margins = torch.tensor([0.1, 0.2, 0.3, 0.5], dtype=torch.float64)
    total = weights = 0.0
    for row, c in zip(cosines.tolist(), y.tolist(), strict=True):
        row[c] -= margins[c].item()
        total -= w[c].item() * log_softmax([30 * v for v in row])[c]
        weights += w[c].item()
    assert losses.ldam_loss(cosines, y, margins, 30.0, w).item() == pytest.approx(total / weights, rel=1e-12)


def test_ldam_without_margin_and_scale_is_cross_entropy(batch):
    z, y, w = batch
    torch.testing.assert_close(losses.ldam_loss(z, y, torch.zeros(4), 1.0, w), losses.cross_entropy(z, y, w))


def test_balanced_softmax_by_hand_and_its_invariance(batch):
    z, y, _ = batch
    counts = [50, 20, 5, 1]
    expected = 0.0
    for row, c in zip(z.tolist(), y.tolist(), strict=True):
        mass = [n * math.exp(v) for n, v in zip(counts, row, strict=True)]
        expected -= math.log(mass[c] / sum(mass)) / len(z)
    assert losses.balanced_softmax_loss(z, y, counts).item() == pytest.approx(expected, rel=1e-12)
    prior = torch.tensor(counts, dtype=torch.float64) / sum(counts)  # log n or log pi: the same (trap 32)
    assert losses.balanced_softmax_loss(z, y, prior).item() == pytest.approx(expected, rel=1e-12)


def test_soft_target_cross_entropy_by_hand(batch):
    z, y, _ = batch
    t = torch.softmax(z.flip(0) * 2, 1)
    rows = zip(z.tolist(), t.tolist(), strict=True)
    expected = -sum(sum(a * b for a, b in zip(p, log_softmax(row), strict=True)) for row, p in rows) / len(z)
    assert losses.soft_target_cross_entropy(z, t).item() == pytest.approx(expected, rel=1e-12)
    hard = torch.nn.functional.one_hot(y, 4).double()
    torch.testing.assert_close(losses.soft_target_cross_entropy(z, hard), losses.cross_entropy(z, y))


@pytest.mark.parametrize("sizes", [[1] * 11, [4, 4, 3], [11], [4, 4, 2, 1]])  # short last groups of one or two ranks
def test_grouped_losses_against_a_loop_over_groups(batch, sizes):
    z, y, w = batch
    t = torch.softmax(z.flip(0), 1)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    slices = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    weighted = torch.stack([losses.cross_entropy(z[s], y[s], w) for s in slices])
    plain = torch.stack([losses.cross_entropy(z[s], y[s]) for s in slices])
    soft = torch.stack([losses.soft_target_cross_entropy(z[s], t[s]) for s in slices])
    torch.testing.assert_close(losses.grouped_weighted_cross_entropy(z, y, w, sizes), weighted)
    torch.testing.assert_close(losses.grouped_weighted_cross_entropy(z, y, None, sizes), plain)
    torch.testing.assert_close(losses.grouped_soft_target_cross_entropy(z, t, sizes), soft)


def test_grouping_changes_the_weighted_mean(batch):
    z, y, w = batch
    merged = losses.cross_entropy(z, y, w)
    assert abs(losses.grouped_weighted_cross_entropy(z, y, w, [4, 4, 3]).mean() - merged) > 1e-4


def test_grouped_gradient_reaches_the_logits(batch):
    z, y, w = batch
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    losses.grouped_weighted_cross_entropy(a, y, w, [11]).sum().backward()
    losses.cross_entropy(b, y, w).backward()
    torch.testing.assert_close(a.grad, b.grad)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def test_grouped_binary_cross_entropy_and_its_gradient_by_hand(batch):
    """-log s(z) where t = 1, -log(1 - s(z)) elsewhere; gradient (s(z) - t) / (classes x images of the group)."""
    z, y, _ = batch
    targets = torch.nn.functional.one_hot(y, 4) | torch.nn.functional.one_hot(y.flip(0), 4)  # one class or two
    targets = targets.double()
    sizes, logits = [4, 4, 3], z.clone().requires_grad_()
    losses.grouped_binary_cross_entropy(logits, targets, sizes).sum().backward()
    start = 0
    for size, found in zip(sizes, losses.grouped_binary_cross_entropy(z, targets, sizes).tolist(), strict=True):
        total = 0.0
        for i in range(start, start + size):
            for value, t, slope in zip(z[i].tolist(), targets[i].tolist(), logits.grad[i].tolist(), strict=True):
                total -= math.log(sigmoid(value) if t else 1 - sigmoid(value))
                assert slope == pytest.approx((sigmoid(value) - t) / (4 * size), rel=1e-12, abs=1e-15)
        assert found == pytest.approx(total / (4 * size), rel=1e-12)
        start += size


def test_binary_cross_entropy_of_zero_logits_is_log_two_whatever_the_targets_and_classes():
    for classes in (3, 100):
        targets = torch.zeros(5, classes, dtype=torch.float64)
        targets[:, :2] = 1
        found = losses.grouped_binary_cross_entropy(torch.zeros_like(targets), targets, [5])
        assert found.tolist() == pytest.approx([math.log(2)], rel=1e-12)


@pytest.mark.parametrize("sizes", [[11], [4, 4, 3]])
def test_grouped_ldam_and_its_gradient_by_hand(batch, sizes):
    """Gradient of the cosines: scale x (softmax - one-hot) / images of the group, the softmax with the margin."""
    z, y, _ = batch
    margins = torch.tensor([0.1, 0.2, 0.3, 0.5], dtype=torch.float64)
    cosines = torch.tanh(z).requires_grad_()
    found = losses.grouped_ldam_loss(cosines, y, margins, 30.0, sizes)
    found.sum().backward()
    start = 0
    for size, value in zip(sizes, found.tolist(), strict=True):
        total = 0.0
        for i in range(start, start + size):
            row, label = cosines[i].tolist(), y[i].item()
            row[label] -= margins[label].item()
            logs = log_softmax([30 * v for v in row])
            total -= logs[label]
            slopes = [30 * (math.exp(v) - (c == label)) / size for c, v in enumerate(logs)]
            assert cosines.grad[i].tolist() == pytest.approx(slopes, rel=1e-9, abs=1e-12)
        assert value == pytest.approx(total / size, rel=1e-12)
        start += size


def test_focal_loss_by_hand(batch):
    """Mean of (1 - p)^gamma·l; with class weights, p = exp(-weighted l) and the mean is plain (trap 26)."""
    z, y, w = batch
    each = [-log_softmax(row)[label] for row, label in zip(z.tolist(), y.tolist(), strict=True)]
    plain = sum((1 - math.exp(-value)) ** 2 * value for value in each) / len(each)
    assert losses.focal_loss(z, y, 2.0).item() == pytest.approx(plain, rel=1e-12)
    weighted = [w[label].item() * value for value, label in zip(each, y.tolist(), strict=True)]
    expected = sum((1 - math.exp(-value)) * value for value in weighted) / len(each)
    assert losses.focal_loss(z, y, 1.0, w).item() == pytest.approx(expected, rel=1e-12)
    assert losses.focal_loss(z, y, 0.0).item() == pytest.approx(losses.cross_entropy(z, y).item(), rel=1e-12)


@pytest.mark.parametrize("head", [1, 2])
def test_label_smoothing_of_head_images_alone_by_hand(batch, head):
    z, y, _ = batch
    total = 0.0
    for row, label in zip(z.tolist(), y.tolist(), strict=True):
        epsilon = 0.3 if label < head else 0.0
        target = [1 - epsilon if c == label else epsilon / 3 for c in range(4)]
        total -= sum(t * v for t, v in zip(target, log_softmax(row), strict=True))
    found = losses.head_smoothed_cross_entropy(z, y, 0.3, head)
    assert found.item() == pytest.approx(total / len(y), rel=1e-12)
    two = losses.head_smoothed_cross_entropy(z[:, :2], torch.zeros(len(z), dtype=torch.long), 0.2, 1)
    by_class = [log_softmax(row) for row in z[:, :2].tolist()]  # DiVE's binary case: (1 - epsilon, epsilon)
    assert two.item() == pytest.approx(-sum(0.8 * a + 0.2 * b for a, b in by_class) / len(z), rel=1e-12)
