"""The Vision Transformer: pre-norm blocks, LayerNorm eps 1e-6, exact GELU, biases, stochastic depth.

Whether a view skips a residual branch is a pure function of (seed, epoch, position, branch): it does not depend on what
else is in the batch, so neither on the size of a forward pass, nor on the number of processes, nor on a resume point.
The distribution is timm's: per view, kept with 1 - drop_prob, and what is kept is divided by 1 - drop_prob.

Names, initial weights (drawn from torch's global generator in the same order) and results are timm's, bit for bit; a
test compares. timm itself is not loaded: with torchvision, which it imports, it takes a core several seconds at the
start of every process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


LAYER_NORM_EPS = 1e-6
HEAD_STD = 0.02  # of all linear layers' first weights, timm's


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, N, d]."""
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A factor for each channel (CaiT, DeiT-III)."""

    def __init__(self, dim: int, first: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), first))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Two residual branches. number: of the block, for the draws of stochastic depth."""

    def __init__(
        self, number: int, dim: int, heads: int, hidden: int, drop_path: float, layer_scale: float | None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, heads)
        self.ls1 = LayerScale(dim, layer_scale) if layer_scale else nn.Identity()
        self.drop_path1 = DropPath(drop_path, 2 * number) if drop_path else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(dim, hidden)
        self.ls2 = LayerScale(dim, layer_scale) if layer_scale else nn.Identity()
        self.drop_path2 = DropPath(drop_path, 2 * number + 1) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


class PatchEmbed(nn.Module):
    """A token for each square of pixels, row by row."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, 3, S, S]. Returns [B, (S / patch)^2, d]."""
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Tokens CLS, DIST (where distilled), patches; `drop_path` has a rate for each block.

    special_positions: CLS and DIST have entries in the table of positions. sincos: the table starts as
    `sincos_positions`. pooled: the answer is read from the mean of the patches' tokens after a LayerNorm `fc_norm` of
    its own, and there is no `norm`."""

    def __init__(
        self,
        *,
        grid: int,
        patch: int,
        dim: int,
        heads: int,
        mlp_ratio: float,
        drop_path: list[float],
        layer_scale: float | None,
        special_positions: bool,
        num_classes: int,
        distilled: bool,
        sincos: bool = False,
        pooled: bool = False,
        head_std: float = HEAD_STD,
    ) -> None:
        super().__init__()
        self.num_prefix_tokens = 2 if distilled else 1
        self.special_positions = special_positions
        positions = grid**2 + (self.num_prefix_tokens if special_positions else 0)
        self.patch_embed = PatchEmbed(patch, dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, positions, dim))
        hidden = int(dim * mlp_ratio)
        self.blocks = nn.Sequential(
            *(Block(n, dim, heads, hidden, rate, layer_scale) for n, rate in enumerate(drop_path))
        )
        if pooled:
            self.fc_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        else:
            self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.pooled = pooled
        self.head = nn.Linear(dim, num_classes)
        if distilled:
            self.dist_token = nn.Parameter(torch.empty(1, 1, dim))
            self.head_dist = nn.Linear(dim, num_classes)
            _normal_(self.dist_token)
        _normal_(self.pos_embed)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _normal_(module.weight)
                nn.init.zeros_(module.bias)
        if head_std != HEAD_STD:
            _normal_(self.head.weight, head_std)
        if sincos:
            table = sincos_positions(dim, grid)
            self.pos_embed.data.copy_(table if special_positions else table[:, 1:])

    def embed(self, x: Tensor) -> Tensor:
        """What the first block is given, [B, N, d]. x: [B, 3, S, S]."""
        x = self.patch_embed(x)
        special = [self.cls_token, self.dist_token] if self.num_prefix_tokens == 2 else [self.cls_token]
        special = [token.expand(len(x), -1, -1) for token in special]
        if self.special_positions:
            return torch.cat((*special, x), dim=1) + self.pos_embed
        return torch.cat((*special, x + self.pos_embed), dim=1)

    def forward_features(self, x: Tensor) -> Tensor:
        """All tokens after the final LayerNorm, of a model that pools as the last block leaves them, [B, N, d].
        x: [B, 3, S, S]."""
        tokens = self.blocks(self.embed(x))
        return tokens if self.pooled else self.norm(tokens)

    def mean_token(self, tokens: Tensor) -> Tensor:
        """What the head of a model that pools reads. tokens: [B, N, d] of `forward_features`. Returns [B, 1, d]."""
        return self.fc_norm(tokens[:, self.num_prefix_tokens :].mean(1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C] of the CLS head, or the mean of both heads."""
        tokens = self.forward_features(x)
        tokens = self.mean_token(tokens) if self.pooled else tokens
        logits = self.head(tokens[:, 0])
        return (logits + self.head_dist(tokens[:, 1])) / 2 if self.num_prefix_tokens == 2 else logits


def sincos_positions(dim: int, grid: int) -> Tensor:
    """The fixed 2-D table of positions of MAE (METHODS 5.1; LIVT:util/pos_embed.py), float32 [1, 1 + grid^2, dim],
    worked out in float64. A row of zeros for CLS, then the patches row by row: the first half of a vector tells the
    column, the second the row, each as sines, then cosines, of the number times 10000^(-4k / dim). Raises ValueError
    where dim is no multiple of 4."""
    if dim % 4:
        raise ValueError(f"dim {dim} is not a multiple of 4: positions are sines and cosines of two coordinates")
    angle = np.arange(grid)[:, None] * 10000.0 ** (-np.arange(dim // 4) / (dim // 4))
    line = np.concatenate([np.sin(angle), np.cos(angle)], 1)  # [grid, dim / 2]
    column, row = np.broadcast_to(line, (grid, *line.shape)), np.broadcast_to(line[:, None], (grid, *line.shape))
    table = np.concatenate([column, row], 2).reshape(grid**2, dim)
    return torch.from_numpy(np.concatenate([np.zeros((1, dim)), table])[None].astype(np.float32))


def resized_positions(table: Tensor, grid: int, special: int) -> Tensor:
    """A table of positions for another grid, as LIVT:util/pos_embed.py: bicubic along both axes, without aligned
    corners; the first `special` rows stay. table: [1, special + g^2, d]. Returns [1, special + grid^2, d]. Raises
    ValueError where the table is of no square grid."""
    first, rest = table[:, :special], table[:, special:]
    side = math.isqrt(rest.shape[1])
    if side**2 != rest.shape[1] or not side:
        raise ValueError(f"{rest.shape[1]} positions are no square grid")
    if side == grid:
        return table
    square = rest.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    square = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([first, square.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


@torch.no_grad()
def _normal_(tensor: Tensor, std: float = 0.02) -> None:
    """Normal by the inverse error function of a uniform draw, cut at 2: timm's `trunc_normal_`. torch's function of
    that name draws otherwise in newer versions, and what a seed means must not change with the version."""
    tensor.uniform_(-1, 1).erfinv_().mul_(std * math.sqrt(2)).clamp_(-2, 2)
