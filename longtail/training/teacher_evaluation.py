"""Logits of a teacher on the test set: small images as they are, large ones resized and cropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from longtail.base.errors import UserError
from longtail.base.upload import upload
from longtail.data.long_tail import LongTail
from longtail.training.teacher_config import TeacherConfig
from longtail.views.eval_views import EvalViews
from longtail.views.normalize import constants, normalize

SMALL_BATCH, LARGE_BATCH = 500, 128  # images


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Tensor], mean: Tensor, std: Tensor) -> Tensor:
    """Logits float32 [M, C] of batches uint8 [n, 3, H, W] on the model's device, in eval mode and float32."""
    model.eval()
    return torch.cat([model(normalize(batch, mean, std)) for batch in batches])


class TestSet:
    """A dataset's test images as an entry's teacher sees them (METHODS §2.3, §2.4)."""

    __test__ = False  # no test of pytest's

    def __init__(self, config: TeacherConfig, data: LongTail, device: torch.device) -> None:
        """Raises UserError where the images are files and the entry has no views."""
        images, self.device = data.test_images, device
        self.mean, self.std = constants(config.normalization, device)
        if config.views is not None:
            self.images = EvalViews(images, config.views.size, config.eval_resize, bilinear=True)
        elif isinstance(images, np.ndarray):
            self.images = torch.from_numpy(images).to(device)
        else:
            raise UserError(f"dataset {data.name}: its images are files; a teacher of them needs the block `views`")

    def logits(self, model: nn.Module) -> Tensor:
        """float32 [M, C] on the device; the model is left in eval mode."""
        return evaluate(model, self.batches(), self.mean, self.std)

    def batches(self) -> Iterator[Tensor]:
        """uint8 [n, 3, H, W] on the device, in order."""
        if isinstance(self.images, Tensor):
            return (part.permute(0, 3, 1, 2) for part in self.images.split(SMALL_BATCH))
        parts = self.images.batches(LARGE_BATCH)
        return (upload(part.numpy(), self.device).contiguous(memory_format=torch.channels_last) for part in parts)
