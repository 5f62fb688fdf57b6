from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from longtail.fusion import WEIGHTS, accuracies, balanced_curve, choose, fuse, on_test
from longtail.metrics import average_heads
from longtail.predictions import Predictions, TestSet

# image 0, class 0: right where 2w > 1 - w, from .35 on; image 1, class 1: right where 3(1 - w) > w, to .7 (at .75 both
# are .75 and class 0 comes first); image 2, class 1: always right; class 2 has no image
CLS = np.array([[2, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
DIST = np.array([[0, 1, 0], [0, 3, 0], [0, 1, 0]], np.float32)
LABELS = np.array([0, 1, 1])
CURVE = [50.0] * 7 + [100.0] * 8 + [75.0] * 6


def test_weights_go_from_dist_alone_to_cls_alone():
    assert WEIGHTS[0] == 0 and WEIGHTS[10] == 0.5 and WEIGHTS[-1] == 1 and len(WEIGHTS) == 21
    np.testing.assert_allclose(np.diff(WEIGHTS), 0.05)
    assert fuse(CLS, DIST, 0.25)[0].tolist() == [0.5, 0.75, 0]
    np.testing.assert_array_equal(fuse(CLS, DIST, 0.0), DIST)
    np.testing.assert_array_equal(fuse(CLS, DIST, 1.0), CLS)


def test_half_is_the_published_average():
    cls, dist = np.random.default_rng(0).normal(size=(2, 500, 10)).astype(np.float32)
    np.testing.assert_array_equal(fuse(cls, dist, 0.5), average_heads(cls, dist))


def test_the_curve_is_the_mean_of_the_classes_that_have_images():
    assert balanced_curve(CLS, DIST, LABELS) == CURVE


def curve(**heights: float) -> list[float]:
    values = [1.0] * len(WEIGHTS)
    for weight, height in heights.items():
        values[WEIGHTS.index(float(weight.replace("w", "0.")))] = height
    return values


@pytest.mark.parametrize(
    ("heights", "chosen"),
    [
        ({"w15": 3.0, "w5": 2.0}, 0.15),  # the highest
        ({"w2": 3.0, "w75": 3.0}, 0.75),  # .25 from the middle, not .3
        ({"w45": 3.0, "w55": 3.0}, 0.45),  # as near
        ({"w35": 3.0, "w4": 3.0, "w9": 3.0}, 0.4),
        ({}, 0.5),
    ],
)
def test_the_highest_is_chosen_and_of_equals_the_nearest_to_the_average(heights, chosen):
    assert choose(curve(**heights)) == chosen


def test_the_hand_example_chooses_the_average():
    assert choose(CURVE) == 0.5 and choose([100.0] * 3 + [50.0] * 18) == 0.1


def test_accuracies_are_scikit_learns():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(300, 5)), rng.choice(5, 300, p=[0.4, 0.3, 0.1, 0.1, 0.1])
    predicted = logits.argmax(1)
    recall = recall_score(labels, predicted, average=None)
    found = accuracies(logits, labels, {"head": [0, 1], "tail": [4], "none": []})
    assert found["top1"] == pytest.approx(100 * accuracy_score(labels, predicted), abs=1e-4)
    assert found["balanced"] == pytest.approx(100 * balanced_accuracy_score(labels, predicted), abs=1e-4)
    assert found["head"] == pytest.approx(100 * recall[:2].mean(), abs=1e-4)
    assert found["tail"] == pytest.approx(100 * recall[4], abs=1e-4) and found["none"] is None
    assert found["top1"] != found["balanced"]


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
