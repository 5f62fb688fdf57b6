from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image
from torchvision.transforms import functional as F

from longtail.base import params
from longtail.base.errors import UserError
from longtail.views import student_views
from longtail.views.batch import teacher_view
from longtail.views.normalize import NORMALIZATION
from longtail.views.ops import randaugment
from longtail.views.student_views import ViewRecipe, Views, combine

CIFAR = {
    "size": 224,
    "crop": "resized",
    "crop_scale": [0.08, 1.0],
    "crop_ratio": [0.75, 1.3333333333],
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
    "erase_area": [0.02, 0.3333333333],
    "erase_ratio": [0.3, 3.3333333333],
    "normalization": "imagenet",
    "sampler": "shuffle",
    "repeats": 3,
    "virtual_world": 2,
    "mix_group": 128,
    "accumulate": 4,
    "round_to": 256,
    "mixup_alpha": 0.8,
    "cutmix_alpha": 1.0,
    "mix_prob": 1.0,
    "switch_prob": 0.5,
    "mix_until": 1100,
    "teacher_view": "same",
    "teacher_stride": 7,
    "teacher_offset": 3,
    "teacher_padding": 4,
    "teacher_normalization": "cifar",
}
SMALL = {"size": 24, "teacher_stride": 3, "teacher_offset": 1, "mix_group": 8, "accumulate": 2, "round_to": 0}
WEAK = {"rand_ops": 0, "erase_prob": 0.0, "mixup_alpha": 0.0, "cutmix_alpha": 0.0}


def recipe(**changes) -> ViewRecipe:
    return params.build(ViewRecipe, CIFAR | changes, "views.test")


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    images = np.round(load_digits().images[:75] * 255 / 16).astype(np.uint8)
    return np.repeat(images[..., None], 3, -1)


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    """60 tiles of 32 x 32 of a photograph."""
    photo = load_sample_image("china.jpg")[:320, :192]
    return np.ascontiguousarray(photo.reshape(10, 32, 6, 32, 3).transpose(0, 2, 1, 3, 4).reshape(60, 32, 32, 3))


@pytest.mark.parametrize(
    ("images", "positions", "steps", "last"), [(12406, 12288, 12, [128] * 8), (10847, 10752, 11, [128] * 4)]
)
def test_the_published_epoch(images, positions, steps, last):
    of = Views(recipe(), np.zeros((images, 1, 1, 3), np.uint8), 0)
    assert (of.positions_per_epoch, of.steps_per_epoch) == (positions, steps)
    assert [g.stop - g.start for g in of.groups_of_step(steps - 1)] == last
    assert len(np.unique(of.order(0))) == pytest.approx(positions / 3, rel=0.01)  # a third of the images


def test_a_batch_is_complete_and_consistent(digits):
    of = Views(recipe(**SMALL), digits, 0)
    assert (of.positions_per_epoch, of.steps_per_epoch) == (76, 3)  # 38 a rank: micro-batches 8 8 8 8 6
    seen = []
    for step in range(3):
        batch = of.step(0, step)
        n = len(batch.index)
        assert batch.x.shape == (n, 3, 24, 24) and batch.x.dtype == torch.float32
        assert batch.groups[0].start == 0 and batch.groups[-1].stop == n
        assert batch.groups == of.groups_of_step(step)
        np.testing.assert_array_equal(batch.index.numpy(), of.order(0)[batch.positions.numpy()])
        for group in batch.groups:
            assert torch.equal(batch.partner[group], batch.index[group].flip(0))  # reversed, within the group
            assert len(batch.lam[group].unique()) == 1
        assert all(0 <= v < 1 for v in batch.lam.tolist())
        seen += batch.positions.tolist()
    assert seen == list(range(76))
    assert [g.stop - g.start for g in of.step(0, 2).groups] == [6, 6]


@pytest.mark.parametrize("backend", ["pil", "torch"])
def test_views_of_some_groups_are_those_of_the_whole_step(tiles, backend):
    """Whatever part of a step another process makes, and whatever this one has drawn ahead."""
    of = Views(recipe(**SMALL), tiles, 3, backend)
    for step in range(of.steps_per_epoch):
        whole = of.step(2, step)
        for groups in (slice(0, 1), slice(1, 3), slice(1, None)):
            rows = [row for group in whole.groups[groups] for row in range(group.start, group.stop)]
            part = Views(recipe(**SMALL), tiles, 3, backend).step(2, step, groups=groups)
            for name in ("x", "index", "partner", "lam", "positions"):
                assert torch.equal(getattr(part, name), getattr(whole, name)[rows]), name
            assert part.groups[0].start == 0 and part.groups[-1].stop == len(rows)
            assert [g.stop - g.start for g in part.groups] == [g.stop - g.start for g in whole.groups[groups]]


def test_mixing_never_crosses_groups():
    """Images of one color each: a mixed view holds its own and its partner's color, and lam is its own share."""
    colors = np.arange(64, dtype=np.uint8)[:, None, None, None] * 3 + np.zeros((1, 8, 8, 3), np.uint8)
    of = Views(recipe(**SMALL | WEAK | {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "normalization": "none"}), colors, 4)
    boxed = 0
    for step in range(of.steps_per_epoch):
        batch = of.step(0, step)
        own, other = (3 * i.float()[:, None, None, None] / 255 for i in (batch.index, batch.partner))
        for row in torch.nonzero(batch.index != batch.partner).flatten().tolist():
            x, lam = batch.x[row], batch.lam[row]
            if len(x.unique()) == 2:
                boxed += 1
                assert (x[0] == own[row]).float().mean().item() == pytest.approx(lam.item(), abs=1e-6)
                assert set(x.unique().tolist()) == {own[row].item(), other[row].item()}
            else:
                torch.testing.assert_close(x, (lam * own[row] + (1 - lam) * other[row]).expand_as(x))
    assert boxed > 10


def test_views_do_not_depend_on_batch_composition_or_order(tiles, monkeypatch):
    of = Views(recipe(**SMALL), tiles, 3)
    whole = of.pixels(2, np.arange(of.positions_per_epoch))
    some = np.array([40, 3, 17])
    assert torch.equal(Views(recipe(**SMALL), tiles, 3).pixels(2, some), whole[some])
    unmixed = of.unmixed(2, np.arange(of.positions_per_epoch))
    assert torch.equal(of.unmixed(2, some), unmixed[some])
    last_first = [of.step(2, s).x for s in (1, 0)]
    fresh = Views(recipe(**SMALL), tiles, 3)
    assert torch.equal(fresh.step(2, 0).x, last_first[1]) and torch.equal(fresh.step(2, 1).x, last_first[0])
    of.step(5, 0)
    assert torch.equal(of.step(2, 1).x, last_first[0])
    assert torch.equal(pickle.loads(pickle.dumps(of)).step(2, 1).x, last_first[0])  # as in a worker process
    steps = [of.step(2, s) for s in range(of.steps_per_epoch)]
    monkeypatch.setattr(student_views, "_AHEAD", 1)  # draw every step for itself
    monkeypatch.setattr("longtail.views.pixels._CHUNK", 5)
    for step in reversed(range(of.steps_per_epoch)):
        again = Views(recipe(**SMALL), tiles, 3).step(2, step)
        assert torch.equal(again.x, steps[step].x) and torch.equal(again.lam, steps[step].lam)


def test_seed_and_epoch_change_the_views(tiles):
    first = Views(recipe(**SMALL), tiles, 0)
    assert not torch.equal(first.step(0, 0).x, first.step(1, 0).x)
    assert not torch.equal(first.step(0, 0).x, Views(recipe(**SMALL), tiles, 1).step(0, 0).x)


def test_pixels_are_crop_flip_and_operations_in_turn(tiles):
    of = Views(recipe(**SMALL), tiles, 0)
    positions = np.arange(of.positions_per_epoch)
    drawn, pixels, order = of.draws(1, positions), of.pixels(1, positions), of.order(1)
    assert (drawn.op >= 0).any() and drawn.flip.any()
    for p in positions:
        left, top, width, height = drawn.crop[p].tolist()
        image = Image.fromarray(tiles[order[p]])
        image = F.resized_crop(image, top, left, height, width, [24, 24], F.InterpolationMode.BICUBIC)
        image = F.hflip(image) if drawn.flip[p] else image
        for op, magnitude, negative in zip(drawn.op[p], drawn.magnitude[p], drawn.negative[p], strict=True):
            if op >= 0:
                name = randaugment.OPS[op]
                argument = randaugment.level_argument(name, magnitude, negative)
                image = randaugment.apply(image, name, argument, (124, 116, 104))
        np.testing.assert_array_equal(pixels[p].permute(1, 2, 0).numpy(), np.asarray(image))


def test_erasing_is_unit_normal_noise_after_normalization_and_touches_nothing_else(tiles):
    of = Views(recipe(**SMALL | WEAK | {"erase_prob": 1.0}), tiles, 0)
    positions = np.arange(of.positions_per_epoch)
    boxes, erased = of.draws(0, positions).erase, of.unmixed(0, positions)
    clean = Views(recipe(**SMALL | WEAK), tiles, 0).unmixed(0, positions)
    noise = []
    for row, (left, top, width, height) in enumerate(boxes.tolist()):
        inside = torch.zeros(24, 24, dtype=torch.bool)
        inside[top : top + height, left : left + width] = True
        assert torch.equal(erased[row][:, ~inside], clean[row][:, ~inside])
        noise.append(erased[row][:, inside].flatten())
    noise = torch.cat(noise).double()
    assert len(noise) > 10000
    assert abs(noise.mean()) < 4 / len(noise) ** 0.5
    assert abs(noise.var() - 1) < 4 * (2 / len(noise)) ** 0.5


@pytest.mark.parametrize("name", NORMALIZATION)
def test_normalization_is_torchvisions(tiles, name):
    of = Views(recipe(**SMALL | WEAK | {"normalization": name}), tiles, 0)
    positions = np.arange(8)
    pixels = of.pixels(0, positions).permute(0, 2, 3, 1).numpy()
    theirs = torch.stack([F.normalize(F.to_tensor(p), *NORMALIZATION[name]) for p in pixels])
    assert torch.equal(of.unmixed(0, positions), theirs)


def test_weak_views_without_any_change_are_the_plain_upsampled_images(digits):
    plain = SMALL | WEAK | {"crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0], "hflip": 0.0}
    of = Views(recipe(**plain), digits, 0)
    batch = of.step(0, 0)
    assert torch.equal(batch.partner, batch.index) and (batch.lam == 1).all()
    back = teacher_view(of.pixels(0, batch.positions.numpy()), 3, 1)  # 8 -> 24 -> 8 gives the digits back
    np.testing.assert_array_equal(back.permute(0, 2, 3, 1).numpy(), digits[batch.index.numpy()])


def test_strong_and_weak_recipes_show_the_same_images_at_the_same_positions(digits):
    strong, weak = (Views(recipe(**SMALL | change), digits, 0) for change in ({}, WEAK))
    np.testing.assert_array_equal(strong.order(3), weak.order(3))


def test_mix_until_switches_mixing_off(digits):
    of = Views(recipe(**SMALL | {"mix_until": 2}), digits, 0)
    assert (of.step(1, 0).lam < 1).all()
    late = of.step(2, 0)
    assert (late.lam == 1).all() and torch.equal(late.partner, late.index)
    assert torch.equal(late.x, of.unmixed(2, late.positions.numpy()))


def test_teacher_view_is_the_resize_of_the_published_runs():
    """torchvision 0.15's tensor resize 224 -> 32: bicubic without antialias (METHODS 3.3)."""
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    resized = F.resize(x, [32, 32], F.InterpolationMode.BICUBIC, antialias=False)
    torch.testing.assert_close(teacher_view(x, 7, 3), resized, rtol=0, atol=1e-6)
    blurred = F.resize(x, [32, 32], F.InterpolationMode.BICUBIC, antialias=True)
    assert (teacher_view(x, 7, 3) - blurred).abs().max() > 0.1
    assert torch.equal(teacher_view(x, 1, 0), x)


def test_teacher_view_of_an_upsampled_image_is_the_image(tiles):
    for pixels in tiles[:8]:
        big = np.asarray(randaugment.resized_crop(pixels, 0, 0, 32, 32, 224))
        small = teacher_view(torch.from_numpy(big.copy()).permute(2, 0, 1), 7, 3)
        np.testing.assert_array_equal(small.permute(1, 2, 0).numpy(), pixels)


def test_the_checksum_is_that_of_the_steps_and_notices_a_pixel(digits):
    of = Views(recipe(**SMALL), digits, 0)
    walked = [of.step(0, s, digest=True) for s in range(of.steps_per_epoch)]
    assert of.checksum(0) == combine(b.digest for b in walked)
    assert len(of.checksum(0)) == 64
    assert of.step(0, 0).digest == b"" and torch.equal(of.step(0, 0).x, walked[0].x)
    changed = digits.copy()
    changed[of.order(0)[0]] ^= 255
    assert Views(recipe(**SMALL), changed, 0).checksum(0) != of.checksum(0)
    assert Views(recipe(**SMALL | {"erase_prob": 0.26}), digits, 0).checksum(0) != of.checksum(0)
    assert Views(recipe(**SMALL | {"mix_until": 0}), digits, 0).checksum(0) != of.checksum(0)
    assert of.checksum(1) != of.checksum(0)


def test_golden_views_of_the_embedded_digits(digits):
    """Draws are promised to stay the same across versions and machines; a change here orphans every teacher cache."""
    of = Views(recipe(**SMALL), digits, 0)
    drawn = of.draws(1, np.arange(of.positions_per_epoch))
    sha = hashlib.sha256(of.order(1).astype("<i8"))
    for array, kind in [(drawn.crop, "<i8"), (drawn.op, "<i8"), (drawn.magnitude, "<f8"), (drawn.erase, "<i8")]:
        sha.update(np.ascontiguousarray(array.astype(kind)))
    sha.update(np.packbits(drawn.flip).tobytes() + np.packbits(drawn.negative).tobytes())
    sha.update(of.step(1, 0).lam.numpy().astype("<f4"))
    assert sha.hexdigest() == "ac7945e9457c84149295aebe01cf24df08e2241943d5b6fd956e99e66598410b"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix_group": 127}, "mix_group must be even, found 127"),
        ({"size": 225}, "size 225 is no multiple of teacher_stride 7"),
        ({"teacher_offset": 7}, "teacher_offset must be 0 to 6"),
        ({"hflip": 1.5}, "hflip is a probability, found 1.5"),
        ({"crop_scale": [0.5, 0.1]}, "crop_scale must be"),
        ({"erase_area": [0.5, 1.1]}, "erase_area is a fraction"),
        ({"rand_magnitude": 11.0}, "rand_magnitude is 0 to 10"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"mixup_alpha": -1.0}, "mixup_alpha must not be negative"),
        ({"normalization": "imagenett"}, "did you mean 'imagenet'"),
        ({"mixup": 0.8}, "unknown key; did you mean"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line(changes, message):
    with pytest.raises(UserError, match=r"^views\.test") as error:
        recipe(**changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_wrong_images_are_refused(digits):
    with pytest.raises(ValueError, match="uint8"):
        Views(recipe(**SMALL), digits.astype(np.float32), 0)
    with pytest.raises(UserError, match="too few"):
        Views(recipe(**SMALL), digits[:2], 0)
