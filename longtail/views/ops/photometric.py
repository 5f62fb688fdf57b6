"""Color operations of the other recipes, on one Pillow image: the reference that photometric_torch.py equals.

3-Augment of DeiT-III (METHODS 3.7: one of grayscale, solarize, blur, then color jitter) and the SimCLR-like views of
PaCo (METHODS 2.5: jitter, grayscale, blur), with the pixels that torchvision's transforms make of Pillow images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from longtail.views.ops import randaugment

SOLARIZE_FROM = 128
THREE = ("grayscale", "solarize", "blur")  # 3-Augment applies exactly one
JITTER = ("brightness", "contrast", "saturation", "hue")  # torchvision's numbering of ColorJitter's parts
BLENDS = {"brightness": "BrightnessIncreasing", "contrast": "ContrastIncreasing", "saturation": "ColorIncreasing"}
_NO_FILL = (0, 0, 0)  # of operations that move nothing


def grayscale(image: Image.Image) -> Image.Image:
    """Luma (ITU-R 601-2) in all three channels."""
    return image.convert("L").convert("RGB")


def solarize(image: Image.Image) -> Image.Image:
    """Invert values of 128 and more."""
    return randaugment.apply(image, "SolarizeIncreasing", SOLARIZE_FROM, _NO_FILL)


def gaussian_blur(image: Image.Image, radius: float) -> Image.Image:
    """Pillow's approximation of a Gaussian of that standard deviation, pixels: three extended box filters each way."""
    return image.filter(ImageFilter.GaussianBlur(float(radius)))


def one_of_three(image: Image.Image, choice: int, radius: float) -> Image.Image:
    """choice: index into THREE; radius: of the blur, where it is that."""
    if THREE[choice] == "blur":
        return gaussian_blur(image, radius)
    return grayscale(image) if THREE[choice] == "grayscale" else solarize(image)


def hue_shift(factor: float | np.ndarray) -> np.ndarray:
    """What torchvision adds to the 8-bit hue at a factor (turns, -.5 to .5): int64 in [0, 256), truncated toward 0."""
    return np.trunc(np.asarray(factor, np.float64) * 255).astype(np.int64) % 256


def adjust(image: Image.Image, part: str, factor: float) -> Image.Image:
    """One part of a color jitter. factor: of a blend, 1 = unchanged; of "hue" in turns, 0 changes roundings only."""
    if part != "hue":
        return randaugment.apply(image, BLENDS[part], factor, _NO_FILL)
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point(((np.arange(256) + hue_shift(factor)) % 256).tolist())
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def color_jitter(image: Image.Image, order: Sequence[int], factors: Sequence[float]) -> Image.Image:
    """The parts one after the other. order: indices into JITTER, -1 = none; factors: of the parts, as in JITTER."""
    for part in order:
        if part >= 0:
            image = adjust(image, JITTER[part], factors[part])
    return image


def bilinear(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize without antialiasing, as TensorFlow's: of the four nearest pixels, however far it shrinks, where
    Pillow's own averages over all. uint8 [H, W, 3] to [height, width, 3]: rows, then columns, in float32, rounded."""
    for axis, side in ((0, height), (1, width)):
        length = pixels.shape[axis]
        at = np.clip((np.arange(side) + 0.5) * (length / side) - 0.5, 0, length - 1)
        low = at.astype(np.int64)
        share = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        first, second = (pixels.take(i, axis).astype(np.float32) for i in (low, np.minimum(low + 1, length - 1)))
        pixels = first + share * (second - first)
    return np.rint(pixels).astype(np.uint8)


def noisy(pixels: np.ndarray, normal: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian noise of standard deviation sigma, in shares of white; rounded to whole levels and clipped. pixels:
    uint8 [H, W, 3]; normal: N(0, 1) values, float32 [H·W·3]."""
    found = pixels + np.float32(255 * sigma) * normal.reshape(pixels.shape)
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)
