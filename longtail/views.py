"""Views: the augmented batches of a run as a pure function of (images, recipe, seed, epoch, position).

DeiT-LT's pipeline (METHODS 3.5-3.7): RandomResizedCrop, flip, RandAugment, normalization, RandomErasing, then mixup or
CutMix within each group. A teacher cache and a student that build `Views` from the same recipe and seed see the same
pixels whatever the batch size, device, backend or resume point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from longtail import draws, mix, ops_pil
from longtail.checksum import view_checksums
from longtail.epoch import Layout
from longtail.erase_torch import erase_
from longtail.errors import UserError
from longtail.normalize import NORMALIZATION, constants, normalize
from longtail.pixels import PillowPixels, TorchPixels, pick_backend
from longtail.view_recipe import ViewRecipe

_AHEAD = 1024  # views whose parameters are drawn at once: a NumPy or PyTorch call costs the same for 32


def teacher_view(x: torch.Tensor, stride: int, offset: int) -> torch.Tensor:
    """What the teacher sees of a student's batch [..., S, S]: every stride-th pixel.

    At stride 7, offset 3 this is the published runs' `resize(224 -> 32, bicubic, antialias=False)`, without depending
    on a default that torchvision changed in 0.17 (METHODS 3.3, trap 10.1)."""
    return x[..., offset::stride, offset::stride]


@dataclass(frozen=True)
class Batch:
    """The views of one optimizer step, in position order."""

    x: torch.Tensor  # float32 [n, 3, S, S] on the views' device: normalized, erased, mixed; the rest is on the CPU
    index: torch.Tensor  # int64 [n], image
    partner: torch.Tensor  # int64 [n], image it is mixed with; its own where nothing is mixed
    lam: torch.Tensor  # float32 [n], weight of the own label; 1 where nothing is mixed
    positions: torch.Tensor  # int64 [n], position in the epoch
    groups: list[slice]  # rows of each group, in order
    digest: bytes = b""  # of the pixels and of what was erased and mixed; empty unless asked for


class Views:
    """All views of a run. Keeps only what it drew last, for speed; safe to copy into worker processes."""

    def __init__(
        self,
        recipe: ViewRecipe,
        images: np.ndarray,
        seed: int,
        backend: str = "auto",
        device: torch.device | str = "cpu",
        labels: np.ndarray | None = None,
    ) -> None:
        """images: uint8 [N, H, W, 3]. backend: `pil`, `torch` or `auto`; it and the device, where batches are wanted,
        decide where the views are made and change none. labels: int64 [N], which a class-balanced recipe needs.
        Raises UserError where images are too few to fill one pair a rank."""
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 [N, H, W, 3], found {images.dtype} {list(images.shape)}")
        if recipe.sampler == "class_balanced" and labels is None:
            raise ValueError("a class-balanced recipe needs the images' labels")
        self.recipe, self.images, self.seed = recipe, images, seed
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
        self.backend = pick_backend(backend, self.device, recipe.size)
        fill = ops_pil.fill_color(NORMALIZATION[recipe.normalization][0])
        maker = TorchPixels if self.backend == "torch" else PillowPixels
        self._pixels = maker(images, recipe.size, fill, self.device)
        self._mean, self._std = constants(recipe.normalization)
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

    def groups_of_step(self, step: int) -> list[slice]:
        """Rows of each group within `step(epoch, step)`. A step's loss is the sum over its groups of the group's loss,
        divided by accumulate * virtual_world also where the step has fewer groups (METHODS 3.5)."""
        groups = self.layout.groups_of_step(step)
        return [slice(g.start - groups[0].start, g.stop - groups[0].start) for g in groups]

    def lr_fraction(self, step: int) -> float:
        """Fraction of the epoch at which the learning rate of a step is read (METHODS 3.5)."""
        return self.layout.lr_fraction(step)

    def order(self, epoch: int) -> np.ndarray:
        """Image shown at each position, int64 [positions_per_epoch]."""
        known, order = self._order
        if known != epoch:
            order = self.layout.order(self.seed, epoch, self._labels)
            self._order = (epoch, order)
        return order

    def draws(self, epoch: int, positions: np.ndarray) -> draws.ViewDraws:
        """Parameters of the views at positions (int [n])."""
        height, width = self.images.shape[1:3]
        return draws.view_draws(self.recipe, self.seed, epoch, positions, height, width, len(ops_pil.OPS))

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
            erase_(x, self.seed, epoch, positions, boxes)
            return x
        x = normalize(pixels, self._mean, self._std)
        rows = np.flatnonzero(boxes[:, 2])
        noise = draws.erase_noise(self.seed, epoch, positions[rows], 3 * boxes[rows, 2] * boxes[rows, 3])
        for row, box, values in zip(rows.tolist(), boxes[rows].tolist(), noise, strict=True):
            left, top, width, height = box
            x[row, :, top : top + height, left : left + width] = torch.from_numpy(values).view(3, height, width)
        return x

    def step(self, epoch: int, step: int, digest: bool = False) -> Batch:
        """The views of one optimizer step; digest: also hash them (about 5 % of the time), see `checksum`."""
        positions, drawn, mixes, pixels = self._made(epoch, step)
        x = self._erased(epoch, positions, pixels, drawn.erase)
        index = torch.from_numpy(self.order(epoch)[positions])
        partner, lam = index.clone(), torch.ones(len(index))
        rows = self.groups_of_step(step)
        for row, what in zip(rows, mixes, strict=True):
            if what.lam != 1.0:
                mix.apply_(x[row], what)
                lam[row] = what.lam
                partner[row] = index[row].flip(0)
        batch = Batch(x=x, index=index, partner=partner, lam=lam, positions=torch.from_numpy(positions), groups=rows)
        return replace(batch, digest=_digest(pixels, index, drawn.erase, mixes)) if digest else batch

    def _made(self, epoch: int, step: int) -> tuple[np.ndarray, draws.ViewDraws, list[mix.Mix], torch.Tensor]:
        """Positions of a step, its views' and groups' parameters, and pixels. What costs the same for one view and for
        many is done for several small steps at once: draws, and pixels by PyTorch."""
        of = self.layout
        ahead = max(1, _AHEAD // (of.accumulate * of.group * of.ranks))
        key, first = (epoch, step // ahead), step // ahead * ahead
        groups = [g for s in range(first, min(first + ahead, of.steps)) for g in of.groups_of_step(s)]
        known, drawn, mixes, pixels = self._window
        if known != key:
            positions = np.arange(groups[0].start, groups[-1].stop)
            drawn = self.draws(epoch, positions)
            mixes = mix.draw(self.recipe, self.seed, epoch, [of.group_number(g) for g in groups])
            pixels = self.pixels(epoch, positions, drawn) if self.backend == "torch" else None
            self._window = (key, drawn, mixes, pixels)
        mine = of.groups_of_step(step)
        positions = np.arange(mine[0].start, mine[-1].stop)
        skipped = groups.index(mine[0])
        rows = slice(positions[0] - groups[0].start, positions[-1] + 1 - groups[0].start)
        drawn = drawn.rows(rows)
        pixels = self.pixels(epoch, positions, drawn) if pixels is None else pixels[rows]
        return positions, drawn, mixes[skipped : skipped + len(mine)], pixels

    def checksum(self, epoch: int) -> str:
        """sha256 (hex) of an epoch; equals `combine` of its steps' digests, for a caller that walks them anyway."""
        return combine(self.step(epoch, step, digest=True).digest for step in range(self.steps_per_epoch))


def combine(digests: Iterable[bytes]) -> str:
    """The checksum of an epoch, sha256 (hex), from the digests of all its steps in order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _digest(pixels: torch.Tensor, index: torch.Tensor, boxes: np.ndarray, mixes: list[mix.Mix]) -> bytes:
    sha = hashlib.sha256(view_checksums(pixels).cpu().numpy().astype("<i8"))
    sha.update(index.numpy().astype("<i8"))
    sha.update(boxes.astype("<i8"))
    sha.update(repr([(m.lam, m.box) for m in mixes]).encode())
    return sha.digest()
