"""Views of images of any sizes that are decoded one by one, in this process and ahead of it in others."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.transforms import functional as F

from longtail.base import params, rng
from longtail.base.errors import UserError
from longtail.views import draws
from longtail.views.pixels import pick_backend
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views
from tests.helpers.pictures import Listed, small
from tests.helpers.root import params_table

PARAMS = params_table()
RATIO = (0.75, 4 / 3)


def recipe(name: str = "imagenet_lt-released", **changes) -> ViewRecipe:
    built = params.build(ViewRecipe, params.entry(PARAMS, "views", name), f"views.{name}")
    return replace(built, **{"size": 40, "virtual_world": 2, "mix_group": 8, "accumulate": 2, "round_to": 0} | changes)


def photos(n: int = 60) -> Listed:
    """Pieces of a photograph of 12 to 90 pixels a side."""
    photo, rng = load_sample_image("china.jpg"), np.random.default_rng(1)
    corners, sides = rng.integers(0, 330, (n, 2)).tolist(), rng.integers(12, 90, (n, 2)).tolist()
    return Listed([photo[y : y + h, x : x + w] for (y, x), (h, w) in zip(corners, sides, strict=True)])


def equal(first, second) -> bool:
    tensors = ((getattr(first, n), getattr(second, n)) for n in ("x", "index", "partner", "lam", "positions"))
    rest = first.groups == second.groups and first.digest == second.digest
    return rest and all(torch.equal(a, b) for a, b in tensors)


# ---- sizes


def test_crops_of_many_sizes_are_those_of_each_size_alone():
    words, rand = rng.draws(1, "view", 2, np.arange(300), 40), np.random.default_rng(0)
    height, width = rand.integers(1, 400, (2, 300))
    height[:20], width[:20] = 10, 300  # no attempt fits at full area: the central crop
    for scale in ((0.08, 1.0), (1.0, 1.0)):
        together = draws.crops(words, height, width, scale, RATIO)
        alone = [
            draws.crops(words[i : i + 1], int(h), int(w), scale, RATIO)[0].tolist()
            for i, (h, w) in enumerate(zip(height, width, strict=True))
        ]
        assert together.tolist() == alone
        left, top, w, h = together.T
        assert (left >= 0).all() and (top >= 0).all() and (left + w <= width).all() and (top + h <= height).all()


@pytest.mark.parametrize("name", ["imagenet_lt", "imagenet_lt-released"])
def test_images_of_one_size_give_the_views_of_the_array(name):
    array = small(60)
    whole, listed = Views(recipe(name), array, 4), Views(recipe(name), Listed(list(array)), 4)
    for epoch in (0, 2):
        assert whole.checksum(epoch) == listed.checksum(epoch)
    assert equal(whole.step(1, 1), listed.step(1, 1))


def test_a_view_is_the_crop_of_its_own_image():
    images = photos()
    of = Views(recipe(rand_ops=0), images, 0)
    positions = np.arange(of.positions_per_epoch)
    drawn, order, pixels = of.draws(1, positions), of.order(1), of.pixels(1, positions)
    for p in positions:
        left, top, width, height = drawn.crop[p].tolist()
        image = Image.fromarray(images[order[p]])
        assert 0 <= left <= image.width - width and 0 <= top <= image.height - height
        view = F.resized_crop(image, top, left, height, width, [40, 40], F.InterpolationMode.BICUBIC)
        view = F.hflip(view) if drawn.flip[p] else view
        np.testing.assert_array_equal(pixels[p].permute(1, 2, 0).numpy(), np.asarray(view))


def test_pytorch_needs_an_array_and_auto_knows():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [pick_backend("auto", device, 24, in_memory=False) for device in (cpu, cuda)] == ["pil", "pil"]
    with pytest.raises(ValueError, match="needs the images as one array in memory"):
        Views(recipe(), photos(), 0, backend="torch")


# ---- worker processes


@pytest.mark.parametrize("name", ["imagenet_lt", "imagenet_lt-released"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_make_what_one_process_makes(name, workers, monkeypatch):
    monkeypatch.setattr("longtail.views.student_views._UNIT", 7)
    images = photos()
    of = Views(recipe(name), images, 3)
    alone = [of.step(2, step, digest=True) for step in range(of.steps_per_epoch)]
    assert len(alone) > 1 and len(alone[-1].x) < len(alone[0].x)
    made = list(Views(recipe(name), images, 3).steps(2, workers=workers, digest=True))
    assert len(made) == len(alone) and all(map(equal, made, alone))
    resumed = list(of.steps(2, first=1, workers=workers, digest=True))
    assert len(resumed) == len(alone) - 1 and all(map(equal, resumed, alone[1:]))
    copy = pickle.loads(pickle.dumps(of))
    assert equal(next(copy.steps(2, workers=workers, digest=True)), alone[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_some_groups_of_a_step_are_those_of_the_whole(workers):
    """What a process of several is given: the same views and mixtures; nothing where a step has no group for it."""
    of = Views(recipe(), photos(), 0)
    whole = list(of.steps(1, workers=0))
    mine = list(of.steps(1, workers=workers, groups=lambda step: slice(1, 3) if step != 1 else slice(9, 9)))
    assert len(mine) == len(whole) and len(mine[1].x) == 0 and mine[1].groups == []
    for one, all_ in zip(mine, whole, strict=True):
        rows = all_.groups[1:3] if len(one.x) else []
        if rows:
            rows = slice(rows[0].start, rows[-1].stop)
            assert torch.equal(one.x, all_.x[rows]) and torch.equal(one.partner, all_.partner[rows])
            assert torch.equal(one.positions, all_.positions[rows]) and torch.equal(one.lam, all_.lam[rows])
            assert one.groups[0].start == 0 and one.groups[-1].stop == len(one.x)


def test_the_torch_backend_makes_the_same_groups():
    of = Views(recipe(size=24), small(60), 0, backend="torch")
    whole, some = of.step(1, 0), of.step(1, 0, groups=slice(1, 2))
    assert torch.equal(some.x, whole.x[whole.groups[1]])
    assert equal(of.step(1, 0), whole)


def test_an_image_that_cannot_be_decoded_ends_the_epoch_with_its_line():
    images = photos()
    images.damaged = int(Views(recipe(), images, 0).order(0)[-1])
    for workers in (0, 2):
        with pytest.raises(UserError, match=r"^images/\d+\.jpg: cut short$"):
            list(Views(recipe(), images, 0).steps(0, workers=workers))


def test_images_in_memory_need_no_workers_and_files_one_a_thread(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    assert Views(recipe(), small(60), 0).workers == 0
    assert Views(recipe(), photos(), 0).workers == 3
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    assert Views(recipe(), photos(), 0).workers == 0


# ---- published epochs


@pytest.mark.parametrize(
    ("name", "images", "rank", "micro_batches", "steps", "last"),
    [
        ("cifar", 12_406, 6144, 48, 12, 128),
        ("imagenet_lt", 115_846, 28_962, 227, 57, 34),  # no repeats: 226 full micro-batches and one of 34
        ("imagenet_lt-released", 115_846, 28_928, 226, 57, 128),  # repeated augmentation rounds down
        ("inat18", 437_513, 109_378, 855, 214, 66),  # 67 as published, which mixing refuses: one view is left out
        ("deit_iii-cifar", 12_406, 6144, 48, 6, 128),
    ],
)
def test_an_epoch_has_the_published_shape(name, images, rank, micro_batches, steps, last):
    """METHODS 3.5 and 3.6; trap 17."""
    published = params.build(ViewRecipe, params.entry(PARAMS, "views", name), name)
    of = Views(published, np.zeros((images, 1, 1, 3), np.uint8), 0).layout
    assert (of.views_per_rank, of.micro_batches, of.steps) == (rank, micro_batches, steps)
    sizes = [g.stop - g.start for g in of.groups_of_step(steps - 1)]
    assert sizes[-1] == last and all(n % 2 == 0 for n in sizes)
    whole = [g.stop - g.start for g in of.groups_of_step(0)]
    assert sum(whole) == {"cifar": 1024}.get(name, 2048) and set(whole) == {128}


def test_an_odd_last_micro_batch_loses_a_view_and_every_image_else_is_shown():
    """Trap 17 in small: 67 views a rank in the last micro-batch."""
    of = Views(recipe("inat18", virtual_world=4, mix_group=128, size=24), np.zeros((779, 1, 1, 3), np.uint8), 0)
    assert of.layout.views_per_rank == 194 and -(-779 // 4) == 195
    assert [g.stop - g.start for g in of.layout.groups_of_step(0)] == [128] * 4 + [66] * 4
    assert len(np.unique(of.order(0))) == of.positions_per_epoch == 776
    batch = of.step(0, 0)
    assert (batch.lam < 1).all() and torch.equal(batch.partner[batch.groups[-1]], batch.index[batch.groups[-1]].flip(0))


def test_entries_say_what_the_papers_table_says():
    """METHODS 3.7, 3.9, 3.10 and 3.12."""
    of = {name: params.build(ViewRecipe, block, name) for name, block in PARAMS["views"].items()}
    for name, mix_until in (("imagenet_lt", 1400), ("inat18", 1000), ("deit_iii-cifar", 1200)):
        three = of[name]
        crop = "resized" if name == "deit_iii-cifar" else "padded"  # DEIT's ImageNet-1k recipe; DeiT-LT's own 3-Augment
        assert (three.crop, three.crop_padding, three.three_augment, three.jitter) == (crop, 4, True, 0.3)
        assert (three.blur_radius, three.rand_ops, three.erase_prob, three.hflip) == ((0.1, 2.0), 0, 0.0, 0.5)
        assert (three.mixup_alpha, three.cutmix_alpha, three.mix_prob, three.mix_until) == (0.8, 1.0, 1.0, mix_until)
        assert three.repeats == (3 if name == "deit_iii-cifar" else 1) and three.teacher_size == 224
    released = replace(of["cifar"], virtual_world=4, mix_until=1400, teacher_stride=1, teacher_offset=0)
    assert of["imagenet_lt-released"] == released
    assert of["cifar-mix_always"] == replace(of["cifar"], mix_until=1200)
    assert of["cifar-no_mix"] == replace(of["cifar-mix_always"], mix_prob=0.0) and not of["cifar-no_mix"].mixes
    assert of["cifar-no_mix-weak_teacher"] == replace(of["cifar-no_mix"], teacher_view="weak")
    assert (of["cifar"].jitter, of["cifar"].three_augment, of["cifar"].teacher_view) == (0.0, False, "same")
