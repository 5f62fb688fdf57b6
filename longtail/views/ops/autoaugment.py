"""AutoAugment's CIFAR-10 policy (Cubuk et al., CVPR 2019), one Pillow image at a time: the reference.

One of 25 sub-policies, two operations each, with the probabilities and strengths learned for them. Two ways of turning
a strength into pixels are in use:

* "paco": the `autoaug.py` that long-tail repositories share, PaCo's among them by its import (read in copies elsewhere:
  METHODS 2.5 names the policy only). The shear is bicubic, rotations go one way, gray moves in.
* "torchvision": torchvision.transforms.AutoAugment(CIFAR10). Nearest throughout, rotations both ways, black moves in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from longtail.base import rng
from longtail.views.ops import randaugment

# Operation, probability in tenths, strength 0 to 9 (None where it has none); both operations of each sub-policy.
POLICY = (
    (("Invert", 1, None), ("Contrast", 2, 6)),
    (("Rotate", 7, 2), ("TranslateX", 3, 9)),
    (("Sharpness", 8, 1), ("Sharpness", 9, 3)),
    (("ShearY", 5, 8), ("TranslateY", 7, 9)),
    (("AutoContrast", 5, None), ("Equalize", 9, None)),
    (("ShearY", 2, 7), ("Posterize", 3, 7)),
    (("Color", 4, 3), ("Brightness", 6, 7)),
    (("Sharpness", 3, 9), ("Brightness", 7, 9)),
    (("Equalize", 6, None), ("Equalize", 5, None)),
    (("Contrast", 6, 7), ("Sharpness", 6, 5)),
    (("Color", 7, 7), ("TranslateX", 5, 8)),
    (("Equalize", 3, None), ("AutoContrast", 4, None)),
    (("TranslateY", 4, 3), ("Sharpness", 2, 6)),
    (("Brightness", 9, 6), ("Color", 2, 8)),
    (("Solarize", 5, 2), ("Invert", 0, None)),
    (("Equalize", 2, None), ("AutoContrast", 6, None)),
    (("Equalize", 2, None), ("Equalize", 6, None)),
    (("Color", 9, 9), ("Equalize", 6, None)),
    (("AutoContrast", 8, None), ("Solarize", 2, 8)),
    (("Brightness", 1, 3), ("Color", 7, 0)),
    (("Solarize", 4, 5), ("AutoContrast", 9, None)),
    (("TranslateY", 9, 9), ("TranslateY", 7, 9)),
    (("AutoContrast", 9, None), ("Solarize", 8, 3)),
    (("Equalize", 8, None), ("Invert", 1, None)),
    (("TranslateY", 7, 9), ("AutoContrast", 9, None)),
)
OPS = tuple(sorted({op for pair in POLICY for op, _, _ in pair}))
WORDS = 5  # random words a view needs: which sub-policy, then for each operation: applied?, sign

PIXELWISE = {  # those that move nothing, and what they are in randaugment
    "AutoContrast": "AutoContrast",
    "Brightness": "BrightnessIncreasing",
    "Color": "ColorIncreasing",
    "Contrast": "ContrastIncreasing",
    "Equalize": "Equalize",
    "Invert": "Invert",
    "Posterize": "PosterizeIncreasing",
    "Sharpness": "SharpnessIncreasing",
    "Solarize": "SolarizeIncreasing",
}
_SHIFT = 150 / 331  # of the side, the longest translation


@dataclass(frozen=True)
class Variant:
    """What one implementation makes of strengths 0 to 9."""

    fill: int  # gray that moves in
    bicubic_shear: bool  # nearest otherwise
    signed_rotation: bool
    toward: int  # +1: a positive translation reads from further right or down; -1: it moves the image there
    whole_shift: bool  # translations truncated to pixels
    solarize_top: int  # threshold at strength 0
    single: bool  # strengths in float32


VARIANTS = {
    "paco": Variant(128, True, False, 1, False, 256, False),
    "torchvision": Variant(0, False, True, -1, True, 255, True),
}


@cache
def _steps(top: float, single: bool) -> tuple[float, ...]:
    """0 to top in ten values: np.linspace's, or torch.linspace's, which counts from both ends in float32."""
    if not single:
        return tuple(np.linspace(0, top, 10).tolist())
    step = np.float32(top) / np.float32(9)
    rising = [step * np.float32(i) for i in range(5)]
    return tuple(float(v) for v in rising + [np.float32(top) - step * np.float32(9 - i) for i in range(5, 10)])


def argument(op: str, strength: int, negative: bool, size: int, variant: str) -> float | int | None:
    """What an operation is called with on size x size pixels: degrees, shear, shift of the source in pixels, bits,
    threshold (whole, with the effect of the fractional one), blend factor; None where there is no strength."""
    how = VARIANTS[variant]
    sign = -1.0 if negative else 1.0
    if op == "Rotate":
        return (sign if how.signed_rotation else 1.0) * _steps(30.0, how.single)[strength]
    if op == "ShearY":
        return sign * _steps(0.3, how.single)[strength]
    if op in ("TranslateX", "TranslateY"):
        if how.whole_shift:
            return how.toward * int(sign * _steps(_SHIFT * size, how.single)[strength])
        return how.toward * sign * (_steps(_SHIFT, how.single)[strength] * size)
    if op in ("Brightness", "Color", "Contrast", "Sharpness"):
        return 1.0 + sign * _steps(0.9, how.single)[strength]
    if op == "Posterize":
        return 8 - round(strength * 4 / 9)
    if op == "Solarize":
        return math.ceil(how.solarize_top * (9 - strength) / 9)
    return None


def apply(image: Image.Image, op: str, argument: float | int | None, variant: str) -> Image.Image:
    """One operation on a square RGB image. argument: from the function of that name."""
    how = VARIANTS[variant]
    fill = (how.fill,) * 3
    if op in PIXELWISE:
        return randaugment.apply(image, PIXELWISE[op], argument, fill)
    if op == "Rotate":
        return image.rotate(argument, fillcolor=fill)
    cubic = how.bicubic_shear and op == "ShearY"
    resample = Image.Resampling.BICUBIC if cubic else Image.Resampling.NEAREST
    return image.transform(image.size, Image.Transform.AFFINE, matrix(op, argument), resample=resample, fillcolor=fill)


def matrix(op: str, argument: float) -> tuple[float, ...]:
    """Of the shear or a translation: (a, b, c, d, e, f) of out(x, y) = in(a x + b y + c, d x + e y + f)."""
    return {
        "ShearY": (1, 0, 0, argument, 1, 0),
        "TranslateX": (1, 0, argument, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, argument),
    }[op]


@dataclass(frozen=True)
class Draws:
    """Parameters of P views."""

    op: np.ndarray  # int64 [P, 2]: index into OPS, -1 = not applied
    strength: np.ndarray  # int64 [P, 2]: 0 to 9; 0 where it has no effect
    negative: np.ndarray  # bool [P, 2]


def draw(words: np.ndarray) -> Draws:
    """A sub-policy for each view and what is applied of it. words: uint32 [P, WORDS]."""
    chosen = rng.below(words[:, 0], len(POLICY))
    op, tenths, strength = (table[chosen] for table in _tables())
    applied = words[:, 1::2].astype(np.uint64) * 10 < tenths.astype(np.uint64) << np.uint64(32)
    return Draws(np.where(applied, op, -1), strength, (words[:, 2::2] & 1).astype(bool))


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """POLICY as int64 [25, 2] each: index into OPS, probability in tenths, strength."""
    rows = [[(OPS.index(op), tenths, strength or 0) for op, tenths, strength in pair] for pair in POLICY]
    op, tenths, strength = np.array(rows, np.int64).transpose(2, 0, 1)
    return op, tenths, strength


def augment(image: Image.Image, drawn: Draws, row: int, variant: str) -> Image.Image:
    """One view of a square RGB image, with the draws of that row."""
    columns = drawn.op[row].tolist(), drawn.strength[row].tolist(), drawn.negative[row].tolist()
    for op, strength, negative in zip(*columns, strict=True):
        if op >= 0:
            image = apply(image, OPS[op], argument(OPS[op], strength, negative, image.size[0], variant), variant)
    return image
