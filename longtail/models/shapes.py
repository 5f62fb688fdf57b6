"""Parameters, multiply-adds and activations of a network, counted on PyTorch's `meta` device: nothing is computed.

Multiply-adds (MAC) of convolutions, linear layers and attention, by torch.utils.flop_counter; norms, biases and
pointwise functions are left out, as is usual. One MAC is two FLOPs. Any network that a recipe can name is counted.

All blocks of a ViT are of one shape: networks of one and of two blocks are counted, and what they differ by is taken
for each further block.

Training costs three forward passes (forward, gradient of the input, gradient of the weights), less the input gradient
that the first layer does not need. The backward pass itself is not counted: torch 2.15's counter takes the gradient of
a grouped convolution's weights for that of a dense one, which makes a RegNetY's training 1.8 times as dear as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from longtail.models.build import CnnConfig, CnnParts, NetworkConfig, build_cnn, build_network
from longtail.models.combined import width_of
from longtail.models.mae import DecoderConfig, MaskedAutoencoder, patchify
from longtail.models.resnet import Head
from longtail.models.transformer import Block
from longtail.models.vit import ModelConfig

# float32 numbers kept for backward, for each of what goes into a module; about
KEPT = {
    Block: 16,  # two norms, qkv, attention, its sum, MLP, two sums; attention's own weights are never written down
    nn.BatchNorm2d: 2,  # its input and that of the convolution behind it
}
SAME = (nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)  # keep the shape, and count for nothing


@dataclass(frozen=True)
class Shape:
    """One network at one input size."""

    name: str  # e.g. ViT 768x12, patch 16, 224 px
    params: int  # trained numbers
    buffers: int  # kept beside them: BatchNorm's running statistics and counters
    macs: int  # of a forward pass, an image
    train_macs: int  # of forward and backward, an image
    activations: int  # float32 numbers kept for backward, an image; about


def on_meta(build: Callable[..., nn.Module], *arguments) -> nn.Module:
    """What `build` makes of the arguments, of names and shapes alone: on the `meta` device, without first weights."""
    with torch.device("meta"), _Unfilled():
        return build(*arguments)


class _Unfilled(TorchFunctionMode):
    """First weights are left out: on the meta device there is nothing to fill, and random numbers that fill nothing
    take most of the time."""

    NAMES = frozenset({"normal_", "uniform_", "trunc_normal_", "clamp_", "fill_", "zero_", "mul_", "add_", "erfinv_"})

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in self.NAMES:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@cache
def student(config: NetworkConfig, classes: int, distilled: bool = False, head: Head = "linear") -> Shape:
    """What `build_network` makes of these, at the size that it is trained on."""
    kind = config.arch if isinstance(config, CnnConfig) else f"ViT {config.dim}x{config.depth}"
    patch = "" if isinstance(config, CnnConfig) else f", patch {config.patch_size}"

    def counted(config: NetworkConfig) -> Shape:
        network = on_meta(build_network, config, classes, distilled, head)
        return measured(network, config.image_size, kind + patch)

    if isinstance(config, CnnConfig):
        return counted(config)
    least = counted(replace(config, depth=1))
    return _deeper(least, least, counted(replace(config, depth=2)), config.depth - 1)


def _deeper(shape: Shape, least: Shape, next_one: Shape, blocks: int) -> Shape:
    """shape with so many more blocks, each of what `next_one` has more than `least`."""
    numbers = ("params", "buffers", "macs", "train_macs", "activations")
    more = {name: getattr(next_one, name) - getattr(least, name) for name in numbers}
    return replace(shape, **{name: getattr(shape, name) + blocks * block for name, block in more.items()})


@cache
def teacher(parts: CnnParts, classes: int, size: int) -> Shape:
    """What `build_cnn` makes of these, on images of `size` pixels."""
    network = on_meta(build_cnn, parts, classes)
    name = parts.arch.replace("resnext", "ResNeXt-").replace("resnet", "ResNet-")
    name += f", features of {parts.projection}" if parts.projection else ""
    name = f"{parts.experts}-expert {name}" if parts.experts > 1 else name
    return measured(network, size, f"{parts.members} x {name}" if parts.members > 1 else name)


@cache
def feature_width(parts: CnnParts, classes: int) -> int:
    """Numbers of a feature of what `build_cnn` makes of these."""
    return width_of(on_meta(build_cnn, parts, classes))


@cache
def autoencoder(config: ModelConfig, decoder: DecoderConfig, visible: int) -> Shape:
    """A masked autoencoder that sees so many patches of an image."""
    kind = f"MAE {config.dim}x{config.depth}, patch {config.patch_size}"
    first = visible * 3 * config.patch_size**2 * config.dim

    def counted(depth: int, of_decoder: int) -> Shape:
        network = on_meta(Masked, replace(config, depth=depth), replace(decoder, depth=of_decoder), visible)
        shape = measured(network, config.image_size, kind)
        return replace(shape, train_macs=3 * shape.macs - first)  # the patches themselves want no gradient

    least = counted(1, 1)
    shape = _deeper(least, least, counted(2, 1), config.depth - 1)
    return _deeper(shape, least, counted(1, 2), decoder.depth - 1)


class Masked(nn.Module):
    """A masked autoencoder of images, of which it sees the first patches: [B, 3, S, S] to what it predicts."""

    def __init__(self, config: ModelConfig, decoder: DecoderConfig, visible: int) -> None:
        super().__init__()
        self.network, self.visible = MaskedAutoencoder(config, decoder), visible

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = patchify(x, self.network.patch)
        every = torch.arange(patches.shape[1], device=x.device).expand(len(x), -1)
        return self.network(patches, every[:, : self.visible], every[:, self.visible :])


@torch.no_grad()
def measured(network: nn.Module, size: int, kind: str) -> Shape:
    """network: on `meta`, images [B, 3, size, size] to logits; it is of no use afterwards. kind: its name without the
    size. An own kind of block keeps numbers for backward too: add it to KEPT."""
    kept, so_far = 0, []  # FLOPs after each layer

    def keep(module: nn.Module, given: tuple) -> None:
        nonlocal kept
        kept += next(number for kind, number in KEPT.items() if isinstance(module, kind)) * given[0].numel()

    for module in network.eval().modules():  # one image is no batch; eval mode counts the same
        if isinstance(module, tuple(KEPT)):
            module.register_forward_pre_hook(keep)
        if isinstance(module, SAME):
            module.forward = _same  # norms on `meta` take two thirds of the time
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda *_: so_far.append(counter.get_total_flops()))
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, size, size, device="meta"))
    forward = counter.get_total_flops()
    return Shape(
        f"{kind}, {size} px",
        sum(p.numel() for p in network.parameters()),
        sum(b.numel() for b in network.buffers()),
        forward // 2,
        (3 * forward - so_far[0]) // 2,
        kept,
    )


def _same(x: torch.Tensor) -> torch.Tensor:
    return x
