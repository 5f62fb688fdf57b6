"""How many directions the tokens of a class group need (METHODS 4.3, P0 section G).

The right singular vectors of all classes' features, centred, are the basis; the rank of the tail classes' features is
the smallest number of leading basis vectors that reconstructs them to 1 % of their squared norm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from longtail.analysis.attention import run_features


class Basis(NamedTuple):
    """Column mean and right singular vectors of a feature matrix, in float64."""

    mean: np.ndarray  # [d]
    vectors: np.ndarray  # [d, d], rows are directions, largest singular value first


def basis_of(f_all: np.ndarray) -> Basis:
    """Basis of the centred rows of f_all [n, d]. With n <= d the last directions are an arbitrary completion."""
    f_all = np.asarray(f_all, np.float64)
    mean = f_all.mean(0)
    triangle = np.linalg.qr(f_all - mean, mode="r")  # same right singular vectors, without an n x n factor
    return Basis(mean, np.linalg.svd(triangle, full_matrices=True)[2])


def rank_in(basis: Basis, f_min: np.ndarray, centre_min: bool, tolerance: float = 0.01) -> int:
    """Smallest k with |F - F V_k V_k^T|^2 <= tolerance |F|^2. f_min: [m, d]; centred with the basis's mean or not.

    The basis is complete and orthonormal: the residual after k directions is the energy in the remaining ones.
    """
    f_min = np.asarray(f_min, np.float64) - (basis.mean if centre_min else 0.0)
    energy = np.square(f_min @ basis.vectors.T).sum(0)
    residual = np.append(np.cumsum(energy[::-1])[::-1], 0.0)  # residual[k] = sum of energy[k:]
    return int(np.argmax(residual <= tolerance * residual[0]))


def feature_rank(f_all: np.ndarray, f_min: np.ndarray, centre_min: bool, tolerance: float = 0.01) -> int:
    """Rank of f_min [m, d] in the basis of f_all [n, d]; computed in float64 (METHODS trap 53).

    centre_min: subtract f_all's mean from f_min as well. The paper's text leaves this open, so both are reported.
    """
    return rank_in(basis_of(f_all), f_min, centre_min, tolerance)


@torch.no_grad()
def block_tokens(model: nn.Module, x: Tensor) -> Tensor:
    """CLS (and DIST) in the residual stream after each block, before the final LayerNorm; eval mode.

    x: [B, 3, S, S]. Returns [L, B, T, d], T = model.num_prefix_tokens.
    """
    tokens: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        tokens.append(output[:, : model.num_prefix_tokens].float())

    run_features(model, x, [block.register_forward_hook(record) for block in model.blocks])
    return torch.stack(tokens)
