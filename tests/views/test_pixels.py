"""Whole views are the same bytes from either backend, in any batch, process or place."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from longtail.base import params
from longtail.base.rng import philox4x32 as reference
from longtail.base.workers import in_order
from longtail.views import draws, mix
from longtail.views.ops.erase_torch import erase_, philox4x32
from longtail.views.pixels import pick_backend
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views
from tests.helpers.pictures import digits, small
from tests.helpers.root import params_table

CUDA = torch.cuda.is_available()
BACKENDS = [("torch", "cpu")] + ([("torch", "cuda"), ("pil", "cuda")] if CUDA else [])
needs_cuda = pytest.mark.skipif(not CUDA, reason="needs CUDA")
PARAMS = params_table()


def recipe(name: str, **changes) -> ViewRecipe:
    """A view recipe of params.yaml."""
    built = params.build(ViewRecipe, params.entry(PARAMS, "views", name), f"views.{name}")
    return replace(built, **changes)


def sources(name: str) -> np.ndarray:
    return digits(96) if name.startswith("digits") else small(96)


def equal(first, second) -> bool:
    """Batches with the same bytes, wherever they lie."""
    tensors = ((getattr(first, n), getattr(second, n)) for n in ("x", "index", "partner", "lam", "positions"))
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in tensors) and first.digest == second.digest


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cifar", {"mix_group": 8, "accumulate": 2, "round_to": 0}),
        ("cifar10-mini", {"mix_group": 16, "round_to": 0}),
        ("digits", {"round_to": 0}),
        ("digits", {"mix_until": 0, "rand_prob": 1.0, "rand_ops": 4, "erase_prob": 1.0}),
    ],
)
def test_views_are_those_of_pillow(name, changes, backend, device):
    """Floats, labels and checksum of every step of an epoch, or of two steps where they are costly."""
    of, images = recipe(name, **changes), sources(name)
    theirs = Views(of, images, 3, backend="pil")
    ours = Views(of, images, 3, backend=backend, device=device)
    assert ours.backend == backend and theirs.step(1, 0).x.device.type == "cpu"
    for step in range(2 if of.size == 224 else theirs.steps_per_epoch):
        made = ours.step(1, step, digest=True)
        assert made.x.device.type == device and made.digest
        assert equal(made, theirs.step(1, step, digest=True))
    if of.size != 224:
        assert ours.checksum(1) == theirs.checksum(1)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_pixels_do_not_depend_on_the_batch_they_are_made_in(backend, device, monkeypatch):
    of, images = recipe("cifar10-mini", round_to=0), sources("cifar10-mini")
    views = Views(of, images, 0, backend=backend, device=device)
    positions = np.arange(views.positions_per_epoch)
    whole = views.pixels(2, positions)
    for part in (positions[:1], positions[[60, 3, 17]], positions[::-1]):
        assert torch.equal(views.pixels(2, part), whole[torch.from_numpy(part.copy())])
    monkeypatch.setattr("longtail.views.pixels._TEMPORARY", {"cpu": 7 * 8 * 3 * 96**2, "cuda": 8 * 3 * 96**2})
    chunked = Views(of, images, 0, backend=backend, device=device)
    assert torch.equal(chunked.pixels(2, positions), whole)
    monkeypatch.setattr("longtail.views.student_views._AHEAD", 1)  # every step for itself
    alone = Views(of, images, 0, backend=backend, device=device)
    for step in (1, 0):
        assert equal(alone.step(2, step), views.step(2, step))


def checksums(backend: str, epochs: list[int]) -> list[str]:
    views = Views(recipe("digits", round_to=0), digits(96), 1, backend=backend)
    return [views.checksum(epoch) for epoch in epochs]


def test_two_processes_make_what_one_makes():
    parts = list(in_order(partial(checksums, "torch"), [[1], [0]], 2))
    assert parts[::-1] == [[c] for c in checksums("pil", [0, 1])]


@pytest.mark.parametrize("device", ["cpu", "cuda"] if CUDA else ["cpu"])
def test_erasing_on_the_device_is_that_of_the_cpu(device):
    """The same floats at the same places, against the loop of Views and the values of draws.erase_noise."""
    of, images = recipe("cifar10-mini", round_to=0, erase_prob=0.6, family=2**32 - 1), sources("cifar10-mini")
    views = Views(of, images, 2**31 - 1, backend="pil")
    positions = np.arange(views.positions_per_epoch)[::-3]
    boxes = views.draws(1100, positions).erase
    assert 0 < (boxes[:, 2] > 0).sum() < len(boxes)
    clean = Views(replace(of, erase_prob=0.0), images, 2**31 - 1, backend="pil").unmixed(1100, positions)
    x = clean.to(device)
    erase_(x, views.key, 1100, positions, boxes)
    assert torch.equal(x.cpu(), views.unmixed(1100, positions))
    row = int(np.flatnonzero(boxes[:, 2])[-1])
    left, top, width, height = boxes[row].tolist()
    (noise,) = draws.erase_noise(views.key, 1100, positions[[row]], np.array([3 * width * height]))
    np.testing.assert_array_equal(x[row, :, top : top + height, left : left + width].cpu().numpy().ravel(), noise)
    x = clean.to(device)
    erase_(x, views.key, 1100, positions, np.zeros_like(boxes))
    assert torch.equal(x.cpu(), clean)


def test_philox_on_tensors_is_that_on_arrays():
    words = np.random.default_rng(0).integers(0, 2**32, (5000, 4), dtype=np.uint32)
    words[:3] = [[0, 0, 0, 0], [2**32 - 1] * 4, [1, 2, 3, 4]]
    for key in ((0, 0), (2**32 - 1, 2**32 - 1), (12345, 4)):
        ours = philox4x32(list(torch.from_numpy(words.astype(np.int64)).T), key)
        np.testing.assert_array_equal(torch.stack(ours, 1).numpy(), reference(words, key))


@pytest.mark.parametrize("name", ["cifar", "digits"])
def test_normalization_by_table_is_that_by_division(name):
    """What a device other than the CPU looks up."""
    views = Views(recipe(name, erase_prob=0.0), np.zeros((256, 8, 8, 3), np.uint8), 0)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    looked_up = views._levels[pixels.to(torch.int32) + views._channel]
    nothing = np.zeros((2, 4), np.int64)
    assert torch.equal(looked_up, views._erased(0, np.arange(2), pixels, nothing))


def test_auto_is_torch_on_cuda_and_for_small_views():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [pick_backend("auto", cpu, size) for size in (8, 24, 32, 96, 224)] == ["torch"] * 2 + ["pil"] * 3
    assert [pick_backend("auto", cuda, size) for size in (24, 224)] == ["torch"] * 2
    assert pick_backend("pil", cuda, 24) == "pil" and pick_backend("torch", cpu, 224) == "torch"
    with pytest.raises(ValueError, match="auto, pil, torch, found 'gpu'"):
        pick_backend("gpu", cpu, 24)


@needs_cuda
def test_mixing_on_cuda_is_that_on_the_cpu():
    x = torch.randn(10, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    for what in (mix.Mix(0.3), mix.Mix(0.123456), mix.cutmix_box(0.4, 3, 20, 24)):
        here, there = x.clone(), x.cuda()
        mix.apply_(here, what)
        mix.apply_(there, what)
        assert torch.equal(here, there.cpu())


@needs_cuda
def test_nothing_waits_for_the_device():
    """After a first step, which uploads tables, making the next views never synchronises."""
    views = Views(recipe("cifar", mix_group=8, round_to=0), small(96), 0, device="cuda")
    views.step(0, 0)
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        views.step(1, 0)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
