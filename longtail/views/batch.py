"""The views of an optimizer step, and what a teacher sees of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longtail.views.normalize import constants
from longtail.views.recipe import ViewRecipe


def teacher_view(x: torch.Tensor, stride: int, offset: int) -> torch.Tensor:
    """What the teacher sees of a student's batch [..., S, S]: every stride-th pixel.

    At stride 7, offset 3 this is the published runs' `resize(224 -> 32, bicubic, antialias=False)`, without depending
    on a default that torchvision changed in 0.17 (METHODS 3.3, trap 10.1)."""
    return x[..., offset::stride, offset::stride]


def teacher_input(x: torch.Tensor, recipe: ViewRecipe) -> torch.Tensor:
    """What the teacher is given of `Batch.shown`, contiguous: weak views as they are, a student's through the slice.

    With `teacher_renormalize` in the teacher's own constants, as timm's TokenDistillationTask: what was mixed or erased
    goes through the same affine map, which commutes with mixing.
    """
    if recipe.teacher_view == "weak":
        return x.contiguous()
    seen = teacher_view(x, recipe.teacher_stride, recipe.teacher_offset)
    if recipe.teacher_renormalize:
        mean, std = constants(recipe.normalization, x.device)
        own_mean, own_std = constants(recipe.teacher_normalization, x.device)
        seen = (seen * std + mean - own_mean) / own_std
    return seen.contiguous()


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
    weak: torch.Tensor | None = None  # float32 [n, 3, H, W] where the teacher labels weak views of the same images

    @property
    def shown(self) -> torch.Tensor:
        """What the teacher labels, before `teacher_input`."""
        return self.x if self.weak is None else self.weak
