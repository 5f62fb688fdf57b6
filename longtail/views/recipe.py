"""What entries say about views: every number of the augmentation and of the shape of an epoch.

The numbers of a CNN teacher's view on the large datasets: a block of an entry of `teachers` (METHODS §2.4, §2.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from longtail.base.errors import nearest
from longtail.base.params import later
from longtail.views.normalize import NORMALIZATION


@dataclass(frozen=True)
class ViewRecipe:
    """One entry of params.yaml's `views`. Probabilities and magnitudes of 0 switch a part off."""

    size: int  # side of a view, pixels
    crop: Literal["resized", "padded"]  # RandomResizedCrop; or shorter side to `size`, pad, RandomCrop
    crop_scale: tuple[float, float]  # resized: area of the crop over the image's
    crop_ratio: tuple[float, float]  # resized: its width over height
    crop_padding: int  # padded: pixels mirrored on each side of the enlarged image
    hflip: float  # probability
    rand_ops: int  # RandAugment: operations drawn per view, with replacement; 0 = off
    rand_prob: float  # of applying each
    rand_magnitude: float  # mean, of 10
    rand_std: float  # of the magnitude
    three_augment: bool  # exactly one of grayscale, solarize and Gaussian blur, in the place of RandAugment
    blur_radius: tuple[float, float]  # of that blur: standard deviation, pixels
    jitter: float  # brightness, contrast and saturation, each by a factor of 1 - jitter to 1 + jitter; 0 = off
    erase_prob: float  # RandomErasing, per-pixel N(0, 1) noise after normalization
    erase_area: tuple[float, float]  # box over view
    erase_ratio: tuple[float, float]  # box height over width
    normalization: str  # a name in longtail/views/normalize.py; also colors what geometric operations move in
    sampler: Literal[
        "shuffle", "class_balanced"
    ]  # every image once, or every class equally likely (longtail/views/epoch.py)
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
    teacher_view: Literal["same", "weak"]  # the teacher labels the student's view, or a weak view of the same image
    teacher_stride: int  # same: it sees x[..., offset::stride, offset::stride]; 1 = the student's view
    teacher_offset: int
    teacher_padding: int  # weak: zero pixels on each side before a random crop of the image's own size, then `hflip`
    teacher_normalization: str  # weak, or where `teacher_renormalize`: a name in longtail/views/normalize.py
    # families of draws are independent, with one recipe and seed too: a network that is to label a student's views is
    # trained on views of another family (longtail/base/rng.py)
    family: int = later(0)
    # same: what it sees is brought from `normalization` to `teacher_normalization`, as timm's distillation does;
    # false: the student's normalisation reaches the teacher, as in the published runs (METHODS trap 8)
    teacher_renormalize: bool = later(False)

    def __post_init__(self) -> None:
        for name in ("hflip", "rand_prob", "erase_prob", "mix_prob", "switch_prob"):
            _require(0 <= getattr(self, name) <= 1, f"{name} is a probability, found {getattr(self, name)}")
        for name in ("size", "repeats", "virtual_world", "accumulate", "teacher_stride"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, found {getattr(self, name)}")
        for name in ("crop_padding", "rand_ops", "rand_std", "jitter", "round_to", "teacher_padding"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative, found {getattr(self, name)}")
        for name in ("mixup_alpha", "cutmix_alpha", "mix_until", "family"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative, found {getattr(self, name)}")
        for name in ("crop_scale", "crop_ratio", "blur_radius", "erase_area", "erase_ratio"):
            low, high = getattr(self, name)
            _require(0 < low <= high, f"{name} must be [low, high] with 0 < low <= high, found [{low}, {high}]")
        for name in ("crop_scale", "erase_area"):
            high = getattr(self, name)[1]
            _require(high <= 1, f"{name} is a fraction of the area, at most 1, found {high}")
        for name in ("normalization", "teacher_normalization"):
            found = getattr(self, name)
            _require(found in NORMALIZATION, f"{name} '{found}' is unknown{nearest(found, NORMALIZATION)}")
        _require(
            self.crop_padding < self.size,
            f"crop_padding {self.crop_padding} is more than {self.size} pixels can mirror; at most {self.size - 1}",
        )
        _require(
            not (self.rand_ops and self.three_augment),
            f"three_augment takes the place of RandAugment; with it rand_ops must be 0, found {self.rand_ops}",
        )
        _require(  # METHODS trap 9
            not (self.rand_ops and self.jitter),
            f"rand_ops {self.rand_ops} and jitter {self.jitter}: the published code leaves the jitter out where"
            " RandAugment is on; set one of them to 0",
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
        _require(
            self.teacher_view == "same" or not self.mixes,
            "teacher_view weak shows one image and no mixture; set mix_prob to 0.0",
        )
        _require(
            self.teacher_view == "same" or not self.teacher_renormalize,
            "teacher_view weak is made in teacher_normalization; set teacher_renormalize to false",
        )

    @property
    def mixes(self) -> bool:
        """Is any group of any epoch mixed?"""
        return self.mix_prob > 0 and self.mix_until > 0 and bool(self.mixup_alpha or self.cutmix_alpha)

    @property
    def teacher_size(self) -> int:
        """Side of what the teacher sees of the student's view, pixels."""
        return self.size // self.teacher_stride

    @property
    def shown_normalization(self) -> str:
        """Of what the teacher sees: a name in longtail/views/normalize.py."""
        own = self.teacher_view == "weak" or self.teacher_renormalize
        return self.teacher_normalization if own else self.normalization


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class LargeViewRecipe:
    """RandomResizedCrop (bilinear), color jitter, grayscale, blur, flip, RandAugment (bilinear or bicubic, drawn anew
    for every operation, as timm does unless told), Gaussian noise; in this order."""

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
    jitter_prob: float = later(1.0)  # that an image is jittered at all; CBD's code .8
    noise: float = later(0.0)  # standard deviation of Gaussian noise, in shares of white; CBD's paper .01, its code 0
    antialias: bool = later(True)  # of the crop's resize and the test image's; False: TensorFlow's bilinear (CBD)

    def __post_init__(self) -> None:
        _require(self.size >= 1, f"size must be at least 1, found {self.size}")
        for name in ("gray_prob", "blur_prob", "hflip", "rand_prob", "jitter_prob"):
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
        _require(0 <= self.noise < 1, f"noise: {self.noise}; a share of white from 0 to below 1, in print 0.01")
        _require(
            self.rand_ops >= 0 and self.rand_std >= 0 and 0 <= self.rand_magnitude <= 10,
            "at least 0: rand_ops, rand_std; rand_magnitude 0 to 10",
        )
        _require(
            self.rand_fill in NORMALIZATION,
            f"rand_fill '{self.rand_fill}' is unknown{nearest(self.rand_fill, NORMALIZATION)}",
        )


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
