"""A student's features beside those that it is held against: how far they have drifted, and whose images lie nearest.

The nearest neighbours are CBD's Fig. 4; the drift is ours. What a student is held against is as training has it
(longtail/losses/cbd.py): each source's pooled feature at unit length, joined, at unit length again; its own feature is
what its classifier is fed, with several sources h(v). Both see the test view of the student, in eval mode and float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.analysis.student import spread
from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail
from longtail.evaluation.metrics import class_means, group_mean
from longtail.losses.cbd import feature_distances, joined_features
from longtail.models.combined import width_of
from longtail.training.labels import seed_folder
from longtail.training.taught import as_tested
from longtail.training.teacher import TestSet, load_sources, load_teacher
from longtail.training.teacher_config import TeacherConfig
from longtail.views.normalize import normalize

FEATURES = ("teacher", "student")
ROWS = 4096  # queries whose cosines are held at once


@dataclass(frozen=True)
class Pair:
    """One seed of a student and of what it is held against, in eval mode, float32, without gradients."""

    student: nn.Module
    sources: tuple[nn.Module, ...]
    config: TeacherConfig  # the student's: how all of them are shown an image
    device: torch.device

    def batches(self, data: LongTail) -> Iterator[tuple[Tensor, Tensor]]:
        """Features of the teachers together and of the student, float32 [n, d] of unit length on the device, of the
        test images in order."""
        shown = TestSet(self.config, data, self.device)
        for batch in shown.batches():
            x = normalize(batch, shown.mean, shown.std)
            target = joined_features([source.features(x) for source in self.sources])
            yield target, F.normalize(self.student.features(x).float(), dim=1)


def load_pair(
    config: TeacherConfig, run: Path, sources: Sequence[Path], data: LongTail, seed: int, device: torch.device
) -> Pair:
    """Seed k of the student in `run` and those of its teachers (folders of stages/train_teacher.py) that taught it.

    Raises UserError as training does, and where the features cannot be compared as their widths differ.
    """
    teachers = tuple(source.network for source in load_sources(config, sources, data, seed, device))
    student, found = load_teacher(seed_folder(run, seed), data, device)
    widths = [width_of(network) for network in teachers]
    if (own := width_of(student)) != sum(widths):
        told = ", ".join(f"{path.name} {width}" for path, width in zip(sources, widths, strict=True))
        raise UserError(
            f"{run}: has features of {own}, what it is held against of {sum(widths)} ({told}); equal widths alone can"
            " be compared: name a student of its teachers' width, or one with a projection to it"
        )
    return Pair(student, teachers, found, device)


class Nearest:
    """The k images nearest to each query by cosine, of images that come some at a time: of equal cosines those that
    came first. Holds the queries and k numbers for each, whatever the number of images."""

    def __init__(self, queries: Tensor, k: int) -> None:
        """queries: float [M, d] of unit length."""
        self.queries, self.k, self.seen = queries, k, 0
        self.cosines = queries.new_full((len(queries), k), -torch.inf)
        self.places = torch.full((len(queries), k), -1, device=queries.device)

    def add(self, images: Tensor) -> None:
        """images: float [n, d] of unit length, behind those that were added before."""
        places = torch.arange(self.seen, self.seen + len(images), device=images.device)
        self.seen += len(images)
        for start in range(0, len(self.queries), ROWS):
            rows = slice(start, start + ROWS)
            kept = self.places[rows]
            cosines = torch.cat([self.cosines[rows], self.queries[rows] @ images.T], 1)
            places_of = torch.cat([kept, places.expand(len(kept), -1)], 1)
            for rank in range(self.k):  # argmax, unlike topk, takes the first of equals
                best = cosines.argmax(1, keepdim=True)
                self.cosines[rows, rank] = cosines.gather(1, best)[:, 0]
                self.places[rows, rank] = places_of.gather(1, best)[:, 0]
                cosines.scatter_(1, best, -torch.inf)

    def found(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of the images, int64 [M, k], nearest first, and their cosines, float [M, k]. Raises ValueError where
        fewer than k were added."""
        if self.seen < self.k:
            raise ValueError(f"{self.k} nearest of {self.seen} images")
        return self.places.cpu().numpy(), self.cosines.cpu().numpy()


@dataclass(frozen=True)
class Compared:
    """What one seed's two features say of all images."""

    drift: dict[str, np.ndarray]  # of the images `train` and `test`: 1 - cosine of each, float64
    nearest: dict[str, tuple[np.ndarray, np.ndarray]]  # by FEATURES: `Nearest.found`, test among training images


@torch.no_grad()
def compare(pair: Pair, data: LongTail, k: int) -> Compared:
    """Every test image and then every training image once, un-augmented, a batch at a time; of the features those of
    the test images are held. Raises UserError where there are fewer than k training images."""
    if len(data.train_labels) < k:
        raise UserError(f"dataset {data.name} has {len(data.train_labels)} training images, {k} nearest are asked for")
    nearest, tested = _queries(pair, data, k)
    apart = {"train": [], "test": tested}
    for both in pair.batches(as_tested(data)):
        apart["train"].append(feature_distances(both[1], both[0]).cpu())
        for found, images in zip(nearest, both, strict=True):
            found.add(images)
    drift = {name: torch.cat(parts).double().numpy() for name, parts in apart.items()}
    return Compared(drift, {of: found.found() for of, found in zip(FEATURES, nearest, strict=True)})


def _queries(pair: Pair, data: LongTail, k: int) -> tuple[list[Nearest], list[Tensor]]:
    """The test images as queries by FEATURES, and 1 - cosine of both features, a tensor a batch."""
    held, apart = ([], []), []
    for both in pair.batches(data):
        apart.append(feature_distances(both[1], both[0]).cpu())
        for parts, images in zip(held, both, strict=True):
            parts.append(images)
    return [Nearest(torch.cat(parts), k) for parts in held], apart


def by_group(values: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, list[float | None]]:
    """Means of a number of each image: of each class, float64 [C], NaN without images; and of all classes and of each
    group's, where every class counts alike, None without images. values [M]; labels int64 [M]; groups int64 [C]."""
    means = class_means(values, labels, len(groups)) / 100  # which gives %
    members = [np.ones(len(groups), bool), *(groups == number for number in range(3))]
    return means, [group_mean(means, chosen) for chosen in members]


def right_share(places: np.ndarray, train_labels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of the k nearest that are of the query's own class, float64 [M]. places: int64 [M, k]; labels int64 [M]."""
    return (train_labels[places] == labels[:, None]).mean(1)


def most_right(class_counts: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """The highest share that a query's class allows, float64 [M]: one of fewer than k training images cannot fill k."""
    return np.minimum(class_counts, k)[labels] / k


def queries(labels: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Places of the test images whose neighbours are shown, int64: of each group `count`, its classes in turn, the
    first image of each. Nobody picks them. labels: int64 [M]; groups: int64 [C], each class's."""
    return np.concatenate([spread(labels, np.flatnonzero(groups[labels] == number), count) for number in range(3)])
