"""CIFAR ResNets of depth 6n+2: the CNN teachers (METHODS §2.1; SAD:models/resnet_cifar.py).

Three stages of n basic blocks, widths 16/32/64, parameter-free option-A shortcuts, global average pool. Any input size
works; the last two children are `avgpool` and `fc`, so a hook on the last but one sees the pooled features.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Head = Literal["linear", "normed"]
CIFAR_DEPTHS = (8, 14, 20, 26, 32, 38, 44, 56, 110)  # those with a name: "resnet50", "resnet152" mean ImageNet's


class NormedLinear(nn.Module):
    """Cosine classifier: normalise(x) · normalise(W), no bias, always in float32.

    `weight` is [in, C]; its columns start at unit norm. The LDAM scale is not here but in the loss (METHODS trap 24).
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        columns = torch.empty(in_features, num_classes).uniform_(-1, 1)
        self.weight = nn.Parameter(F.normalize(columns, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in] to cosines in [-1, 1], float32 [B, C]."""
        with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):  # meta has no autocast
            return F.normalize(x.float(), dim=1) @ F.normalize(self.weight.float(), dim=0)


def shortcut_a(x: Tensor, stride: int, planes: int) -> Tensor:
    """Option A: every stride-th row and column from offset 0, new channels are zeros, half on each side.

    x [B, c, H, W] to [B, planes, ceil(H/stride), ceil(W/stride)].
    """
    side = (planes - x.shape[1]) // 2  # = planes // 4 where the width doubles
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, side, side))


class BasicBlock(nn.Module):
    """conv3x3-BN-ReLU-conv3x3-BN plus the shortcut, ReLU after the sum."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.same_shape = stride == 1 and in_planes == planes
        self.stride, self.planes = stride, planes

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + (x if self.same_shape else shortcut_a(x, self.stride, self.planes)), inplace=True)


class CifarResNet(nn.Module):
    """Images [B, 3, H, W] to logits [B, C] (`fc` linear) or cosines [B, C] (`fc` normed)."""

    kaiming_fc = True  # how a linear `fc` starts

    def __init__(self, blocks: int, num_classes: int, head: Head) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(16, 16, blocks, 1)
        self.layer2 = self.stage(16, 32, blocks, 2)
        self.layer3 = self.stage(32, 64, blocks, 2)
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(64, num_classes) if head == "linear" else NormedLinear(64, num_classes)
        for module in self.modules():  # NormedLinear is deliberately not among these (trap 25)
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def stage(in_planes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_planes, planes, stride)
        return nn.Sequential(first, *(BasicBlock(planes, planes, 1) for _ in range(blocks - 1)))

    def features(self, x: Tensor) -> Tensor:
        """Pooled features [B, 64]."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.avgpool(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


def cifar_resnet(depth: int, num_classes: int, head: Head = "linear") -> CifarResNet:
    """ResNet-`depth` (8, 20, 32, ...). Initialises from torch's global generator. ValueError unless depth = 6n+2."""
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth: {depth} is no CIFAR ResNet; valid depths are 6n+2: 8, 14, 20, 26, 32, ...")
    if head not in ("linear", "normed"):
        raise ValueError(f"head: {head!r} is neither 'linear' nor 'normed'")
    return CifarResNet((depth - 2) // 6, num_classes, head)
