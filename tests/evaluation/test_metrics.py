"""Each metric against a hand-worked value, a slow obvious loop, or scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, log_loss, top_k_accuracy_score

from longtail.evaluation import metrics


@pytest.fixture(scope="module")
def sample():
    """Logits [600, 7] whose classes differ in size and difficulty, and labels."""
    rng = np.random.default_rng(3)
    labels = rng.choice(7, 600, p=[0.3, 0.2, 0.15, 0.15, 0.1, 0.06, 0.04])
    logits = rng.normal(0, 1.5, (600, 7)).astype(np.float32)
    logits[np.arange(600), labels] += np.linspace(3, 0.5, 7)[labels]
    return logits, labels


@pytest.mark.parametrize("k", [1, 3, 5])
def test_topk_is_scikit_learns(sample, k):
    logits, labels = sample
    expected = 100 * top_k_accuracy_score(labels, logits, k=k, labels=range(7))
    assert metrics.topk(logits, labels, k) == pytest.approx(expected, abs=1e-12)


def test_topk_ties_go_to_the_lower_class_as_argmax_does():
    logits = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert metrics.topk(logits, np.array([0, 1]), 1) == 50.0
    assert metrics.topk(logits, np.array([0, 1]), 2) == 100.0


def test_confusion_and_per_class_accuracy(sample):
    logits, labels = sample
    counts = metrics.confusion(logits, labels)
    assert (counts == confusion_matrix(labels, logits.argmax(1))).all()
    loop = [100 * np.mean([p == c for p, y in zip(logits.argmax(1), labels, strict=True) if y == c]) for c in range(7)]
    np.testing.assert_allclose(metrics.per_class_accuracy(counts), loop, rtol=1e-12)


def test_balanced_accuracy_and_macro_f1_are_scikit_learns(sample):
    logits, labels = sample
    found = metrics.all_metrics(logits, labels, {})
    assert found["balanced"] == pytest.approx(100 * balanced_accuracy_score(labels, logits.argmax(1)), abs=5e-5)
    assert found["macro_f1"] == pytest.approx(100 * f1_score(labels, logits.argmax(1), average="macro"), abs=5e-5)


def test_macro_f1_leaves_out_a_class_neither_present_nor_predicted():
    counts = np.array([[2, 1, 0], [0, 1, 0], [0, 0, 0]])  # F1: 4/5, 2/3, none
    assert metrics.macro_f1(counts) == pytest.approx(100 * (4 / 5 + 2 / 3) / 2)


def test_group_mean_is_unweighted_over_classes():
    """3/4/3 groups of C10 (METHODS trap 46), with classes of unequal test size: images would give another number."""
    accuracies = np.array([90.0, 80, 70, 60, 50, 40, 30, 20, 10, 0])
    members = metrics.group_indices(np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2]), metrics.AUTHOR_GROUPS)
    assert members == {"head": [0, 1, 2], "mid": [3, 4, 5, 6], "tail": [7, 8, 9]}
    assert [metrics.group_mean(accuracies, np.array(m)) for m in members.values()] == [80.0, 45.0, 10.0]
    labels = np.array([0, 0, 0, 1])  # class 0: 2 of 3 right, class 1: 0 of 1
    logits = np.eye(2)[[0, 0, 1, 0]]
    assert metrics.all_metrics(logits, labels, {"head": [0, 1]})["head"] == pytest.approx(100 / 3, abs=5e-5)
    assert metrics.all_metrics(logits, labels, {"head": [0, 1]})["top1"] == 50.0


def test_empty_group_is_none_and_absent_classes_are_left_out():
    labels, logits = np.array([0, 1]), np.eye(3)[[0, 0]]
    found = metrics.all_metrics(logits, labels, {"head": [0, 1, 2], "mid": [2], "tail": []})
    assert (found["head"], found["mid"], found["tail"]) == (50.0, None, None)
    assert found["per_class"] == [100.0, 0.0, None]
    assert found["balanced"] == 50.0


def test_ece_mce_by_hand():
    """Three images in two of 15 bins: conf .5 right; conf .9 (two), one right."""
    probs = np.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.9, 0.05, 0.05]])
    ece, mce = metrics.ece_mce(probs, np.array([0, 0, 1]))
    assert mce == pytest.approx(100 * 0.5)  # |1 - .5|; the other bin has |.5 - .9| = .4
    assert ece == pytest.approx(100 * (0.5 / 3 + 2 * 0.4 / 3))


def test_bins_are_right_closed():
    """A confidence of exactly 3/15 is in (2/15, 3/15] (METHODS trap 48): it shares a bin with .15 and not with .25."""
    edge = np.array([3 / 15, 0.15])
    gaps, shares = metrics.calibration_gaps(edge, np.array([1.0, 0.0]))
    assert shares.tolist() == [1.0]
    assert gaps[0] == pytest.approx(abs(0.5 - (0.2 + 0.15) / 2))
    assert len(metrics.calibration_gaps(np.array([3 / 15, 0.25]), np.array([1.0, 0.0]))[0]) == 2
    for k in range(1, 16):  # every edge, as float64 division gives it
        inside = np.nextafter(k / 15, 0)
        assert len(metrics.calibration_gaps(np.array([k / 15, inside]), np.ones(2))[0]) == 1
    assert metrics.calibration_gaps(np.array([0.0, 1 / 15]), np.ones(2))[1].tolist() == [1.0]


def slow_ece(confidence, right, bins=15):
    total, worst = 0.0, 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(confidence) if b / bins < c <= (b + 1) / bins]
        if inside:
            gap = abs(np.mean([right[i] for i in inside]) - np.mean([confidence[i] for i in inside]))
            total, worst = total + len(inside) / len(confidence) * gap, max(worst, gap)
    return total, worst


def test_calibration_errors_against_a_loop(sample):
    logits, labels = sample
    probs = np.exp(metrics.log_softmax(logits))
    total, worst = slow_ece(probs.max(1), probs.argmax(1) == labels)
    assert metrics.ece_mce(probs, labels) == pytest.approx((100 * total, 100 * worst), rel=1e-12)
    by_class = np.mean([slow_ece(probs[:, k], labels == k)[0] for k in range(7)])
    assert metrics.classwise_ece(probs, labels) == pytest.approx(100 * by_class, rel=1e-12)


def test_nll_and_its_range(sample):
    logits, labels = sample
    log_probs = metrics.log_softmax(logits)
    expected = log_loss(labels, np.exp(log_probs), labels=range(7))
    assert metrics.nll(log_probs, labels) == pytest.approx(expected, rel=1e-6)
    huge = metrics.log_softmax(np.array([[1000.0, 0.0, -1000.0]], np.float32))
    assert metrics.nll(huge, np.array([1])) == 1000.0
    assert metrics.nll(metrics.log_softmax(np.zeros((1, 10))), np.array([4])) == pytest.approx(math.log(10))


def test_logit_scale_sharpens_cosines():
    """LDAM logits are cosines: NLL and ECE take 30 of them (METHODS trap 24), accuracies do not change."""
    cosines, labels = np.array([[0.5, 0.4, 0.0], [0.1, 0.3, 0.2]]), np.array([0, 1])
    plain, scaled = (metrics.all_metrics(cosines, labels, {}, s) for s in (1.0, 30.0))
    assert plain["top1"] == scaled["top1"] == 100.0
    z = np.log(1 + math.exp(-3) + math.exp(-15)), np.log(1 + math.exp(-6) + math.exp(-3))
    assert scaled["nll"] == pytest.approx(float(np.mean(z)), abs=5e-5)
    assert plain["nll"] > 0.9


def test_average_is_of_raw_logits_not_of_probabilities():
    """METHODS trap 43: the mean logits -.5, 0, -.5 say class 1; the mean probabilities .50, .37, .13 say class 0."""
    cls, dist = np.array([[8.0, 0.0, 0.0]]), np.array([[-9.0, 0.0, -1.0]])
    probabilities = (np.exp(metrics.log_softmax(cls)) + np.exp(metrics.log_softmax(dist))) / 2
    assert metrics.average_heads(cls, dist).tolist() == [[-0.5, 0.0, -0.5]]
    assert (metrics.average_heads(cls, dist).argmax(), probabilities.argmax()) == (1, 0)


def test_average_of_one_head_is_the_head():
    z = np.array([[0.1, 0.2]], np.float32)
    assert (metrics.average_heads(z) == z).all()


def test_summarise_uses_ddof_one_and_needs_two_seeds():
    assert metrics.summarise([80.0, 82.0, 87.0]) == {"mean": 83.0, "stderr": round(math.sqrt(13 / 3), 4), "n": 3}
    assert metrics.summarise([80.0]) == {"mean": 80.0, "stderr": None, "n": 1}
    assert metrics.summarise([None, None]) == {"mean": None, "stderr": None, "n": 0}


def test_all_metrics_names_every_scalar(sample):
    groups = {name: [0] for name in (*metrics.AUTHOR_GROUPS, *metrics.COUNT_GROUPS)}
    assert set(metrics.all_metrics(*sample, groups)) == {*metrics.SCALARS, "per_class"}


def test_no_heavy_imports():
    """Evaluation starts fast: NumPy alone."""
    import subprocess
    import sys

    code = "import sys; from longtail.evaluation import predictions; print({'torch', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
