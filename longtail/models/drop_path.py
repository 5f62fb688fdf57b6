"""Stochastic depth drawn for the view, not for the batch.

Whether a view skips a residual branch is a pure function of (seed, epoch, position, branch): it does not depend on what
else is in the batch, so neither on the size of a forward pass, nor on the number of processes, nor on a resume point.
The distribution is timm's: per view, kept with 1 - drop_prob, and what is kept is divided by 1 - drop_prob.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from longtail.base import rng


class DropPath(nn.Module):
    """One branch of one block. In training each forward pass needs its views' factors: see `use`."""

    def __init__(self, drop_prob: float, branch: int) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.branch = branch  # number of its word: 2 x block for the attention, one more for the MLP
        self.factors: Tensor | None = None  # float32 [B]: 0 where the branch is skipped, else 1 / (1 - drop_prob)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, ...]. Raises RuntimeError in training without factors for just these views."""
        if not self.training:
            return x
        if self.factors is None or len(self.factors) != len(x):
            raise RuntimeError(f"drop path: no factors for a batch of {len(x)} views")
        return x * self.factors.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def branches(model: nn.Module) -> list[DropPath]:
    """Those of a model, in order; none where nothing is ever skipped."""
    return [module for module in model.modules() if isinstance(module, DropPath)]


def draw(of: Sequence[DropPath], seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
    """Factors of the views at `positions` (int [n]), float32 [branches, n]."""
    if not of:
        return np.empty((0, len(positions)), np.float32)
    words = rng.draws(seed, "drop_path", epoch, positions, 1 + max(branch.branch for branch in of))
    keep = np.array([[1.0 - branch.drop_prob] for branch in of])
    kept = rng.unit(words[:, [branch.branch for branch in of]].T) < keep
    return (kept / keep).astype(np.float32)


def use(of: Sequence[DropPath], factors: Tensor) -> None:
    """The views of the next forward pass. factors: float32 [branches, B], see `draw`."""
    for branch, own in zip(of, factors, strict=True):
        branch.factors = own
