"""DeiT-LT Table 1, row 2: the student sees a strong view, the teacher labels a weak one of the same image."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import functional as F

from longtail.analysis.entropy import entropy_out
from longtail.base import params
from longtail.base.errors import UserError
from longtail.runs.workspace import Workspace
from longtail.training.cache import build_cache, teacher_labels
from longtail.training.labels import TeacherLabels
from longtail.views import draws
from longtail.views.normalize import NORMALIZATION
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views
from tests.helpers.pictures import Listed, small
from tests.helpers.root import params_table
from tests.helpers.small import Teacher, digits
from tests.helpers.stage_processes import CACHE, STUDENT, finish, tiny_params

PARAMS = params_table()
CPU = torch.device("cpu")


def recipe(**changes) -> ViewRecipe:
    built = params.build(ViewRecipe, params.entry(PARAMS, "views", "cifar-no_mix-weak_teacher"), "views.weak")
    return replace(built, **{"size": 28, "mix_group": 8, "accumulate": 2, "round_to": 0} | changes)


def literal(image: np.ndarray, corner, flip: bool, padding: int) -> np.ndarray:
    left, top = corner
    height, width = image.shape[:2]
    view = F.crop(F.pad(Image.fromarray(image), padding), top, left, height, width)
    return np.asarray(F.hflip(view) if flip else view)


def test_the_teacher_is_shown_a_padded_crop_and_flip_of_the_same_image_in_its_own_normalization():
    images, of = small(60), recipe()
    views = Views(of, images, 3)
    mean, std = NORMALIZATION["cifar"]
    for step in range(views.steps_per_epoch):
        batch = views.step(2, step)
        positions = batch.positions.numpy()
        corner, flip = draws.weak_draws(of, 3, 2, positions)
        pixels = [literal(images[i], c, f, 4) for i, c, f in zip(batch.index, corner.tolist(), flip, strict=True)]
        np.testing.assert_array_equal(views.weak(2, positions).permute(0, 2, 3, 1).numpy(), np.stack(pixels))
        expected = torch.stack([F.normalize(F.to_tensor(p.copy()), mean, std) for p in pixels])
        assert torch.equal(batch.weak, expected) and batch.shown is batch.weak
        assert (batch.lam == 1).all() and torch.equal(batch.partner, batch.index)  # the row is unmixed
    strong = Views(replace(of, teacher_view="same"), images, 3).step(2, 0)
    assert strong.weak is None and strong.shown is strong.x
    assert torch.equal(strong.x, views.step(2, 0).x)  # the student's own views do not change


def test_weak_draws_are_uniform_and_go_by_position():
    of, positions = recipe(), np.arange(20_000)
    corner, flip = draws.weak_draws(of, 0, 1, positions)
    for side in corner.T:
        assert stats.chisquare(np.bincount(side, minlength=9)).pvalue > 0.001 and side.max() == 8
    assert stats.binomtest(int(flip.sum()), len(flip), 0.5).pvalue > 0.001
    some = np.array([17, 4000, 3])
    assert draws.weak_draws(of, 0, 1, some)[0].tolist() == corner[some].tolist()
    students = draws.view_draws(of, 0, 1, positions, 32, 32, 15).flip
    assert abs(np.corrcoef(students, flip)[0, 1]) < 0.03  # words of their own
    for other in (draws.weak_draws(of, 1, 1, positions), draws.weak_draws(of, 0, 2, positions)):
        assert not np.array_equal(other[0], corner) and not np.array_equal(other[1], flip)


def test_weak_views_are_part_of_the_checksum():
    images = small(60)
    changes = [{}, {"teacher_view": "same"}, {"teacher_padding": 3}]
    assert len({Views(recipe(**change), images, 0).checksum(0) for change in changes}) == 3
    assert Views(recipe(), images, 0).step(0, 0).digest == b""


def test_cached_labels_are_those_of_a_teacher_at_hand(tmp_path):
    data = digits()
    views = Views(recipe(size=21, teacher_padding=1, teacher_normalization="digits"), data.train_images, 0)
    space, facts = Workspace(tmp_path, "c", "f" * 64, CPU, quiet=True), {"cache": "c", "num_classes": 10}
    build_cache(Teacher(), views, data.train_labels, 2, facts, space)
    cache, hits = TeacherLabels.load(space.result), 0
    for epoch in (0, 1):
        for batch in views.steps(epoch):
            online = teacher_labels(Teacher(), batch.shown, views.recipe)
            assert torch.equal(cache.at(epoch, batch.positions), online)
            plain = batch.weak.flatten(1) @ Teacher().weight.T  # of the side of the images, no stride
            assert torch.equal(online, plain.argmax(1))
            hits += int((online.numpy() == data.train_labels[batch.index]).sum())
    assert cache.meta["teacher_top1_on_views"] == round(100 * hits / cache.table.size, 4)
    seen = torch.cat([batch.weak for batch in views.steps(0)])
    nats = entropy_out(Teacher(), views, 0.1, CPU)
    logp = (0.1 * (seen.flatten(1) @ Teacher().weight.T).double()).log_softmax(1)
    torch.testing.assert_close(nats, -(logp.exp() * logp).sum(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix_prob": 0.5}, "teacher_view weak shows one image and no mixture; set mix_prob to 0.0"),
        ({"teacher_padding": -1}, "teacher_padding must not be negative, found -1"),
        ({"teacher_normalization": "cifr"}, "teacher_normalization 'cifr' is unknown; did you mean 'cifar'"),
        ({"teacher_view": "week"}, "teacher_view: 'week' is not one of same, weak; did you mean 'weak'"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line(changes, message):
    block = params.entry(PARAMS, "views", "cifar-no_mix-weak_teacher") | changes
    with pytest.raises(UserError, match=r"^views\.weak") as error:
        params.build(ViewRecipe, block, "views.weak")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_images_of_other_shapes_are_refused():
    for images in (small(60)[:, :30], Listed(list(small(60)))):
        with pytest.raises(UserError, match="teacher_view weak needs images that are square, of one size"):
            Views(recipe(), images, 0)


def test_students_of_the_cache_and_of_the_teacher_are_the_same_bytes(tiny, tmp_path):
    def change(everything: dict) -> None:
        everything["views"]["tiny"] |= {"mix_prob": 0.0, "teacher_view": "weak"}
        online = everything["experiments"]["tiny-deit_lt"] | {"cache": "none", "teacher": "ldam_drw_sam-tiny"}
        everything["experiments"]["tiny-online"] = online

    tiny_params(tmp_path, change)
    for part in ("datasets", "teachers"):
        shutil.copytree(tiny / "data" / part, tmp_path / "data" / part)
    finish(tmp_path, *CACHE)
    finish(tmp_path, *STUDENT)
    teacher = "data/teachers/ldam_drw_sam-tiny"
    online = (
        "tiny-online",
        "--dataset",
        "data/datasets/tiny.npz",
        "--teacher",
        teacher,
        "--out",
        "data/students/online",
    )
    finish(tmp_path, "train_student", *online)
    cached, made = (tmp_path / f"data/students/{name}/seed0" for name in ("tiny-deit_lt", "online"))
    for name in ("model.safetensors", "history.csv", "predictions.npz"):
        assert (cached / name).read_bytes() == (made / name).read_bytes()
    labels = (np.load(f / "data/caches/ldam_drw_sam-tiny/seed0/labels.npy") for f in (tiny, tmp_path))
    assert not np.array_equal(*labels)  # of the strong and mixed views


def test_a_student_trains_on_3_augment(tiny, tmp_path):
    """The whole path of such a recipe, with a cache, through the stages."""

    def change(everything: dict) -> None:
        three = {"crop": "padded", "rand_ops": 0, "three_augment": True, "jitter": 0.3, "erase_prob": 0.0, "repeats": 1}
        everything["views"]["tiny"] |= three | {"round_to": 0}

    tiny_params(tmp_path, change)
    for part in ("datasets", "teachers"):
        shutil.copytree(tiny / "data" / part, tmp_path / "data" / part)
    finish(tmp_path, *CACHE)
    finish(tmp_path, *STUDENT)
    assert (tmp_path / "data/students/tiny-deit_lt/seed0/history.csv").read_text().count("\n") == 4
