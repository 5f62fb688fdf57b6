"""The CNNs that a teacher can be, by the name that its entry gives.

Each is a module of images [B, 3, H, W] to logits [B, C] whose last two children are `avgpool` and `fc`, with a method
`features` that gives what `fc` is fed and `kaiming_fc`, which says how `fc` starts. To add one, write it down here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from longtail.models.resnet import CIFAR_DEPTHS, Head, cifar_resnet


def _resnet50(num_classes: int, head: Head = "linear") -> nn.Module:
    """Imported when it is asked for: CIFAR teachers need no torchvision, which takes seconds."""
    from longtail.models.resnet50 import ResNet50

    return ResNet50(num_classes, head)


ARCHITECTURES: dict[str, Callable[[int, Head], nn.Module]] = {
    **{f"resnet{depth}": partial(cifar_resnet, depth) for depth in CIFAR_DEPTHS},
    "resnet50": _resnet50,
}
