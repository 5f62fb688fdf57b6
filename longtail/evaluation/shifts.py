"""Accuracy on test sets whose classes are long-tailed too, without and with prior correction (METHODS 6.5).

The papers draw such a test set from the balanced one. Here nothing is drawn: over all draws of n_k images of class k,
the expected image-level accuracy is sum_k (n_k / n) acc_k, with acc_k the accuracy on all test images of class k.
"""

from __future__ import annotations

import numpy as np

from longtail.data.long_tail import longtail_counts
from longtail.evaluation.metrics import DECIMALS, class_means

LARGEST = 50  # images of the largest class of a shifted test set, as of ImageNet-LT's
FACTORS = (50, 25, 10, 5, 2)
TESTS = (  # (direction, factor): from the training set's own shape over uniform to its reverse
    *(("forward", factor) for factor in FACTORS),
    ("uniform", 1),
    *(("backward", factor) for factor in reversed(FACTORS)),
)


def shifted_prior(class_counts: np.ndarray, direction: str, factor: int) -> np.ndarray:
    """pi_t: share of each class in a shifted test set, float64 [C], all positive.

    The class of frequency rank i (0: the most training images; equals by index) has trunc(50 * factor^(-i/(C-1)))
    images, backward in reverse. class_counts: training images [C].
    """
    counts = longtail_counts(LARGEST, len(class_counts), factor)
    by_rank = np.argsort(-np.asarray(class_counts), kind="stable")
    shares = np.empty(len(counts))
    shares[by_rank] = counts[::-1] if direction == "backward" else counts
    return shares / shares.sum()


def expected_accuracy(accuracies: np.ndarray, prior: np.ndarray) -> float:
    """sum_k prior_k acc_k, in the accuracies' unit; classes without test images (NaN) are left out of both."""
    there = ~np.isnan(accuracies)
    return float(prior[there] @ accuracies[there] / prior[there].sum())


def prior_correction(test_prior: np.ndarray, train_prior: np.ndarray | None = None) -> np.ndarray:
    """What is added to scaled logits where the test set's class shares are known, float64 [C].

    train_prior given: log pi_t - log pi_s, for a classifier whose softmax follows the training set, as after
    cross-entropy. None: log pi_t, for one that was balanced in training (balanced softmax, DiVE).
    """
    shift = np.log(test_prior)
    return shift if train_prior is None else shift - np.log(train_prior)


def corrected_probabilities(
    logits: np.ndarray,
    test_prior: np.ndarray,
    train_prior: np.ndarray | None = None,
    logit_scale: float = 1.0,
) -> np.ndarray:
    """Class probabilities of a test set of known class shares, float64 [M, C], whose rows sum to 1.

    logits: float [M, C]; priors: as in `prior_correction`. Only predictions need less: the argmax is the logits'.
    """
    z = logit_scale * np.asarray(logits, np.float64) + prior_correction(test_prior, train_prior)
    shares = np.exp(z - z.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def shifted_accuracies(
    logits: np.ndarray, labels: np.ndarray, class_counts: np.ndarray, logit_scale: float
) -> list[dict[str, float]]:
    """For each of TESTS, expected accuracies in %: `raw`, and of two corrections, each right for another training loss.

    from_train_prior: z - log pi_s + log pi_t, pi_s the training set's class shares: of a classifier whose softmax
    follows the training set, as after cross-entropy. from_uniform: z + log pi_t: of one that was balanced in training
    (re-weighted, logit-adjusted, DiVE). z = logit_scale * logits [M, C], as every softmax takes them.
    """
    z, classes = logit_scale * np.asarray(logits, np.float64), len(class_counts)
    train = class_counts / np.sum(class_counts)

    def per_class(scores: np.ndarray) -> np.ndarray:
        return class_means(scores.argmax(1) == labels, labels, classes)

    raw, found = per_class(z), []
    for test in TESTS:
        prior = shifted_prior(class_counts, *test)
        accuracies = {
            "raw": raw,
            "from_train_prior": per_class(z + prior_correction(prior, train)),
            "from_uniform": per_class(z + prior_correction(prior)),
        }
        found.append({name: round(expected_accuracy(a, prior), DECIMALS) for name, a in accuracies.items()})
    return found
