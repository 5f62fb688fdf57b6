"""What CBD's networks have besides a plain CNN (METHODS 7.1, 7.2): a projection on top of the pooled features, several
networks as one, a classifier of class means, and the first weights of its code; and LWS' scales (METHODS 2.8).

Each takes any network of longtail/models/build.py: images to the logits of `fc`, which is fed what `features` gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.models.resnet import BasicBlock, Head, NormedLinear


def width_of(network: nn.Module) -> int:
    """Of what `features` gives, which `fc` is fed."""
    if isinstance(network, Mean):
        return sum(map(width_of, network.members))
    fc = network.fc
    return fc.weight.shape[0] if isinstance(fc, NormedLinear) else fc.in_features


def project(network: nn.Module, width: int, num_classes: int, head: Head) -> None:
    """h(v) = ReLU(linear(v)) of that width becomes the network's feature, with a new classifier on it."""
    network.avgpool.extend([nn.Linear(width_of(network), width), nn.ReLU()])
    network.fc = NormedLinear(width, num_classes) if head == "normed" else nn.Linear(width, num_classes)


def glorot_(network: nn.Module) -> None:
    """Keras' first weights: Glorot's uniform ones of convolutions, linear layers and a cosine classifier; no bias."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | NormedLinear):
            nn.init.xavier_uniform_(module.weight)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)


def zero_last_gammas_(network: nn.Module) -> None:
    """The scale of the last norm of every residual block is 0: a block begins as its shortcut."""
    for module in network.modules():
        last = getattr(module, "bn3", None) or (module.bn2 if isinstance(module, BasicBlock) else None)
        if last is not None:
            nn.init.zeros_(last.weight)


class ScaledLinear(nn.Linear):
    """A linear classifier, bias included, each of whose logits is multiplied by a number of its own, 1 at first:
    learnable weight scaling (LWS; Kang et al., ICLR 2020, models/TauNormClassifier.py)."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.scales = nn.Parameter(torch.ones(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in] to logits [B, C]."""
        return super().forward(x) * self.scales


class Mean(nn.Module):
    """An ensemble: the mean of its members' logits. Its feature is theirs, each at unit length, joined."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def features(self, x: Tensor) -> Tensor:
        """Float32 [B, sum of the members' widths]."""
        return torch.cat([F.normalize(member.features(x).float(), dim=1) for member in self.members], 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Of each class the mean of its features at unit length, made that long again: float32 [C, d], or float64 where
    that is given. features [N, d]; labels int64 [N]. The nearest mean by cosine is the answer of a NormedLinear whose
    weight they are (NCM, CBD Table 5). A class without an image has a mean of zeros, whose cosine is 0."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    sums = torch.zeros(num_classes, features.shape[1], dtype=dtype, device=features.device)
    return F.normalize(sums.index_add_(0, labels, F.normalize(features.to(dtype), dim=1)), dim=1)
