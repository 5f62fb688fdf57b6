"""Two ways to the same pixels: Pillow, one image at a time, and PyTorch, a batch at a time on CPU or CUDA.

Which one is a setting of the execution, like the device, and not of a recipe: their bytes are equal.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from longtail.base.device import upload
from longtail.base.images import Images, scaled, sizes_of
from longtail.base.reused import Reused
from longtail.views.draws import ViewDraws
from longtail.views.normalize import NORMALIZATION
from longtail.views.ops import photometric, photometric_torch, randaugment, randaugment_torch
from longtail.views.ops.padded_crop import padded_crop, padded_crops
from longtail.views.ops.resample_torch import resized, resized_crop
from longtail.views.recipe import ViewRecipe

BACKENDS = ("auto", "pil", "torch")
_CHUNK = 64  # views at a time from Pillow to the output array, to keep temporaries small
_LARGE = 96  # pixels a side, from which Pillow takes channels apart faster than NumPy
_SMALL = 24  # pixels a side, up to which a call per image costs more than the arithmetic
_TEMPORARY = {"cpu": 2**24, "cuda": 2**31}  # bytes that one float64 copy of the views in work may take


def pick_backend(backend: str, device: torch.device, size: int, in_memory: bool = True) -> str:
    """`pil` or `torch`. auto: torch on CUDA; on a CPU the faster one by benchmarks/views.py, torch for small views; pil
    for images that are not one array in memory, which torch needs."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is one of {', '.join(BACKENDS)}, found {backend!r}")
    if backend == "torch" and not in_memory:
        raise ValueError("backend torch needs the images as one array in memory; use pil or auto")
    if backend != "auto":
        return backend
    return "torch" if in_memory and (device.type == "cuda" or size <= _SMALL) else "pil"


class PillowPixels:
    """The reference."""

    def __init__(self, images: Images | np.ndarray, recipe: ViewRecipe, device: torch.device) -> None:
        self.images, self.recipe, self.device = images, recipe, device
        self.fill = _fill(recipe)
        self.memory = Reused(np.uint8)

    def __call__(self, index: np.ndarray, drawn: ViewDraws) -> Tensor:
        """Views of images `index` (int64 [n]) as drawn: uint8 [n, 3, S, S] on the device."""
        size = self.recipe.size
        pixels = self.memory.empty(len(index), 3, size, size)
        self.into(pixels, index, drawn)
        return upload(pixels, self.device)

    def into(self, pixels: np.ndarray, index: np.ndarray, drawn: ViewDraws) -> None:
        """The same into an array, uint8 [n, 3, S, S], without touching the device."""
        columns = index, drawn.crop, drawn.flip, drawn.op, drawn.magnitude, drawn.negative
        columns += drawn.three, drawn.radius, drawn.order, drawn.factor
        size = self.recipe.size
        for start in range(0, len(index), _CHUNK):
            rows = slice(start, start + _CHUNK)
            made = (self._image(*view) for view in zip(*(c[rows].tolist() for c in columns), strict=True))
            if size < _LARGE:
                flat = np.frombuffer(b"".join(view.tobytes() for view in made), np.uint8)
                pixels[rows] = flat.reshape(-1, size, size, 3).transpose(0, 3, 1, 2)
                continue
            for view, planes in zip(made, pixels[rows].reshape(-1, 3, size * size), strict=True):
                for plane, channel in zip(planes, "RGB", strict=True):
                    plane[:] = np.frombuffer(view.tobytes("raw", channel), np.uint8)

    def _image(
        self, image: int, crop, flip: bool, ops, magnitudes, negatives, three, radius, order, factors
    ) -> Image.Image:
        view = self._cropped(self.images[image], *crop)
        if flip:
            view = randaugment.flip(view)
        for op, magnitude, negative in zip(ops, magnitudes, negatives, strict=True):
            if op >= 0:
                name = randaugment.OPS[op]
                view = randaugment.apply(view, name, randaugment.level_argument(name, magnitude, negative), self.fill)
        if three >= 0:
            view = photometric.one_of_three(view, three, radius)
        return photometric.color_jitter(view, order, factors)

    def _cropped(self, pixels: np.ndarray, left: int, top: int, width: int, height: int) -> Image.Image:
        size = self.recipe.size
        if self.recipe.crop == "resized":
            return randaugment.resized_crop(pixels, left, top, width, height, size)
        height, width = scaled(np.array([pixels.shape[:2]]), size)[0].tolist()
        whole = np.asarray(randaugment.resized(pixels, width, height))
        return Image.fromarray(padded_crop(whole, left, top, size, self.recipe.crop_padding, reflect=True))


class TorchPixels:
    """The images lie on the device; views are grouped by operation. Called as PillowPixels, with the same result."""

    def __init__(self, images: np.ndarray, recipe: ViewRecipe, device: torch.device) -> None:
        """images: uint8 [N, H, W, 3]."""
        self.images = torch.from_numpy(images).permute(0, 1, 3, 2).contiguous().to(device)  # [N, H, 3, W]
        self.fill = torch.tensor(_fill(recipe), dtype=torch.uint8).to(device)
        self.recipe, self.device = recipe, device
        made = scaled(sizes_of(images)[:1], recipe.size)[0].tolist() if recipe.crop == "padded" else [recipe.size] * 2
        self.height, self.width = made  # of what is made of a source before it is cropped
        self.chunk = max(1, _TEMPORARY[device.type] // (8 * 3 * self.height * self.width))

    def __call__(self, index: np.ndarray, drawn: ViewDraws) -> Tensor:
        pixels = torch.empty(len(index), 3, self.recipe.size, self.recipe.size, dtype=torch.uint8, device=self.device)
        parts = -(-len(index) // self.chunk)  # of equal size: groups by operation are then as large as they can be
        for part in range(parts):
            rows = slice(part * len(index) // parts, (part + 1) * len(index) // parts)
            pixels[rows] = self._views(index[rows], drawn.rows(rows))
        return pixels

    def _views(self, index: np.ndarray, drawn: ViewDraws) -> Tensor:
        pixels = self._cropped(index, drawn)
        for op, magnitude, negative in zip(drawn.op.T, drawn.magnitude.T, drawn.negative.T, strict=True):
            groups = np.argsort(op, kind="stable")  # rows of -1, not applied, come first
            ends = np.searchsorted(op[groups], np.arange(-1, len(randaugment.OPS)), side="right").tolist()
            spans = [(name, slice(a, b)) for name, a, b in zip(randaugment.OPS, ends, ends[1:], strict=False) if a < b]
            arguments = np.zeros((len(op), randaugment_torch.ARGUMENTS))
            for name, span in spans:
                levels = zip(magnitude[groups[span]].tolist(), negative[groups[span]].tolist(), strict=True)
                values = [randaugment.level_argument(name, *level) for level in levels]
                arguments[span] = randaugment_torch.arguments(name, values, self.recipe.size)
            groups, arguments = upload(groups, self.device), upload(arguments, self.device)
            for name, span in spans:
                of = pixels.index_select(0, groups[span])
                pixels.index_copy_(0, groups[span], randaugment_torch.apply(of, name, arguments[span], self.fill))
        if self.recipe.three_augment:
            pixels = photometric_torch.one_of_three(pixels, drawn.three, drawn.radius)
        return photometric_torch.color_jitter(pixels, drawn.order, drawn.factor)

    def _cropped(self, index: np.ndarray, drawn: ViewDraws) -> Tensor:
        images = self.images.index_select(0, upload(index, self.device))
        crop, flip, size = upload(drawn.crop, self.device), upload(drawn.flip, self.device), self.recipe.size
        if self.recipe.crop == "resized":
            return resized_crop(images, crop, flip, size)
        whole = resized(images, self.height, self.width)
        return padded_crops(whole, crop[:, :2], flip, size, self.recipe.crop_padding, reflect=True)


def _fill(recipe: ViewRecipe) -> tuple[int, int, int]:
    """Color of what geometric operations move in."""
    return randaugment.fill_color(NORMALIZATION[recipe.normalization][0])
