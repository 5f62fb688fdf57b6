"""The two views of an image that a PaCo teacher learns from (METHODS §2.5): functions of (seed, epoch, position).

Query: zero-padded random crop, flip, AutoAugment, Cutout; black, as it comes before normalization (trap 10). Key:
RandomResizedCrop (bilinear, torchvision's default), flip, color jitter, grayscale, blur. Pillow makes them one at a
time, PyTorch in batches; their bytes are equal.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from longtail.base import rng
from longtail.base.device import upload
from longtail.base.errors import UserError
from longtail.views.draws import ATTEMPTS, JITTER_WORDS, corners, crops, cutout_boxes, jitter, uniform
from longtail.views.ops import autoaugment, autoaugment_torch, photometric, photometric_torch
from longtail.views.ops.padded_crop import cutout, cutouts, padded_crop, padded_crops
from longtail.views.ops.photometric import gaussian_blur, grayscale
from longtail.views.ops.randaugment import flip
from longtail.views.ops.resample_torch import resized_crop
from longtail.views.pixels import pick_backend
from longtail.views.recipe import PaCoViewRecipe

# Words of a position in stream "paco_query": corner of the crop, flip, AutoAugment, Cutout.
_FLIP, _POLICY, _CUTOUT = 2, 3, 3 + autoaugment.WORDS
_QUERY_WORDS = _CUTOUT + 2
# And in stream "paco_key": the crop, flip, jitter, gray?, blur?, radius.
_KEY_FLIP = 4 * ATTEMPTS
_JITTER, _GRAY = _KEY_FLIP + 1, _KEY_FLIP + 1 + JITTER_WORDS
_BLUR, _RADIUS = _GRAY + 1, _GRAY + 2
_KEY_WORDS = _RADIUS + 1


class PaCoViews:
    """Views of square images, uint8 [N, S, S, 3], as uint8 [n, 3, S, S] on the device."""

    def __init__(
        self,
        recipe: PaCoViewRecipe,
        padding: int,
        hflip: float,
        images: np.ndarray,
        seed: int,
        device: torch.device | str = "cpu",
        backend: str = "auto",
    ) -> None:
        """padding: of the query's crop, pixels; hflip: probability, in both views; backend: auto, pil or torch."""
        if images.shape[1] != images.shape[2]:
            raise UserError(f"loss paco needs square images, found {images.shape[1]} x {images.shape[2]} pixels")
        self.recipe, self.padding, self.hflip, self.seed = recipe, padding, hflip, seed
        self.size, self.device = images.shape[1], torch.device(device)
        self.backend = pick_backend(backend, self.device, self.size)
        self.images = images
        if self.backend == "torch":
            self.planes = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(self.device)

    def query(self, epoch: int, positions: np.ndarray, index: np.ndarray) -> Tensor:
        """The query views of images `index` at these positions of the epoch, both int64 [n]."""
        words = rng.draws(self.seed, "paco_query", epoch, positions, _QUERY_WORDS)
        corner = corners(words[:, :_FLIP], self.size, self.size, self.size, self.padding)
        mirrored = rng.unit(words[:, _FLIP]) < self.hflip
        policy = autoaugment.draw(words[:, _POLICY:_CUTOUT]) if self.recipe.autoaugment else None
        boxes = cutout_boxes(words[:, _CUTOUT:], self.size, self.recipe.cutout)
        if self.backend == "torch":
            pixels = self.planes.index_select(0, upload(index, self.device))
            places = upload(corner, self.device), upload(mirrored, self.device)
            pixels = padded_crops(pixels, *places, self.size, self.padding, reflect=False)
            if policy is not None:
                pixels = autoaugment_torch.augment(pixels, policy, self.recipe.autoaugment)
            return cutouts(pixels, upload(boxes, self.device))

        def view(row: int) -> np.ndarray:
            crop = padded_crop(self.images[index[row]], *corner[row].tolist(), self.size, self.padding, reflect=False)
            image = Image.fromarray(crop)
            image = flip(image) if mirrored[row] else image
            if policy is not None:
                image = autoaugment.augment(image, policy, row, self.recipe.autoaugment)
            return cutout(np.asarray(image), boxes[row])

        return self._stack([view(row) for row in range(len(index))])

    def key(self, epoch: int, positions: np.ndarray, index: np.ndarray) -> Tensor:
        """The key views of images `index` at these positions of the epoch, both int64 [n]."""
        of = self.recipe
        words = rng.draws(self.seed, "paco_key", epoch, positions, _KEY_WORDS)
        boxes = crops(words[:, :_KEY_FLIP], self.size, self.size, of.crop_scale, of.crop_ratio)
        mirrored = rng.unit(words[:, _KEY_FLIP]) < self.hflip
        order, factors = jitter(words[:, _JITTER:_GRAY], of.jitter, of.jitter_prob)
        gray = rng.unit(words[:, _GRAY]) < of.gray_prob
        radius = np.where(rng.unit(words[:, _BLUR]) < of.blur_prob, uniform(words[:, _RADIUS], *of.blur_radius), 0.0)
        if self.backend == "torch":
            rows = self.planes.index_select(0, upload(index, self.device)).transpose(1, 2).contiguous()
            places = upload(boxes, self.device), upload(mirrored, self.device)
            pixels = resized_crop(rows, *places, self.size, bilinear=True)
            pixels = photometric_torch.color_jitter(pixels, order, factors)
            pixels = photometric_torch.by_choice(pixels, gray - 1, lambda _, x, __: photometric_torch.grayscale(x))
            return photometric_torch.by_choice(
                pixels, (radius > 0) - 1, lambda _, x, rows: photometric_torch.gaussian_blur(x, radius[rows])
            )

        def view(row: int) -> np.ndarray:
            left, top, width, height = boxes[row].tolist()
            crop = Image.fromarray(self.images[index[row]][top : top + height, left : left + width])
            image = crop.resize((self.size, self.size), Image.Resampling.BILINEAR)
            image = flip(image) if mirrored[row] else image
            image = photometric.color_jitter(image, order[row].tolist(), factors[row].tolist())
            image = grayscale(image) if gray[row] else image
            return np.asarray(gaussian_blur(image, radius[row]) if radius[row] else image)

        return self._stack([view(row) for row in range(len(index))])

    def _stack(self, views: list[np.ndarray]) -> Tensor:
        """Arrays [S, S, 3] as one batch on the device."""
        return upload(np.ascontiguousarray(np.stack(views).transpose(0, 3, 1, 2)), self.device)
