"""Does a model number its classes as the dataset does? The permutation detector (METHODS traps 5 and 7).

A checkpoint trained with another order of classes predicts well, but other numbers; nothing in the file tells. Here the
order that agrees best with the test labels is sought, on one half of each class's images, and judged on the other half:
without that, a model that is merely weak would seem improved by exchanging the classes that it confuses. An order is an
int64 [C]: order[i] is the output that stands for class i. 8,142 classes: half a minute and 2 GB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from longtail.data.long_tail import LongTail

CLEAR = 4.0  # standard errors by which another order must be better; correct models of this project stay below 1


@dataclass(frozen=True)
class Verdict:
    """What the test set says of the order of a model's outputs. Accuracies in %."""

    as_is: float
    best: float  # under `order`, all test images
    order: np.ndarray  # int64 [C], the best for all test images
    clear: bool  # better than as it is by more than chance, on images that it was not chosen by
    known: str | None  # name of a known order that does as well within chance, if any
    known_top1: float | None


def examine(predicted: np.ndarray, data: LongTail) -> Verdict:
    """predicted: int64 [M], the number of the largest output for each test image."""
    labels, classes = data.test_labels, data.num_classes
    unseen = np.empty(len(labels), bool)  # hits under the order that the other half of the images chose
    half = _half_of_each_class(labels)
    for part in (half, ~half):
        unseen[part] = best_order(predicted[~part], labels[~part], classes)[labels[part]] == predicted[part]
    order = best_order(predicted, labels, classes)
    hits = {name: known[labels] == predicted for name, known in known_orders(data).items()}
    known = max(hits, key=lambda name: hits[name].sum(), default=None)
    if known is not None and _clearly(unseen, hits[known]):
        known = None
    return Verdict(
        as_is=_top1(labels == predicted),
        best=_top1(order[labels] == predicted),
        order=order,
        clear=_clearly(unseen, labels == predicted),
        known=known,
        known_top1=None if known is None else _top1(hits[known]),
    )


def best_order(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The order with the most hits; among equals, one that leaves the most classes where they are."""
    from scipy.optimize import linear_sum_assignment

    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    gain = confusion * (classes + 1)  # so that one hit outweighs every class that stays in place
    gain[np.arange(classes), np.arange(classes)] += 1
    return linear_sum_assignment(gain, maximize=True)[1].astype(np.int64)


def known_orders(data: LongTail) -> dict[str, np.ndarray]:
    """Orders that are in use elsewhere, by name, where they differ from the dataset's own.

    frequency: by falling number of training images (ImageNet-LT and iNaturalist in DeiT-LT and Saddle-LongTail; classes
    of equal number in the dataset's order). numbers_as_text: class numbers sorted as text, 0, 1, 10, 100, … (folders
    named by number). names_as_text: class names sorted as text. names_as_numbers: by the number that each name is.
    source: as the source numbers them, where the dataset relabels its classes (METHODS trap 5).
    """
    classes, names = data.num_classes, list(data.class_names)
    keys = {}
    if (class_map := data.class_map) is not None:  # our label of each label of the source
        keys["source"] = np.argsort(class_map).tolist()
    keys |= {
        "frequency": [-int(count) for count in data.class_counts],
        "numbers_as_text": [str(number) for number in range(classes)],
        "names_as_text": names,
    }
    if all(name.isdecimal() for name in names):
        keys["names_as_numbers"] = [int(name) for name in names]
    orders = {}
    for name, key in keys.items():
        at = np.array(sorted(range(classes), key=key.__getitem__))  # class of each output; stable
        order = np.empty(classes, np.int64)
        order[at] = np.arange(classes)
        if not np.array_equal(order, np.arange(classes)) and not any(np.array_equal(order, o) for o in orders.values()):
            orders[name] = order
    return orders


def moves(order: np.ndarray, data: LongTail) -> str:
    """The classes that an order moves, in words: `cat: output 5, dog: output 3`."""
    listed = [f"{data.class_names[i]}: output {j}" for i, j in enumerate(order.tolist()) if i != j]
    listed = listed or ["the dataset's order"]
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return ", ".join(listed[:10]) + more


def _half_of_each_class(labels: np.ndarray) -> np.ndarray:
    """bool [M]: every second image of each class, in the order of the test set."""
    half = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        half[np.flatnonzero(labels == label)[::2]] = True
    return half


def _top1(hits: np.ndarray) -> float:
    return 100 * float(hits.mean())


def _clearly(better: np.ndarray, worse: np.ndarray) -> bool:
    """Is the mean of `better` above that of `worse`, image by image, by more than chance? bool [M] each."""
    gain = better.astype(np.int64) - worse
    spread = gain.std() / np.sqrt(len(gain))
    return bool(gain.mean() > CLEAR * spread)
