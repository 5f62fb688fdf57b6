"""What an entry of params.yaml's `views` holds: every number of the augmentation and of the shape of an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from longtail.errors import nearest
from longtail.normalize import NORMALIZATION


@dataclass(frozen=True)
class ViewRecipe:
    """One entry of params.yaml's `views`. Probabilities and magnitudes of 0 switch a part off."""

    size: int  # side of a view, pixels
    crop_scale: tuple[float, float]  # RandomResizedCrop: area of the crop over the image's
    crop_ratio: tuple[float, float]  # its width over height
    hflip: float  # probability
    rand_ops: int  # RandAugment: operations drawn per view, with replacement; 0 = off
    rand_prob: float  # of applying each
    rand_magnitude: float  # mean, of 10
    rand_std: float  # of the magnitude
    erase_prob: float  # RandomErasing, per-pixel N(0, 1) noise after normalization
    erase_area: tuple[float, float]  # box over view
    erase_ratio: tuple[float, float]  # box height over width
    normalization: str  # a name in longtail/normalize.py; also colors what geometric operations move in
    sampler: Literal["shuffle", "class_balanced"]  # every image once, or every class equally likely (longtail/epoch.py)
    repeats: int  # repeated augmentation: consecutive copies of an image in the stream; 1 = off
    virtual_world: int  # ranks G that the stream is dealt out to
    mix_group: int  # views in one rank's micro-batch: the unit of mixing and of weighted loss means
    accumulate: int  # micro-batches of each rank in an optimizer step
    round_to: int  # images of an epoch rounded down to a multiple; 0 = no rounding
    mixup_alpha: float  # Beta(alpha, alpha); 0 = no mixup
    cutmix_alpha: float  # 0 = no CutMix
    mix_prob: float  # of mixing a group at all
    switch_prob: float  # of CutMix rather than mixup
    mix_until: int  # first epoch without mixing
    teacher_stride: int  # the teacher sees x[..., offset::stride, offset::stride]; 1 = the student's view
    teacher_offset: int

    def __post_init__(self) -> None:
        for name in ("hflip", "rand_prob", "erase_prob", "mix_prob", "switch_prob"):
            _require(0 <= getattr(self, name) <= 1, f"{name} is a probability, found {getattr(self, name)}")
        for name in ("size", "repeats", "virtual_world", "accumulate", "teacher_stride"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, found {getattr(self, name)}")
        for name in ("rand_ops", "rand_std", "round_to", "mixup_alpha", "cutmix_alpha", "mix_until"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative, found {getattr(self, name)}")
        for name in ("crop_scale", "crop_ratio", "erase_area", "erase_ratio"):
            low, high = getattr(self, name)
            _require(0 < low <= high, f"{name} must be [low, high] with 0 < low <= high, found [{low}, {high}]")
        for name in ("crop_scale", "erase_area"):
            high = getattr(self, name)[1]
            _require(high <= 1, f"{name} is a fraction of the area, at most 1, found {high}")
        _require(
            self.normalization in NORMALIZATION,
            f"normalization '{self.normalization}' is unknown{nearest(self.normalization, NORMALIZATION)}",
        )
        _require(0 <= self.rand_magnitude <= 10, f"rand_magnitude is 0 to 10, found {self.rand_magnitude}")
        _require(
            self.mix_group >= 2 and self.mix_group % 2 == 0,
            f"mix_group must be even, found {self.mix_group}: views of a group are mixed in pairs",
        )
        _require(
            self.size % self.teacher_stride == 0,
            f"size {self.size} is no multiple of teacher_stride {self.teacher_stride}",
        )
        _require(
            0 <= self.teacher_offset < self.teacher_stride,
            f"teacher_offset must be 0 to {self.teacher_stride - 1} (teacher_stride - 1), found {self.teacher_offset}",
        )

    @property
    def teacher_size(self) -> int:
        """Side of what the teacher sees, pixels."""
        return self.size // self.teacher_stride


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
