"""Large views of CNN teachers: their pixels against torchvision and timm, their draws, and batches made ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from timm.data import auto_augment
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from longtail.base import params, rng
from longtail.base.errors import UserError
from longtail.data.file_images import FileImages, read_header
from longtail.views.draws import JITTER_WORDS
from longtail.views.eval_views import eval_pixels
from longtail.views.ops import randaugment
from longtail.views.recipe import LargeViewRecipe
from longtail.views.teacher_views import LargeViews, large_draws, large_view, plain_argument
from tests.helpers.disk_datasets import SIZES, jpeg

VIEW = {
    "size": 24,
    "crop_scale": [0.08, 1.0],
    "crop_ratio": [0.75, 1.3333333333333333],
    "jitter": [0.4, 0.4, 0.4, 0.0],
    "gray_prob": 0.0,
    "blur_prob": 0.0,
    "blur_radius": [0.1, 2.0],
    "hflip": 0.5,
    "rand_ops": 0,
    "rand_prob": 0.5,
    "rand_magnitude": 10.0,
    "rand_std": 0.5,
    "rand_fill": "imagenet",
}


def recipe(**changes) -> LargeViewRecipe:
    return params.build(LargeViewRecipe, VIEW | changes, "views")


QUERY, KEY = recipe(rand_ops=2), recipe(gray_prob=0.2, blur_prob=0.5)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> FileImages:
    """Eleven files of four sizes."""
    root = tmp_path_factory.mktemp("images")
    names = [f"{i}.jpg" for i in range(11)]
    for i, name in enumerate(names):
        jpeg(root / name, i)
    *size, length = zip(*(read_header(root / name) for name in names), strict=True)
    return FileImages(str(root), np.array(names, "S"), np.array(size).T, np.array(length), 0)


def draw(of: LargeViewRecipe, n: int, seed: int = 0, epoch: int = 0):
    height, width = np.array(SIZES)[np.arange(n) % len(SIZES)].T
    return large_draws(of, seed, "teacher_view", epoch, np.arange(n), height, width)


def theirs(pixels: np.ndarray, drawn, row: int, size: int) -> np.ndarray:
    """The view by torchvision's functions, in the published order: flip after the crop; it commutes."""
    left, top, width, height = drawn.crop[row].tolist()
    image = tv.resized_crop(Image.fromarray(pixels), top, left, height, width, [size, size], InterpolationMode.BILINEAR)
    image = tv.hflip(image) if drawn.flip[row] else image
    parts = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    for part in drawn.order[row].tolist():
        image = parts[part](image, drawn.factor[row, part]) if part >= 0 else image
    image = tv.to_grayscale(image, 3) if drawn.gray[row] else image
    if drawn.radius[row]:
        image = image.filter(ImageFilter.GaussianBlur(float(drawn.radius[row])))
    return np.asarray(image)


@pytest.mark.parametrize("of", [recipe(), KEY], ids=["supervised", "key"])
def test_pixels_are_torchvisions(images, of):
    drawn = draw(of, 44)
    for row in range(44):
        pixels = images[row % 4]
        np.testing.assert_array_equal(large_view(pixels, drawn, row, of), theirs(pixels, drawn, row, 24))


@pytest.mark.parametrize(
    ("of", "fill"), [(QUERY, (124, 116, 104)), (recipe(rand_ops=2, rand_fill="inat"), (119, 120, 97))]
)
def test_randaugment_comes_last_and_is_timms_without_inc(images, of, fill):
    """timm's functions and levels by name, after the view without it; bilinear or bicubic, each operation anew."""
    names = auto_augment._RAND_TRANSFORMS
    assert len(names) == len(randaugment.OPS) == 15
    moves = {"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}
    drawn, seen = draw(of, 120), set()
    for row in range(120):
        pixels = images[row % 4]
        image = Image.fromarray(theirs(pixels, drawn, row, 24))
        columns = (drawn.op[row], drawn.magnitude[row], drawn.negative[row], drawn.bilinear[row])
        for op, magnitude, negative, bilinear in zip(*columns, strict=True):
            if op < 0:
                continue
            name = names[op]
            seen.add((name, name in moves and bool(bilinear)))
            level = auto_augment.LEVEL_TO_ARG[name]
            arguments = level(magnitude, {}) if level else ()
            if name in moves:  # they toss a coin
                arguments = (abs(arguments[0]) * (-1 if negative else 1),)
            how = {"fillcolor": fill, "resample": Image.BILINEAR if bilinear else Image.BICUBIC}
            image = auto_augment.NAME_TO_OP[name](image, *arguments, **how)
        np.testing.assert_array_equal(large_view(pixels, drawn, row, of), np.asarray(image))
    assert len(seen) == 15 + len(moves)


def test_timm_unless_told_takes_either_interpolation_anew_each_time():
    """PaCo's `img_mean` is the one parameter it gives timm's policy that these operations read."""
    policy = auto_augment.rand_augment_ops(10, prob=0.5, hparams={"img_mean": (124, 116, 104), "magnitude_std": 0.5})
    for op in policy:
        assert op.kwargs == {"fillcolor": (124, 116, 104), "resample": (Image.BILINEAR, Image.BICUBIC)}


def test_interpolations_go_by_position_and_are_even():
    """A word of its own for each operation: the other draws are what they were without it."""
    whole = draw(QUERY, 4000)
    assert whole.bilinear.shape == (4000, 2) and whole.bilinear.mean() == pytest.approx(0.5, abs=0.03)
    for other in (whole.bilinear[:, 1], whole.op[:, 0] >= 0, whole.negative[:, 0], whole.flip):
        assert abs(np.corrcoef(whole.bilinear[:, 0], other)[0, 1]) < 0.06
    height, width = np.array(SIZES)[np.array([17, 3000, 2]) % len(SIZES)].T
    some = large_draws(QUERY, 0, "teacher_view", 0, np.array([17, 3000, 2]), height, width)
    np.testing.assert_array_equal(some.bilinear, whole.bilinear[[17, 3000, 2]])
    for changed in (draw(QUERY, 4000, seed=1), draw(QUERY, 4000, epoch=1)):
        assert not np.array_equal(changed.bilinear, whole.bilinear)
    words = rng.draws(0, "teacher_view", 0, np.arange(50), 4 * 10 + JITTER_WORDS + 4 + 8)[:, -8:].reshape(50, 2, 4)
    np.testing.assert_array_equal(whole.bilinear[:50], words[..., 3] < 2**31)
    np.testing.assert_array_equal(whole.negative[:50], words[..., 2] & 1)


def test_levels_at_magnitude_ten():
    """Half of all magnitudes are clipped to it: solarize and posterize are at their mildest, blends at 1.9."""
    found = {op: plain_argument(op, 10.0, False) for op in randaugment.OPS[4:8]}
    assert found == {
        "PosterizeIncreasing": 4,
        "SolarizeIncreasing": 256,
        "SolarizeAdd": 110,
        "ColorIncreasing": pytest.approx(1.9),
    }
    magnitude = draw(QUERY, 4000).magnitude
    assert magnitude.max() == 10 and (magnitude == 10).mean() == pytest.approx(0.5, abs=0.03)
    assert magnitude.mean() == pytest.approx(10 - 0.5 / np.sqrt(2 * np.pi), abs=0.02)


def test_frequencies():
    drawn = draw(replace(KEY, rand_ops=2), 4000)
    close = {"abs": 0.03}
    assert (drawn.op >= 0).mean() == pytest.approx(0.5, **close)
    assert drawn.flip.mean() == pytest.approx(0.5, **close)
    assert drawn.gray.mean() == pytest.approx(0.2, **close) and (drawn.radius > 0).mean() == pytest.approx(0.5, **close)
    radius = drawn.radius[drawn.radius > 0]
    assert (radius.min(), radius.max()) == (pytest.approx(0.1, abs=0.01), pytest.approx(2.0, abs=0.01))
    assert set(np.unique(drawn.order)) == {-1, 0, 1, 2}  # no hue
    assert drawn.factor[:, :3].min() >= 0.6 and drawn.factor[:, :3].max() < 1.4
    height, width = np.array(SIZES)[np.arange(4000) % len(SIZES)].T
    share = drawn.crop[:, 2] * drawn.crop[:, 3] / (height * width)
    assert share.min() > 0.05 and share.max() == 1.0


# --- batches


def walk(views: LargeViews, order: np.ndarray, batch: int, first: int = 0, epoch: int = 2) -> list[np.ndarray]:
    """Each recipe's views of positions `first` and on, uint8 [n, 3, S, S]."""
    rows = [slice(at, min(at + batch, len(order))) for at in range(first, len(order), batch)]
    made = [[view.numpy() for view in views.batch(epoch, part, order)] for part in rows]
    return [np.concatenate(view) for view in zip(*made, strict=True)]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_batches_do_not_depend_on_their_size_workers_or_where_an_epoch_is_entered(images, threads):
    order = np.random.default_rng(0).integers(0, 11, 150)
    recipes = {"paco_query": QUERY, "paco_key": KEY}
    threads(1)
    here = walk(LargeViews(recipes, images, 3), order, 150)
    sizes = np.array([images[i].shape[:2] for i in order])
    for view, (stream, of) in zip(here, recipes.items(), strict=True):
        drawn = large_draws(of, 3, stream, 2, np.arange(150), *sizes.T)
        for row in (0, 70, 149):
            expected = large_view(images[order[row]], drawn, row, of)
            np.testing.assert_array_equal(view[row].transpose(1, 2, 0), expected)
    for workers, batch, first in ((1, 64, 0), (2, 70, 0), (3, 8, 48), (2, 150, 0)):
        threads(workers)
        for a, b in zip(walk(LargeViews(recipes, images, 3), order, batch, first), here, strict=True):
            np.testing.assert_array_equal(a, b[first:])
    views = LargeViews({"teacher_view": KEY}, images, 3)
    again = walk(views, order, 50), walk(views, order, 50), walk(views, order, 50, epoch=3)
    np.testing.assert_array_equal(again[0], again[1])
    assert (again[0][0] != again[2][0]).any()
    (made,) = views.batch(2, slice(50, 100), order)  # in the middle, and left
    assert made.shape == (50, 3, 24, 24) and made.is_contiguous(memory_format=torch.channels_last)
    views.batch(4, slice(0, 50), order)
    views.close()


def test_a_missing_file_is_told_from_a_worker(images, threads, tmp_path):
    threads(2)
    views = LargeViews({"teacher_view": KEY}, replace(images, root=str(tmp_path)), 0)
    with pytest.raises(UserError, match="no such file"):
        views.batch(0, slice(0, 4), np.arange(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"hflip": 1.5}, "hflip is a probability"),
        ({"crop_scale": [0.5, 1.5]}, "at most 1"),
        ({"crop_ratio": [2.0, 1.0]}, "crop_ratio must be"),
        ({"jitter": [0.4, 0.4, 0.4, 0.6]}, "hue at most 0.5"),
        ({"rand_magnitude": 11.0}, "rand_magnitude 0 to 10"),
        ({"rand_fill": "imagnet"}, "rand_fill 'imagnet' is unknown; did you mean 'imagenet'"),
    ],
)
def test_wrong_recipes_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        recipe(**changes)


def test_the_bilinear_evaluation_view_is_torchvisions_default(images):
    for i in range(4):
        pixels = images[i]
        resized = tv.resize(Image.fromarray(pixels), 28)
        expected = np.asarray(tv.center_crop(resized, [24, 24]))
        found = eval_pixels(pixels[None], 24, 28, bilinear=True)[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, expected)
