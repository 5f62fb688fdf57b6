"""The student: a ViT with a CLS token, or with CLS and DIST tokens (DeiT).

Sizes are numbers of the recipe. At 224 px and patch 16, dim 192/384/768 with 3/6/12 heads and depth 12 are DeiT-Ti/S/B:
5.53 / 21.67 / 85.82 M parameters with two 10-way heads, 198 tokens in the order CLS, DIST, patches (DLT:deit_models/).
DeiT-III is the CLS model with LayerScale, one rate of stochastic depth in every block, and positions for patches alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from longtail.base.params import later
from longtail.models.resnet import Head, NormedLinear
from longtail.models.transformer import HEAD_STD, VisionTransformer

NO_DECAY = ("pos_embed", "cls_token", "dist_token")  # 3-D tensors: a rule on ndim alone would decay them


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the ViT; layers are those of longtail/models/transformer.py."""

    image_size: int  # input pixels on a side
    patch_size: int  # pixels on a side
    dim: int
    depth: int
    heads: int
    mlp_ratio: float
    drop_path: float  # rate of stochastic depth, per sample
    drop_path_mode: Literal["linear", "constant"] = "linear"  # a ramp from 0 in the first block, or one rate (trap 41)
    layer_scale: float | None = None  # LayerScale: first factor of a branch's channels; DeiT-III 1e-4, null = none
    special_positions: bool = True  # CLS and DIST have positions too; DeiT-III: false, patches alone
    positions: Literal["learned", "sincos"] = later(
        "learned"
    )  # first table: random, or MAE's, which pretraining freezes
    pool: Literal["cls", "mean"] = later("cls")  # the head reads CLS, or LayerNorm(mean of the patches' tokens): LiVT
    head_std: float = later(HEAD_STD)  # of the head's first weights; LiVT 2e-5

    def __post_init__(self):
        for name in ("image_size", "patch_size", "dim", "depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path is a probability below 1, found {self.drop_path}")
        if self.layer_scale is not None and self.layer_scale <= 0:
            raise ValueError(f"layer_scale is above 0, or null for none, found {self.layer_scale}")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        if self.positions == "sincos" and self.dim % 4:
            raise ValueError(f"dim {self.dim} is not a multiple of 4, which positions: sincos needs")
        if self.head_std <= 0:
            raise ValueError(f"head_std must be above 0, found {self.head_std}")

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size


def build_vit(config: ModelConfig, num_classes: int, distilled: bool, head: Head = "linear") -> nn.Module:
    """A ViT with the CLS token alone, or with CLS and DIST. Uses torch's global RNG.

    head: of the CLS token; "normed" keeps NormedLinear's own initial weights (METHODS trap 25). Raises ValueError for a
    distilled model without special positions: timm has none, and no paper trains one. In training, drop path wants its
    views' factors before each forward pass: longtail/models/transformer.py.
    """
    if distilled and not config.special_positions:
        raise ValueError("special_positions: a model with a DIST token needs true")
    if distilled and config.pool == "mean":
        raise ValueError("pool: a model with a DIST token reads its tokens; it needs cls")
    model = VisionTransformer(
        grid=config.grid,
        patch=config.patch_size,
        dim=config.dim,
        heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        drop_path=_rates(config),
        layer_scale=config.layer_scale,
        special_positions=config.special_positions,
        num_classes=num_classes,
        distilled=distilled,
        sincos=config.positions == "sincos",
        pooled=config.pool == "mean",
        head_std=config.head_std,
    )
    if head == "normed":
        model.head = NormedLinear(config.dim, num_classes)
    return model


def _rates(config: ModelConfig) -> list[float]:
    """Of stochastic depth, for each block."""
    if config.drop_path_mode == "constant":
        return [config.drop_path] * config.depth
    return torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()


def special_tokens(model: nn.Module, x: Tensor) -> Tensor:
    """What the heads read: CLS (and DIST) after the final LayerNorm, or the one mean of a model that pools. x:
    [B, 3, S, S]. Returns [B, T, d], T = 1 or 2."""
    tokens = model.forward_features(x)
    return model.mean_token(tokens) if getattr(model, "pooled", False) else tokens[:, : model.num_prefix_tokens]


def head_logits(model: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    """Raw logits of each head, cosines of a normed one. tokens: [B, T, d]. Returns {"cls": [B, C]} and, with a DIST
    token, "dist"."""
    logits = {"cls": model.head(tokens[:, 0])}
    if tokens.shape[1] == 2:
        logits["dist"] = model.head_dist(tokens[:, 1])
    return logits


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict]:
    """Optimizer groups: no decay on vectors, biases, the positional table and the special tokens (METHODS trap 35).

    layer_decay below 1: a group for each layer, with `lr_scale`, the factor of its learning rate: layer_decay^(depth +
    1 - k), k = 0 for what comes before the first block, i + 1 for block i, depth + 1 for all behind the last (BEiT's
    rule; LIVT:util/lr_decay.py). What is frozen is in no group.
    """
    depth = len(model.blocks) if layer_decay != 1 else 0
    groups: dict[tuple[int, bool], dict] = {}
    if layer_decay == 1:
        groups = {
            (1, False): {"params": [], "weight_decay": weight_decay},
            (1, True): {"params": [], "weight_decay": 0.0},
        }
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = parameter.ndim <= 1 or name.endswith(".bias") or name in NO_DECAY
        layer = _layer(name, depth) if layer_decay != 1 else 1
        decay = 0.0 if exempt else weight_decay
        fresh = {"params": [], "weight_decay": decay, "lr_scale": layer_decay ** (depth + 1 - layer)}
        groups.setdefault((layer, exempt), fresh)["params"].append(parameter)
    return list(groups.values())


def _layer(name: str, depth: int) -> int:
    """Of a parameter by its name, 0 to depth + 1."""
    if name in NO_DECAY or name.startswith("patch_embed."):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else depth + 1


def cls_dist_distance(tokens: Tensor) -> Tensor:
    """1 - cosine(CLS, DIST) of the final-LN tokens (METHODS 4.4). tokens: [B, 2, d]. Returns [B]."""
    return 1 - torch.cosine_similarity(tokens[:, 0], tokens[:, 1], dim=1, eps=1e-6)
