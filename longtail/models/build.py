"""Networks by the name or the block that an entry gives: a teacher's CNN, a student's ViT or CNN.

Each is a module of images [B, 3, H, W] to logits [B, C] whose last two children are `avgpool` and `fc`, with a method
`features` that gives what `fc` is fed and `kaiming_fc`, which says how `fc` starts. To add one, write it down here.

A CNN of timm's that is trained as a student is: the RegNetY-16GF that teaches the DeiT baseline (METHODS 2.7).

It shows what a student's ViT shows (models/vit.py): one special token, the pooled features, and one head that reads
it. The training loop and the evaluation need not tell them apart. timm is imported where a network is asked for: it
takes torchvision along, as much time as torch itself, and most teachers are neither's.

The network that an experiment trains: a ViT, or a CNN where the `model` block has `arch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from longtail.base.errors import nearest
from longtail.base.params import build
from longtail.models.combined import Mean, ScaledLinear, glorot_, project, width_of, zero_last_gammas_
from longtail.models.experts import CifarExperts, RoutedHeads, RouterSizes
from longtail.models.resnet import CIFAR_DEPTHS, Head, cifar_resnet
from longtail.models.vit import ModelConfig, build_vit


def _cifar(depth: int, num_classes: int, head: Head = "linear", experts: int = 1) -> nn.Module:
    if experts > 1:
        return CifarExperts((depth - 2) // 6, num_classes, head, experts)
    return cifar_resnet(depth, num_classes, head)


def _torchvision(name: str, num_classes: int, head: Head = "linear", experts: int = 1) -> nn.Module:
    """Imported when it is asked for: CIFAR teachers need no torchvision, which takes seconds."""
    from longtail.models.resnet50 import DEPTHS, RESNEXT, ExpertResNet50, ResNet50

    shape = RESNEXT if name == "resnext50" else {}
    if experts > 1:
        return ExpertResNet50(num_classes, head, DEPTHS[name], experts, **shape)
    return ResNet50(num_classes, head, DEPTHS[name], **shape)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {  # of classes, head and number of experts
    **{f"resnet{depth}": partial(_cifar, depth) for depth in CIFAR_DEPTHS},
    **{name: partial(_torchvision, name) for name in ("resnet50", "resnext50", "resnet101", "resnet152")},
}


@dataclass(frozen=True)
class CnnParts:
    """What an entry of `teachers` says of its network."""

    arch: str  # name in ARCHITECTURES
    head: Head = "linear"
    projection: int | None = None  # width of h(v); null = none
    members: int = 1  # of an ensemble; 1 = the network itself
    glorot: bool = False  # first weights: Keras' instead of the architecture's own
    zero_gamma: bool = False  # of the last norm of each block
    scaled: bool = False  # each class' logit by a learnt number
    experts: int = 1  # of one network; 1 = the plain one
    router: RouterSizes | None = None  # asks how many of the experts an image needs
    scale: float = 1.0  # of cosines, where a router sees logits


def build_cnn(parts: CnnParts, num_classes: int) -> nn.Module:
    """The untrained network, initialised from torch's global generator."""
    if parts.members > 1:
        one = replace(parts, members=1)
        return Mean([build_cnn(one, num_classes) for _ in range(parts.members)])
    network = ARCHITECTURES[parts.arch](num_classes, parts.head, parts.experts)
    if parts.projection is not None:
        project(network, parts.projection, num_classes, parts.head)
    if parts.glorot:
        glorot_(network)
    if parts.zero_gamma:
        zero_last_gammas_(network)
    if parts.scaled:
        network.fc = ScaledLinear(width_of(network), num_classes)
    if parts.router is not None:
        own = network.fc.width, num_classes, parts.head, parts.router, parts.scale, network.kaiming_fc
        network.fc = RoutedHeads(parts.experts, *own)
    return network


@dataclass(frozen=True)
class CnnConfig:
    """A RegNet as timm has it: global average pool, no dropout, no stochastic depth, from scratch."""

    arch: str  # timm's name; published: regnety_160
    image_size: int  # pixels on a side that it is trained on; the network takes any

    def __post_init__(self) -> None:
        from timm import list_models

        known = list_models(module="regnet")
        if self.arch not in known:
            raise ValueError(f"arch '{self.arch}' is no RegNet of timm's{nearest(self.arch, known)}")
        if self.image_size < 1:
            raise ValueError(f"image_size must be at least 1, found {self.image_size}")


class PooledCnn(nn.Module):
    """timm's network up to its pooled features, and its classifier. Uses torch's global RNG."""

    num_prefix_tokens = 1  # as timm's ViT with a CLS token

    def __init__(self, config: CnnConfig, num_classes: int):
        super().__init__()
        from timm import create_model

        network = create_model(config.arch, num_classes=num_classes)
        self.head = network.get_classifier()
        network.reset_classifier(0)
        self.features = network

    def forward_features(self, x: Tensor) -> Tensor:
        """The one token of each image. x: [B, 3, S, S]. Returns [B, 1, d]."""
        return self.features(x)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C]."""
        return self.head(self.features(x))


NetworkConfig = ModelConfig | CnnConfig


def network_config(values: Any, where: str) -> NetworkConfig:
    """A recipe's `model` block, checked. Raises UserError."""
    return build(CnnConfig if isinstance(values, dict) and "arch" in values else ModelConfig, values, where)


def build_network(config: NetworkConfig, num_classes: int, distilled: bool, head: Head = "linear") -> nn.Module:
    """The untrained network, initialised from torch's global generator. distilled, head: of a ViT alone."""
    if isinstance(config, CnnConfig):
        return PooledCnn(config, num_classes)
    return build_vit(config, num_classes, distilled, head)
