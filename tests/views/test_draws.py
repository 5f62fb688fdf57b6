from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from longtail.base import rng
from longtail.views import draws

RATIO = (0.75, 4 / 3)


def slow_crop(words, height, width, scale, ratio):
    """One view, attempt by attempt, in Python floats, as torchvision's RandomResizedCrop.get_params."""
    for a, r, top, left in words.reshape(10, 4).tolist():
        area = height * width * (scale[0] + (scale[1] - scale[0]) * a / 2**32)
        aspect = math.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * ((r >> 16) + 0.5) / 65536)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return [left * (width - w + 1) >> 32, top * (height - h + 1) >> 32, w, h]
    in_ratio = width / height
    w, h = width, height
    if in_ratio < ratio[0]:
        h = round(w / ratio[0])
    elif in_ratio > ratio[1]:
        w = round(h * ratio[1])
    return [(width - w) // 2, (height - h) // 2, w, h]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (40, 20)])
def test_crops_equal_a_literal_loop(height, width):
    words = rng.draws(1, "view", 2, np.arange(400), 40)
    boxes = draws.crops(words, height, width, (0.08, 1.0), RATIO)
    assert boxes.tolist() == [slow_crop(w, height, width, (0.08, 1.0), RATIO) for w in words]


def test_a_crop_that_never_fits_is_the_central_one():
    words = rng.draws(1, "view", 2, np.arange(5), 40)
    boxes = draws.crops(words, 10, 100, (1.0, 1.0), RATIO)  # 100 x 10 at full area is far from 4:3
    assert boxes.tolist() == [[43, 0, 13, 10]] * 5


def test_the_full_crop_is_the_image():
    words = rng.draws(1, "view", 2, np.arange(5), 40)
    assert draws.crops(words, 32, 32, (1.0, 1.0), (1.0, 1.0)).tolist() == [[0, 0, 32, 32]] * 5


def test_crop_area_and_ratio_distribution():
    """On a large image with an area range that always fits: area uniform, log ratio uniform, place uniform."""
    words = rng.draws(3, "view", 0, np.arange(20000), 40)
    left, top, w, h = draws.crops(words, 1000, 1000, (0.08, 0.5), RATIO).T
    area, log_ratio = w * h / 1e6, np.log(w / h)
    assert area.mean() == pytest.approx(0.29, abs=0.004)
    assert area.std() == pytest.approx(0.42 / math.sqrt(12), rel=0.02)
    assert log_ratio.mean() == pytest.approx(0, abs=0.005)
    assert log_ratio.std() == pytest.approx(2 * math.log(4 / 3) / math.sqrt(12), rel=0.02)
    assert (left / (1000 - w)).mean() == pytest.approx(0.5, abs=0.01)
    assert (top / (1000 - h)).mean() == pytest.approx(0.5, abs=0.01)


def test_crop_on_the_full_range_agrees_with_torchvisions_own_sampler():
    """Mean area and share of whole-width crops over 4,000 draws of each, at 32 x 32."""
    import torch
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.zeros(3, 32, 32)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], list(RATIO)) for _ in range(4000)])
    words = rng.draws(0, "view", 0, np.arange(4000), 40)
    _, _, w, h = draws.crops(words, 32, 32, (0.08, 1.0), RATIO).T
    areas, ours = theirs[:, 2] * theirs[:, 3] / 1024, w * h / 1024
    assert ours.mean() == pytest.approx(areas.mean(), abs=0.018)  # standard error of the difference: .006
    assert (w == 32).mean() == pytest.approx((theirs[:, 3] == 32).mean(), abs=0.02)


def slow_erasure(words, size, area, ratio):
    """One view, as timm's RandomErasing._erase with count 1."""
    for a, r, top, left in words.reshape(10, 4).tolist():
        target = (area[0] + (area[1] - area[0]) * a / 2**32) * size * size
        aspect = math.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * ((r >> 16) + 0.5) / 65536)
        h, w = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if w < size and h < size:
            return [left * (size - w + 1) >> 32, top * (size - h + 1) >> 32, w, h]
    return [0, 0, 0, 0]


@pytest.mark.parametrize("size", [24, 224])
def test_erasures_equal_a_literal_loop(size):
    words = rng.draws(1, "view", 2, np.arange(400), 40)
    applied = np.arange(400) % 4 == 0
    boxes = draws.erasures(words, applied, size, (0.02, 1 / 3), (0.3, 1 / 0.3))
    expected = [slow_erasure(w, size, (0.02, 1 / 3), (0.3, 1 / 0.3)) for w in words]
    assert boxes.tolist() == [box if a else [0] * 4 for box, a in zip(expected, applied, strict=True)]


def test_erasures_that_never_fit_erase_nothing():
    words = rng.draws(1, "view", 2, np.arange(5), 40)
    assert not draws.erasures(words, np.ones(5, bool), 24, (1.0, 1.0), (1.0, 1.0)).any()


def recipe(**changes):
    values = dict(crop_scale=(0.08, 1.0), crop_ratio=RATIO, hflip=0.5, rand_ops=2, rand_prob=0.5, rand_magnitude=9.0)
    values |= dict(rand_std=0.5, erase_prob=0.25, erase_area=(0.02, 1 / 3), erase_ratio=(0.3, 1 / 0.3), size=24)
    values |= dict(crop="resized", crop_padding=4, three_augment=False, blur_radius=(0.1, 2.0), jitter=0.0)
    return SimpleNamespace(**values | changes)


@pytest.fixture(scope="module")
def drawn():
    return draws.view_draws(recipe(), 0, 0, np.arange(20000), 32, 32, 15)


def test_frequencies_of_flip_erasing_and_operations(drawn):
    """Tolerances: four standard errors."""
    assert drawn.flip.mean() == pytest.approx(0.5, abs=0.015)
    assert (drawn.erase[:, 2] > 0).mean() == pytest.approx(0.25, abs=0.0125)
    assert (drawn.op < 0).mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.negative.mean() == pytest.approx(0.5, abs=0.01)
    share = np.bincount(drawn.op[drawn.op >= 0], minlength=15) / (drawn.op >= 0).sum()
    np.testing.assert_allclose(share, 1 / 15, atol=0.0072)
    both = (drawn.op >= 0).all(1)
    assert both.mean() == pytest.approx(0.25, abs=0.0125)
    assert (drawn.op[both, 0] == drawn.op[both, 1]).mean() == pytest.approx(1 / 15, abs=0.015)  # with replacement


def test_magnitudes_are_a_normal_clipped_at_ten(drawn):
    clipped = 0.5 * math.erfc(2 / math.sqrt(2))  # P(N(9, .5) > 10)
    assert (drawn.magnitude == 10).mean() == pytest.approx(clipped, abs=0.003)
    assert np.median(drawn.magnitude) == pytest.approx(9, abs=0.015)
    assert np.quantile(drawn.magnitude, 0.1587) == pytest.approx(8.5, abs=0.02)
    assert np.corrcoef(drawn.magnitude[:, 0], drawn.negative[:, 0])[0, 1] == pytest.approx(0, abs=0.03)


def test_a_part_switched_off_leaves_the_others_as_they_were(drawn):
    weak = draws.view_draws(recipe(rand_ops=0, erase_prob=0.0), 0, 0, np.arange(100), 32, 32, 15)
    assert weak.op.shape == (100, 0) and not weak.erase.any()
    np.testing.assert_array_equal(weak.crop, drawn.crop[:100])
    np.testing.assert_array_equal(weak.flip, drawn.flip[:100])
    one = draws.view_draws(recipe(rand_ops=1), 0, 0, np.arange(100), 32, 32, 15)
    np.testing.assert_array_equal(one.op[:, 0], drawn.op[:100, 0])
    np.testing.assert_array_equal(one.erase, drawn.erase[:100])


def test_erase_noise_is_standard_normal_and_independent_of_company():
    positions, counts = np.array([5, 900, 7]), np.array([30000, 3, 4001])
    together = draws.erase_noise(2, 1, positions, counts)
    assert [len(v) for v in together] == counts.tolist() and together[0].dtype == np.float32
    alone = draws.erase_noise(2, 1, positions[2:], counts[2:])[0]
    np.testing.assert_array_equal(alone, together[2])
    np.testing.assert_array_equal(draws.erase_noise(2, 1, positions[:1], np.array([11]))[0], together[0][:11])
    values = together[0].astype(np.float64)
    assert values.mean() == pytest.approx(0, abs=0.023)
    assert values.var() == pytest.approx(1, abs=0.033)
    assert (values**4).mean() == pytest.approx(3, abs=0.23)
    assert np.corrcoef(values[:-1], values[1:])[0, 1] == pytest.approx(0, abs=0.023)
    assert len(set(map(tuple, (v[:3].tolist() for v in together)))) == 3


def test_erase_noise_of_nothing():
    assert draws.erase_noise(0, 0, np.array([], np.int64), np.array([], np.int64)) == []


def test_erase_noise_does_not_depend_on_the_chunk(monkeypatch):
    args = 2, 1, np.array([5, 6]), np.array([100, 77])
    whole = draws.erase_noise(*args)
    monkeypatch.setattr(draws, "_CACHE_BLOCKS", 5)
    for a, b in zip(whole, draws.erase_noise(*args), strict=True):
        np.testing.assert_array_equal(a, b)
