"""Which image stands at which position of an epoch: repeated augmentation over virtual ranks.

DeiT's sampler (METHODS 3.6, `DLT:samplers.py`) as published ran on G = 2 GPUs; here the G rank streams are laid out on
one device, micro-batch by micro-batch, because mixing partners and loss means are formed within one rank's
micro-batch. A position counts the views of an epoch in the order: micro-batch 0 of rank 0, micro-batch 0 of rank 1,
micro-batch 1 of rank 0, ...
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from longtail.base import rng


@dataclass(frozen=True)
class Layout:
    """The shape of an epoch; the same for every epoch of a run."""

    images: int  # N
    repeats: int  # consecutive copies of each image in the rank-interleaved stream
    ranks: int  # virtual world size G
    group: int  # views in a micro-batch of one rank: the unit of mixup/cutmix and of weighted loss means
    accumulate: int  # micro-batches of each rank in an optimizer step
    round_to: int  # images are rounded down to a multiple before they are shared out; 0 = no rounding

    @property
    def views_per_rank(self) -> int:
        """floor(floor(N / round_to) * round_to / G), or ceil(N / G) without rounding or with fewer images than
        round_to; one less where the last micro-batch would be odd, as mixing needs pairs."""
        rounded = self.images // self.round_to * self.round_to if self.round_to else 0
        views = rounded // self.ranks or -(-self.images // self.ranks)
        return views - views % 2  # group is even, so this is the parity of the last micro-batch

    @property
    def positions(self) -> int:
        """Views in an epoch."""
        return self.views_per_rank * self.ranks

    @property
    def micro_batches(self) -> int:
        """Micro-batches of each rank in an epoch; the last may be smaller than `group`."""
        return -(-self.views_per_rank // self.group)

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch; the last may have fewer micro-batches than `accumulate`."""
        return -(-self.micro_batches // self.accumulate)

    def groups_of_step(self, step: int) -> list[slice]:
        """Positions of each group (one rank's micro-batch) of a step, in order."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        slices = []
        for micro in range(step * self.accumulate, min((step + 1) * self.accumulate, self.micro_batches)):
            start = micro * self.group * self.ranks
            size = min(self.group, self.views_per_rank - micro * self.group)
            slices += [slice(start + r * size, start + (r + 1) * size) for r in range(self.ranks)]
        return slices

    def group_number(self, group: slice) -> int:
        """Number of a group within its epoch, in position order."""
        micro, within = divmod(group.start, self.group * self.ranks)
        return micro * self.ranks + within // (group.stop - group.start)

    def lr_fraction(self, step: int) -> float:
        """Fraction of the epoch at which a step's learning rate is read: the first micro-batch of its window over the
        micro-batches of the epoch, but the last micro-batch for the last window (METHODS 3.5)."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        micro = self.micro_batches - 1 if step == self.steps - 1 else step * self.accumulate
        return micro / self.micro_batches

    def loader_fraction(self, step: int) -> float:
        """The same as MAE and LiVT read it (LIVT:engine_pretrain.py): the first micro-batch of the window over those of
        a loader that drops the last incomplete one, but not a trailing incomplete window, which makes no step."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        whole = -(-self.images * self.repeats // self.ranks) // self.group
        return step * self.accumulate / max(whole, self.micro_batches)

    def order(self, seed: int, epoch: int, labels: np.ndarray | None = None) -> np.ndarray:
        """Image index at each position, int64 [positions]. labels: int64 [N], for a class-balanced stream."""
        shuffled = labels is None
        drawn = rng.permutation(seed, "order", epoch, self.images) if shuffled else class_balanced(seed, epoch, labels)
        stream = np.repeat(drawn, self.repeats)
        padded = np.resize(stream, -(-len(stream) // self.ranks) * self.ranks)  # wraps around, as DistributedSampler
        by_rank = padded.reshape(-1, self.ranks).T[:, : self.views_per_rank]  # rank r takes r, r + G, ...
        full = self.views_per_rank // self.group * self.group
        whole = by_rank[:, :full].reshape(self.ranks, -1, self.group).transpose(1, 0, 2).reshape(-1)
        return np.concatenate([whole, by_rank[:, full:].reshape(-1)])


def class_balanced(seed: int, epoch: int, labels: np.ndarray) -> np.ndarray:
    """Each draw is a class, all equally likely, then an image of it, all equally likely (cRT, METHODS 3.10).

    labels: int64 [N]. Returns N image indices, int64, with replacement: a tail image comes many times in an epoch.
    """
    counts = np.bincount(labels)
    by_class, first, present = np.argsort(labels, kind="stable"), np.cumsum(counts) - counts, np.flatnonzero(counts)
    words = rng.draws(seed, "class_balanced", epoch, np.arange(len(labels)), 2)
    drawn = present[rng.below(words[:, 0], len(present))]
    return by_class[first[drawn] + rng.below(words[:, 1], counts[drawn])]


def balanced_copies(seed: int, epoch: int, labels: np.ndarray, shown: int) -> np.ndarray:
    """Each image as often as makes the classes equal: r = N / (C·n_j) times, the whole part for sure and one more with
    the probability of the rest (CBD's code, METHODS 7.2), in a random order, all copies of an epoch together.

    labels: int64 [N]. Returns `shown` image indices, int64: where there are more copies than that the last ones of the
    order are left out, where there are fewer the first ones are repeated. A tail image comes nearly r times in every
    epoch, where `class_balanced` varies more.
    """
    counts = np.bincount(labels)
    wanted = len(labels) / (np.count_nonzero(counts) * counts[labels])
    words = rng.draws(seed, "copies", epoch, np.arange(len(labels)), 1)[:, 0]
    whole = np.floor(wanted)
    copies = whole.astype(np.int64) + (rng.unit(words) < wanted - whole)
    drawn = np.repeat(np.arange(len(labels)), copies)
    return np.resize(drawn[rng.permutation(seed, "teacher_order", epoch, len(drawn))], shown)
