"""The Pillow reference against torchvision's transforms; the batched operations against the reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms
from torchvision.transforms import functional as F

from longtail.views.ops import autoaugment, autoaugment_torch, photometric, photometric_torch, resample_torch
from longtail.views.ops.photometric import JITTER, THREE
from tests.helpers.batches import DEVICES, batch, one_by_one, unbatch
from tests.helpers.pictures import pictures

SIZES = [1, 2, 3, 24, 33, 96]
ADJUST = dict(zip(JITTER, (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue), strict=True))


def images_of(size: int) -> np.ndarray:
    if size > 8:
        return pictures(size)
    return np.random.default_rng(size).integers(0, 256, (16, size, size, 3), dtype=np.uint8)


def factors_of(part: str, n: int) -> np.ndarray:
    """n factors of a jitter part: the ends and fixed points of the range, then anything in it."""
    low, high = (-0.5, 0.5) if part == "hue" else (0.0, 2.5)
    factors = np.random.default_rng(n).uniform(low, high, n)
    factors[:4] = low, high, 0.0 if part == "hue" else 1.0, 1 / 3
    return factors


@pytest.mark.parametrize("part", JITTER)
def test_each_part_of_the_jitter_is_torchvisions(part):
    images = pictures(33)
    factors = factors_of(part, len(images)).tolist()
    ours = one_by_one(lambda image, f: photometric.adjust(image, part, f), images, factors)
    np.testing.assert_array_equal(ours, one_by_one(ADJUST[part], images, factors))
    assert (ours != images).any()


def test_grayscale_and_solarize_are_torchvisions():
    images = pictures(33)
    gray = one_by_one(lambda image: F.to_grayscale(image, 3), images)
    np.testing.assert_array_equal(one_by_one(photometric.grayscale, images), gray)
    np.testing.assert_array_equal(one_by_one(photometric.solarize, images), one_by_one(ImageOps.solarize, images))


def test_literal_values():
    colors = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (127, 128, 255), (10, 20, 30)], np.uint8)
    pixels = batch(colors[None, :, None])
    assert unbatch(photometric_torch.grayscale(pixels))[0, :, 0, 1].tolist() == [76, 150, 29, 142, 18]
    assert unbatch(photometric_torch.solarize(pixels))[0, 3, 0].tolist() == [127, 127, 0]
    a_third = photometric_torch.adjust(pixels[:, :, :3], "hue", np.array([1 / 3]))
    assert unbatch(a_third)[0, :, 0].tolist() == [[0, 255, 0], [0, 0, 255], [255, 0, 0]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("part", JITTER)
def test_each_part_of_the_jitter_in_a_batch(part, size, device):
    images = np.concatenate([images_of(size)] * 4)
    factors = factors_of(part, len(images))
    before = batch(images, device)
    ours = unbatch(photometric_torch.adjust(before, part, factors))
    theirs = one_by_one(lambda image, f: photometric.adjust(image, part, f), images, factors.tolist())
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(unbatch(before), images, err_msg="the argument was changed")


@pytest.mark.parametrize("device", DEVICES)
def test_the_hue_of_every_color(device):
    """All 2^24 colors, through HSV and back, shifted by another amount in every plane of equal red."""
    red = np.arange(256, dtype=np.uint8).reshape(32, 8)
    factors = np.linspace(-0.5, 0.5, 256)
    green, blue = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    for planes, of in zip(red, factors.reshape(32, 8), strict=True):
        images = np.stack([np.stack([np.full_like(green, r), green, blue], -1) for r in planes])
        ours = unbatch(photometric_torch.adjust(batch(images, device), "hue", of))
        np.testing.assert_array_equal(ours, one_by_one(F.adjust_hue, images, of.tolist()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", SIZES)
def test_blur_in_a_batch(size, device):
    """Radii of the recipes, none, and some wider than the image, each image with its own."""
    images = np.concatenate([images_of(size)] * 2)
    radius = np.random.default_rng(size).uniform(0.1, 2.0, len(images))
    radius[::7], radius[3] = np.linspace(0, 40, len(radius[::7])), 1e-3
    ours = unbatch(photometric_torch.gaussian_blur(batch(images, device), radius))
    np.testing.assert_array_equal(ours, one_by_one(photometric.gaussian_blur, images, radius.tolist()))


def test_the_weights_of_any_radius():
    """A bright pixel, and noise, at 4,000 radii from 0 to 3: what Pillow's own floats make of them."""
    radius = np.linspace(0, 3, 4000)
    line = np.zeros((1, 1, 41, 3), np.uint8)
    line[..., 20, :] = 255, 1, 128
    line[..., 0, 1] = 255
    images = np.repeat(line, len(radius), 0)
    ours = unbatch(photometric_torch.gaussian_blur(batch(images), radius))
    blurs = [np.asarray(Image.fromarray(line[0]).filter(ImageFilter.GaussianBlur(r))) for r in radius.tolist()]
    np.testing.assert_array_equal(ours, np.stack(blurs))
    weights = photometric_torch.box_weights(radius)
    assert (weights >= 0).all() and (np.abs(weights.sum(1) - 2**24) <= 1).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [24, 33])
def test_one_of_three_in_a_batch(size, device):
    images = np.concatenate([pictures(size)] * 3)
    rng = np.random.default_rng(0)
    choice, radius = rng.integers(-1, 3, len(images)), rng.uniform(0.1, 2.0, len(images))
    theirs = images.copy()
    for row, (kind, r) in enumerate(zip(choice.tolist(), radius.tolist(), strict=True)):
        image = Image.fromarray(images[row])
        if kind >= 0:
            op = getattr(photometric, "gaussian_blur" if THREE[kind] == "blur" else THREE[kind])
            theirs[row] = op(image, r) if THREE[kind] == "blur" else op(image)
    ours = unbatch(photometric_torch.one_of_three(batch(images, device), choice, radius))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_nothing_waits_for_the_device():
    """Once their tables are on the device, a batch is queued without a synchronization."""
    pixels, rng = batch(pictures(24), "cuda"), np.random.default_rng(0)
    n = len(pixels)
    radius, order = rng.uniform(0.1, 2.0, n), rng.permuted(np.tile(np.arange(4), (n, 1)), axis=1)
    factors = np.stack([factors_of(part, n) for part in JITTER], 1)
    learned = autoaugment.draw(rng.integers(0, 2**32, (n, autoaugment.WORDS), dtype=np.uint32))

    def queue() -> None:
        photometric_torch.color_jitter(pixels, order, factors)
        photometric_torch.one_of_three(pixels, rng.integers(0, 3, n), radius)
        resample_torch.eval_pixels(pixels, 28, 32)
        for variant in autoaugment.VARIANTS:
            autoaugment_torch.augment(pixels, learned, variant)

    queue()
    torch.cuda.set_sync_debug_mode("error")
    try:
        queue()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", DEVICES)
def test_a_whole_jitter_is_torchvisions(device, monkeypatch):
    """Every image with an order and factors of its own; some parts, and some images, left out."""
    images = np.concatenate([pictures(24)] * 4)
    rng = np.random.default_rng(0)
    n = len(images)
    order = rng.permuted(np.tile(np.arange(4), (n, 1)), axis=1)
    order[rng.random((n, 4)) < 0.2] = -1
    order[5] = -1
    factors = np.stack([factors_of(part, n)[rng.permutation(n)] for part in JITTER], 1)
    ours = unbatch(photometric_torch.color_jitter(batch(images, device), order, factors))
    lists = order.tolist(), factors.tolist()
    np.testing.assert_array_equal(ours, one_by_one(photometric.color_jitter, images, *lists))
    np.testing.assert_array_equal(ours[5], images[5])
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    for row in range(n):
        used = [p for p in order[row].tolist() if p >= 0]
        drawn = (torch.tensor(used, dtype=torch.int64), *factors[row].tolist())
        monkeypatch.setattr(transforms.ColorJitter, "get_params", lambda *_, drawn=drawn: drawn)
        np.testing.assert_array_equal(ours[row], np.asarray(jitter(Image.fromarray(images[row]))))
