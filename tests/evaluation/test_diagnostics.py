"""Group means, flows, reliability, fusion and shifted test sets: by hand, by enumeration, or by scikit-learn."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import combinations, product

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from longtail.evaluation import diagnostics, fusion, metrics, shifts
from longtail.evaluation.metrics import class_means, flows, group_codes, group_means

GROUPS = {"head": [0, 1], "mid": [2, 3, 4], "tail": [5, 6]}


@pytest.fixture(scope="module")
def sample():
    """Logits [600, 7] of two heads whose classes differ in size and difficulty, and labels."""
    rng = np.random.default_rng(3)
    labels = rng.choice(7, 600, p=[0.3, 0.2, 0.15, 0.15, 0.1, 0.06, 0.04])
    cls, dist = (rng.normal(0, 1.5, (600, 7)).astype(np.float32) for _ in range(2))
    cls[np.arange(600), labels] += np.linspace(3, 0.5, 7)[labels]
    dist[np.arange(600), labels] += np.linspace(0.5, 3, 7)[labels]
    return cls, dist, labels


# --- groups


def test_groups_are_means_of_class_means():
    """Class 0: 3 of 4, class 1: 0 of 1, class 2: none there. Images: 3 of 5; the pair of classes: (75 + 0) / 2."""
    values, labels = np.array([1, 1, 1, 0, 0]), np.array([0, 0, 0, 0, 1])
    found = group_means(values, labels, 3, {"pair": [0, 1], "gone": [2], "some": [0, 2]})
    assert found == {"all": 60.0, "pair": 37.5, "gone": None, "some": 75.0}
    assert np.isnan(class_means(values, labels, 3)).tolist() == [False, False, True]


def test_group_means_of_right_answers_are_the_metrics(sample):
    cls, _, labels = sample
    theirs = metrics.all_metrics(cls, labels, GROUPS)
    ours = group_means(cls.argmax(1) == labels, labels, 7, GROUPS)
    assert ours == {"all": theirs["top1"], **{name: theirs[name] for name in GROUPS}}


def test_flows_by_hand():
    """Tail classes 2 and 3: the first goes to head half the time, the second always to tail. Class 4 has no images."""
    labels, predicted = np.array([0, 1, 1, 2, 2, 3]), np.array([0, 2, 0, 1, 3, 2])
    groups = {"head": [0, 1], "tail": [2, 3], "gone": [4]}
    assert group_codes(groups, 5).tolist() == [0, 0, 1, 1, 2]
    assert flows(predicted, labels, 5, groups) == {
        "head": {"head": 75.0, "tail": 25.0, "gone": 0.0},
        "tail": {"head": 25.0, "tail": 75.0, "gone": 0.0},
        "gone": None,
    }


def test_flows_are_the_confusion_matrix_by_blocks(sample):
    cls, _, labels = sample
    rows = confusion_matrix(labels, cls.argmax(1), normalize="true")
    for name, row in flows(cls.argmax(1), labels, 7, GROUPS).items():
        for other, share in row.items():
            assert share == pytest.approx(100 * rows[np.ix_(GROUPS[name], GROUPS[other])].sum(1).mean(), abs=1e-4)


# --- confusion


def test_confusion_counts_and_the_most_frequent(sample):
    cls, _, labels = sample
    found = diagnostics.confusion(cls.argmax(1), labels, 7)
    counts = confusion_matrix(labels, cls.argmax(1))
    assert found["counts"] == counts.tolist()
    np.fill_diagonal(counts, 0)
    largest = sorted((-int(counts[i, j]), i, j) for i in range(7) for j in range(7) if counts[i, j])[:20]
    assert found["frequent"] == [{"true": i, "predicted": j, "images": -n} for n, i, j in largest]


def test_of_many_classes_only_the_most_frequent_confusions_are_kept():
    labels = np.arange(101).repeat(3)
    predicted = (labels + 1) % 101
    assert np.shape(diagnostics.confusion(predicted[:-6], labels[:-6], 100)["counts"]) == (100, 100)
    found = diagnostics.confusion(predicted, labels, 101)
    assert found["counts"] is None
    assert found["frequent"] == [{"true": i, "predicted": i + 1, "images": 3} for i in range(20)]


# --- reliability


def test_bins_are_right_closed():
    """In the first of 15 bins 0 and 1/15, in the last 1; right are the second and the last."""
    sums = diagnostics.bin_sums(np.array([0.0, 1 / 15, 1 / 15 + 1e-9, 1.0]), np.array([0, 1, 0, 1]))
    assert sums[0].tolist() == [2, 1, *[0] * 12, 1]
    assert sums[2].tolist() == [1, 0, *[0] * 12, 1]
    assert diagnostics.diagram(sums) == {
        "count": [2, 1, *[0] * 12, 1],
        "confidence": [3.3333, 6.6667, *[None] * 12, 100.0],
        "accuracy": [50.0, 0.0, *[None] * 12, 100.0],
    }
    gaps = 2 * abs(0.5 - 1 / 30) + (1 / 15 + 1e-9) + 0
    assert diagnostics.ece(sums) == pytest.approx(100 * gaps / 4, abs=1e-4)
    assert diagnostics.ece(np.zeros((3, 15))) is None


def test_reliability_is_that_of_metrics_and_of_scikit_learn(sample):
    cls, _, labels = sample
    probs = np.exp(metrics.log_softmax(cls))
    confidence, right = probs.max(1), probs.argmax(1) == labels
    sums = diagnostics.bin_sums(confidence, right)
    assert diagnostics.ece(sums) == pytest.approx(metrics.ece_mce(probs, labels)[0], abs=1e-4)
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    found = diagnostics.diagram(sums)
    np.testing.assert_allclose([a for a in found["accuracy"] if a is not None], 100 * accuracy, atol=1e-4)
    np.testing.assert_allclose([c for c in found["confidence"] if c is not None], 100 * mean, atol=1e-4)
    halves = diagnostics.bin_sums(confidence[:99], right[:99]) + diagnostics.bin_sums(confidence[99:], right[99:])
    np.testing.assert_allclose(halves, sums, rtol=1e-12)


# --- two heads


def test_the_sweep_by_hand():
    """Image 0: w against 2 (1 - w), right from w = 0.7 on. Image 1: w against 1 - w, wrong from the tie at 0.5 on."""
    cls, dist = np.array([[1.0, 0], [1, 0]]), np.array([[0.0, 2], [0, 1]])
    found = fusion.sweep(cls, dist, np.array([0, 1]), {"a": [0], "b": [1]})
    assert found == {
        "all": [50.0] * 10 + [0.0] * 4 + [50.0] * 7,
        "a": [0.0] * 14 + [100.0] * 7,
        "b": [100.0] * 10 + [0.0] * 11,
    }
    assert fusion.WEIGHTS[fusion.best_weight(found["all"])] == 0.45  # nearest to the average of the best
    assert fusion.WEIGHTS[fusion.best_weight([7.0] * 21)] == 0.5


def test_the_sweep_goes_from_dist_over_the_average_to_cls(sample):
    cls, dist, labels = sample
    found = fusion.sweep(cls, dist, labels, GROUPS)
    for at, z in ((0, dist), (10, metrics.average_heads(cls, dist)), (20, cls)):
        theirs = metrics.all_metrics(z, labels, GROUPS)
        assert {name: values[at] for name, values in found.items()} == {
            "all": theirs["top1"],
            **{name: theirs[name] for name in GROUPS},
        }


def test_routing_by_hand():
    """Images of class 0, 0, 1, 1. DIST is the surer of the second and third; at the third and fourth both are wrong."""
    cls = np.array([[2.0, 0], [0, 1], [1, 0], [3, 0]])
    dist = np.array([[0.0, 1], [2, 0], [4, 0], [1, 0]])
    labels, groups = np.array([0, 0, 1, 1]), {"a": [0], "b": [1]}
    assert fusion.routing(cls, dist, labels, groups, 1.0) == {
        "accuracy": {"all": 50.0, "a": 100.0, "b": 0.0},
        "to_dist": {"all": 50.0, "a": 50.0, "b": 50.0},
        "either_right": {"all": 50.0, "a": 100.0, "b": 0.0},
    }
    assert fusion.agreement(cls, dist, labels, groups) == {"all": 50.0, "a": 0.0, "b": 100.0}
    assert fusion.routing(cls, cls, labels, groups, 1.0)["to_dist"]["all"] == 0.0  # of equals, CLS


def test_either_head_is_the_ceiling_and_confidence_takes_the_logit_scale():
    """CLS 1/(1 + 2 e^-s), DIST 1/(1 + e^(-s/2) + e^(-6.1 s)): 0.576 and 0.622 at s = 1, the other way round at 30."""
    cls, dist, labels = np.array([[1.0, 0, 0]]), np.array([[0.6, 1.1, -5]]), np.array([0])
    plain, scaled = (fusion.routing(cls, dist, labels, {"a": [0]}, s) for s in (1.0, 30.0))
    assert (plain["to_dist"]["all"], plain["accuracy"]["all"], plain["either_right"]["all"]) == (100.0, 0.0, 100.0)
    assert (scaled["to_dist"]["all"], scaled["accuracy"]["all"]) == (0.0, 100.0)


# --- shifted test sets


@pytest.mark.parametrize(("factor", "total"), [(50, 12058), (25, 14437), (10, 19059), (5, 24365), (2, 35574)])
def test_shifted_shares_are_those_of_the_published_lists(factor, total):
    """METHODS 6.5: totals of the 1000 classes' lists, and 50 images of the most frequent class."""
    counts = np.arange(2000, 1000, -1)
    forward = shifts.shifted_prior(counts, "forward", factor)
    assert forward[0] == 50 / total and forward[-1] == 50 // factor / total
    np.testing.assert_allclose(forward.sum(), 1)
    assert (shifts.shifted_prior(counts, "backward", factor) == forward[::-1]).all()


def test_shares_follow_the_frequency_of_the_classes():
    """trunc(50 * 4^(-i/2)) is 50, 25, 12 (12.5): class 2 has most training images, class 0 fewest."""
    counts = np.array([5, 30, 400])
    np.testing.assert_allclose(shifts.shifted_prior(counts, "forward", 4), np.array([12, 25, 50]) / 87)
    np.testing.assert_allclose(shifts.shifted_prior(counts, "backward", 4), np.array([50, 25, 12]) / 87)
    np.testing.assert_allclose(shifts.shifted_prior(counts, "uniform", 1), np.full(3, 1 / 3))


def test_expected_accuracy_is_the_mean_over_all_draws():
    """Two images of class 0 and one of class 1, drawn in every way from four and three."""
    right = {0: [1, 1, 0, 0], 1: [1, 0, 0]}
    draws = [np.mean([*a, *b]) for a, b in product(combinations(right[0], 2), combinations(right[1], 1))]
    found = shifts.expected_accuracy(np.array([50.0, 100 / 3]), np.array([2 / 3, 1 / 3]))
    assert found == pytest.approx(100 * np.mean(draws))
    assert shifts.expected_accuracy(np.array([50.0, np.nan, 20]), np.array([0.6, 0.2, 0.2])) == pytest.approx(42.5)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_prior_correction_by_hand(scale):
    """Shares 0.9 and 0.1. Uniform test: less log pi_s, (3, 0) becomes (3.1, 2.3), still class 0, and (1, 0) becomes
    (1.1, 2.3), class 1. Cosines, thirty times smaller, with logit_scale 30 give the same.
    """
    logits = np.array([[3.0, 0], [1, 0]]) / scale
    found = shifts.shifted_accuracies(logits, np.array([0, 1]), np.array([9, 1]), scale)
    by_test = dict(zip(shifts.TESTS, found, strict=True))
    assert by_test["uniform", 1] == {"raw": 50.0, "from_train_prior": 100.0, "from_uniform": 50.0}
    # backward 50: shares 1/51 and 50/51; from the train prior (-0.8, 2.3) and (-2.8, 2.3), from uniform (-0.9, 0) and
    # (-2.9, 0): class 1 for both
    assert by_test["backward", 50] == {
        "raw": pytest.approx(100 / 51, abs=1e-4),
        "from_train_prior": pytest.approx(5000 / 51, abs=1e-4),
        "from_uniform": pytest.approx(5000 / 51, abs=1e-4),
    }


def test_uniform_is_balanced_accuracy_and_needs_no_correction_of_a_balanced_classifier(sample):
    cls, _, labels = sample
    found = shifts.shifted_accuracies(cls, labels, np.arange(70, 0, -10), 1.0)
    uniform = found[shifts.TESTS.index(("uniform", 1))]
    assert uniform["raw"] == uniform["from_uniform"]
    assert uniform["raw"] == metrics.all_metrics(cls, labels, GROUPS | {"every": range(7)})["balanced"]


# --- over seeds


def test_over_seeds():
    """Of 1 and 3: mean 2, deviation sqrt(2), error 1. None is left out."""
    found = diagnostics.over_seeds([{"a": 1.0, "b": [1.0, None]}, {"a": 3.0, "b": [3.0, 5.0]}])
    assert found == {
        "a": {"mean": 2.0, "stderr": 1.0, "n": 2},
        "b": {"mean": [2.0, 5.0], "stderr": [1.0, None]},
    }


def test_neither_diagnosis_nor_reading_loads_torch():
    code = "from longtail.evaluation import diagnostics, run_record; from longtail.report import reading"
    code += "; import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_prior_correction_and_corrected_probabilities_by_hand():
    """z (2, 1, .5), training shares (.7, .2, .1), test shares (.1, .2, .7)."""
    z, train, test = np.array([[2.0, 1.0, 0.5]]), np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7])
    after_ce = z + shifts.prior_correction(test, train)
    balanced = z + shifts.prior_correction(test)
    assert after_ce[0].tolist() == pytest.approx([0.054089851, 1, 2.445910149], abs=1e-9)
    assert balanced[0].tolist() == pytest.approx([-0.302585093, -0.609437912, 0.143325056], abs=1e-9)
    for given, prior in ((after_ce, train), (balanced, None)):
        terms = [math.exp(v) for v in given[0].tolist()]
        expected = [t / sum(terms) for t in terms]
        assert shifts.corrected_probabilities(z, test, prior)[0].tolist() == pytest.approx(expected, rel=1e-12)
        scaled = shifts.corrected_probabilities(z / 30, test, prior, logit_scale=30.0)
        assert scaled[0].tolist() == pytest.approx(expected, rel=1e-12)
    bayes = np.exp(z) * test / (np.exp(z) * test).sum()  # of a balanced classifier: p(x|k) times the share
    assert shifts.corrected_probabilities(z, test) == pytest.approx(bayes, rel=1e-12)
