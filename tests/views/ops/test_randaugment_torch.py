"""The batched operations against Pillow, bit for bit. benchmarks/parity.py does the same over more pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.views.ops import randaugment, randaugment_torch
from longtail.views.ops.resample_torch import affine, resized_crop, weights
from tests.helpers.pictures import hard, pictures, small

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
FILL = (124, 116, 104)


def batch(images: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)


def unbatch(pixels: torch.Tensor) -> np.ndarray:
    assert pixels.dtype == torch.uint8 and pixels.is_contiguous()
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def applied(op: str, images: np.ndarray, arguments: list, device: str) -> tuple[np.ndarray, np.ndarray]:
    """(ours, Pillow's) of one argument an image."""
    theirs = [randaugment.apply(Image.fromarray(i), op, a, FILL) for i, a in zip(images, arguments, strict=True)]
    table = torch.from_numpy(randaugment_torch.arguments(op, arguments, images.shape[1])).to(device)
    fill = torch.tensor(FILL, dtype=torch.uint8, device=device)
    before = batch(images, device)
    ours = randaugment_torch.apply(before, op, table, fill)
    np.testing.assert_array_equal(unbatch(before), images, err_msg="the argument was changed")
    return unbatch(ours), np.stack([np.asarray(image) for image in theirs])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [24, 33, 96])
@pytest.mark.parametrize("op", randaugment.OPS)
def test_every_operation_is_pillows(op, size, device):
    """Every image at magnitudes over the range, with both signs, several arguments in one batch."""
    images = pictures(size)
    magnitudes = [0.0, 0.3, 4.99, 9.0, 10.0] if size < 96 else [8.13, 9.77]
    levels = [(m, negative) for m in magnitudes for negative in (False, True)]
    arguments = [randaugment.level_argument(op, *levels[i % len(levels)]) for i in range(len(images) * len(levels))]
    ours, theirs = applied(op, np.repeat(images, len(levels), 0), arguments, device)
    np.testing.assert_array_equal(ours, theirs)
    assert (ours != np.repeat(images, len(levels), 0)).any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("op", randaugment.OPS)
def test_every_operation_is_pillows_at_224(op, device):
    images = np.concatenate([pictures(224)[[0, 7, 10]], hard(224)[[0, 3]]])
    arguments = [randaugment.level_argument(op, 8.0 + i / 3, i % 2 == 0) for i in range(len(images))]
    ours, theirs = applied(op, images, arguments, device)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("op", randaugment.OPS)
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_tiny_images(op, size, device):
    images = np.random.default_rng(size).integers(0, 256, (16, size, size, 3), dtype=np.uint8)
    arguments = [randaugment.level_argument(op, i * 0.6, i % 2 == 0) for i in range(len(images))]
    ours, theirs = applied(op, images, arguments, device)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [24, 33])
def test_rotation_at_pillows_special_angles(size, device):
    angles = [0.0, 90.0, 180.0, 270.0, 360.0, -90.0, 45.0, -450.0, 1e-9]
    images = np.repeat(pictures(size), len(angles), 0)
    ours, theirs = applied("Rotate", images, angles * len(pictures(size)), device)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("op", ["ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing"])
def test_blends_outside_the_unit_interval_are_clipped_as_pillows(op, device):
    factors = [-3.0, -0.1, 0.0, 1e-7, 1 / 3, 1.0, 1.0000001, 1.9, 50.0]
    images = np.repeat(pictures(24), len(factors), 0)
    ours, theirs = applied(op, images, factors * len(pictures(24)), device)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
def test_any_affine_matrix_is_pillows(device):
    """Not only rotations: scale, both shears and shifts at once, far outside too."""
    images, rng = pictures(33), np.random.default_rng(0)
    matrices = rng.normal(np.array([1, 0, 0, 0, 1, 0]), np.array([0.5, 0.5, 20, 0.5, 0.5, 20]), (len(images), 6))
    matrices[0] = 1, 0, 1000, 0, 1, -1000
    transform = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    theirs = [
        Image.fromarray(i).transform((33, 33), transform[0], tuple(m), resample=transform[1], fillcolor=FILL)
        for i, m in zip(images, matrices.tolist(), strict=True)
    ]
    fill = torch.tensor(FILL, dtype=torch.uint8, device=device)
    ours = unbatch(affine(batch(images, device), torch.from_numpy(matrices).to(device), fill))
    np.testing.assert_array_equal(ours, np.stack([np.asarray(t) for t in theirs]))
    assert (ours[0] == FILL).all()


def test_autocontrast_of_every_range():
    """All 32,640 pairs of darkest and brightest value, with every value between them."""
    low, high = np.triu_indices(256, 1)
    values = np.clip(np.arange(256), low[:, None], high[:, None]).astype(np.uint8)
    images = values.reshape(-1, 3, 16, 16).transpose(0, 2, 3, 1)
    for part in np.array_split(images, 8):
        ours, theirs = applied("AutoContrast", np.ascontiguousarray(part), [None] * len(part), "cpu")
        np.testing.assert_array_equal(ours, theirs)


def boxes_of(height: int, width: int, n: int, seed: int) -> np.ndarray:
    """Extreme boxes, then random ones, int64 [n, 4]."""
    extreme = [
        (0, 0, width, height),
        (0, 0, 1, 1),
        (width - 1, height - 1, 1, 1),
        (width // 2, 0, 1, height),
        (0, height - 1, width, 1),
        (1, 1, width - 1, height - 1),
    ]
    rng = np.random.default_rng(seed)
    w, h = rng.integers(1, width + 1, n), rng.integers(1, height + 1, n)
    drawn = np.stack([rng.integers(0, width - w + 1), rng.integers(0, height - h + 1), w, h], 1)
    drawn[: len(extreme)] = extreme
    return drawn


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("height", "width", "size", "n"),
    [(32, 32, 24, 64), (32, 32, 32, 64), (32, 32, 96, 48), (32, 32, 224, 32), (8, 8, 24, 64), (150, 97, 64, 48)],
)
def test_the_crop_is_pillows(height, width, size, n, device):
    """Enlarged and shrunk, mirrored or not, of extreme and random boxes."""
    if (height, width) == (32, 32):
        images = np.concatenate([small(n // 2), hard(32), hard(32), hard(32)])[:n]
    else:
        images = np.random.default_rng(1).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    images, boxes = np.resize(images, (n, height, width, 3)), boxes_of(height, width, n, size)
    flip = np.arange(n) % 2 == 1
    theirs = [randaugment.resized_crop(i, *box, size) for i, box in zip(images, boxes.tolist(), strict=True)]
    theirs = np.stack([np.asarray(randaugment.flip(t) if f else t) for t, f in zip(theirs, flip, strict=True)])
    rows = torch.from_numpy(images).permute(0, 1, 3, 2).contiguous().to(device)
    ours = resized_crop(rows, torch.from_numpy(boxes).to(device), torch.from_numpy(flip).to(device), size)
    np.testing.assert_array_equal(unbatch(ours), theirs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("side", "size", "n"), [(32, 32, 64), (8, 8, 64), (97, 32, 24), (32, 224, 12)])
def test_the_bilinear_crop_is_pillows(side, size, n, device):
    images = np.random.default_rng(2).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    images[: n // 2] = np.resize(hard(side), (n // 2, side, side, 3))
    boxes = boxes_of(side, side, n, size)

    def pillows(image: np.ndarray, left: int, top: int, width: int, height: int) -> np.ndarray:
        crop = Image.fromarray(image).crop((left, top, left + width, top + height))
        return np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR))

    theirs = np.stack([pillows(i, *box) for i, box in zip(images, boxes.tolist(), strict=True)])
    rows = torch.from_numpy(images).permute(0, 1, 3, 2).contiguous().to(device)
    straight = torch.zeros(n, dtype=torch.bool, device=device)
    ours = resized_crop(rows, torch.from_numpy(boxes).to(device), straight, size, bilinear=True)
    np.testing.assert_array_equal(unbatch(ours), theirs)


@pytest.mark.parametrize(("source", "size"), [(32, 224), (7, 7), (1, 24), (500, 224), (224, 1)])
def test_weights_sum_to_one_and_fit_exact_arithmetic(source, size):
    first, weight = weights(source, size)
    assert (weight == np.rint(weight)).all() and (first >= 0).all() and (first < source).all()
    np.testing.assert_allclose(weight.sum(1) / 2**22, 1.0, atol=2e-6)
    assert (np.abs(weight).sum(1) * 255 < 2**31).all()  # Pillow's sums fit its 32-bit integers, and so float64


def test_an_unknown_operation_raises():
    with pytest.raises(ValueError, match="Cutout"):
        randaugment_torch.apply(
            batch(pictures(24)[:1], "cpu"), "Cutout", torch.zeros(1, 6), torch.zeros(3, dtype=torch.uint8)
        )
