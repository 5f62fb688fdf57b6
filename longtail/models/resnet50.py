"""ResNet-50, -101, -152 and ResNeXt-50, the CNNs of the large datasets (METHODS §2.1, §6.3, §7.3): torchvision's, with
its stride on the 3x3. First weights of convolutions, N(0, 2 / (k²·outputs)), are those of classifier-balancing too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from longtail.models.experts import ExpertHeads
from longtail.models.resnet import Head, NormedLinear

WIDTH = 2048  # of the pooled features
DEPTHS = {  # blocks of the four stages
    **{"resnet50": (3, 4, 6, 3), "resnext50": (3, 4, 6, 3)},
    **{"resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)},
}
RESNEXT = {"groups": 32, "width_per_group": 4}  # 32x4d
EXPERT_WIDTHS = 192, 384  # planes of an expert's two stages; 256, 512 in the plain network (RIDE: reduce_dimension)


class ResNet50(ResNet):
    """Images [B, 3, H, W] to logits [B, C] (`fc` linear) or cosines [B, C] (`fc` normed), with torchvision's names.

    Initialises from torch's global generator. The last two children are `avgpool`, the pooled features, and `fc`.
    """

    kaiming_fc = False  # PyTorch's own weights: torchvision initialises convolutions and norms alone

    def __init__(self, num_classes: int, head: Head, blocks: Sequence[int] = DEPTHS["resnet50"], **shape: int) -> None:
        """blocks: of the four stages; shape: RESNEXT, or nothing."""
        super().__init__(Bottleneck, list(blocks), num_classes=num_classes, **shape)
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if head == "normed":
            self.fc = NormedLinear(WIDTH, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Pooled features [B, 2048]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.avgpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


class ExpertResNet50(ResNet50):
    """The same of several experts: stem and the first two stages shared (longtail/models/experts.py)."""

    def __init__(self, num_classes: int, head: Head, blocks: Sequence[int], experts: int, **shape: int) -> None:
        super().__init__(1, "linear", blocks, **shape)
        del self.layer3, self.layer4, self.avgpool, self.fc  # `avgpool` and `fc` come last again
        self.experts = nn.ModuleList(self._expert(blocks) for _ in range(experts))
        for module in self.experts.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = ExpertHeads(experts, EXPERT_WIDTHS[-1] * Bottleneck.expansion, num_classes, head)

    def _expert(self, blocks: Sequence[int]) -> nn.Sequential:
        self.inplanes = 128 * Bottleneck.expansion  # of the second stage; _make_layer moves it on
        stages = zip(EXPERT_WIDTHS, blocks[2:], strict=True)
        return nn.Sequential(*(self._make_layer(Bottleneck, planes, count, stride=2) for planes, count in stages))

    def features(self, x: Tensor) -> Tensor:
        """Pooled features of all experts, joined: [B, K·1536]."""
        shared = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return torch.cat([self.avgpool(expert(shared)) for expert in self.experts], 1)
