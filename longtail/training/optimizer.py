"""The students' optimizers, on groups of parameters with a weight decay each (METHODS 3.5, 3.10)."""

from __future__ import annotations

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
        return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)
    from timm.optim.lamb import Lamb  # timm takes a core seconds to load; one recipe wants it

    return Lamb(groups, lr=lr, betas=betas, eps=eps, max_grad_norm=LAMB_GRADIENT_NORM)
