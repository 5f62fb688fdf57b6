"""Studies that change how a recipe is run: ranks, batch, learning rate, copies, distillation, seeds; and the small
students at 32 px. Each entry differs from the one it is held against in what its name says and in nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from longtail.base import params
from longtail.training.cache import CacheConfig
from longtail.training.experiment import StudentConfig, resolve
from longtail.training.teacher_config import TeacherConfig
from longtail.views.student_views import Views
from tests.helpers.root import params_table

TABLE = params_table()
MINI, FULL = "cifar10_if100-ranks-", "cifar100_if100-deit_lt_paco_sam-b-"
IMAGES = {"cifar10_if100-mini": 1236, "cifar100_if100": 10847, "cifar10_if100-jpeg": 12406}


def of(name: str) -> StudentConfig:
    return resolve(TABLE, name)[0]


def views(name: str) -> Views:
    config = of(name)
    return Views(config.views, np.zeros((IMAGES[config.dataset], 1, 1, 3), np.uint8), 0)


@pytest.mark.parametrize(
    ("name", "ranks", "batch", "steps", "copies", "rate"),
    [
        (MINI + "published", 2, 96, 12, 2, 1),
        (MINI + "one_rank", 1, 48, 24, 3, 1 / 2),
        (MINI + "four_ranks", 4, 192, 6, 1, 2),
        (MINI + "copies_together", 1, 96, 12, 3, 1),
        (MINI + "copies_apart", 4, 96, 12, 1, 1),
        (MINI + "half_batch", 2, 48, 24, 2, 1),
        (MINI + "half_batch-half_lr", 2, 48, 24, 2, 1 / 2),
        (FULL.removesuffix("-"), 2, 1024, 11, 2, 1),
        (FULL + "one_rank", 1, 512, 21, 3, 1 / 2),
        (FULL + "copies_together", 1, 1024, 11, 3, 1),
        (FULL + "batch_2048", 2, 2048, 6, 2, 2),
    ],
)
def test_how_the_released_code_is_run(name, ranks, batch, steps, copies, rate):
    """METHODS 3.5: 10,752 views of CIFAR-100-LT are 10.5 steps of 1,024, 21 of 512 and 5.25 of 2,048. copies: of one
    image in a mix group; rate: learning rate over the published one."""
    shown, config = views(name), of(name)
    published = of(FULL.removesuffix("-") if name.startswith(FULL[:-1]) else MINI + "published")
    assert shown.layout.ranks == ranks and shown.steps_per_epoch == steps
    groups = shown.groups_of_step(0)
    assert groups[-1].stop == batch
    assert np.bincount(shown.order(0)[groups[0]]).max() == copies
    assert config.train.lr == pytest.approx(rate * published.train.lr)
    same = {"virtual_world": 2, "accumulate": 4, "mix_group": published.views.mix_group}
    assert replace(config.views, **same) == published.views
    assert replace(config.train, lr=published.train.lr) == published.train
    assert (config.loss, config.model, config.method) == (published.loss, published.model, published.method)
    taught = {TABLE["caches"][c.cache]["teacher"] if c.cache != "none" else c.teacher for c in (config, published)}
    assert len(taught) == 1 and resolve(TABLE, name)[1] == (0, 1, 2)


def test_in_miniature_every_ratio_is_the_published_one():
    """12 steps of 8 groups, as 12,288 views of CIFAR-10-LT make; the code's rule for the learning rate."""
    layouts = [views(MINI + "published").layout, views("cifar10_if100-native-deit_lt").layout]
    assert [len(layouts[0].groups_of_step(s)) for s in range(layouts[0].steps)] == [8] * 12
    assert layouts[1].positions == 12288 and layouts[1].steps * 120 == 11520
    for name in ("published", "one_rank", "four_ranks"):
        config = of(MINI + name)
        assert config.train.lr == pytest.approx(2e-3 * config.views.virtual_world / 2)
    lr = {name: of(FULL + name).train.lr for name in ("one_rank", "batch_2048")}
    assert lr == {"one_rank": 5e-4 * 128 / 512, "batch_2048": 5e-4 * 512 / 512}


@pytest.mark.parametrize("name", [MINI + "no_distillation", FULL + "no_distillation"])
def test_without_distillation_dist_has_the_images_own_labels_and_no_teacher(name):
    config = of(name)
    published = of(MINI + "published" if name.startswith(MINI) else FULL.removesuffix("-"))
    assert config.loss == replace(published.loss, dist_labels="own")
    assert (config.views, config.train, config.model) == (published.views, published.train, published.model)
    assert (config.cache, config.teacher) == ("none", "none")


@pytest.mark.parametrize("kind", ["vit", "deit_lt"])
def test_digits_with_other_seeds_is_digits(kind):
    ours, seeds = resolve(TABLE, f"digits-other_seeds-{kind}")
    theirs, first = resolve(TABLE, f"digits-{kind}")
    assert (first, seeds) == (tuple(range(6)), tuple(range(6, 12)))
    for part in ("method", "loss", "model", "train", "views"):
        assert getattr(ours, part) == getattr(theirs, part), part
    blocks = (TABLE["datasets"][config.dataset] for config in (ours, theirs))
    assert len({params.digest(block) for block in blocks}) == 1


def test_their_teachers_and_labels_are_the_same_too():
    names = "other_seeds_ldam_drw_sam-digits_if20-again", "ldam_drw_sam-digits_if20"
    ours, theirs = (params.build(TeacherConfig, TABLE["teachers"][n], n) for n in names)
    assert replace(ours, study="", dataset="", seeds=()) == replace(theirs, study="", dataset="", seeds=())
    caches = "ldam_drw_sam-digits-other_seeds", "ldam_drw_sam-digits"
    labels, root = (params.build(CacheConfig, TABLE["caches"][n], n) for n in caches)
    assert (labels.epochs, labels.seeds, ours.seeds) == (root.epochs, tuple(range(6, 12)), tuple(range(6, 12)))


def test_the_small_students_are_taught_by_the_full_recipes_teachers_above_a_floor():
    """Of their own: what JPEG copies cost does not stop the study, a teacher that has not learnt does."""
    for name, printed in (("ldam_drw_sam", 81.9), ("ldam_drw", 77.0)):
        cache = params.build(CacheConfig, TABLE["caches"][f"{name}-cifar10_if100-native"], name)
        teacher = params.build(TeacherConfig, TABLE["teachers"][cache.teacher], name)
        assert (teacher.arch, teacher.epochs, teacher.dataset) == ("resnet32", 200, cache.dataset)
        assert set(cache.seeds) <= set(teacher.seeds)
        assert 65 < cache.must_reach.top1 - cache.must_reach.tolerance < printed - 4
    of_one = [of(f"cifar10_if100-native-{kind}") for kind in ("deit_lt", "deit_lt_ldam_drw")]
    assert len({params.digest(replace(config, experiment="", cache="")) for config in of_one}) == 1
    student = of_one[0].model
    assert (student.image_size, student.patch_size) == (32, 4) and of_one[0].views.teacher_stride == 1
