"""The fifteen operations of timm's `rand-m9-mstd0.5-inc1` (DeiT-LT's "AutoAug") and the crop, on one Pillow image.

Level functions and pixels are timm's (`timm/data/auto_augment.py`, `_RAND_INCREASING_TRANSFORMS`, in its order); the
tests compare every operation with timm's own. timm is not imported: it takes seconds, and its posterize with 0 bits
raises on Pillow 13. Lookup tables are computed here because Pillow's own are Python loops, most of the time at 24 px.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter

OPS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
MAX_MAGNITUDE = 10.0  # timm's _LEVEL_DENOM
_BICUBIC, _AFFINE = Image.Resampling.BICUBIC, Image.Transform.AFFINE
_LEVELS = np.arange(256)


def level_argument(op: str, magnitude: float, negative: bool) -> float | int | None:
    """What an operation is called with at a magnitude in [0, 10]: degrees, bits, threshold, added value, blend factor,
    shear, or translation as a fraction of the side; None where there is no strength."""
    level = magnitude / MAX_MAGNITUDE
    sign = -1.0 if negative else 1.0
    if op == "Rotate":
        return sign * (level * 30.0)
    if op == "PosterizeIncreasing":
        return 4 - int(level * 4)
    if op == "SolarizeIncreasing":
        return 256 - min(256, int(level * 256))
    if op == "SolarizeAdd":
        return min(128, int(level * 110))
    if op in ("ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing"):
        return max(0.1, 1.0 + sign * (level * 0.9))
    if op in ("ShearX", "ShearY"):
        return sign * (level * 0.3)
    if op in ("TranslateXRel", "TranslateYRel"):
        return sign * (level * 0.45)
    return None


def fill_color(mean: tuple[float, float, float]) -> tuple[int, int, int]:
    """round(255 * mean), as timm's create_transform: (124, 116, 104) for ImageNet's."""
    red, green, blue = (min(255, round(255 * m)) for m in mean)
    return red, green, blue


def resized_crop(pixels: np.ndarray, left: int, top: int, width: int, height: int, size: int) -> Image.Image:
    """Crop, then one bicubic resize to size x size. Not `resize(box=...)`: that would read pixels outside the crop.

    pixels: uint8 [H, W, 3]."""
    crop = pixels[top : top + height, left : left + width].tobytes()
    return Image.frombytes("RGB", (width, height), crop).resize((size, size), _BICUBIC)


def resized(pixels: np.ndarray, width: int, height: int) -> Image.Image:
    """The whole image by one bicubic resize. pixels: uint8 [H, W, 3]."""
    return Image.frombytes("RGB", pixels.shape[1::-1], pixels.tobytes()).resize((width, height), _BICUBIC)


def flip(image: Image.Image) -> Image.Image:
    """Mirror left and right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def apply(
    image: Image.Image,
    op: str,
    argument: float | int | None,
    fill: tuple[int, int, int],
    resample: Image.Resampling = _BICUBIC,
) -> Image.Image:
    """One operation on an RGB image. argument: from `level_argument`; fill: color of what moves in from outside;
    resample: where pixels move."""
    if op == "AutoContrast":
        return _by_channel(image, _autocontrast_table)
    if op == "Equalize":
        return _by_channel(image, _equalize_table)
    if op == "Invert":
        return ImageChops.invert(image)
    if op == "Rotate":
        return image.rotate(argument, resample=resample, fillcolor=fill)
    if op == "PosterizeIncreasing":
        return _look_up(image, _posterize_table(argument))
    if op == "SolarizeIncreasing":
        return _look_up(image, _solarize_table(argument))
    if op == "SolarizeAdd":
        return _look_up(image, _solarize_add_table(argument))
    if op == "ColorIncreasing":
        return Image.blend(image.convert("L").convert("RGB"), image, argument)
    if op == "ContrastIncreasing":
        gray = np.frombuffer(image.convert("L").tobytes(), np.uint8)
        mean = int(int(gray.sum(dtype=np.int64)) / len(gray) + 0.5)
        return Image.blend(Image.new("RGB", image.size, (mean, mean, mean)), image, argument)
    if op == "BrightnessIncreasing":
        return Image.blend(Image.new("RGB", image.size), image, argument)
    if op == "SharpnessIncreasing":
        return Image.blend(image.filter(ImageFilter.SMOOTH), image, argument)
    side = image.size[0]
    if op == "ShearX":
        matrix = (1, argument, 0, 0, 1, 0)
    elif op == "ShearY":
        matrix = (1, 0, 0, argument, 1, 0)
    elif op == "TranslateXRel":
        matrix = (1, 0, argument * side, 0, 1, 0)
    elif op == "TranslateYRel":
        matrix = (1, 0, 0, 0, 1, argument * image.size[1])
    else:
        raise ValueError(f"unknown operation {op!r}")
    return image.transform(image.size, _AFFINE, matrix, resample=resample, fillcolor=fill)


def _look_up(image: Image.Image, table: bytes) -> Image.Image:
    """All three channels through one table of 256. `Image.point` spends 50 us on checking its list; this, 10."""
    return Image.frombytes("RGB", image.size, image.tobytes().translate(table))


def _by_channel(image: Image.Image, table: Callable[[bytes], bytes]) -> Image.Image:
    """Each channel through the table made of its own values."""
    channels = [channel.tobytes() for channel in image.split()]
    return Image.merge("RGB", [Image.frombytes("L", image.size, c.translate(table(c))) for c in channels])


@cache
def _stretch_table(low: int, high: int) -> bytes:
    """[low, high] to [0, 255], truncating (ImageOps.autocontrast without cutoff)."""
    if high <= low:
        return bytes(range(256))
    scale = 255.0 / (high - low)
    return np.clip((_LEVELS * scale + -low * scale).astype(np.int64), 0, 255).astype(np.uint8).tobytes()


def _autocontrast_table(channel: bytes) -> bytes:
    values = np.frombuffer(channel, np.uint8)
    return _stretch_table(int(values.min()), int(values.max()))


def _equalize_table(channel: bytes) -> bytes:
    """Running count over step, step = (pixels - count of the brightest used value) // 255 (ImageOps.equalize)."""
    values = np.frombuffer(channel, np.uint8)
    count = np.bincount(values, minlength=256)
    step = (len(values) - int(count[values.max()])) // 255
    if step == 0:  # also where a channel has one value only
        return bytes(range(256))
    before = np.cumsum(count) - count
    return np.minimum((step // 2 + before) // step, 255).astype(np.uint8).tobytes()


@cache
def _posterize_table(bits: int) -> bytes:
    """Keep the highest bits; 0 bits give black."""
    return (_LEVELS & ~(2 ** (8 - bits) - 1)).astype(np.uint8).tobytes()


@cache
def _solarize_table(threshold: int) -> bytes:
    """Invert values from the threshold up."""
    return np.where(threshold <= _LEVELS, 255 - _LEVELS, _LEVELS).astype(np.uint8).tobytes()


@cache
def _solarize_add_table(added: int) -> bytes:
    """Brighten values below 128."""
    return np.where(_LEVELS < 128, np.minimum(255, _LEVELS + added), _LEVELS).astype(np.uint8).tobytes()
