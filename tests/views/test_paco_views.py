"""PaCo's two views: both backends alike, the published order of operations, draws that belong to their position."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms as T
from torchvision.transforms import functional as F

from longtail.base import params, rng
from longtail.base.errors import UserError
from longtail.views.draws import JITTER_WORDS, crops, jitter
from longtail.views.ops import autoaugment
from longtail.views.paco_views import PaCoViews
from longtail.views.recipe import PaCoViewRecipe
from tests.helpers.batches import DEVICES, unbatch
from tests.helpers.pictures import digits, small
from tests.models.test_paco import VIEWS

SOURCES = {32: small, 8: digits}
OFF = VIEWS | {"autoaugment": None, "cutout": 0, "jitter_prob": 0.0, "gray_prob": 0.0, "blur_prob": 0.0}
WHOLE = {"crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0]}


def views(size=32, seed=0, backend="pil", device="cpu", padding=4, hflip=0.5, **changes) -> PaCoViews:
    """Of 24 images; Cutout of half their side."""
    recipe = params.build(PaCoViewRecipe, VIEWS | {"cutout": size // 2} | changes, "views")
    return PaCoViews(recipe, padding, hflip, SOURCES[size](24), seed, device, backend)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [32, 8])
@pytest.mark.parametrize("kind", ["query", "key"])
def test_both_backends_give_the_same_bytes(kind, size, device):
    positions = np.arange(300)
    index = positions % 24
    ours = getattr(views(size, backend="torch", device=device), kind)(3, positions, index)
    theirs = getattr(views(size), kind)(3, positions, index)
    assert ours.shape == (300, 3, size, size) and ours.dtype == torch.uint8
    np.testing.assert_array_equal(unbatch(ours), unbatch(theirs))


@pytest.mark.parametrize("kind", ["query", "key"])
@pytest.mark.parametrize("backend", ["pil", "torch"])
def test_a_view_belongs_to_its_position_whatever_the_batch(kind, backend):
    make = getattr(views(backend=backend), kind)
    positions, index = np.arange(40, 80), np.arange(40) % 24
    whole = make(2, positions, index)
    assert torch.equal(make(2, positions[[31, 4]], index[[31, 4]]), whole[[31, 4]])
    assert not torch.equal(make(3, positions, index), whole)
    assert not torch.equal(getattr(views(seed=1, backend=backend), kind)(2, positions, index), whole)


def test_query_and_key_are_drawn_apart():
    """The same distribution, other numbers: flips of the two agree in half of the positions."""
    positions, index = np.arange(400), np.arange(400) % 24
    off = views(padding=0, **OFF | WHOLE)
    query, key = unbatch(off.query(0, positions, index)), unbatch(off.key(0, positions, index))
    plain = small(24)[index]
    for made in (query, key):
        flipped = (made == plain[:, :, ::-1]).all((1, 2, 3))
        assert ((made == plain).all((1, 2, 3)) | flipped).all() and flipped.mean() == pytest.approx(0.5, abs=0.08)
    assert (query == key).all((1, 2, 3)).mean() == pytest.approx(0.5, abs=0.08)


def test_the_query_is_crop_flip_autoaugment_then_a_black_square():
    """Step by step from the words, with ImageOps and plain slices; black (0), so before normalization (trap 10)."""
    positions = np.arange(120)
    index = positions[::-1] % 24
    words = rng.draws(5, "paco_query", 7, positions, 10)
    drawn = autoaugment.draw(words[:, 3:8])
    got = unbatch(views(seed=5).query(7, positions, index))
    squares = 0
    for row, (w, source) in enumerate(zip(words.astype(np.uint64).tolist(), index, strict=True)):
        left, top = w[0] * 9 >> 32, w[1] * 9 >> 32
        image = ImageOps.expand(Image.fromarray(small(24)[source]), 4, fill=0).crop((left, top, left + 32, top + 32))
        image = ImageOps.mirror(image) if w[2] / 2**32 < 0.5 else image
        pixels = np.array(autoaugment.augment(image, drawn, row, "paco"))
        x, y = w[8] * 32 >> 32, w[9] * 32 >> 32
        pixels[max(y - 8, 0) : y + 8, max(x - 8, 0) : x + 8] = 0
        squares += (pixels == 0).all(-1).sum() >= 64
        np.testing.assert_array_equal(got[row], pixels)
    assert squares == 120


def test_the_key_is_torchvisions_transforms_in_the_published_order():
    """RandomResizedCrop as torchvision does it by default (bilinear), flip, jitter, gray, blur."""
    positions, index = np.arange(150), np.arange(150) % 24
    made = views(seed=2)
    got = unbatch(made.key(1, positions, index))
    words = rng.draws(2, "paco_key", 1, positions, 53)
    boxes = crops(words[:, :40], 32, 32, (0.2, 1.0), (0.75, 1.3333333333333333))
    order, factors = jitter(words[:, 41 : 41 + JITTER_WORDS], (0.4, 0.4, 0.4, 0.1), 0.8)
    unit = words / 2.0**32
    adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    assert T.RandomResizedCrop(32).interpolation == F.InterpolationMode.BILINEAR
    for row in range(150):
        left, top, width, height = boxes[row].tolist()
        image = F.resized_crop(Image.fromarray(small(24)[index[row]]), top, left, height, width, [32, 32])
        image = F.hflip(image) if unit[row, 40] < 0.5 else image
        for part in order[row]:
            image = adjust[part](image, factors[row, part]) if part >= 0 else image
        image = F.to_grayscale(image, 3) if unit[row, 50] < 0.2 else image
        if unit[row, 51] < 0.5:
            image = image.filter(ImageFilter.GaussianBlur(float(0.1 + 1.9 * unit[row, 52])))
        np.testing.assert_array_equal(got[row], np.asarray(image))


def test_parts_happen_as_often_as_they_should():
    """A key with one part on and no crop: how many differ from the image."""
    positions = np.arange(3000)
    images = small(24)
    colored = [i for i in range(24) if (images[i] != images[i][..., :1]).any()]
    index = np.array(colored)[positions % len(colored)]
    for part, probability in (("gray_prob", 0.2), ("blur_prob", 0.5), ("jitter_prob", 0.8)):
        changes = OFF | {
            "crop_scale": [1.0, 1.0],
            "crop_ratio": [1.0, 1.0],
            part: probability,
            "blur_radius": [1.0, 2.0],
        }
        made = unbatch(views(hflip=0.0, backend="torch", **changes).key(0, positions, index))
        changed = (made != images[index]).any((1, 2, 3))
        assert changed.mean() == pytest.approx(probability, abs=0.03), part


@pytest.mark.parametrize("backend", ["pil", "torch"])
def test_with_every_part_off_a_query_is_the_image(backend):
    index = np.arange(24)
    off = views(backend=backend, padding=0, hflip=0.0, **OFF)
    np.testing.assert_array_equal(unbatch(off.query(0, index, index)), small(24))
    mirrored = views(backend=backend, padding=0, hflip=1.0, **OFF)
    np.testing.assert_array_equal(unbatch(mirrored.query(0, index, index)), small(24)[:, :, ::-1])


def test_views_of_images_that_are_not_square_are_refused():
    recipe = params.build(PaCoViewRecipe, VIEWS, "views")
    with pytest.raises(UserError, match="square images, found 8 x 9"):
        PaCoViews(recipe, 4, 0.5, np.zeros((2, 8, 9, 3), np.uint8), 0)


def test_golden_views():
    """Views are promised to stay the same: words of a stream never move."""
    positions = np.arange(64)
    sha = hashlib.sha256()
    for kind in ("query", "key"):
        sha.update(unbatch(getattr(views(8, seed=1), kind)(5, positions, positions % 24)).tobytes())
    assert sha.hexdigest() == "912df7590ad4d427e84c772c138106779b402eab4204361dd2f2fc9a766b2b96"
