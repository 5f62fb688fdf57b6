"""autoaugment.py on batches, uint8 [n, 3, S, S] on CPU or CUDA, bit for bit equal."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from longtail.base.upload import upload
from longtail.views.ops import autoaugment, randaugment_torch
from longtail.views.ops.nearest_torch import affine_nearest, fixed_point, rotation
from longtail.views.ops.photometric_torch import by_choice
from longtail.views.ops.resample_torch import slide


def apply(pixels: Tensor, op: str, arguments: np.ndarray, variant: str) -> Tensor:
    """One operation on every view. arguments: float64 [n], from autoaugment.argument; 0 where it gives None."""
    how = autoaugment.VARIANTS[variant]
    size, values = pixels.shape[3], arguments.tolist()
    if op in autoaugment.PIXELWISE:
        given = upload(arguments[:, None], pixels.device)
        return randaugment_torch.apply(pixels, autoaugment.PIXELWISE[op], given, pixels.new_zeros(3))
    if op == "ShearY" and how.bicubic_shear:
        slope = upload(arguments, pixels.device)
        fill = pixels.new_full((3,), how.fill)
        return slide(pixels, slope, slope.new_zeros(len(slope)), fill, vertical=True)
    if op == "Rotate":
        matrices = [rotation(v, size, size) for v in values]
    else:
        matrices = [autoaugment.matrix(op, v) for v in values]
    fixed = np.array([fixed_point(m) for m in matrices], np.int64)
    return affine_nearest(pixels, upload(fixed, pixels.device), how.fill)


def augment(pixels: Tensor, drawn: autoaugment.Draws, variant: str) -> Tensor:
    """The views that autoaugment.augment makes of these images, one call for all that an operation falls to."""
    size = pixels.shape[3]
    for step in range(drawn.op.shape[1]):
        strength, negative = drawn.strength[:, step].tolist(), drawn.negative[:, step].tolist()

        def op(kind: int, x: Tensor, rows: np.ndarray, strength=strength, negative=negative) -> Tensor:
            name = autoaugment.OPS[kind]
            values = [autoaugment.argument(name, strength[r], negative[r], size, variant) or 0 for r in rows]
            return apply(x, name, np.array(values, np.float64), variant)

        pixels = by_choice(pixels, drawn.op[:, step], op)
    return pixels
