"""The students' optimizers, on groups of parameters with a weight decay each (METHODS 3.5, 3.10), learning rates and
SAM radii as pure functions of the epoch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch

OptimizerName = Literal["adamw", "lamb"]

LAMB_GRADIENT_NORM = 1.0  # default of apex's FusedLAMB, which DEIT runs, and of timm's Lamb


def build_optimizer(
    name: OptimizerName, groups: list[dict], lr: float, betas: tuple[float, float], eps: float
) -> torch.optim.Optimizer:
    """torch's AdamW, or timm's Lamb with the settings of apex's FusedLAMB.

    LAMB: the gradient of all groups together is scaled down to a norm of LAMB_GRADIENT_NORM; Adam's step with bias
    correction plus decay x weight is then scaled, tensor by tensor, by |weight| / |step| (1 where either is 0). Tensors
    without weight decay keep Adam's step as it is.
    """
    if name == "adamw":
        return uncompiled(torch.optim.AdamW, groups, lr=lr, betas=betas, eps=eps, fused=True)
    from timm.optim.lamb import Lamb  # timm takes a core seconds to load; one recipe wants it

    return Lamb(groups, lr=lr, betas=betas, eps=eps, max_grad_norm=LAMB_GRADIENT_NORM)


def uncompiled(kind: type[torch.optim.Optimizer], *args, **settings) -> torch.optim.Optimizer:
    """An optimizer whose step is never part of a compiled graph, of the same arithmetic.

    torch.optim guards its methods against torch.compile, and for that loads torch._dynamo when the first optimizer is
    made: three seconds of a core in every process that trains, of which a small study starts dozens. The methods within
    the guards are called instead, so hooks that are registered on the optimizer are not: nothing here registers any. A
    torch without those guards loses nothing by it.
    """
    for guarded in filter(inspect.isfunction, vars(torch.optim.Optimizer).values()):
        method = inspect.unwrap(guarded)
        if method is not guarded:
            method.__dynamo_disable = method  # where torch._compile keeps what it found at the first call
    optimizer = kind(*args, **settings)
    optimizer.step = torch.no_grad()(partial(inspect.unwrap(kind.step), optimizer))
    return optimizer


def teacher_lr(
    epoch: int,
    base: float,
    warmup_epochs: int,
    milestones: Sequence[int],
    factors: Sequence[float],
    warmup_from: float | None = None,
) -> float:
    """Learning rate of a CIFAR teacher in a 0-based epoch (METHODS §2.3, LDAM:cifar_train.py).

    With e = epoch + 1: base·e/warmup_epochs for e <= warmup_epochs; after milestones[i] (e > milestones[i]) it is
    base·factors[i], i.e. factors are of the base, not of one another (trap 38: .01 and .0001 after 160 and 180).
    warmup_from: BBN's warm-up, from that share of the base in the first epoch, the base in the first after it.
    """
    e = epoch + 1
    if e <= warmup_epochs:
        if warmup_from is not None:
            return base * (warmup_from + (1 - warmup_from) * epoch / warmup_epochs)
        return base * e / warmup_epochs
    passed = sum(e > milestone for milestone in milestones)
    return base * factors[passed - 1] if passed else base


def teacher_cosine_lr(epoch: float, base: float, epochs: int, warmup_epochs: int) -> float:
    """Learning rate of a CNN teacher on the large datasets in a 0-based epoch (METHODS §2.4, §2.5): constant within it,
    or at a fraction of it (CBD, METHODS 7.2).

    Without warm-up a half cosine from base to 0 over all epochs (SAD). With one, base·(epoch + 1)/warmup_epochs, then a
    half cosine whose clock starts at 1 in the first epoch after it and has one epoch more than are left (PACO).
    """
    if epoch < warmup_epochs:
        return base * (epoch + 1) / warmup_epochs
    shift = 1 if warmup_epochs else 0
    passed, period = epoch - warmup_epochs + shift, epochs - warmup_epochs + shift
    return base * 0.5 * (1 + math.cos(math.pi * passed / period))


def sam_radius(rho: float | Sequence[tuple[int | None, float]] | None, epoch: int) -> float | None:
    """SAM's radius in a 0-based epoch; of steps [epoch counted from 1, radius] the first not over (METHODS §2.4)."""
    if rho is None or isinstance(rho, float):
        return rho
    return next(radius for last, radius in rho if last is None or epoch + 1 <= last)


def cosine_lr(t: float, base: float, epochs: int, warmup_epochs: int, warmup_lr: float, min_lr: float) -> float:
    """timm's CosineLRScheduler at a fractional epoch t, one cycle (METHODS §3.5).

    Linear from warmup_lr to base over warmup_epochs; then min_lr + (base - min_lr)·(1 + cos(pi·t/epochs))/2. The
    warm-up is not subtracted from the cosine's clock (trap 34). From t = epochs on it is min_lr.
    """
    if t < warmup_epochs:
        return warmup_lr + t * (base - warmup_lr) / warmup_epochs
    if t >= epochs:
        return min_lr
    return min_lr + 0.5 * (base - min_lr) * (1 + math.cos(math.pi * t / epochs))


def cosine_after_warmup(t: float, base: float, epochs: int, warmup_epochs: int, min_lr: float) -> float:
    """MAE's and LiVT's rate at a fractional epoch t (LIVT:util/lr_sched.py).

    base·t/warmup_epochs, from 0 on; then a half cosine from base to min_lr over the epochs that are left: the warm-up
    is subtracted from the clock, unlike `cosine_lr`'s.
    """
    if t < warmup_epochs:
        return base * t / warmup_epochs
    passed = (t - warmup_epochs) / max(epochs - warmup_epochs, 1)
    return min_lr + (base - min_lr) * 0.5 * (1 + math.cos(math.pi * passed))
