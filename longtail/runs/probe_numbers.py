"""Few numbers that stand for many, as probes keep them (longtail/runs/probe.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from longtail.base.device import view_checksums

SCHEDULE = 12  # epochs at which schedules are kept
_PERIOD = 9973  # a prime: no shape of a layer repeats with it


def checksum(pixels: Tensor) -> str:
    """sha256 (hex) of uint8 pixels [n, ...], the same on every device."""
    return hashlib.sha256(view_checksums(pixels).cpu().numpy().astype("<i8").tobytes()).hexdigest()


def checksum_of_integers(values: np.ndarray) -> str:
    """sha256 (hex) of integers or booleans, with their shape."""
    values = np.ascontiguousarray(values, "<i8")
    return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()


def numbers(values: Tensor | np.ndarray) -> list[float]:
    """All of them, float64."""
    return torch.as_tensor(values).detach().double().flatten().tolist()


def norm_and_projection(*tensors: Tensor) -> list[float]:
    """Euclidean norm of all values together, and their sum with weights that no two neighbours share, in float64: a
    change of one sign, or of the order, is seen in the second."""
    squares = projection = torch.zeros((), dtype=torch.float64)
    for number, tensor in enumerate(tensors):
        flat = tensor.detach().flatten().double()
        weights = _weights(number)
        if len(flat) > _PERIOD:
            weights = weights.repeat(-(-len(flat) // _PERIOD))
        squares, projection = squares + flat.square().sum(), projection + flat @ weights[: len(flat)]
    return [float(squares.sqrt()), float(projection)]


@lru_cache(256)  # tensors of a network; twenty megabytes
def _weights(number: int) -> Tensor:
    return torch.cos(torch.arange(_PERIOD, dtype=torch.float64) + number)


def norm(*tensors: Tensor) -> list[float]:
    """Of all values together, alone: where a gradient is zero but for rounding, as of the bias of an attention's keys,
    Adam makes a step of full length in a direction that each processor chooses."""
    return norm_and_projection(*tensors)[:1]


def epochs_of(epochs: int, changes: Iterable[int | None]) -> list[int]:
    """0-based: the first, those where the recipe changes, the last."""
    return sorted({0, epochs - 1, *(e for e in changes if e is not None and 0 < e < epochs)})


def schedule_epochs(epochs: int, chosen: list[int]) -> list[int]:
    """A dozen, evenly spaced, the chosen ones, and the ones before them."""
    spaced = np.linspace(0, epochs - 1, min(SCHEDULE, epochs)).round().astype(int).tolist()
    return sorted({*spaced, *chosen, *(epoch - 1 for epoch in chosen if epoch)})
