"""Statistics of results: over seeds, over test images, over both, and over subset seeds. float64, by SciPy.

What an interval covers is what was resampled: seeds (the test set fixed), test images (the trained models fixed), or
both. The subset seed, which picks the training images, is another source; `variance_components` keeps it apart. Every
interval has two sides, `CONFIDENCE` in all. Arguments that have no answer raise ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats, which takes a second to load, calls them too

CONFIDENCE = 0.95
REPLICATES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error and interval; None for what n values cannot tell."""

    mean: float
    stderr: float | None
    interval: tuple[float, float] | None
    n: int
    p: float | None = None  # of "the mean is 0", two-sided


@dataclass(frozen=True)
class Combined:
    """A mean difference and its standard errors: over seeds, over test images, and over both."""

    mean: float
    stderr_seeds: float
    stderr_images: float
    stderr: float
    interval: tuple[float, float]
    p: float  # of "the mean is 0", two-sided: 1 - the confidence at which the interval ends at 0


@dataclass(frozen=True)
class Components:
    """Standard deviations by source; None for what the table cannot tell, which is never 0."""

    mean: float
    subset: float | None  # between subset seeds; unknown from one of them
    training: float | None  # between training seeds on one subset; unknown where each subset was trained on once
    stderr: float | None  # of the mean, over both; unknown from one subset seed
    subsets: int
    trainings: int  # on each subset


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean, s.e. std(ddof=1)/sqrt(n), t interval and t test against 0 (Student). One value has a mean alone."""
    x = np.asarray(values, np.float64)
    if not x.size:
        raise ValueError("no values")
    mean, n = float(x.mean()), len(x)
    if n == 1:
        return Estimate(mean, None, None, 1)
    stderr = float(x.std(ddof=1)) / math.sqrt(n)
    if stderr == 0.0:
        return Estimate(mean, 0.0, (mean, mean), n, p=float(mean == 0.0))
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * stderr
    return Estimate(mean, stderr, (mean - half, mean + half), n, p=2 * float(stdtr(n - 1, -abs(mean) / stderr)))


def over_shared_seeds(a: Mapping[int, float], b: Mapping[int, float]) -> Estimate:
    """a minus b over the seeds that both have, as `over_seeds`; {seed: value}. ValueError where they share none."""
    shared = sorted(a.keys() & b.keys())
    if not shared:
        raise ValueError("no seed in common")
    return over_seeds([a[seed] - b[seed] for seed in shared])


def class_weights(labels: np.ndarray, classes: int, members: Sequence[int] | None = None) -> np.ndarray:
    """Weights that make a weighted sum of per-class accuracies a metric, float64 [C] of sum 1.

    members: the classes of a group, which count alike (METHODS 1.2), those without test images left out; None: all
    images count alike (top-1). ValueError where no member has a test image.
    """
    images = np.bincount(labels, minlength=classes)
    if members is None:
        return images / len(labels)
    chosen = np.isin(np.arange(classes), members) & (images > 0)
    if not chosen.any():
        raise ValueError("no class of the group has test images")
    return chosen / chosen.sum()


def over_images(
    difference: np.ndarray, labels: np.ndarray, weights: np.ndarray, seed: int = 0, replicates: int = REPLICATES
) -> Estimate:
    """Paired bootstrap over test images, stratified by class: percentile interval of sum_k w_k * mean of class k.

    difference: [M] or [S, M], right(a) - right(b) of each image (and training seed: averaged over them first, so the
    interval is that of these very models). labels: [M]. weights: [C], see `class_weights`. Of a class with n images
    n - 1 are drawn: its mean then varies as much as s^2/n says, which n draws fall short of by 1/n (McCarthy & Snowden
    1985; iNaturalist has n = 3). ValueError for a class of one image, which shows no spread.
    """
    each = np.atleast_2d(difference).mean(axis=0)
    mean, images, rng = 0.0, 0, np.random.default_rng(seed)
    profiles: dict[tuple, int] = {}  # classes that draw alike are drawn together: {(weight, values, counts): classes}
    for k in np.flatnonzero(weights):
        values, counts = np.unique(each[labels == k], return_counts=True)
        if counts.sum() < 2:
            raise ValueError(f"class {k} has {counts.sum()} test images; a bootstrap needs two")
        mean += weights[k] * float(values @ counts) / counts.sum()
        images += int(counts.sum())
        key = (float(weights[k]), tuple(values.tolist()), tuple(counts.tolist()))
        profiles[key] = profiles.get(key, 0) + 1
    means = np.zeros(replicates)
    for (weight, values, counts), classes in sorted(profiles.items()):
        drawn = sum(counts) - 1
        share = np.asarray(counts) / sum(counts)
        means += weight / drawn * (rng.multinomial(classes * drawn, share, size=replicates) @ np.asarray(values))
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(mean), float(means.std(ddof=1)), (float(low), float(high)), images)


def over_seeds_and_images(difference: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Combined:
    """Mean difference whose interval covers other training seeds and other test images at once.

    difference: [S, M], S >= 2. Seeds and images are crossed random factors, images nested in classes. The variance over
    seeds and that over images both hold the seeds-by-images residual, which is taken off once; their sum is not let
    below either. Half the interval is the root of the squares of the halves over seeds (t) and over the rest (Zou &
    Donner 2008), so that it is never narrower than that over seeds.
    """
    d = np.asarray(difference, np.float64)
    seeds = len(d)
    if d.ndim != 2 or seeds < 2:
        raise ValueError("needs two seeds")
    per_seed, images, residual, free = np.zeros(seeds), 0.0, 0.0, 0
    for k in np.flatnonzero(weights):
        own = d[:, labels == k]
        n = own.shape[1]
        if n < 2:
            raise ValueError(f"class {k} has {n} test images; a variance needs two")
        per_seed += weights[k] * own.mean(axis=1)
        images += weights[k] ** 2 * own.mean(axis=0).var(ddof=1) / n
        rest = own - own.mean(axis=0) - own.mean(axis=1, keepdims=True) + own.mean()
        residual += weights[k] ** 2 * float((rest**2).sum()) / ((seeds - 1) * (n - 1)) / (seeds * n)
        free += n - 1
    over = float(per_seed.var(ddof=1)) / seeds
    variance = max(over + images - residual, over, images)
    rest = variance - over
    about = _of_two_sources(float(per_seed.mean()), (over, rest), (seeds - 1, free))
    return Combined(float(per_seed.mean()), math.sqrt(over), math.sqrt(images), math.sqrt(variance), *about)


def over_seeds_and_spread(values: Sequence[float], stderr_images: float, images: int) -> Combined:
    """As `over_seeds_and_images`, where single images are not known but the standard error over them is.

    values: [S], S >= 2. stderr_images: of the mean over so many images, which are the same for all seeds: it does not
    shrink with S.
    """
    x = np.asarray(values, np.float64)
    if len(x) < 2 or images < 2:
        raise ValueError("needs two seeds and two images")
    over, rest, mean = float(x.var(ddof=1)) / len(x), stderr_images**2, float(x.mean())
    about = _of_two_sources(mean, (over, rest), (len(x) - 1, images - 1))
    return Combined(mean, math.sqrt(over), stderr_images, math.sqrt(over + rest), *about)


def _of_two_sources(
    mean: float, variances: tuple[float, float], free: tuple[int, int]
) -> tuple[tuple[float, float], float]:
    """(interval, p) of a mean with a variance from two sources: half the interval is the root of the squares of the
    halves over each (Zou & Donner 2008). free: degrees of freedom of each variance."""

    from scipy.optimize import brentq

    def half(tail: float) -> float:
        quantiles = (-float(stdtrit(degrees, tail / 2)) for degrees in free)
        return math.hypot(*(t * math.sqrt(each) for t, each in zip(quantiles, variances, strict=True)))

    width = half(1 - CONFIDENCE)
    interval = (mean - width, mean + width)
    if mean == 0.0 or not any(variances):
        return interval, float(mean == 0.0)
    tiny = 1e-12  # below it p is that
    if half(tiny) < abs(mean):
        return interval, tiny
    return interval, float(brentq(lambda tail: half(tail) - abs(mean), tiny, 1.0))


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> tuple[int, int, float]:
    """(images only a gets right, only b, exact two-sided p of "as many") of two models; boolean [M] (McNemar 1947)."""
    from scipy.stats import binomtest

    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    if not only_a + only_b:
        return 0, 0, 1.0
    return only_a, only_b, float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def detectable_difference(sd: float, n: int, paired: bool, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true difference that a two-sided t test over n seeds finds with this power.

    sd: standard deviation over seeds, of the differences when paired, else of either entry; n: seeds of each entry.
    From the noncentral t distribution; the chance of a finding on the wrong side is left out.
    """
    from scipy.optimize import brentq
    from scipy.stats import nct

    if n < 2:
        raise ValueError("one seed has no spread: no difference is detectable by a test over seeds")
    free, scale = (n - 1, math.sqrt(1 / n)) if paired else (2 * n - 2, math.sqrt(2 / n))
    threshold = stdtrit(free, 1 - alpha / 2)
    found = brentq(lambda shift: nct.sf(threshold, free, shift) - power, 0.0, 10 * threshold + 10)
    return float(found) * scale * sd


def variance_components(table: Mapping[int, Sequence[float]]) -> Components:
    """Spread between subset seeds and between training seeds: {subset seed: values of its training seeds}, balanced.

    One-way random-effects analysis of variance: training^2 = MS within, subset^2 = (MS between - MS within) / n, at
    least 0; the mean's variance is MS between / (subsets * n).
    """
    sizes = {len(values) for values in table.values()}
    if len(sizes) != 1 or not min(sizes):
        raise ValueError("every subset seed needs the same number of training seeds, at least one")
    x = np.array(list(table.values()), np.float64)
    subsets, n = x.shape
    within = float(x.var(axis=1, ddof=1).mean()) if n > 1 else None
    between = n * float(x.mean(axis=1).var(ddof=1)) if subsets > 1 else None
    subset = None if within is None or between is None else math.sqrt(max(0.0, (between - within) / n))
    stderr = None if between is None else math.sqrt(between / x.size)
    return Components(float(x.mean()), subset, None if within is None else math.sqrt(within), stderr, subsets, n)
