"""Parameters, multiply-adds and activations of a network from its shape, without building it.

Multiply-adds (MAC) of convolutions, linear layers and attention; norms, biases and pointwise functions are left out, as
is usual. One MAC is two FLOPs. Training costs three forward passes (forward, gradient of the input, gradient of the
weights), less the input gradient that the first layer does not need.
"""

from __future__ import annotations

from dataclasses import dataclass

from longtail.base.errors import UserError, nearest

BYTES = 4  # of a float32
VIT_FLOATS = (
    16  # kept for backward by a block, per token and channel: two norms, qkv, attention, its sum, MLP, two sums
)


@dataclass(frozen=True)
class Shape:
    """One network at one input size."""

    name: str  # e.g. ViT 768x12, patch 16, 224 px
    params: int  # trained numbers
    buffers: int  # kept beside them: BatchNorm's running statistics and counters
    macs: int  # of a forward pass, an image
    first_macs: int  # those of the first layer
    activations: int  # float32 numbers kept for backward, an image; about

    @property
    def train_macs(self) -> int:
        """Of forward and backward, an image."""
        return 3 * self.macs - self.first_macs


def vit(model: dict, classes: int, distilled: bool) -> Shape:
    """A recipe's `model` block (ModelConfig): CLS token, with distilled DIST too, and a linear head for each."""
    size, patch, dim, depth = (model[key] for key in ("image_size", "patch_size", "dim", "depth"))
    grid, special, hidden = (size // patch) ** 2, 1 + distilled, int(dim * model["mlp_ratio"])
    tokens = grid + special
    block = 4 * dim * dim + 4 * dim + 2 * dim * hidden + hidden + dim + 4 * dim  # qkv and projection, MLP, two norms
    block += 2 * dim if model.get("layer_scale") else 0
    positions = tokens if model.get("special_positions", True) else grid
    ends = (3 * patch * patch + 1) * dim + (special + positions) * dim + 2 * dim + special * classes * (dim + 1)
    first = grid * 3 * patch * patch * dim
    attention = 2 * tokens * tokens * dim  # queries by keys, weights by values
    macs = first + depth * (tokens * (4 * dim * dim + 2 * dim * hidden) + attention) + special * dim * classes
    name = f"ViT {dim}x{depth}, patch {patch}, {size} px"
    return Shape(name, depth * block + ends, 0, macs, first, VIT_FLOATS * tokens * dim * depth)


class _Tally:
    """Convolutions without bias, each followed by BatchNorm, added up as they are met."""

    def __init__(self) -> None:
        self.params = self.buffers = self.macs = self.maps = self.first = 0

    def conv(self, channels: int, out: int, side: int, kernel: int = 3, groups: int = 1) -> None:
        """side: of the output, pixels."""
        weights = channels // groups * out * kernel * kernel
        self.first = self.first or weights * side * side
        self.params += weights + 2 * out
        self.buffers += 2 * out + 1
        self.macs += weights * side * side
        self.maps += out * side * side

    def squeeze(self, channels: int, hidden: int) -> None:
        """Squeeze and excitation: two 1x1 convolutions with bias on pooled features."""
        self.params += 2 * channels * hidden + channels + hidden
        self.macs += 2 * channels * hidden

    def shape(self, name: str, width: int, classes: int, bias: bool) -> Shape:
        """With the classifier on `width` pooled features; kept for backward: what goes into each convolution and into
        its BatchNorm."""
        head = width * classes
        params = self.params + head + classes * bias
        return Shape(name, params, self.buffers, self.macs + head, self.first, 2 * self.maps)


def cifar_resnet(depth: int, size: int, classes: int, bias: bool = True) -> Shape:
    """models/resnet.py: three stages of (depth - 2) / 6 blocks, widths 16, 32, 64, shortcuts without weights."""
    tally = _Tally()
    tally.conv(3, 16, size)
    channels = 16
    for stage in range(3):
        width, side = 16 << stage, -(-size // (1 << stage))
        for _ in range((depth - 2) // 6):
            tally.conv(channels, width, side)
            tally.conv(width, width, side)
            channels = width
    return tally.shape(f"ResNet-{depth}, {size} px", channels, classes, bias)


def resnet50(size: int, classes: int, bias: bool = True) -> Shape:
    """torchvision's: bottlenecks of 3, 4, 6, 3, the stride on the 3x3."""
    tally = _Tally()
    side = _halved(size)
    tally.conv(3, 64, side, 7)
    side, channels = _halved(side), 64  # max pooling
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            stride = stage > 0 and block == 0
            width, out, before = 64 << stage, 256 << stage, side
            side = _halved(side) if stride else side
            tally.conv(channels, width, before, 1)
            tally.conv(width, width, side)
            tally.conv(width, out, side, 1)
            if block == 0:
                tally.conv(channels, out, side, 1)
            channels = out
    return tally.shape(f"ResNet-50, {size} px", channels, classes, bias)


REGNETS = {  # timm's name: blocks of each stage, their widths, channels of a group; squeeze to a quarter of the input's
    "regnety_160": ((2, 4, 11, 1), (224, 448, 1232, 3024), 112),
}


def regnet(arch: str, size: int, classes: int) -> Shape:
    """RegNetY (Radosavovic et al., 2020) as timm builds it. Raises UserError for another."""
    if arch not in REGNETS:
        raise UserError(f"arch '{arch}': its operations are not counted{nearest(arch, REGNETS)}")
    tally, channels, side = _Tally(), 32, _halved(size)
    tally.conv(3, channels, side)
    depths, widths, group = REGNETS[arch]
    for blocks, width in zip(depths, widths, strict=True):
        for block in range(blocks):
            tally.conv(channels, width, side, 1)
            side = _halved(side) if block == 0 else side
            tally.conv(width, width, side, groups=width // group)
            tally.squeeze(width, round(channels / 4))
            tally.conv(width, width, side, 1)
            if block == 0:
                tally.conv(channels, width, side, 1)
            channels = width
    return tally.shape(f"{arch}, {size} px", channels, classes, True)


def _halved(side: int) -> int:
    return (side + 1) // 2
