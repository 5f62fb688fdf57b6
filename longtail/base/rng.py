"""Counter-based random numbers: every draw is a pure function of what it is for.

Philox4x32-10 (Salmon et al., SC'11) keyed by (seed, stream) and counted by (epoch, position, block, family). Nothing is
consumed in sequence, so a draw does not depend on batch size, worker, device, resume point or library version.
The family is the upper half of the seed: see `of_family`.
Continuous distributions go through tables rounded to a fixed number of decimals, so that a libm which differs in
the last bit still gives the same draws.
"""

from __future__ import annotations

from functools import cache

import numpy as np

STREAMS = {
    "order": 1,
    "view": 2,
    "mix": 3,
    "noise": 4,
    "teacher_order": 5,
    "teacher_view": 6,
    "weak_view": 7,
    "paco_query": 8,
    "paco_key": 9,
    "paco_queue": 10,
    "class_balanced": 11,
    "drop_path": 12,
    "copies": 13,
    "teacher_noise": 14,
    "patch_order": 20,
}

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_LOW = 0xFFFFFFFF


def of_family(seed: int, family: int) -> int:
    """A seed whose draws, of every stream, are independent of `seed`'s; family 0 is the seed itself.

    For two networks that must not see the same views though recipe and seed are the same."""
    return seed + (family << 32)


def for_torch(key: int) -> int:
    """A seed for torch's generator, which on a CPU reads the lower half alone; of family 0 the seed itself. key: of
    `of_family`."""
    return (key & _LOW) + (key >> 32) * 0x9E3779B1 & _LOW


def key_of(seed: int, stream: str) -> tuple[tuple[int, int], int]:
    """Philox's key and the last word of its counter, 32-bit integers."""
    return (seed & _LOW, STREAMS[stream]), seed >> 32 & _LOW


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds of Philox4x32. counter: uint32 [..., 4]; key: two 32-bit integers. Returns uint32 [..., 4]."""
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _32) ^ c1 ^ np.uint64(k0),
            p1 & _MASK,
            (p0 >> _32) ^ c3 ^ np.uint64(k1),
            p0 & _MASK,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], -1).astype(np.uint32)


def draws(seed: int, stream: str, epoch: int, positions, n: int) -> np.ndarray:
    """n 32-bit words for each position. positions: integers [P]. Returns uint32 [P, n]."""
    positions = np.atleast_1d(np.asarray(positions, np.uint32))
    blocks = -(-n // 4)
    counter = np.empty((len(positions), blocks, 4), np.uint32)
    counter[..., 0] = np.arange(blocks, dtype=np.uint32)
    counter[..., 1] = positions[:, None]
    counter[..., 2] = epoch
    key, counter[..., 3] = key_of(seed, stream)
    return philox4x32(counter, key).reshape(len(positions), -1)[:, :n]


def below(words: np.ndarray, n) -> np.ndarray:
    """Integers in [0, n) by multiply-and-shift. words: uint32; n: integer or integer array. Returns int64."""
    return ((words.astype(np.uint64) * np.asarray(n, np.uint64)) >> _32).astype(np.int64)


def unit(words: np.ndarray) -> np.ndarray:
    """float64 in [0, 1): word / 2^32, exact."""
    return words.astype(np.float64) / 4294967296.0


def permutation(seed: int, stream: str, epoch: int, n: int) -> np.ndarray:
    """A random order of range(n), int64 [n]: stable argsort of 64-bit keys."""
    words = draws(seed, stream, epoch, np.arange(n), 2).astype(np.uint64)
    return np.argsort((words[:, 0] << _32) | words[:, 1], kind="stable")


def _midpoints() -> np.ndarray:
    return (np.arange(65536) + 0.5) / 65536


@cache
def normal_table() -> np.ndarray:
    """65,536 quantiles of N(0, 1) at the midpoints, float64 rounded to 6 decimals; index with 16 bits."""
    from scipy.special import ndtri

    return np.round(ndtri(_midpoints()), 6)


@cache
def beta_table(alpha: float) -> np.ndarray:
    """65,536 quantiles of Beta(alpha, alpha), float64 rounded to 6 decimals; index with 16 bits."""
    from scipy.special import betaincinv

    return np.round(betaincinv(alpha, alpha, _midpoints()), 6)


@cache
def log_uniform_table(low: float, high: float) -> np.ndarray:
    """65,536 quantiles of the log-uniform distribution on [low, high], float64 rounded to 9 decimals."""
    return np.round(np.exp(np.log(low) + (np.log(high) - np.log(low)) * _midpoints()), 9)
