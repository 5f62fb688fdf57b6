"""Sharpness-aware minimisation as a setting of any optimizer's step (METHODS §2.4; SAD:sam.py, Foret et al.)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

EPSILON = 1e-12


@torch.no_grad()
def ascend(params: Sequence[Tensor], rho: float) -> None:
    """w += rho·g/(|g| + 1e-12) with one global L2 norm over all params; uses up the gradients (scaled in place)."""
    live = [p for p in params if p.grad is not None]
    grads = [p.grad for p in live]
    norm = torch.stack(torch._foreach_norm(grads)).norm()
    torch._foreach_mul_(grads, rho / (norm + EPSILON))
    torch._foreach_add_(live, grads)


def sam_step(
    closure: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    params: Sequence[Tensor],
    rho: float | None,
    clear: Callable[[], None] | None = None,
) -> Tensor:
    """One optimizer step; with rho, the gradient is that at w + rho·g/|g|. Returns the last closure's value.

    closure runs forward and backward on one batch, in train mode, and must not step or clear gradients. It is called
    twice with rho, so BN running statistics move twice, once at the perturbed weights, and what it records of loss and
    accuracy is of the second pass, as published (trap 37). Weight decay and momentum belong to the optimizer and act at
    the restored weights only. rho None or 0: a plain step. `params`: all trainable parameters, float32 masters. clear:
    forgets gradients before each of the two, where the optimizer's own way is not it.
    """
    clear = clear or optimizer.zero_grad
    clear()
    value = closure()
    if rho:
        with torch.no_grad():
            saved = [p.clone() for p in params]
        ascend(params, rho)
        clear()
        value = closure()
        with torch.no_grad():  # a copy, not w - e: subtracting would leave rounding drift
            torch._foreach_copy_(list(params), saved)
    optimizer.step()
    return value
