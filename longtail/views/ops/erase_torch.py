"""RandomErasing's noise on the device that holds the views: the values of draws.erase_noise, without the transfer.

Philox4x32 in 64-bit integers, then a look-up in the same table, so every float is that of the CPU.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from longtail.base import rng
from longtail.base.device import upload

_LOW, _HALF = 0xFFFFFFFF, 0xFFFF


def philox4x32(counter: list[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """rng.philox4x32 on four int64 tensors that hold 32-bit counters; returns four of 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(0xD2511F53, c0)
        high1, low1 = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return [c0, c1, c2, c3]


def _multiply(constant: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a 64-bit product, in 16-bit steps: a signed 64-bit integer cannot hold it."""
    low = x * (constant & _HALF)
    high = x * (constant >> 16) + (low >> 16)
    return high >> 16, ((high & _HALF) << 16) | (low & _HALF)


@cache
def _table(device: torch.device) -> Tensor:
    return torch.from_numpy(rng.normal_table().astype(np.float32)).to(device)


def erase_(x: Tensor, seed: int, epoch: int, positions: np.ndarray, boxes: np.ndarray) -> None:
    """Fill each view's box with its noise, in place. x: float32 [n, 3, S, S]; positions: int [n] within the epoch;
    boxes: int64 [n, 4], left, top, width, height in view pixels, width 0 = none."""
    views = np.flatnonzero(boxes[:, 2])
    if not len(views):
        return
    size, device = x.shape[3], x.device
    counts = 3 * boxes[views, 2] * boxes[views, 3]
    blocks = -(-counts // 8)  # a Philox block holds 8 values
    columns = [views, np.asarray(positions)[views], *boxes[views].T]
    columns += [counts, np.cumsum(counts) - counts, blocks, np.cumsum(blocks) - blocks]
    columns = upload(np.stack(columns).astype(np.int64), device)
    view, position, left, top, width, height, values_of, first_value, blocks_of, first_block = columns
    rows = torch.arange(len(views), device=device)

    row, block = _within(rows, blocks_of, first_block, int(blocks.sum()))
    zero, (key, family) = torch.zeros_like(row), rng.key_of(seed, "noise")
    words = philox4x32([block, position[row], zero + epoch, zero + family], key)
    halves = torch.stack([half for word in words for half in (word & _HALF, word >> 16)], 1)
    noise = _table(device)[halves].view(-1)

    row, nth = _within(rows, values_of, first_value, int(counts.sum()))
    area, across = (width * height)[row], width[row]
    channel, inside = nth // area, nth % area
    target = (view[row] * 3 + channel) * size + top[row] + inside // across
    x.view(-1)[target * size + left[row] + inside % across] = noise[8 * first_block[row] + nth]


def _within(rows: Tensor, counts: Tensor, first: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Row of each of `total` things, counts[r] of them in row r, and its number within the row; int64 [total]."""
    row = rows.repeat_interleave(counts, output_size=total)
    return row, torch.arange(total, device=rows.device) - first[row]
