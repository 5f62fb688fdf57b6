"""The one table of input normalisations (METHODS §1.6), shared by teachers and student views.

A DeiT-LT student is fed ImageNet constants on every dataset, and its teacher sees that same tensor although it was
trained with its own constants: the mismatch is published behaviour (METHODS §3.3, trap 8), so both sides name theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from longtail.base.errors import UserError, nearest

_CACHED = 2**17  # values at a time

Triple = tuple[float, float, float]

NORMALIZATION: dict[str, tuple[Triple, Triple]] = {  # name: (mean, std) per RGB channel of pixel / 255
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "digits": ((0.3053, 0.3053, 0.3053), (0.3760, 0.3760, 0.3760)),  # sklearn's 1,797 digits, grey value / 16
    "inat": ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192)),  # iNaturalist CNN teachers, LiVT on iNaturalist
    "livt_imagenet_lt": ((0.479672, 0.457713, 0.407721), (0.278976, 0.271203, 0.286062)),
    "livt_imagenet_bal": ((0.480767, 0.457071, 0.407718), (0.279940, 0.272481, 0.286038)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # CBD: pixel / 255 alone
}


def constants(name: str, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """(mean, std) as float32 [3, 1, 1]. Raises UserError for an unknown name."""
    if name not in NORMALIZATION:
        raise UserError(f"normalization '{name}': no such entry{nearest(name, NORMALIZATION)}")
    mean, std = (torch.tensor(v, dtype=torch.float32, device=device).view(3, 1, 1) for v in NORMALIZATION[name])
    return mean, std


def normalize(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 [..., 3, H, W] to float32 (pixel / 255 - mean) / std, in torchvision's order of operations.

    Keeps the memory format of `pixels`; mean and std as `constants` returns them.
    """
    return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)


def normalize_into(x: Tensor, pixels: Tensor, mean: Tensor, std: Tensor) -> None:
    """`normalize` of many views, uint8 [n, 3, H, W], into float32 x of the same shape, a few at a time so that they
    stay in a core's cache."""
    several = max(1, _CACHED // max(1, pixels[:1].numel()))
    for of, to in zip(pixels.split(several), x.split(several), strict=True):
        to.copy_(of).div_(255).sub_(mean).div_(std)
