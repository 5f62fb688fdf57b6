from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

from longtail.views.ops.padded_crop import cutout, cutouts, padded_crop, padded_crops
from longtail.views.teacher_views import weak_batch, zero_pad
from tests.helpers.batches import DEVICES, batch, one_by_one, unbatch
from tests.helpers.pictures import pictures


def corners(n: int, room: int) -> np.ndarray:
    """Left and top: the four extremes, the middle, then anything in [0, room)."""
    drawn = np.random.default_rng(n).integers(0, room, (n, 2))
    drawn[:5] = (0, 0), (0, room - 1), (room - 1, 0), (room - 1, room - 1), (room // 2, room // 2)
    return drawn


@pytest.mark.parametrize(("mode", "reflect"), [("constant", False), ("reflect", True)])
@pytest.mark.parametrize(("side", "size", "padding"), [(32, 32, 4), (33, 24, 4), (24, 24, 0), (5, 12, 4)])
def test_one_image_is_torchvisions(mode, reflect, side, size, padding):
    images = pictures(32)[:, :side, :side] if side < 32 else pictures(side)
    places = corners(len(images), side + 2 * padding - size + 1).tolist()

    def theirs(image: Image.Image, corner) -> Image.Image:
        left, top = corner
        return F.crop(F.pad(image, padding, padding_mode=mode), top, left, size, size)

    ours = [padded_crop(i, *corner, size, padding, reflect) for i, corner in zip(images, places, strict=True)]
    np.testing.assert_array_equal(np.stack(ours), one_by_one(theirs, images, places))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "size", "padding"), [(32, 32, 32, 4), (40, 33, 24, 4), (24, 30, 24, 0), (5, 6, 11, 4)]
)
def test_crops_of_a_batch(height, width, size, padding, reflect, device):
    """Every image at a place of its own, every other one mirrored."""
    rng = np.random.default_rng(0)
    images = np.concatenate([pictures(48)[:, 8 : 8 + height, 4 : 4 + width]] * 4)
    n = len(images)
    places = np.stack([rng.integers(0, side + 2 * padding - size + 1, n) for side in (width, height)], 1)
    places[0], places[1] = 0, (width + 2 * padding - size, height + 2 * padding - size)
    mirrored = np.arange(n) % 2 == 1
    theirs = [padded_crop(i, *place, size, padding, reflect) for i, place in zip(images, places.tolist(), strict=True)]
    theirs = np.stack([t[:, ::-1] if m else t for t, m in zip(theirs, mirrored, strict=True)])
    given = torch.from_numpy(places).to(device), torch.from_numpy(mirrored).to(device)
    ours = unbatch(padded_crops(batch(images, device), *given, size, padding, reflect))
    np.testing.assert_array_equal(ours, theirs)


def test_the_weak_view_of_the_teachers_is_the_same_crop():
    images, places = pictures(32), corners(len(pictures(32)), 9)
    mirrored = np.arange(len(images)) % 3 == 0
    ours = padded_crops(batch(images), torch.from_numpy(places), torch.from_numpy(mirrored), 32, 4, reflect=False)
    draws = torch.from_numpy(np.column_stack([places[:, ::-1], mirrored]).astype(np.int64))  # top, left, mirrored
    theirs = weak_batch(zero_pad(torch.from_numpy(images), 4), torch.arange(len(images)), draws, 4)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
def test_cutout_blackens_the_box_and_nothing_else(device):
    images = np.maximum(pictures(32), 1)
    boxes = np.array([(0, 0, 8, 8), (24, 3, 8, 16), (5, 31, 16, 1), (0, 0, 32, 32), (9, 9, 0, 4), (8, 12, 16, 16)])
    boxes = boxes[np.arange(len(images)) % len(boxes)]
    ours = unbatch(cutouts(batch(images, device), torch.from_numpy(boxes).to(device)))
    black = (ours == 0).all(-1)
    assert black.sum((1, 2)).tolist() == (boxes[:, 2] * boxes[:, 3]).tolist()
    for row, (left, top, width, height) in enumerate(boxes.tolist()):
        assert black[row, top : top + height, left : left + width].all()
        np.testing.assert_array_equal(ours[row][~black[row]], images[row][~black[row]])
        np.testing.assert_array_equal(cutout(images[row], boxes[row]), ours[row])
