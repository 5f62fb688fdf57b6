"""How far the numbers of a student's analyses would move with other images: standard errors over the images at hand.

With them a difference of such numbers has an interval over training seeds and images (report/claims). And how far CLS
and DIST are apart on the test images' evaluation views: nothing is mixed there, where the training views of a recipe
are mixed for a part of the epochs, so that distances of different epochs or recipes are not of the same kind of image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from longtail.analysis.attention import attention_probabilities, patch_distances
from longtail.analysis.student import TOKENS, Student, basis_at, tokens_of_blocks
from longtail.models.vit import cls_dist_distance, special_tokens

RESAMPLES = 200


class Spread(NamedTuple):
    """A line of image_spread.csv; the places that a number does not have are empty."""

    metric: str
    images: str = ""
    block: int | str = ""
    token: str = ""
    centring: str = ""
    rows: str = "mean"  # over the heads of a block: their mean, or the smallest; of feature rank: the mean over blocks
    stderr: float = 0.0
    n: int = 0


def standard_error(values: np.ndarray) -> float:
    """Of the mean of values [n], n >= 2: NaN for one."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def distances_by_image(probs: Tensor, grid: int, patch_size: int, special: int) -> Tensor:
    """Of every image: mean over patch queries of sum_j a_ij d_ij in pixels. probs: [B, h, N, N]. Returns [B, h]; the
    mean over images is attention.mean_attention_distance."""
    patches = probs[:, :, special:, special:]
    return (patches * patch_distances(grid, patch_size).to(patches)).sum((-2, -1)) / grid**2


def attention_spread(student: Student, images: np.ndarray, name: str) -> list[Spread]:
    """Of each block: of the mean over its heads, and of its most local head (the smallest mean over images)."""
    shape = student.shape.grid, student.shape.patch_size, student.special
    parts = [
        torch.stack([distances_by_image(maps, *shape) for maps in attention_probabilities(student.model, x)])
        for x in student.batches(images)
    ]
    by_image = torch.cat(parts, 1).double().cpu().numpy()  # [L, n, h]
    found = []
    for block, of in enumerate(by_image):
        local = of[:, of.mean(0).argmin()]
        about = {"images": name, "block": block, "n": len(images)}
        found.append(Spread("attention_distance", **about, stderr=standard_error(of.mean(1))))
        found.append(Spread("attention_distance", **about, rows="min", stderr=standard_error(local)))
    return found


def rank_spread(student: Student, images: np.ndarray, tail: np.ndarray, labels: np.ndarray, seed: int) -> list[Spread]:
    """Of the rank, mean over blocks, of each token and centring: by a bootstrap of the tail's images within classes,
    the same draws for every block; the basis, of all classes' images, stays. tail: positions in `images`; labels: of
    all of them."""
    tokens, found = tokens_of_blocks(student, images), []
    drawn = _resampled(labels[tail], seed)
    for number, token in enumerate(TOKENS[: student.special]):
        ranks = {"both": [], "all_only": []}
        for block in tokens[:, :, number]:
            basis, features = basis_at(block)
            for centring, of in ranks.items():
                centred = features[tail] - (basis.mean if centring == "both" else 0.0)
                of.append(_ranks(drawn @ np.square(centred @ basis.vectors.T)))
        for centring, of in ranks.items():
            stderr = float(np.mean(of, axis=0).std(ddof=1))
            found.append(Spread("feature_rank", token=token, centring=centring, stderr=stderr, n=len(tail)))
    return found


def _resampled(labels: np.ndarray, seed: int) -> np.ndarray:
    """How often each image is drawn, float64 [RESAMPLES, m]: as many of each class as it has, with replacement."""
    rng, counts = np.random.default_rng([seed, RESAMPLES]), np.zeros((RESAMPLES, len(labels)))
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        counts[:, mine] = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=RESAMPLES)
    return counts


def _ranks(energy: np.ndarray, tolerance: float = 0.01) -> np.ndarray:
    """attention.rank_in of many sets of images at once. energy: [R, d], in each direction. Returns int64 [R]."""
    residual = np.concatenate([np.cumsum(energy[:, ::-1], 1)[:, ::-1], np.zeros((len(energy), 1))], 1)
    return (residual <= tolerance * residual[:, :1]).argmax(1)


@torch.no_grad()
def apart_on_views(student: Student, images: np.ndarray) -> np.ndarray:
    """1 - cosine of CLS and DIST of every image's evaluation view, float64 [n]; of a student with DIST."""
    parts = [cls_dist_distance(special_tokens(student.model, x)).double().cpu() for x in student.batches(images)]
    return torch.cat(parts).numpy()


def spreads(student: Student, selections: dict[str, np.ndarray], tested: tuple, seed: int) -> list[Spread]:
    """Of attention distance on each selection of images and of feature rank. tested: all test images, the tail's
    positions among them, all their labels."""
    images, tail, labels = tested
    found = [line for name, of in selections.items() for line in attention_spread(student, of, name)]
    return found + rank_spread(student, images, tail, labels, seed)
