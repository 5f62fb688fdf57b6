"""Mixup and CutMix within groups, and their soft targets, as timm 0.8.15's `Mixup(mode='batch')` (METHODS 3.7 row 7).

One draw for a whole group; the partner of view i is view n - 1 - i of the same group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from longtail.base import rng

_CACHE_FLOATS = 2**18  # mixed at a time on a CPU, so that temporaries stay in its cache; no effect on the values


@dataclass(frozen=True)
class Mix:
    """What happens to one group."""

    lam: float  # weight of the own label; 1 = nothing is mixed
    box: tuple[int, int, int, int] | None = None  # CutMix: top, bottom, left, right of what the partner replaces


def draw(recipe, seed: int, epoch: int, groups: list[int]) -> list[Mix]:
    """Parameters of groups (their numbers within the epoch). recipe: a ViewRecipe."""
    if epoch >= recipe.mix_until or not (recipe.mixup_alpha or recipe.cutmix_alpha):
        return [Mix(1.0)] * len(groups)
    return [_mix(recipe, *words) for words in rng.draws(seed, "mix", epoch, groups, 5)]


def _mix(recipe, applied, switch, lam, y, x) -> Mix:
    """One group's, from a 32-bit word for each purpose."""
    if rng.unit(applied) >= recipe.mix_prob:
        return Mix(1.0)
    cutmix = recipe.cutmix_alpha > 0 and (recipe.mixup_alpha == 0 or rng.unit(switch) < recipe.switch_prob)
    weight = float(rng.beta_table(recipe.cutmix_alpha if cutmix else recipe.mixup_alpha)[lam >> 16])
    if not cutmix or weight == 1.0:
        return Mix(weight)
    size = recipe.size
    return cutmix_box(weight, int(rng.below(y, size)), int(rng.below(x, size)), size)


def cutmix_box(lam: float, y: int, x: int, size: int) -> Mix:
    """Square of area 1 - lam around (y, x), clipped to the view, and the lam that is left: timm 0.8.15's rand_bbox.

    Half a side is rounded down at both ends, so an odd side loses a pixel and a side of 1 all; timm 1.0 has it whole.
    """
    half = int(size * np.sqrt(1 - lam)) // 2
    top, bottom, left, right = (min(max(v, 0), size) for v in (y - half, y + half, x - half, x + half))
    return Mix(1.0 - (bottom - top) * (right - left) / (size * size), (top, bottom, left, right))


def apply_(x: torch.Tensor, mix: Mix) -> None:
    """Mix one group in place. x: float [n, 3, S, S], n even."""
    if len(x) % 2:
        raise ValueError(f"a group is mixed in pairs; found {len(x)} views")
    if mix.box is not None:
        top, bottom, left, right = mix.box
        x[:, :, top:bottom, left:right] = x[:, :, top:bottom, left:right].flip(0)
        return
    rows = max(1, _CACHE_FLOATS // x[0].numel()) if x.device.type == "cpu" else len(x)
    for start in range(0, len(x) // 2, rows):  # two copies of a whole group would spend the time on page faults
        stop = min(start + rows, len(x) // 2)
        first, second = x[start:stop], x[len(x) - stop : len(x) - start]
        of_first = first.flip(0).mul_(1.0 - mix.lam)
        first.mul_(mix.lam).add_(second.flip(0).mul_(1.0 - mix.lam))
        second.mul_(mix.lam).add_(of_first)
