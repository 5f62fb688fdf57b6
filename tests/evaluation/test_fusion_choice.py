from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from longtail.evaluation.fusion import balanced_curve, choose, on_test
from longtail.evaluation.predictions import Predictions, TestSet

# image 0, class 0: right where 2w > 1 - w, from .35 on; image 1, class 1: right where 3(1 - w) > w, to .7 (at .75 both
# are .75 and class 0 comes first); image 2, class 1: always right; class 2 has no image
CLS = np.array([[2, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
DIST = np.array([[0, 1, 0], [0, 3, 0], [0, 1, 0]], np.float32)
LABELS = np.array([0, 1, 1])
CURVE = [50.0] * 7 + [100.0] * 8 + [75.0] * 6


def test_the_curve_is_the_mean_of_the_classes_that_have_images():
    assert balanced_curve(CLS, DIST, LABELS) == CURVE


@pytest.mark.parametrize(
    ("heights", "chosen"),
    [
        ({15: 3.0, 50: 2.0}, 0.15),  # the highest
        ({20: 3.0, 75: 3.0}, 0.75),  # .25 from the middle, not .3
        *(({50 - k: 3.0, 50 + k: 3.0}, (50 - k) / 100) for k in range(5, 55, 5)),  # as near: the smaller
        ({35: 3.0, 40: 3.0, 90: 3.0}, 0.4),
        ({}, 0.5),
    ],
)
def test_the_highest_is_chosen_and_of_equals_the_nearest_to_the_average(heights, chosen):
    """heights: of a flat curve's weights in percent."""
    assert choose([heights.get(k, 1.0) for k in range(0, 105, 5)]) == chosen


def test_the_hand_example_chooses_the_average():
    assert choose(CURVE) == 0.5 and choose([100.0] * 3 + [50.0] * 18) == 0.1


def test_a_curve_is_of_balanced_accuracies_as_scikit_learns():
    rng = np.random.default_rng(1)
    (cls, dist), labels = rng.normal(size=(2, 300, 5)), rng.choice(5, 300, p=[0.4, 0.3, 0.1, 0.1, 0.1])
    found = balanced_curve(cls, dist, labels)
    for k in (0, 7, 10, 20):
        predicted = (k / 20 * cls + (1 - k / 20) * dist).argmax(1)
        assert found[k] == pytest.approx(100 * balanced_accuracy_score(labels, predicted), abs=1e-4)


def test_on_the_test_set_every_way_stands_beside_the_gain_of_the_chosen():
    """At w = .2 image 0 is wrong and both of class 1 are right; the average has all three right, CLS one of class 1."""
    logits = {phase: {"cls": CLS * sign, "dist": DIST * sign} for phase, sign in (("last", 1), ("best", -1))}
    groups = {"author": {"head": [0], "tail": [1]}, "count": {"many": [2]}}
    test = TestSet(("a", "b", "c"), np.array([5, 2, 1]), groups, "order", LABELS, "digest")
    predictions = Predictions(LABELS, logits, {"last": 2, "best": 1}, "order", 1.0)
    found = on_test(predictions, test, 0.2)
    top1 = {way: values["top1"] for way, values in found.items()}
    assert top1 == {"cls": 66.6667, "dist": 66.6667, "average": 100.0, "chosen": 66.6667, "gain": -33.3333}
    assert found["gain"] == {"top1": -33.3333, "balanced": -50.0, "head": -100.0, "tail": 0.0, "many": None}
    assert found["cls"] == {"top1": 66.6667, "balanced": 75.0, "head": 100.0, "tail": 50.0, "many": None}
    assert set(on_test(predictions, test, None)) == {"cls", "dist", "average"}
