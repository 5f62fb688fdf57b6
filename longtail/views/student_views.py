"""Views: the augmented batches of a run as a pure function of (images, recipe, seed, epoch, position).

DeiT-LT's pipeline (METHODS 3.5-3.7): crop, flip, RandAugment or 3-Augment and color jitter, normalization,
RandomErasing, then mixup or CutMix within each group. A teacher cache and a student that build `Views` from the same
recipe and seed see the same pixels whatever the batch size, device, backend, number of workers or resume point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from longtail.base import rng
from longtail.base.device import upload, view_checksums
from longtail.base.errors import UserError
from longtail.base.images import Images, sizes_of
from longtail.base.reused import Reused
from longtail.base.workers import made_ahead, makers
from longtail.views import draws, mix
from longtail.views.batch import Batch
from longtail.views.epoch import Layout
from longtail.views.normalize import constants, normalize, normalize_into
from longtail.views.ops import randaugment
from longtail.views.ops.erase_torch import erase_
from longtail.views.ops.padded_crop import padded_crops
from longtail.views.pixels import PillowPixels, TorchPixels, pick_backend
from longtail.views.recipe import ViewRecipe

_AHEAD = 1024  # views whose parameters are drawn at once: a NumPy or PyTorch call costs the same for 32
_ALL = slice(None)  # groups
_UNIT = 64  # views that a worker process makes at a time
_STEPS_AHEAD = 2  # that worker processes make before they are asked for


class Views:
    """All views of a run. Keeps only what it drew last, for speed; safe to copy into worker processes."""

    def __init__(
        self,
        recipe: ViewRecipe,
        images: Images | np.ndarray,
        seed: int,
        backend: str = "auto",
        device: torch.device | str = "cpu",
        labels: np.ndarray | None = None,
    ) -> None:
        """images: uint8 [N, H, W, 3], or Images of any sizes. backend: `pil`, `torch` or `auto`; it and the device,
        where batches are wanted, decide where the views are made and change none. labels: int64 [N], which a
        class-balanced recipe needs. Raises UserError where images are too few to fill one pair a rank, or too uneven
        for weak views."""
        in_memory = isinstance(images, np.ndarray)
        if in_memory and (images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8):
            raise ValueError(f"images must be uint8 [N, H, W, 3], found {images.dtype} {list(images.shape)}")
        if recipe.teacher_view == "weak" and not (in_memory and images.shape[1] == images.shape[2]):
            raise UserError("teacher_view weak needs images that are square, of one size and in memory")
        if recipe.sampler == "class_balanced" and labels is None:
            raise ValueError("a class-balanced recipe needs the images' labels")
        self.recipe, self.images, self.seed = recipe, images, seed
        self.key = rng.of_family(seed, recipe.family)  # the seed of all draws
        self._labels = labels if recipe.sampler == "class_balanced" else None
        self.layout = Layout(
            images=len(images),
            repeats=recipe.repeats,
            ranks=recipe.virtual_world,
            group=recipe.mix_group,
            accumulate=recipe.accumulate,
            round_to=recipe.round_to,
        )
        if self.layout.views_per_rank < 2:
            raise UserError(f"{len(images)} images are too few for {recipe.virtual_world} ranks of at least 2 views")
        self.device = torch.device(device)
        self.backend = pick_backend(backend, self.device, recipe.size, in_memory)
        maker = TorchPixels if self.backend == "torch" else PillowPixels
        self._pixels = maker(images, recipe, self.device)
        self._sizes = sizes_of(images)
        self._mean, self._std = constants(recipe.normalization)
        self._floats, self._bytes = Reused(np.float32), Reused(np.uint8)
        # every value normalized on the CPU, for other devices: CUDA divides by a number by multiplying with its inverse
        levels = normalize(torch.arange(256, dtype=torch.uint8).expand(3, 1, 256), self._mean, self._std)
        self._levels = levels.flatten().to(self.device)
        self._channel = torch.arange(0, 768, 256, dtype=torch.int32).view(3, 1, 1).to(self.device)
        self._order: tuple[int, np.ndarray | None] = (-1, None)
        self._window: tuple = (None, None, None, None)

    @property
    def positions_per_epoch(self) -> int:
        return self.layout.positions

    @property
    def steps_per_epoch(self) -> int:
        return self.layout.steps

    @property
    def workers(self) -> int:
        """Processes that `steps` takes unless told; none for images in memory."""
        return 0 if isinstance(self.images, np.ndarray) else makers()

    def groups_of_step(self, step: int, groups: slice = _ALL) -> list[slice]:
        """Rows of each group within `step(epoch, step)`, or in a batch of some groups alone. A step's loss is the sum
        over its groups of the group's loss, divided by accumulate * virtual_world also where the step has fewer groups
        (METHODS 3.5)."""
        wanted = self.layout.groups_of_step(step)[groups]
        return [slice(g.start - wanted[0].start, g.stop - wanted[0].start) for g in wanted]

    def lr_fraction(self, step: int) -> float:
        """Fraction of the epoch at which the learning rate of a step is read (METHODS 3.5)."""
        return self.layout.lr_fraction(step)

    def order(self, epoch: int) -> np.ndarray:
        """Image shown at each position, int64 [positions_per_epoch]."""
        known, order = self._order
        if known != epoch:
            order = self.layout.order(self.key, epoch, self._labels)
            self._order = (epoch, order)
        return order

    def draws(self, epoch: int, positions: np.ndarray) -> draws.ViewDraws:
        """Parameters of the views at positions (int [n])."""
        height, width = self._sizes[self.order(epoch)[positions]].T
        return draws.view_draws(self.recipe, self.key, epoch, positions, height, width, len(randaugment.OPS))

    def pixels(self, epoch: int, positions: np.ndarray, drawn: draws.ViewDraws | None = None) -> torch.Tensor:
        """Cropped, flipped, augmented pixels, before normalization: uint8 [n, 3, S, S] on the device."""
        return self._pixels(self.order(epoch)[positions], drawn or self.draws(epoch, positions))

    def unmixed(self, epoch: int, positions: np.ndarray) -> torch.Tensor:
        """Normalized and erased, not mixed: float32 [n, 3, S, S]."""
        drawn = self.draws(epoch, positions)
        return self._erased(epoch, positions, self.pixels(epoch, positions, drawn), drawn.erase)

    def _erased(self, epoch: int, positions: np.ndarray, pixels: torch.Tensor, boxes: np.ndarray) -> torch.Tensor:
        if pixels.device.type != "cpu":
            x = self._levels[pixels.to(torch.int32) + self._channel]
            erase_(x, self.key, epoch, positions, boxes)
            return x
        x = torch.from_numpy(self._floats.empty(*pixels.shape))
        normalize_into(x, pixels, self._mean, self._std)
        rows = np.flatnonzero(boxes[:, 2])
        noise = draws.erase_noise(self.key, epoch, positions[rows], 3 * boxes[rows, 2] * boxes[rows, 3])
        for row, box, values in zip(rows.tolist(), boxes[rows].tolist(), noise, strict=True):
            left, top, width, height = box
            x[row, :, top : top + height, left : left + width] = torch.from_numpy(values).view(3, height, width)
        return x

    def weak(self, epoch: int, positions: np.ndarray) -> torch.Tensor:
        """Weak views of the images at positions, before normalization: RandomCrop with zero padding at the images' own
        size and flip, as CIFAR teachers are trained with (METHODS 2.3); uint8 [n, 3, H, H] on the CPU."""
        corner, flip = draws.weak_draws(self.recipe, self.key, epoch, positions)
        images = torch.from_numpy(self.images[self.order(epoch)[positions]]).permute(0, 3, 1, 2).contiguous()
        corner, flip = torch.from_numpy(corner), torch.from_numpy(flip)
        return padded_crops(images, corner, flip, images.shape[3], self.recipe.teacher_padding, reflect=False)

    def step(self, epoch: int, step: int, digest: bool = False, groups: slice = _ALL) -> Batch:
        """The views of one optimizer step, or of some of its groups; digest: also hash them (about 5 % of the time),
        see `checksum`."""
        positions, drawn, mixes, pixels = self._made(epoch, step, groups)
        if pixels is None:
            pixels = self.pixels(epoch, positions, drawn)
        return self._batch(epoch, positions, drawn, mixes, pixels, self.groups_of_step(step, groups), digest)

    def steps(
        self,
        epoch: int,
        first: int = 0,
        workers: int | None = None,
        digest: bool = False,
        groups: Callable[[int], slice] = lambda step: _ALL,
    ) -> Iterator[Batch]:
        """`step` of every step from `first` on, with the views made ahead by worker processes: `workers` of them, 0 =
        in this process, None = as the property says. Views that PyTorch makes need none and take none. The processes
        end with the iterator. groups: which groups of a step are wanted."""
        workers = self.workers if workers is None else workers
        steps = range(first, self.steps_per_epoch)
        if not workers or self.backend == "torch":
            yield from (self.step(epoch, step, digest, groups(step)) for step in steps)
            return
        self.order(epoch)  # known before the processes are forked
        parts = {step: _parts(self.layout.groups_of_step(step)[groups(step)]) for step in steps}
        units = [np.arange(part.start, part.stop) for step in steps for part in parts[step]]
        depth = -(-_STEPS_AHEAD * max(map(len, parts.values()), default=0) // workers)
        shape = _UNIT, 3, self.recipe.size, self.recipe.size
        with closing(made_ahead(partial(self._fill, epoch), units, shape, workers, max(2, depth))) as made:
            for step in steps:
                some = groups(step)
                positions, drawn, mixes, _ = self._made(epoch, step, some)
                pixels = self._empty(len(positions), *shape[1:])
                for part in parts[step]:
                    rows = slice(part.start - positions[0], part.stop - positions[0])
                    pixels[rows] = upload(next(made)[: part.stop - part.start], self.device)
                yield self._batch(epoch, positions, drawn, mixes, pixels, self.groups_of_step(step, some), digest)

    def _empty(self, *shape: int) -> torch.Tensor:
        if self.device.type == "cpu":
            return torch.from_numpy(self._bytes.empty(*shape))
        return torch.empty(*shape, dtype=torch.uint8, device=self.device)

    def _fill(self, epoch: int, positions: np.ndarray, pixels: np.ndarray) -> None:
        """What a worker process does: `pixels` into the first rows of an array, without touching the device."""
        self._pixels.into(pixels[: len(positions)], self.order(epoch)[positions], self.draws(epoch, positions))

    def _batch(self, epoch: int, positions: np.ndarray, drawn, mixes, pixels, rows: list[slice], digest: bool) -> Batch:
        x = self._erased(epoch, positions, pixels, drawn.erase)
        index = torch.from_numpy(self.order(epoch)[positions])
        partner, lam = index.clone(), torch.ones(len(index))
        for row, what in zip(rows, mixes, strict=True):
            if what.lam != 1.0:
                mix.apply_(x[row], what)
                lam[row] = what.lam
                partner[row] = index[row].flip(0)
        batch = Batch(x=x, index=index, partner=partner, lam=lam, positions=torch.from_numpy(positions), groups=rows)
        shown = [pixels]
        if self.recipe.teacher_view == "weak":
            shown.append(self.weak(epoch, positions))
            weak = normalize(shown[1], *constants(self.recipe.teacher_normalization))
            batch = replace(batch, weak=upload(weak.numpy(), self.device))
        return replace(batch, digest=_digest(shown, index, drawn.erase, mixes)) if digest else batch

    def _made(
        self, epoch: int, step: int, groups: slice
    ) -> tuple[np.ndarray, draws.ViewDraws, list[mix.Mix], torch.Tensor | None]:
        """Positions of some groups of a step, their views' and their own parameters, and pixels where PyTorch makes all
        of the step's. What costs the same for one view and for many is done for several small steps at once: draws, and
        pixels by PyTorch."""
        of = self.layout
        ahead = max(1, _AHEAD // (of.accumulate * of.group * of.ranks))
        together = self.backend == "torch" and groups == _ALL
        key, first = (epoch, step // ahead, together), step // ahead * ahead
        every = [g for s in range(first, min(first + ahead, of.steps)) for g in of.groups_of_step(s)]
        start = every[0].start
        known, drawn, mixes, pixels = self._window
        if known != key:
            positions = np.arange(start, every[-1].stop)
            drawn = self.draws(epoch, positions)
            mixes = mix.draw(self.recipe, self.key, epoch, [of.group_number(g) for g in every])
            pixels = self.pixels(epoch, positions, drawn) if together else None
            self._window = (key, drawn, mixes, pixels)
        mine = of.groups_of_step(step)[groups]
        positions = np.arange(mine[0].start, mine[-1].stop) if mine else np.arange(0)
        rows = slice(mine[0].start - start, mine[-1].stop - start) if mine else slice(0)
        mixes = [what for what, group in zip(mixes, every, strict=True) if group in mine]
        return positions, drawn.rows(rows), mixes, None if pixels is None else pixels[rows]

    def checksum(self, epoch: int) -> str:
        """sha256 (hex) of an epoch; equals `combine` of its steps' digests, for a caller that walks them anyway."""
        return combine(batch.digest for batch in self.steps(epoch, digest=True))


def combine(digests: Iterable[bytes]) -> str:
    """The checksum of an epoch, sha256 (hex), from the digests of all its steps in order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _parts(groups: list[slice]) -> list[slice]:
    """The positions of adjacent groups in runs of at most _UNIT."""
    start, stop = (groups[0].start, groups[-1].stop) if groups else (0, 0)
    return [slice(at, min(at + _UNIT, stop)) for at in range(start, stop, _UNIT)]


def _digest(shown: list[torch.Tensor], index: torch.Tensor, boxes: np.ndarray, mixes: list[mix.Mix]) -> bytes:
    """shown: pixels of the views, and of the teacher's where they are others."""
    sha = hashlib.sha256()
    for pixels in shown:
        sha.update(view_checksums(pixels).cpu().numpy().astype("<i8"))
    sha.update(index.numpy().astype("<i8"))
    sha.update(boxes.astype("<i8"))
    sha.update(repr([(m.lam, m.box) for m in mixes]).encode())
    return sha.digest()
