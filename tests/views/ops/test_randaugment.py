from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from longtail.views.normalize import NORMALIZATION
from longtail.views.ops import randaugment

FILL = (124, 116, 104)


def photos() -> dict[str, np.ndarray]:
    china, flower = load_sample_image("china.jpg"), load_sample_image("flower.jpg")
    digit = np.round(load_digits().images[3] * 255 / 16).astype(np.uint8)
    small = Image.fromarray(china).resize((32, 32), Image.Resampling.BOX)
    return {
        "china 24": np.ascontiguousarray(china[200:224, 300:324]),
        "flower 96": np.ascontiguousarray(flower[100:196, 250:346]),
        "small china at 64": np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC)),
        "digit at 24": np.asarray(
            Image.fromarray(np.repeat(digit[..., None], 3, 2)).resize((24, 24), Image.Resampling.BICUBIC)
        ),
        "one color": np.full((24, 24, 3), 77, np.uint8),
    }


@pytest.fixture(scope="module")
def timm_ops():
    import timm.data.auto_augment as auto_augment

    return auto_augment


def test_the_operations_are_timms_in_timms_order(timm_ops):
    assert list(randaugment.OPS) == timm_ops._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("op", randaugment.OPS)
def test_every_operation_is_pixel_equal_to_timms(op, timm_ops, monkeypatch):
    """Magnitudes over the whole range, both signs, five images."""
    hparams = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC, "magnitude_std": 0}
    changed = False
    for magnitude in (0.0, 0.3, 4.99, 8.13, 9.0, 9.77, 10.0):
        for negative in (False, True):
            # timm negates where random() > 0.5, and applies where random() <= prob = 1
            monkeypatch.setattr(timm_ops.random, "random", lambda n=negative: 0.75 if n else 0.25)
            reference = timm_ops.AugmentOp(op, prob=1.0, magnitude=magnitude, hparams=hparams)
            argument = randaugment.level_argument(op, magnitude, negative)
            if op == "PosterizeIncreasing" and argument == 0:
                continue  # timm raises on Pillow 13; see the next test
            for name, pixels in photos().items():
                image = Image.fromarray(pixels)
                ours, theirs = np.asarray(randaugment.apply(image, op, argument, FILL)), np.asarray(reference(image))
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{op} {magnitude} {negative} {name}")
                changed |= bool((ours != pixels).any())
    assert changed


def test_posterize_to_no_bits_is_black():
    assert randaugment.level_argument("PosterizeIncreasing", 10.0, False) == 0
    image = Image.fromarray(photos()["china 24"])
    assert not np.asarray(randaugment.apply(image, "PosterizeIncreasing", 0, FILL)).any()


def test_an_unknown_operation_raises():
    with pytest.raises(ValueError, match="Cutout"):
        randaugment.apply(Image.new("RGB", (8, 8)), "Cutout", None, FILL)


@pytest.mark.parametrize(("op", "argument"), [("TranslateXRel", 0.45), ("Rotate", 30.0), ("ShearY", -0.3)])
def test_what_moves_in_has_the_fill_color(op, argument):
    white = Image.new("RGB", (64, 64), (255, 255, 255))
    moved = np.asarray(randaugment.apply(white, op, argument, randaugment.fill_color(NORMALIZATION["imagenet"][0])))
    assert FILL in {tuple(p) for p in moved.reshape(-1, 3).tolist()}
    assert randaugment.fill_color(NORMALIZATION["imagenet"][0]) == FILL


@pytest.mark.parametrize("size", [24, 32, 224])
@pytest.mark.parametrize("box", [(0, 0, 32, 32), (3, 5, 20, 9), (31, 31, 1, 1), (0, 12, 11, 20), (4, 4, 24, 24)])
def test_the_crop_is_pixel_equal_to_torchvisions(box, size):
    left, top, width, height = box
    pixels = np.ascontiguousarray(load_sample_image("china.jpg")[100:132, 400:432])
    theirs = F.resized_crop(Image.fromarray(pixels), top, left, height, width, [size, size], InterpolationMode.BICUBIC)
    np.testing.assert_array_equal(np.asarray(randaugment.resized_crop(pixels, *box, size)), np.asarray(theirs))


def test_flip_mirrors_left_and_right():
    pixels = photos()["china 24"]
    np.testing.assert_array_equal(np.asarray(randaugment.flip(Image.fromarray(pixels))), pixels[:, ::-1])
