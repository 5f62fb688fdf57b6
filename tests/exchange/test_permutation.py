"""The permutation detector: planted orders are found and named, weak models are left alone."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import permutations

import numpy as np
import pytest

from longtail.data.long_tail import LongTail
from longtail.exchange.permutation import CLEAR, best_order, examine, known_orders, moves
from tests.helpers.small import digits


def data_of(classes: int, per_class: int, names=None, counts=None) -> LongTail:
    """A dataset of which only the classes, their counts and the test labels are of interest here."""
    return replace(
        digits(),
        class_names=tuple(names or (f"c{i:04}" for i in range(classes))),
        class_counts=np.array(counts if counts is not None else np.linspace(1000, 10, classes).astype(int)),
        test_labels=np.repeat(np.arange(classes), per_class),
    )


def guesses(data: LongTail, hit: np.ndarray | float, seed: int = 0) -> np.ndarray:
    """Predicted classes of a model that is right with that probability in each class, else takes a frequent one."""
    random = np.random.default_rng(seed)
    labels, share = data.test_labels, data.class_counts / data.class_counts.sum()
    wrong = random.choice(data.num_classes, len(labels), p=share)
    right = random.random(len(labels)) < np.broadcast_to(hit, (data.num_classes,))[labels]
    return np.where(right, labels, wrong)


def outputs(predicted: np.ndarray, order: np.ndarray) -> np.ndarray:
    """What a model says that has output order[i] for class i."""
    return order[predicted]


# --- the best order


@pytest.mark.parametrize("seed", range(5))
def test_no_other_order_has_more_hits(seed):
    """Against all 120 orders of five classes."""
    random = np.random.default_rng(seed)
    labels, predicted = random.integers(0, 5, 40), random.integers(0, 5, 40)
    hits = {order: int((np.array(order)[labels] == predicted).sum()) for order in permutations(range(5))}
    found = tuple(best_order(predicted, labels, 5).tolist())
    assert hits[found] == max(hits.values())
    stay = {order: sum(i == j for i, j in enumerate(order)) for order in hits if hits[order] == hits[found]}
    assert stay[found] == max(stay.values())


def test_classes_that_are_never_predicted_stay_in_place():
    assert best_order(np.array([0, 0, 1]), np.array([0, 2, 1]), 4).tolist() == [0, 1, 2, 3]


# --- known orders


def test_numbers_as_text():
    """Folders 0, 1, 10, 11, 2, …: class 2 is the fifth output (METHODS trap 7)."""
    order = known_orders(data_of(12, 1))["numbers_as_text"]
    assert order.tolist() == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3]
    assert sorted(map(str, range(12)))[order[10]] == "10"


def test_frequency_rank_keeps_equal_counts_in_order():
    """METHODS trap 6."""
    order = known_orders(data_of(5, 1, counts=[7, 9, 7, 1, 9]))["frequency"]
    assert order.tolist() == [2, 0, 3, 4, 1]


def test_orders_of_names():
    orders = known_orders(data_of(4, 1, names=["10", "9", "1", "100"]))
    assert orders["names_as_text"].tolist() == [1, 3, 0, 2]  # 1, 10, 100, 9
    assert orders["names_as_numbers"].tolist() == [2, 1, 0, 3]  # 1, 9, 10, 100
    assert "names_as_numbers" not in known_orders(data_of(3, 1, names=["b", "a", "1"]))


@dataclass(frozen=True)
class Relabelled(LongTail):
    """A dataset that numbers its classes by frequency."""

    class_map: np.ndarray | None = None  # our label of each label of the source


def test_the_order_of_the_source_of_a_relabelled_dataset():
    """METHODS trap 5: the source's classes 0, 1, 2 are 2, 0, 1 here, so class 0 is the output 1."""
    values = {field.name: getattr(data_of(3, 40), field.name) for field in fields(LongTail)}
    data = Relabelled(**values | {"class_map": np.array([2, 0, 1])})
    assert known_orders(data)["source"].tolist() == [1, 2, 0]
    verdict = examine(outputs(guesses(data, 0.8), np.array([1, 2, 0])), data)
    assert verdict.clear and verdict.known == "source"


def test_orders_that_are_the_datasets_own_are_not_listed():
    assert known_orders(data_of(10, 1)) == {}


# --- planted orders


@pytest.mark.parametrize(("classes", "per_class", "hit"), [(12, 40, 0.5), (100, 100, 0.4), (300, 3, 0.6)])
@pytest.mark.parametrize("name", ["frequency", "numbers_as_text"])
def test_planted_known_orders_are_named(classes, per_class, hit, name):
    counts = np.random.default_rng(1).permutation(np.linspace(500, 10, classes).astype(int))
    data = data_of(classes, per_class, counts=counts)
    predicted = guesses(data, hit)
    top1 = 100 * (predicted == data.test_labels).mean()
    verdict = examine(outputs(predicted, known_orders(data)[name]), data)
    assert verdict.clear and verdict.known == name
    assert verdict.known_top1 == pytest.approx(top1) and verdict.best >= top1 > 2 * verdict.as_is


def test_a_planted_unknown_order_is_told():
    data = data_of(10, 50)
    order = np.random.default_rng(2).permutation(10)
    verdict = examine(outputs(guesses(data, 0.7), order), data)
    assert verdict.clear and verdict.known is None
    assert verdict.order.tolist() == order.tolist()


def test_two_classes_exchanged_among_a_hundred():
    """One point of accuracy, and yet beyond doubt."""
    data = data_of(100, 100)
    order = np.arange(100)
    order[[7, 30]] = 30, 7
    verdict = examine(outputs(guesses(data, 0.55), order), data)
    assert verdict.clear and verdict.best - verdict.as_is == pytest.approx(1.1, abs=0.3)
    assert moves(verdict.order, data) == "c0007: output 30, c0030: output 7"


def test_moves_are_listed_up_to_ten():
    data = data_of(26, 1)
    assert moves(np.roll(np.arange(26), 1), data).endswith("c0009: output 8 and 16 more")


# --- no false alarm


@pytest.mark.parametrize(("classes", "per_class"), [(10, 20), (10, 1000), (100, 100), (400, 3), (50, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_weak_models_in_the_right_order_pass(classes, per_class, seed):
    """Good on the head and blind on the tail, so that some other order fits the same images a little better."""
    data = data_of(classes, per_class)
    predicted = guesses(data, np.linspace(0.8, 0.0, classes), seed)
    verdict = examine(predicted, data)
    assert not verdict.clear
    assert verdict.as_is == pytest.approx(100 * (predicted == data.test_labels).mean())


def test_the_best_order_of_a_weak_model_does_better_on_the_images_that_chose_it():
    """So the detector must judge on others: with three images a class, these alone would be beyond doubt."""
    data = data_of(400, 3)
    predicted = guesses(data, np.linspace(0.8, 0.0, 400))
    verdict = examine(predicted, data)
    assert verdict.best > verdict.as_is + 2 and not verdict.clear
    gain = (verdict.order[data.test_labels] == predicted) * 1.0 - (data.test_labels == predicted)
    assert gain.mean() > CLEAR * gain.std() / np.sqrt(len(gain))


@pytest.mark.parametrize("seed", range(5))
def test_chance_is_no_order(seed):
    data = data_of(10, 100)
    assert not examine(np.random.default_rng(seed).integers(0, 10, 1000), data).clear
