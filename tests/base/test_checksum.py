from __future__ import annotations

import numpy as np
import pytest
import torch

from longtail.base.device import view_checksums

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]
WRAP = 2**64


def by_hand(view: np.ndarray) -> int:
    """SplitMix64 of each 8 bytes with its place, in Python integers."""
    data = view.tobytes()
    data += bytes(-len(data) % 8)
    total = 0
    for place in range(len(data) // 8):
        z = int.from_bytes(data[8 * place : 8 * place + 8], "little") + (place + 1) * 0x9E3779B97F4A7C15
        z %= WRAP
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WRAP
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WRAP
        total += z ^ (z >> 31)
    return total % WRAP


def random_views(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(5, 3, 24, 24), (2, 3, 5, 7), (1, 3, 1, 1)])
def test_equals_python_integers_also_where_bytes_do_not_fill_a_word(shape, device):
    views = random_views(*shape)
    got = view_checksums(torch.from_numpy(views).to(device))
    assert got.dtype == torch.int64 and [int(value) % WRAP for value in got] == [by_hand(view) for view in views]


def test_known_first_output_of_splitmix64():
    zero = torch.zeros(1, 8, dtype=torch.uint8)
    assert int(view_checksums(zero)) % WRAP == 0xE220A8397B1DCDAF  # of seed 0, in the generator's reference code


def test_every_single_changed_value_shows():
    view = random_views(1, 3, 8, 8)
    changed = np.repeat(view, 192 * 8, 0).reshape(192 * 8, 192)
    for at in range(192):
        for bit in range(8):
            changed[8 * at + bit, at] ^= 1 << bit
    sums = view_checksums(torch.from_numpy(changed))
    assert len({*sums.tolist(), int(view_checksums(torch.from_numpy(view)))}) == 192 * 8 + 1


def test_exchanged_pixels_words_and_channels_show():
    view = random_views(3, 8, 8)
    moved = [view[:, ::-1], view[..., ::-1], view[::-1], view.transpose(0, 2, 1), np.roll(view, 8, 2)]
    sums = [int(view_checksums(torch.from_numpy(np.ascontiguousarray(v))[None])) for v in (view, *moved)]
    assert len(set(sums)) == len(sums) - 1  # a roll by the full width is no change


def test_a_view_does_not_depend_on_its_neighbors_or_on_layout():
    views = torch.from_numpy(random_views(6, 3, 24, 24))
    together = view_checksums(views)
    assert torch.equal(together, torch.cat([view_checksums(view[None]) for view in views]))
    assert torch.equal(together, view_checksums(views.contiguous(memory_format=torch.channels_last)))
