"""Recipes with the padded crop, 3-Augment and color jitter (METHODS 3.7), against torchvision's transforms in turn."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from scipy import stats
from sklearn.datasets import load_sample_image
from torchvision.transforms import functional as F

from longtail.base import params
from longtail.base.errors import UserError
from longtail.views import draws
from longtail.views.ops import photometric_torch
from longtail.views.ops.photometric import JITTER, THREE
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views
from tests.helpers.pictures import small
from tests.helpers.root import params_table

PARAMS = params_table()
ADJUST = dict(zip(JITTER, (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue), strict=True))
SMALL = {"size": 24, "mix_group": 16, "accumulate": 1}


def recipe(name: str = "imagenet_lt", **changes) -> ViewRecipe:
    return replace(params.build(ViewRecipe, params.entry(PARAMS, "views", name), f"views.{name}"), **SMALL | changes)


def photos(height: int, width: int, n: int = 64) -> np.ndarray:
    """Tiles of a photograph, uint8 [n, height, width, 3]."""
    photo = load_sample_image("flower.jpg")
    places = np.random.default_rng(0).integers(0, (photo.shape[0] - height, photo.shape[1] - width), (n, 2)).tolist()
    return np.stack([photo[y : y + height, x : x + width] for y, x in places])


def literal(image: np.ndarray, drawn: draws.ViewDraws, row: int, size: int, padding: int) -> np.ndarray:
    """One view as torchvision's transforms make it, with the parameters of that row."""
    view = F.resize(Image.fromarray(image), size, F.InterpolationMode.BICUBIC)
    left, top, *_ = drawn.crop[row].tolist()
    view = F.crop(F.pad(view, padding, padding_mode="reflect"), top, left, size, size)
    view = F.hflip(view) if drawn.flip[row] else view
    if drawn.three[row] >= 0:
        kind, radius = THREE[drawn.three[row]], float(drawn.radius[row])
        view = {
            "grayscale": lambda v: F.to_grayscale(v, 3),
            "solarize": ImageOps.solarize,
            "blur": lambda v: v.filter(ImageFilter.GaussianBlur(radius)),
        }[kind](view)
    for part in drawn.order[row].tolist():
        if part >= 0:
            view = ADJUST[JITTER[part]](view, float(drawn.factor[row, part]))
    return np.asarray(view)


@pytest.mark.parametrize("backend", ["pil", "torch"])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 24), (16, 16, 24), (20, 31, 24), (37, 23, 24), (9, 8, 40)]
)
def test_pixels_are_resize_crop_flip_one_of_three_and_jitter(height, width, size, backend):
    images = photos(height, width)
    of = Views(recipe(size=size), images, 2, backend=backend)
    positions = np.arange(of.positions_per_epoch)
    drawn, order = of.draws(1, positions), of.order(1)
    pixels = of.pixels(1, positions).permute(0, 2, 3, 1).numpy()
    for row in range(len(positions)):
        np.testing.assert_array_equal(pixels[row], literal(images[order[row]], drawn, row, size, 4), str(row))
    assert set(drawn.three.tolist()) == {0, 1, 2} and drawn.flip.any() and not drawn.flip.all()


def test_the_published_size_by_either_backend():
    of, images = recipe("deit_iii-cifar", size=224, mix_group=8, round_to=0), small(24)
    theirs, ours = (Views(of, images, 1, backend=backend).step(0, 0, digest=True) for backend in ("pil", "torch"))
    assert torch.equal(theirs.x, ours.x) and theirs.digest == ours.digest and theirs.x.shape[2:] == (224, 224)


@pytest.mark.parametrize("changes", [{}, {"three_augment": False}, {"jitter": 0.0}, {"crop": "resized"}])
def test_either_backend_gives_the_same_epoch_in_every_combination(changes):
    of, images = recipe(**changes), photos(30, 26)
    theirs, ours = (Views(of, images, 1, backend=backend) for backend in ("pil", "torch"))
    assert theirs.checksum(1) == ours.checksum(1)


def test_every_part_counts_in_the_checksum():
    images = photos(30, 26)
    changes = [{}, {"three_augment": False}, {"jitter": 0.0}, {"jitter": 0.31}, {"crop_padding": 3}]
    changes += [{"blur_radius": (0.1, 2.1)}, {"crop": "resized"}]
    assert len({Views(recipe(**change), images, 1).checksum(0) for change in changes}) == len(changes)


def drawn(n: int = 20_000, height=32, width=32, **changes) -> draws.ViewDraws:
    return draws.view_draws(recipe(size=32, **changes), 3, 0, np.arange(n), height, width, 15)


def test_distributions():
    of = drawn()
    assert stats.chisquare(np.bincount(of.three, minlength=3)).pvalue > 0.001 and of.three.min() == 0
    assert stats.kstest(of.radius, "uniform", (0.1, 1.9)).pvalue > 0.001
    for part in range(3):
        assert stats.kstest(of.factor[:, part], "uniform", (0.7, 0.6)).pvalue > 0.001
    assert (of.order == 3).sum() == 0 and ((of.order >= 0).sum(1) == 3).all()  # no hue
    corner = of.crop[:, :2]
    assert (of.crop[:, 2:] == 32).all() and corner.min() == 0 and corner.max() == 8
    for side in corner.T:
        assert stats.chisquare(np.bincount(side, minlength=9)).pvalue > 0.001
    assert of.flip.mean() == pytest.approx(0.5, abs=0.015) and not of.erase.any()
    columns = [*corner.T, of.flip, of.three, of.radius, *of.factor[:, :3].T, *of.order.T[:2]]
    assert np.abs(np.corrcoef(np.array(columns, float))[:8] - np.eye(10)[:8]).max() < 0.03  # of order alone they differ


def test_the_longer_side_moves_by_what_is_left_over():
    left, top = drawn(5000, height=48, width=77).crop[:, :2].T  # resized to 32 x 51
    assert (left.min(), left.max(), top.min(), top.max()) == (0, 51 + 8 - 32, 0, 8)


def test_parts_switched_off_leave_the_others_as_they_were():
    every, plain = drawn(200), drawn(200, three_augment=False, jitter=0.0)
    for name in ("crop", "flip", "erase"):
        np.testing.assert_array_equal(getattr(every, name), getattr(plain, name))
    assert (plain.three == -1).all() and plain.order.shape == (200, 0)
    np.testing.assert_array_equal(drawn(200, jitter=0.0).three, every.three)
    np.testing.assert_array_equal(drawn(200, three_augment=False).factor, every.factor)
    cifar = draws.view_draws(
        recipe("cifar", size=32, teacher_stride=1, teacher_offset=0), 3, 0, np.arange(200), 32, 32, 15
    )
    np.testing.assert_array_equal(cifar.flip, every.flip)


def test_golden_draws():
    """Promised to stay the same across versions and machines; a change here orphans every teacher cache."""
    of, sha = drawn(500), hashlib.sha256()
    for name, kind in {"crop": "<i8", "three": "<i8", "radius": "<f8", "order": "<i8", "factor": "<f8"}.items():
        sha.update(np.ascontiguousarray(getattr(of, name).astype(kind)))
    assert sha.hexdigest() == "5182db8877d3cc8fab7380e3dcb2d84327167c5985b2af03701664787ecf88ce"


def test_the_blur_of_a_large_batch_is_done_in_parts(monkeypatch):
    images, radius = torch.from_numpy(photos(24, 24)).permute(0, 3, 1, 2).contiguous(), np.linspace(0.0, 5.0, 64)
    whole, most = photometric_torch.gaussian_blur(images, radius), []
    box = photometric_torch._box
    monkeypatch.setattr(photometric_torch, "_TEMPORARY", {"cpu": 7 * 8 * 3 * 24 * 24, "cuda": 0})
    monkeypatch.setattr(photometric_torch, "_box", lambda pixels, *rest: most.append(len(pixels)) or box(pixels, *rest))
    assert torch.equal(photometric_torch.gaussian_blur(images, radius), whole) and max(most) == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": "centre"}, "crop: 'centre' is not one of resized, padded"),
        ({"crop_padding": -1}, "crop_padding must not be negative, found -1"),
        ({"crop_padding": 224}, "crop_padding 224 is more than 224 pixels can mirror; at most 223"),
        ({"rand_ops": 2, "jitter": 0.0}, "three_augment takes the place of RandAugment; with it rand_ops must be 0"),
        ({"rand_ops": 2, "three_augment": False}, "the published code leaves the jitter out"),
        ({"blur_radius": [2.0, 0.1]}, "blur_radius must be [low, high]"),
        ({"jitter": -0.1}, "jitter must not be negative"),
        ({"three_augment": 1}, "three_augment: expected bool, found 1 (int)"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line(changes, message):
    with pytest.raises(UserError, match=r"^views\.imagenet_lt") as error:
        params.build(ViewRecipe, params.entry(PARAMS, "views", "imagenet_lt") | changes, "views.imagenet_lt")
    assert message in str(error.value) and "\n" not in str(error.value)
