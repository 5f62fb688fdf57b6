"""The epoch that is chosen on validation images: the only one of the three (last, best on the test set, chosen) for
which more than one epoch was looked at and no test image was.

Validation images are those of the dataset file (data/config.py, ValidationConfig): a hold-out of the training images,
or the source's own list. The score is the mean of the accuracies of the classes that have any, as the test set is
balanced and a hold-out is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

VALIDATION = "validation"  # in names of files and arrays, beside last and best
COLUMN = "val_balanced"  # in history.csv; of a student with a head's name behind it


def balanced_accuracy(logits: Tensor, labels: np.ndarray) -> float:
    """Mean of the accuracies of the classes that occur, in %, to four decimals. logits: [V, C]; labels: int64 [V]."""
    right = (logits.argmax(1).cpu().numpy() == labels).astype(np.float64)
    images = np.bincount(labels)
    return round(100 * float((np.bincount(labels, right)[images > 0] / images[images > 0]).mean()), 4)


@dataclass
class Chosen:
    """The epoch with the highest score so far, the first of equals, and what is kept of it."""

    epoch: int = -1
    score: float = -1.0
    kept: dict[str, Any] = field(default_factory=dict)

    def better(self, score: float) -> bool:
        """Would this score be chosen?"""
        return score > self.score

    def take(self, epoch: int, score: float, kept: dict[str, Any]) -> None:
        self.epoch, self.score, self.kept = epoch, score, kept
