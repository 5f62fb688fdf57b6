"""A map of a CNN's features by t-SNE: test images of one class of each of ten frequency groups (DiVE Fig. 8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GROUPS = 10  # of classes, by their number of training images
IMAGES = 100  # of a class at most
SEED, PERPLEXITY = 0, 30.0  # the paper states neither


def one_of_each_group(class_counts: Sequence[int], groups: int = GROUPS) -> list[int]:
    """The class in the middle of each of `groups` groups of as equal a size as can be, from the most frequent group to
    the rarest; all classes where there are no more. Of an even group the more frequent one of the two in the middle."""
    ordered = np.argsort(-np.asarray(class_counts), kind="stable")
    parts = np.array_split(ordered, min(groups, len(ordered)))
    return [int(part[(len(part) - 1) // 2]) for part in parts]


def chosen_images(labels: np.ndarray, classes: Sequence[int], most: int = IMAGES) -> np.ndarray:
    """Places of the first `most` images of each class, int64, class after class. labels: int64 [M]."""
    return np.concatenate([np.flatnonzero(labels == k)[:most] for k in classes])


def tsne(found: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Places in the plane, float32 [N, 2], of float [N, d]: scikit-learn's t-SNE from the first two principal
    components, perplexity 30, or what a third of fewer than 90 images allows. Raises ValueError for fewer than 4."""
    if len(found) < 4:
        raise ValueError(f"a map needs at least 4 images, found {len(found)}")
    from sklearn.manifold import TSNE  # a second, which only this needs

    perplexity = min(PERPLEXITY, (len(found) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(found)
