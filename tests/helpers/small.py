"""A few long-tailed digits, a view recipe and a stand-in teacher, for tests of caches and students."""

from __future__ import annotations

import torch
from torch import nn

from longtail.base import params
from longtail.data.long_tail import LongTail
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.views.student_views import ViewRecipe

SIZE, STRIDE, OFFSET = 16, 2, 1
DATASET = {
    "source": "digits",
    "raw": "data/none",
    "imbalance_factor": 5.0,
    "n_max": 10,
    "subset_seed": 0,
    "cuts": [3, 7],
    "test_per_class": 2,
    "image_size": None,
    "download": False,
}
RECIPE = {
    "size": SIZE,
    "crop": "resized",
    "crop_scale": [0.35, 1.0],
    "crop_ratio": [0.75, 1.3333333333333333],
    "crop_padding": 4,
    "hflip": 0.5,
    "rand_ops": 2,
    "rand_prob": 0.5,
    "rand_magnitude": 9.0,
    "rand_std": 0.5,
    "three_augment": False,
    "blur_radius": [0.1, 2.0],
    "jitter": 0.0,
    "erase_prob": 0.25,
    "erase_area": [0.02, 0.3333333333333333],
    "erase_ratio": [0.3, 3.3333333333333335],
    "normalization": "digits",
    "sampler": "shuffle",
    "repeats": 3,
    "virtual_world": 2,
    "mix_group": 8,
    "accumulate": 1,
    "round_to": 4,
    "mixup_alpha": 0.8,
    "cutmix_alpha": 1.0,
    "mix_prob": 1.0,
    "switch_prob": 0.5,
    "mix_until": 3,
    "teacher_view": "same",
    "teacher_stride": STRIDE,
    "teacher_offset": OFFSET,
    "teacher_padding": 4,
    "teacher_normalization": "cifar",
}


class Teacher(nn.Module):
    """Insists on float32 and no gradients; the side of what it is shown is part of its shape."""

    def __init__(self, classes: int = 10, side: int = SIZE // STRIDE):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, 3 * side * side, generator=torch.Generator().manual_seed(1)))

    def forward(self, x):
        assert x.dtype == torch.float32 and not torch.is_grad_enabled()
        logits = x.flatten(1) @ self.weight.T
        assert logits.dtype == torch.float32
        return logits


def recipe(**changes) -> ViewRecipe:
    return params.build(ViewRecipe, RECIPE | changes, "views.v")


def digits() -> LongTail:
    """46 training images in ten classes of 10 down to 2, and 20 test images."""
    return make_longtail("tiny", params.build(DatasetConfig, DATASET, "datasets.tiny"))
