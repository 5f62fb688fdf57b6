"""What the network of a teacher's entry classifies in training: weak views of small images, or its block `views`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from longtail.base.errors import UserError
from longtail.training.teacher_config import TeacherConfig
from longtail.views.large_views import LargeViews
from longtail.views.weak_views import WeakViews

if TYPE_CHECKING:
    from longtail.data.long_tail import LongTail


def supervised_views(
    config: TeacherConfig, data: LongTail, seed: int, device: torch.device | str
) -> LargeViews | WeakViews:
    """The views that the entry's network classifies; of PaCo's two on large images, the query. Raises UserError where
    there are none of images in files."""
    if config.views is not None:
        recipes = {"teacher_view": config.views}
        return LargeViews(recipes, data.train_images, seed, device)
    return WeakViews(in_memory(data), seed, config.crop_padding, config.hflip, device)


def in_memory(data: LongTail) -> np.ndarray:
    """Training images uint8 [N, H, W, 3]. Raises UserError where they are files."""
    if not isinstance(data.train_images, np.ndarray):
        raise UserError(f"dataset {data.name}: its images are files; a teacher of them needs the block `views`")
    return data.train_images
