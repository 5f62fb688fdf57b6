"""Labels by frequency rank (METHODS 1.3, traps 5 and 6).

DeiT-LT numbers the classes of ImageNet-LT and iNaturalist by their count of training images, PaCo's teachers and the
lists by synset or category: a teacher that ignores this distills near-random labels and still trains.
The published order of equal counts is that of an unstable sort and differs by NumPy version; here it is natural.
"""

from __future__ import annotations

import numpy as np


def frequency_rank(class_counts: np.ndarray) -> np.ndarray:
    """Our label of each natural label, int64 [C]: 0 for the largest class; equal counts in natural order."""
    class_map = np.empty(len(class_counts), np.int64)
    class_map[np.argsort(-class_counts, kind="stable")] = np.arange(len(class_counts))
    return class_map


def natural_labels(class_map: np.ndarray) -> np.ndarray:
    """Natural label of each of ours, int64 [C]: `logits[:, natural_labels(class_map)]` puts the columns of a model
    that was trained on natural labels into our order."""
    return np.argsort(class_map)
