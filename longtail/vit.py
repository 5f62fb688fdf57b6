"""The student: timm's ViT with a CLS token, or with CLS and DIST tokens (DeiT).

Sizes are numbers of the recipe. At 224 px and patch 16, dim 192/384/768 with 3/6/12 heads and depth 12 are DeiT-Ti/S/B:
5.53 / 21.67 / 85.82 M parameters with two 10-way heads, 198 tokens in the order CLS, DIST, patches (DLT:deit_models/).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from longtail import drop_path

NO_DECAY = ("pos_embed", "cls_token", "dist_token")  # 3-D tensors: a rule on ndim alone would decay them


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the ViT; every linear and norm layer is timm's default (pre-norm, LN eps 1e-6, exact GELU, qkv bias)."""

    image_size: int  # input pixels on a side
    patch_size: int  # pixels on a side
    dim: int
    depth: int
    heads: int
    mlp_ratio: float
    drop_path: float  # linear ramp from 0 (first block) to this (last block), per sample

    def __post_init__(self):
        for name in ("image_size", "patch_size", "dim", "depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path is a probability below 1, found {self.drop_path}")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size


def build_vit(config: ModelConfig, num_classes: int, distilled: bool) -> nn.Module:
    """timm's VisionTransformerDistilled, or VisionTransformer with the CLS token alone. Uses torch's global RNG.

    In training, drop path wants its views' factors before each forward pass: longtail/drop_path.py."""
    model = (VisionTransformerDistilled if distilled else VisionTransformer)(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.dim,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        drop_path_rate=config.drop_path,
        num_classes=num_classes,
    )
    drop_path.install(model)
    return model


def special_tokens(model: nn.Module, x: Tensor) -> Tensor:
    """CLS (and DIST) after the final LayerNorm. x: [B, 3, S, S]. Returns [B, T, d], T = 1 or 2."""
    return model.forward_features(x)[:, : model.num_prefix_tokens]


def head_logits(model: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    """Raw logits of each head. tokens: [B, T, d]. Returns {"cls": [B, C]} and, with a DIST token, "dist"."""
    logits = {"cls": model.head(tokens[:, 0])}
    if tokens.shape[1] == 2:
        logits["dist"] = model.head_dist(tokens[:, 1])
    return logits


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW groups: no decay on vectors, biases, the positional table and the special tokens (METHODS trap 35)."""
    decay, rest = [], []
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim <= 1 or name.endswith(".bias") or name in NO_DECAY
        (rest if exempt else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def cls_dist_distance(tokens: Tensor) -> Tensor:
    """1 - cosine(CLS, DIST) of the final-LN tokens (METHODS 4.4). tokens: [B, 2, d]. Returns [B]."""
    return 1 - torch.cosine_similarity(tokens[:, 0], tokens[:, 1], dim=1, eps=1e-6)
