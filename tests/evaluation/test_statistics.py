"""Statistics against closed forms, hand calculations, SciPy's other routes, published values, simulation."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from longtail.evaluation import statistics
from longtail.evaluation.metrics import all_metrics

T975 = 0.95 / math.sqrt(2 * 0.975 * 0.025)  # the quantile of t with 2 degrees of freedom has a closed form


def test_three_seeds_by_hand():
    """70, 72, 77: mean 73, deviations -3, -1, 4, s^2 = 26 / 2 = 13."""
    found = statistics.over_seeds([70.0, 72.0, 77.0])
    stderr = math.sqrt(13 / 3)
    assert (found.mean, found.n) == (73.0, 3)
    assert found.stderr == pytest.approx(stderr)
    assert found.interval == pytest.approx((73 - T975 * stderr, 73 + T975 * stderr))


def test_seeds_as_scipy_tests_them():
    a = {0: 84.1, 1: 85.0, 2: 83.2, 3: 84.4, 7: 99.0}
    b = {0: 82.0, 1: 84.9, 2: 83.0, 3: 81.1, 5: 12.0}  # 7 and 5 are not shared
    found = statistics.over_shared_seeds(a, b)
    x, y = [a[s] for s in range(4)], [b[s] for s in range(4)]
    expected = stats.ttest_rel(x, y)
    assert found.n == 4 and found.mean == pytest.approx(1.425)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    turned = statistics.over_shared_seeds(b, a)
    assert turned.mean == -found.mean and turned.p == found.p


def test_one_seed_has_no_interval():
    found = statistics.over_shared_seeds({0: 2.0, 1: 9.0}, {0: 1.0})
    assert found == statistics.Estimate(1.0, None, None, 1)


def test_seeds_that_agree_exactly():
    same = statistics.over_seeds([2.0, 2.0, 2.0])
    assert (same.stderr, same.interval, same.p) == (0.0, (2.0, 2.0), 0.0)
    assert statistics.over_seeds([0.0, 0.0]).p == 1.0


@pytest.mark.parametrize(
    "call", [lambda: statistics.over_seeds([]), lambda: statistics.over_shared_seeds({0: 1.0}, {1: 1.0})]
)
def test_nothing_to_average(call):
    with pytest.raises(ValueError, match="no "):
        call()


def made_up(sizes=(40, 40, 20), seed=5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and two models' predictions, the first better."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    answers = [np.where(rng.random(len(labels)) < p, labels, (labels + 1) % len(sizes)) for p in (0.8, 0.6)]
    return labels, *answers


@pytest.mark.parametrize(("metric", "members"), [("top1", None), ("tail", [1, 2]), ("balanced", range(3))])
def test_bootstrap_is_of_the_metric(metric, members):
    """Its middle is the difference of that metric as evaluation computes it, on an unbalanced test set."""
    labels, a, b = made_up()
    values = [all_metrics(np.eye(3)[x], labels, {"tail": [1, 2]})[metric] for x in (a, b)]
    weights = statistics.class_weights(labels, 3, members)
    found = statistics.over_images((a == labels) * 1.0 - (b == labels), labels, weights)
    assert 100 * found.mean == pytest.approx(values[0] - values[1], abs=1e-3)
    assert found.n == (60 if metric == "tail" else 100)


def test_bootstrap_spreads_as_the_closed_form():
    """Variance of a stratified mean: sum of w^2 s^2 / n. Monte Carlo error of 10,000 replicates is 0.7 %."""
    labels, a, b = made_up()
    d = (a == labels) * 1.0 - (b == labels)
    weights = statistics.class_weights(labels, 3, [0, 2])
    exact = math.sqrt(sum(0.25 * d[labels == k].var(ddof=1) / (labels == k).sum() for k in (0, 2)))
    found = statistics.over_images(d, labels, weights)
    assert found.stderr == pytest.approx(exact, rel=0.03)
    assert found.interval == pytest.approx((found.mean - 1.96 * exact, found.mean + 1.96 * exact), abs=0.15 * exact)


def test_bootstrap_of_one_class_as_scipy_does_it():
    labels, a, b = made_up((400,))
    a, b = np.arange(400) % 5 > 0, np.arange(400) % 3 > 0
    d = a * 1.0 - b
    found = statistics.over_images(d, labels, np.ones(1))
    other = stats.bootstrap((d,), np.mean, n_resamples=9999, method="percentile", rng=1).confidence_interval
    assert found.interval == pytest.approx((other.low, other.high), abs=0.1 * (other.high - other.low))


def test_bootstrap_of_three_images_a_class():
    """1,000 classes of (1, 0, 0): s^2 = 1/3, so the mean's variance is 1/9/1000; drawing all three gives 2/3 of it."""
    labels = np.repeat(np.arange(1000), 3)
    d = np.tile([1.0, 0.0, 0.0], 1000)
    found = statistics.over_images(d, labels, statistics.class_weights(labels, 1000))
    assert found.mean == pytest.approx(1 / 3) and found.stderr == pytest.approx(math.sqrt(1 / 9000), rel=0.03)


def test_bootstrap_averages_seeds_and_is_the_same_every_time():
    labels, a, b = made_up()
    d = np.stack([(a == labels) * 1.0 - (b == labels), (b == labels) * 1.0 - (a == labels)])
    weights = statistics.class_weights(labels, 3)
    none = statistics.over_images(d, labels, weights)  # the seeds cancel image by image
    assert (none.mean, none.interval) == (0.0, (0.0, 0.0))
    first, again = statistics.over_images(d[0], labels, weights), statistics.over_images(d[0], labels, weights)
    assert first == again
    turned = statistics.over_images(d[1], labels, weights)
    assert turned.mean == -first.mean and turned.interval[0] < 0 < first.interval[1]


def test_bootstrap_covers_the_truth():
    """Of 400 test sets drawn from a known population, about 95 % of the intervals hold its difference."""
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 60)
    weights, hits = np.array([0.5, 0.5]), 0
    truth = 0.5 * (0.8 - 0.6) + 0.5 * (0.5 - 0.4)
    for _ in range(400):
        u = rng.random(120)  # one draw for both models: they are right on the same images
        a = u < np.where(labels == 0, 0.8, 0.5)
        b = u < np.where(labels == 0, 0.6, 0.4)
        low, high = statistics.over_images(a * 1.0 - b, labels, weights, replicates=1000).interval
        hits += low <= truth <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_a_class_of_one_image_is_refused():
    with pytest.raises(ValueError, match="class 1 has 1 test images"):
        statistics.over_images(np.ones(3), np.array([0, 0, 1]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="no class of the group"):
        statistics.class_weights(np.array([0, 0]), 3, [1, 2])


def test_seeds_and_images_by_hand():
    """One class, 2 seeds x 2 images: (1, 0) and (1, 1). Two-way analysis of variance: grand mean 3/4; sums of squares
    seeds 1/4, images 1/4, residual 1/4, one degree of freedom each; variance (1/4 + 1/4 - 1/4) / 4 = 1/16.
    """
    found = statistics.over_seeds_and_images(np.array([[1, 0], [1, 1]]), np.array([0, 0]), np.ones(1))
    assert found.mean == 0.75
    assert (found.stderr_seeds, found.stderr_images, found.stderr) == pytest.approx((0.25, 0.25, 0.25))
    assert found.interval[1] - 0.75 == pytest.approx(0.25 / math.tan(0.025 * math.pi))  # t, 1 degree of freedom: Cauchy


def test_seeds_and_images_together_spread_as_simulated():
    """Seed effects .03, image effects .4, residual .3; 4 seeds, two classes of 50 with weights 3/4 and 1/4."""
    rng, labels, weights = np.random.default_rng(3), np.repeat([0, 1], 50), np.array([0.75, 0.25])
    means, variances, hits = [], [], 0
    for _ in range(600):
        d = rng.normal(0, 0.03, (4, 1)) + rng.normal(0, 0.4, 100) + rng.normal(0, 0.3, (4, 100))
        found = statistics.over_seeds_and_images(d, labels, weights)
        means.append(found.mean)
        variances.append(found.stderr**2)
        hits += found.interval[0] <= 0 <= found.interval[1]
        assert found.interval[1] >= statistics.over_seeds(d @ (weights[labels] / 50)).interval[1]
    exact = 0.03**2 / 4 + (0.75**2 + 0.25**2) * (0.4**2 + 0.3**2 / 4) / 50
    assert np.var(means) == pytest.approx(exact, rel=0.15)
    assert np.mean(variances) == pytest.approx(exact, rel=0.05)
    assert hits / 600 >= 0.93


def test_the_chance_of_no_difference_by_hand():
    """Seeds of 1, 0, 1 on each image: no spread over images, t = (2/3) / (1/3) with 2 degrees of freedom, for which
    p = 1 - t / sqrt(t^2 + 2). A spread over 2 images alone, twice its standard error off: Cauchy."""
    found = statistics.over_seeds_and_images(np.array([[1, 1], [0, 0], [1, 1]]), np.array([0, 0]), np.ones(1))
    assert found.p == pytest.approx(1 - 2 / math.sqrt(6))
    alone = statistics.over_seeds_and_spread([1.0, 1.0, 1.0], 0.5, 2)
    assert alone.p == pytest.approx(1 - 2 * math.atan(2) / math.pi) and alone.stderr == 0.5
    assert alone.interval[1] - 1 == pytest.approx(0.5 / math.tan(0.025 * math.pi))
    low, high = statistics.over_seeds_and_spread([1.0, 1.5, 2.0], 0.0, 50).interval
    assert (low, high) == pytest.approx(statistics.over_seeds([1.0, 1.5, 2.0]).interval)


def test_seeds_and_images_need_two_of_each():
    with pytest.raises(ValueError, match="needs two seeds"):
        statistics.over_seeds_and_images(np.ones((1, 4)), np.zeros(4, int), np.ones(1))
    with pytest.raises(ValueError, match="class 0 has 1 test images"):
        statistics.over_seeds_and_images(np.ones((2, 1)), np.zeros(1, int), np.ones(1))
    same = statistics.over_seeds_and_images(np.ones((2, 4)), np.zeros(4, int), np.ones(1))
    assert (same.stderr, same.interval, same.p) == (0.0, (1.0, 1.0), 0.0)
    with pytest.raises(ValueError, match="needs two seeds and two images"):
        statistics.over_seeds_and_spread([1.0], 0.5, 50)


def test_mcnemar_by_hand():
    """8 against 2: 2 * (1 + 10 + 45) / 2^10."""
    a = np.array([True] * 8 + [False] * 2 + [True] * 5 + [False] * 3)
    b = np.array([False] * 8 + [True] * 2 + [True] * 5 + [False] * 3)
    assert statistics.mcnemar(a, b) == (8, 2, pytest.approx(112 / 1024))
    assert statistics.mcnemar(b, a) == (2, 8, pytest.approx(112 / 1024))
    assert statistics.mcnemar(a, a) == (0, 0, 1.0)


def test_detectable_difference_as_published():
    """The example of R's power.t.test: n = 20 a group, delta 1, s.d. 1 has power 0.8689528; Cohen (1988): d = .5 needs
    64 a group for power .80, and at 26 d = .8 (table 2.4.1).
    """
    find = statistics.detectable_difference
    assert find(1.0, 20, paired=False, power=0.8689528) == pytest.approx(1.0, abs=1e-6)
    assert find(1.0, 64, paired=False) == pytest.approx(0.5, abs=0.002)
    assert find(1.0, 26, paired=False) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("n", "paired"), [(3, True), (3, False), (5, True)])
def test_detectable_difference_is_found_eight_times_in_ten(n, paired):
    """Simulated: 40,000 experiments with that true difference, tested by SciPy's t tests."""
    rng, sd = np.random.default_rng(n), 0.7
    shift = statistics.detectable_difference(sd, n, paired)
    a = rng.normal(shift, sd, (n, 40_000))
    p = stats.ttest_1samp(a, 0.0).pvalue if paired else stats.ttest_ind(a, rng.normal(0, sd, a.shape)).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.01)


def test_one_seed_detects_nothing():
    with pytest.raises(ValueError, match="one seed has no spread"):
        statistics.detectable_difference(1.0, 1, paired=True)


def test_variance_components_by_hand():
    """(1, 3), (5, 7), (9, 11): within 2, means 2, 6, 10 with variance 16, between 32; subset^2 = (32 - 2) / 2 = 15."""
    found = statistics.variance_components({0: [1, 3], 1: [5, 7], 2: [9, 11]})
    assert found.mean == 6.0 and (found.subsets, found.trainings) == (3, 2)
    assert found.training == pytest.approx(math.sqrt(2)) and found.subset == pytest.approx(math.sqrt(15))
    assert found.stderr == pytest.approx(math.sqrt(32 / 6))
    between = stats.f_oneway([1, 3], [5, 7], [9, 11]).statistic * 2  # F = between / within
    assert found.stderr == pytest.approx(math.sqrt(between / 6))


def test_what_the_table_cannot_tell_is_unknown():
    one = statistics.variance_components({0: [1, 3, 5]})
    assert (one.subset, one.stderr, one.training) == (None, None, 2.0)
    each_once = statistics.variance_components({0: [1], 1: [3]})
    assert (each_once.subset, each_once.training) == (None, None)
    assert each_once.stderr == pytest.approx(1.0)  # of 1 and 3, whatever moved them apart
    same = statistics.variance_components({0: [1, 3], 1: [3, 1]})
    assert same.subset == 0.0  # estimated, with two subset seeds
    with pytest.raises(ValueError, match="the same number of training seeds"):
        statistics.variance_components({0: [1, 3], 1: [2]})


def test_no_torch():
    code = "import longtail.evaluation.statistics, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
