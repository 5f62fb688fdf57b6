"""Masked autoencoder (He et al., CVPR 2022), the network of LiVT's pretraining (METHODS 5.2; LIVT:models/mae.py).

Only the visible patches go through the encoder, and through the patch embedding. The decoder sees them and a mask token
for each hidden patch, in any order, since every token carries its position; what is hidden alone is predicted. Names
are those of the published checkpoints; the encoder's are those of longtail/models/transformer.py, so that a ViT takes
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.models.transformer import LAYER_NORM_EPS, Block, PatchEmbed, sincos_positions
from longtail.models.vit import ModelConfig

PATCH_EPSILON = 1e-6  # added to the variance of a patch's pixels before its root
TOKEN_STD = 0.02  # of the first CLS and mask tokens, normal
DECODER = ("mask_token", "decoder_")  # how names of the decoder begin; all others are the encoder's


@dataclass(frozen=True)
class DecoderConfig:
    """Published for every size of encoder: 512, 8, 16 (METHODS 5.2)."""

    dim: int
    depth: int
    heads: int

    def __post_init__(self) -> None:
        if min(self.dim, self.depth, self.heads) < 1:
            raise ValueError("at least 1: dim, depth, heads")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        if self.dim % 4:
            raise ValueError(f"dim {self.dim} is not a multiple of 4, which fixed positions need")


def patchify(x: Tensor, patch: int) -> Tensor:
    """The pixels of each patch, row by row: [B, 3, S, S] to [B, (S / patch)^2, 3 patch^2], each by row, column,
    channel. Raises ValueError where S is no multiple of patch."""
    batch, channels, side, _ = x.shape
    if side % patch:
        raise ValueError(f"{side} px are not a multiple of a patch of {patch}")
    grid = side // patch
    x = x.reshape(batch, channels, grid, patch, grid, patch).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(batch, grid**2, patch**2 * channels)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """The inverse of `patchify`."""
    batch, number, _ = patches.shape
    grid = round(number**0.5)
    x = patches.reshape(batch, grid, grid, patch, patch, -1).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(batch, -1, grid * patch, grid * patch)


def normalized_patches(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is predicted of patches [..., P]: their pixels less the mean, over the root of the unbiased variance + 1e-6
    (LIVT:models/mae.py); and that mean and divisor, [..., 1], which lead back."""
    mean = patches.mean(-1, keepdim=True)
    divisor = (patches.var(-1, keepdim=True) + PATCH_EPSILON).sqrt()
    return (patches - mean) / divisor, mean, divisor


def picked(values: Tensor, rows: Tensor) -> Tensor:
    """Of [B, L, d] the rows [B, K] (int64) of each image: [B, K, d]."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[2]))


class MaskedAutoencoder(nn.Module):
    """Encoder of a ViT's shape without head and stochastic depth, and decoder. Uses torch's global generator."""

    def __init__(self, config: ModelConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        dim, width = config.dim, decoder.dim
        self.patch = config.patch_size
        self.patch_embed = PatchEmbed(config.patch_size, dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + config.grid**2, dim), requires_grad=False)
        self.blocks = _blocks(config.depth, dim, config.heads, config.mlp_ratio)
        self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.decoder_embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(torch.empty(1, 1 + config.grid**2, width), requires_grad=False)
        self.decoder_blocks = _blocks(decoder.depth, width, decoder.heads, config.mlp_ratio)
        self.decoder_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.decoder_pred = nn.Linear(width, 3 * config.patch_size**2)
        self.pos_embed.data.copy_(sincos_positions(dim, config.grid))
        self.decoder_pos_embed.data.copy_(sincos_positions(width, config.grid))
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.data.view(dim, -1))  # as a linear layer's
        nn.init.normal_(self.cls_token, std=TOKEN_STD)
        nn.init.normal_(self.mask_token, std=TOKEN_STD)
        for module in self.modules():  # LayerNorms begin with 1 and 0 by themselves
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def encode(self, patches: Tensor, visible: Tensor) -> Tensor:
        """patches: [B, L, 3 patch^2] of `patchify`; visible: int64 [B, K]. Returns CLS and the visible patches after
        the LayerNorm, [B, 1 + K, d]."""
        conv = self.patch_embed.proj
        weight = conv.weight.permute(0, 2, 3, 1).flatten(1)  # by row, column, channel
        x = F.linear(picked(patches, visible), weight, conv.bias) + self.pos_embed[0, 1:][visible]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        return self.norm(self.blocks(torch.cat([cls.to(x.dtype), x], 1)))

    def decode(self, encoded: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """The pixels of the hidden patches, [B, M, 3 patch^2]. encoded: of `encode`; visible: int64 [B, K]; hidden:
        int64 [B, M], all other patches."""
        x = self.decoder_embed(encoded)
        masks = self.mask_token.to(x.dtype).expand(len(x), hidden.shape[1], -1)
        places = torch.cat([hidden.new_zeros(len(x), 1), 1 + visible, 1 + hidden], 1)
        x = self.decoder_blocks(torch.cat([x, masks], 1) + self.decoder_pos_embed[0][places])
        return self.decoder_pred(self.decoder_norm(x[:, encoded.shape[1] :]))

    def forward(self, patches: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """`decode` of `encode`."""
        return self.decode(self.encode(patches, visible), visible, hidden)


def _blocks(depth: int, dim: int, heads: int, mlp_ratio: float) -> nn.Sequential:
    return nn.Sequential(*(Block(number, dim, heads, int(dim * mlp_ratio), 0.0, None) for number in range(depth)))


def split_state(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the encoder, which a ViT can start from, and those of the decoder."""
    decoder = {name: value for name, value in state.items() if name.startswith(DECODER)}
    return {name: value for name, value in state.items() if name not in decoder}, decoder


def mae_parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Optimizer groups of pretraining: no decay on vectors and biases alone, so that CLS and mask token, which are 3-D,
    decay (timm's add_weight_decay as LIVT:main_pretrain.py calls it). Fixed positions are in no group."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    exempt = [p for name, p in trained if p.ndim <= 1 or name.endswith(".bias")]
    decay = [p for name, p in trained if not (p.ndim <= 1 or name.endswith(".bias"))]
    return [{"params": exempt, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]
