"""The numbers of a PaCo teacher: the block `paco` of an entry of params.yaml's `teachers` (METHODS §2.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from longtail.views.large_recipe import LargeViewRecipe


@dataclass(frozen=True)
class PaCoViewRecipe:
    """The two views of an image. Both have its size and the entry's flip; the query's crop has the entry's padding."""

    autoaugment: Literal["paco", "torchvision"] | None  # query: variant of the CIFAR-10 policy; null = off
    cutout: int  # query: side of the black square, pixels, even; 0 = off
    crop_scale: tuple[float, float]  # key: RandomResizedCrop, area of the crop over the image's
    crop_ratio: tuple[float, float]  # key: its width over height
    jitter: tuple[float, float, float, float]  # key: strengths of brightness, contrast, saturation, hue
    jitter_prob: float  # key
    gray_prob: float  # key
    blur_prob: float  # key
    blur_radius: tuple[float, float]  # key: standard deviation of the Gaussian, pixels, uniform

    def __post_init__(self) -> None:
        for name in ("jitter_prob", "gray_prob", "blur_prob"):
            _require(0 <= getattr(self, name) <= 1, f"{name} is a probability, found {getattr(self, name)}")
        for name in ("crop_scale", "crop_ratio", "blur_radius"):
            low, high = getattr(self, name)
            _require(0 < low <= high, f"{name} must be [low, high] with 0 < low <= high, found [{low}, {high}]")
        _require(
            self.crop_scale[1] <= 1, f"crop_scale is a fraction of the area, at most 1, found {self.crop_scale[1]}"
        )
        _require(self.cutout >= 0 and self.cutout % 2 == 0, f"cutout: {self.cutout} is no even side; 16 on CIFAR")
        _require(
            min(self.jitter) >= 0 and self.jitter[3] <= 0.5,
            f"jitter: four strengths from 0 on, hue at most 0.5, found {list(self.jitter)}",
        )


@dataclass(frozen=True)
class PaCoConfig:
    """Parametric contrastive learning: loss, queue, projection and views."""

    alpha: float  # weight of each positive of the contrast set
    beta: float  # weight of the classifier's term
    gamma: float  # weight of the contrast set in the denominator
    supt: float  # temperature of the classifier's logits, prior included
    temperature: float  # of the similarities
    queue: int  # keys of earlier batches; a multiple of the batch
    key_momentum: float  # of the key encoder: how much of it stays at each step
    dim: int  # of the projection
    views: PaCoViewRecipe | None  # of small images; null where the entry has `views`
    key_views: LargeViewRecipe | None = None  # of large images: the key; the entry's `views` are the query's

    def __post_init__(self) -> None:
        _require(min(self.alpha, self.gamma) >= 0, f"alpha {self.alpha} and gamma {self.gamma} must not be negative")
        _require(
            min(self.beta, self.supt, self.temperature) > 0,
            f"above 0: beta, supt, temperature; found {self.beta}, {self.supt}, {self.temperature}",
        )
        _require(min(self.queue, self.dim) >= 1, f"at least 1: queue, dim; found {self.queue}, {self.dim}")
        _require(0 <= self.key_momentum < 1, f"key_momentum: {self.key_momentum} is not in [0, 1); 0.999 published")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
