from __future__ import annotations

import numpy as np
import pytest
import torch

from longtail.views import eval_views
from longtail.views.ops import resample_torch
from tests.helpers.batches import DEVICES, batch
from tests.helpers.pictures import pictures


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("height", "width", "size", "resize_to"),
    [(32, 32, 224, 256), (8, 8, 24, 24), (96, 75, 224, 256), (301, 223, 96, 110), (224, 224, 224, 224), (1, 1, 8, 9)],
)
def test_the_view_is_pillows(height, width, size, resize_to, device):
    """Enlarged, shrunk and left alone; square and oblong."""
    side = max(height, width)
    images = (
        pictures(side)[:, :height, :width]
        if side > 8
        else np.random.default_rng(0).integers(0, 256, (8, height, width, 3), dtype=np.uint8)
    )
    images = np.ascontiguousarray(images[::2])
    ours = resample_torch.eval_pixels(batch(images, device), size, resize_to)
    assert ours.is_contiguous()
    assert torch.equal(ours.cpu(), eval_views.eval_pixels(images, size, resize_to))


def test_a_resize_smaller_than_the_view_is_refused():
    with pytest.raises(ValueError, match="eval_resize 200 is smaller"):
        resample_torch.eval_pixels(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 224, 200)
