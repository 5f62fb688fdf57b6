"""Attention maps and tokens of a ViT: mean distance, rollout, and the rank of token features.

Attention maps of a ViT, and what the paper reads from them: mean distance and rollout (METHODS 4.1, 4.2).

Fused attention kernels never form the probabilities, so they are recomputed in fp32 from each block's own input
(METHODS trap 50). Tokens come in the order CLS, DIST (if any), patches row by row (trap 52): `special` is the number of
tokens in front of the patches, 1 or 2 (`model.num_prefix_tokens`).

How many directions the tokens of a class group need (METHODS 4.3, P0 section G).

The right singular vectors of all classes' features, centred, are the basis; the rank of the tail classes' features is
the smallest number of leading basis vectors that reconstructs them to 1 % of their squared norm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


def block_attention(attention: nn.Module, x: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) of an `Attention`. x: [B, N, d], its input. Returns float32 [B, h, N, N]."""
    batch, tokens, _ = x.shape
    with torch.autocast(x.device.type, enabled=False):
        bias = None if attention.qkv.bias is None else attention.qkv.bias.float()
        qkv = nn.functional.linear(x.float(), attention.qkv.weight.float(), bias)
        q, k, _ = qkv.reshape(batch, tokens, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        return ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(-1)


@torch.no_grad()
def attention_probabilities(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Attention of every block on its true input, in eval mode. x: [B, 3, S, S]. Returns float32 [B, h, N, N] each."""
    maps: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple) -> None:
        maps.append(block_attention(module, inputs[0]))

    hooks = [block.attn.register_forward_pre_hook(record) for block in model.blocks]
    run_features(model, x, hooks)
    return maps


def run_features(model: nn.Module, x: Tensor, hooks: list) -> None:
    """One forward pass in eval mode (no drop path); then the hooks are removed and the model's mode is restored."""
    training = model.training
    try:
        model.eval().forward_features(x)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()


def patch_distances(grid: int, patch_size: int) -> Tensor:
    """Euclidean distance between patch positions in pixels, float64 [grid^2, grid^2]."""
    index = torch.arange(grid * grid)
    at = patch_size * torch.stack([index // grid, index % grid], 1).double()
    return torch.cdist(at, at, compute_mode="donot_use_mm_for_euclid_dist")


def mean_attention_distance(probs: Tensor, grid: int, patch_size: int, special: int) -> Tensor:
    """Mean over images and patch queries of sum_j a_ij d_ij in pixels (PROBE; METHODS 4.1). float64 [h].

    probs: [B, h, N, N], N = special + grid^2. The special tokens' rows and columns are dropped and the rest is not
    renormalised (METHODS trap 51). Over batches: average weighted by the number of images.
    """
    _check_tokens(probs, grid, special)
    patches = probs[:, :, special:, special:].mean(0, dtype=torch.float64)
    distances = patch_distances(grid, patch_size).to(patches.device)
    return (patches * distances).sum((-2, -1)) / grid**2


def rollout_rows(probs: list[Tensor], special: int) -> Tensor:
    """What each special token draws from each patch through all blocks, float64 [B, special, g, g], not normalised.

    Abnar & Zuidema's rollout with PROBE's settings: mean over heads, add identity, normalise rows, A_L ... A_1. Only
    the special tokens' rows are wanted, so the product is taken from the last block down, row vector by matrix.
    """
    batch, _, tokens, _ = probs[0].shape
    grid = round((tokens - special) ** 0.5)
    _check_tokens(probs[0], grid, special)
    rows = torch.eye(tokens, dtype=torch.float64, device=probs[0].device)[:special].expand(batch, -1, -1)
    for block in reversed(probs):
        a = block.mean(1, dtype=torch.float64) + torch.eye(tokens, dtype=torch.float64, device=block.device)
        rows = rows @ (a / a.sum(-1, keepdim=True))
    return rows[:, :, special:].reshape(batch, special, grid, grid)


def attention_rollout(probs: list[Tensor], token: int, special: int) -> Tensor:
    """Rollout map of one special token, each image's divided by its maximum. token: 0 CLS, 1 DIST. float64 [B, g, g].

    probs: one [B, h, N, N] for each block, first to last (METHODS 4.2; nothing is discarded).
    """
    if not 0 <= token < special:
        raise ValueError(f"token {token}: the model has {special} special token(s)")
    return scale_to_peak(rollout_rows(probs, special)[:, token])


def scale_to_peak(maps: Tensor) -> Tensor:
    """Each map over its own maximum. maps: [..., g, g]."""
    return maps / maps.amax((-2, -1), keepdim=True)


def _check_tokens(probs: Tensor, grid: int, special: int) -> None:
    if probs.shape[-1] != special + grid**2 or probs.shape[-2] != probs.shape[-1]:
        raise ValueError(f"attention {tuple(probs.shape)} is not {special} special tokens and {grid} x {grid} patches")


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
