"""Two ways to the same pixels: Pillow, one image at a time, and PyTorch, a batch at a time on CPU or CUDA.

Which one is a setting of the execution, like the device, and not of a recipe: their bytes are equal.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from longtail import ops_pil, ops_torch
from longtail.draws import ViewDraws
from longtail.resample_torch import resized_crop

BACKENDS = ("auto", "pil", "torch")
_CHUNK = 64  # views at a time from Pillow to the output array, to keep temporaries small
_SMALL = 24  # pixels a side, up to which a call per image costs more than the arithmetic
_TEMPORARY = {"cpu": 2**24, "cuda": 2**31}  # bytes that one float64 copy of the views in work may take


def pick_backend(backend: str, device: torch.device, size: int) -> str:
    """`pil` or `torch`. auto: torch on CUDA; on a CPU the faster one by benchmarks/views.py, torch for small views."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is one of {', '.join(BACKENDS)}, found {backend!r}")
    if backend != "auto":
        return backend
    return "torch" if device.type == "cuda" or size <= _SMALL else "pil"


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """To the device without waiting for what it is doing: through page-locked memory."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


class PillowPixels:
    """The reference."""

    def __init__(self, images: np.ndarray, size: int, fill: tuple[int, int, int], device: torch.device) -> None:
        """images: uint8 [N, H, W, 3]; size: side of a view; fill: color of what geometric operations move in."""
        self.images, self.size, self.fill, self.device = images, size, fill, device

    def __call__(self, index: np.ndarray, drawn: ViewDraws) -> Tensor:
        """Views of images `index` (int64 [n]) as drawn: uint8 [n, 3, S, S] on the device."""
        pixels = np.empty((len(index), 3, self.size, self.size), np.uint8)
        columns = index, drawn.crop, drawn.flip, drawn.op, drawn.magnitude, drawn.negative
        for start in range(0, len(index), _CHUNK):
            rows = slice(start, start + _CHUNK)
            made = b"".join(self._image(*view) for view in zip(*(c[rows].tolist() for c in columns), strict=True))
            made = np.frombuffer(made, np.uint8).reshape(-1, self.size, self.size, 3)
            pixels[rows] = made.transpose(0, 3, 1, 2)
        return upload(pixels, self.device)

    def _image(self, image: int, crop, flip: bool, ops, magnitudes, negatives) -> bytes:
        view = ops_pil.resized_crop(self.images[image], *crop, self.size)
        if flip:
            view = ops_pil.flip(view)
        for op, magnitude, negative in zip(ops, magnitudes, negatives, strict=True):
            if op >= 0:
                name = ops_pil.OPS[op]
                view = ops_pil.apply(view, name, ops_pil.level_argument(name, magnitude, negative), self.fill)
        return view.tobytes()


class TorchPixels:
    """The images lie on the device; views are grouped by operation. Called as PillowPixels, with the same result."""

    def __init__(self, images: np.ndarray, size: int, fill: tuple[int, int, int], device: torch.device) -> None:
        self.images = torch.from_numpy(images).permute(0, 1, 3, 2).contiguous().to(device)  # [N, H, 3, W]
        self.fill = torch.tensor(fill, dtype=torch.uint8).to(device)
        self.size, self.device = size, device
        self.chunk = max(1, _TEMPORARY[device.type] // (8 * 3 * size * size))

    def __call__(self, index: np.ndarray, drawn: ViewDraws) -> Tensor:
        pixels = torch.empty(len(index), 3, self.size, self.size, dtype=torch.uint8, device=self.device)
        parts = -(-len(index) // self.chunk)  # of equal size: groups by operation are then as large as they can be
        for part in range(parts):
            rows = slice(part * len(index) // parts, (part + 1) * len(index) // parts)
            pixels[rows] = self._views(index[rows], drawn.rows(rows))
        return pixels

    def _views(self, index: np.ndarray, drawn: ViewDraws) -> Tensor:
        images = self.images.index_select(0, upload(index, self.device))
        pixels = resized_crop(images, upload(drawn.crop, self.device), upload(drawn.flip, self.device), self.size)
        for op, magnitude, negative in zip(drawn.op.T, drawn.magnitude.T, drawn.negative.T, strict=True):
            groups = np.argsort(op, kind="stable")  # rows of -1, not applied, come first
            ends = np.searchsorted(op[groups], np.arange(-1, len(ops_pil.OPS)), side="right").tolist()
            spans = [(name, slice(a, b)) for name, a, b in zip(ops_pil.OPS, ends, ends[1:], strict=False) if a < b]
            arguments = np.zeros((len(op), ops_torch.ARGUMENTS))
            for name, span in spans:
                levels = zip(magnitude[groups[span]].tolist(), negative[groups[span]].tolist(), strict=True)
                values = [ops_pil.level_argument(name, *level) for level in levels]
                arguments[span] = ops_torch.arguments(name, values, self.size)
            groups, arguments = upload(groups, self.device), upload(arguments, self.device)
            for name, span in spans:
                of = pixels.index_select(0, groups[span])
                pixels.index_copy_(0, groups[span], ops_torch.apply(of, name, arguments[span], self.fill))
        return pixels
