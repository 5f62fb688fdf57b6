"""The numbers of a CNN teacher's view on the large datasets: a block of an entry of `teachers` (METHODS §2.4, §2.5)."""

from __future__ import annotations

from dataclasses import dataclass

from longtail.base.errors import nearest
from longtail.views.normalize import NORMALIZATION


@dataclass(frozen=True)
class LargeViewRecipe:
    """RandomResizedCrop (bilinear), color jitter, grayscale, blur, flip, RandAugment (bilinear or bicubic, drawn anew
    for every operation, as timm does unless told); in this order."""

    size: int  # pixels on a side
    crop_scale: tuple[float, float]  # area of the crop over the image's
    crop_ratio: tuple[float, float]  # its width over height
    jitter: tuple[float, float, float, float]  # strengths of brightness, contrast, saturation, hue
    gray_prob: float
    blur_prob: float
    blur_radius: tuple[float, float]  # standard deviation of the Gaussian, pixels, uniform
    hflip: float  # probability
    rand_ops: int  # operations of RandAugment, drawn with replacement; 0 = off
    rand_prob: float  # that each is applied
    rand_magnitude: float  # mean of a normal distribution, clipped to 0..10
    rand_std: float  # its standard deviation
    rand_fill: str  # a name in views/normalize.py, whose mean is the color that moves in; PaCo: ImageNet's on iNat too

    def __post_init__(self) -> None:
        _require(self.size >= 1, f"size must be at least 1, found {self.size}")
        for name in ("gray_prob", "blur_prob", "hflip", "rand_prob"):
            _require(0 <= getattr(self, name) <= 1, f"{name} is a probability, found {getattr(self, name)}")
        for name in ("crop_scale", "crop_ratio", "blur_radius"):
            low, high = getattr(self, name)
            _require(0 < low <= high, f"{name} must be [low, high] with 0 < low <= high, found [{low}, {high}]")
        _require(
            self.crop_scale[1] <= 1, f"crop_scale is a fraction of the area, at most 1, found {self.crop_scale[1]}"
        )
        _require(
            min(self.jitter) >= 0 and self.jitter[3] <= 0.5,
            f"jitter: four strengths from 0 on, hue at most 0.5, found {list(self.jitter)}",
        )
        _require(
            self.rand_ops >= 0 and self.rand_std >= 0 and 0 <= self.rand_magnitude <= 10,
            "at least 0: rand_ops, rand_std; rand_magnitude 0 to 10",
        )
        _require(
            self.rand_fill in NORMALIZATION,
            f"rand_fill '{self.rand_fill}' is unknown{nearest(self.rand_fill, NORMALIZATION)}",
        )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
