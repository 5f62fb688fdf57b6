"""Images as batches of tensors and back, and the devices that the batched operations are tested on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from PIL import Image

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def batch(images: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """uint8 [n, H, W, 3] to [n, 3, H, W]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)


def unbatch(pixels: torch.Tensor) -> np.ndarray:
    assert pixels.dtype == torch.uint8
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def one_by_one(op: Callable[..., Image.Image], images: np.ndarray, *columns: Iterable) -> np.ndarray:
    """op(Pillow image, its value of each column), uint8 [n, H, W, 3]."""
    return np.stack([np.asarray(op(Image.fromarray(i), *values)) for i, *values in zip(images, *columns, strict=True)])
