"""What recipes have to do, counted from params.yaml: against METHODS, by hand, and against what DVC recorded."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest

from longtail.base import yaml_file
from longtail.base.errors import UserError
from longtail.cost.workload import Images, Load, Workload
from tests.helpers.root import ROOT, params_table

PARAMS = params_table()
FULL = Workload(PARAMS)


def load(work, part: str) -> Load:
    return next(load for load in work.loads if load.part == part)


@pytest.mark.parametrize(
    ("entry", "epoch", "steps", "total"),
    [
        ("cifar10_if100-deit_lt-b", 12_288, 12, 14_745_600),
        ("cifar100_if100-deit_lt-b", 10_752, 11, 12_902_400),
    ],
)
def test_views_of_the_published_recipe(entry, epoch, steps, total):
    """METHODS 3.6 and 11: 12,406 images rounded to 256, two ranks of 128 views, four accumulated, 1,200 epochs."""
    layout = FULL.layout("cifar", entry.split("-")[0])
    assert (layout.positions, layout.steps) == (epoch, steps)
    work = FULL.of("train_student", entry)
    assert load(work, "views").count == load(work, "train").count == total
    assert load(work, "forward").count == 24 * 10_000  # evaluated every 50 epochs


def test_operations_of_the_published_recipe():
    """105.7 GFLOP a view (tests/models/test_shapes.py) for 14.75 M views, and 24 evaluations of 35.3 TFLOP."""
    flop = FULL.of("train_student", "cifar10_if100-deit_lt-b").flop
    assert flop == pytest.approx(105.7e9 * 14.7456e6 + 24 * 10_000 * 2 * 17.655e9, rel=1e-3)


def test_a_teacher_with_and_without_sam():
    """200 epochs of all 12,406 images, each twice with SAM; the test set after every epoch."""
    plain, sam = (FULL.of("train_teacher", f"{name}-cifar10_if100") for name in ("ldam_drw", "ldam_drw_sam"))
    assert load(plain, "train").count == 200 * 12_406 and load(sam, "train").count == 2 * 200 * 12_406
    assert load(plain, "batch") == Load("batch", "ldam_drw-cifar10_if100", 200 * 12_406)
    assert load(sam, "forward").count == 200 * 10_000


def test_a_paco_teacher_encodes_keys_and_drops_the_last_batch():
    work = FULL.of("train_teacher", "paco-cifar10_if100")
    keys = load(work, "batch")
    assert keys.count == 400 * (12_406 // 128 * 128) and keys.shape.name == "ResNet-32, 32 px"
    assert keys.flop == 2 * keys.count * keys.shape.macs


def test_labels():
    """A ResNet-32 sees every seventh pixel of 224; a RegNetY the whole view. A byte a label, two above 256 classes."""
    work = FULL.of("cache_logits", "ldam_drw_sam-cifar10_if100")
    assert load(work, "forward").shape.name == "ResNet-32, 32 px" and work.disk == 14_745_600
    assert load(FULL.of("cache_logits", "regnety-cifar10_if100"), "forward").shape.name == "regnety_160, 224 px"
    large = FULL.of("cache_logits", "ldam_drw_sam-inat18")
    assert large.disk == 2 * load(large, "views").count


def test_a_head_alone_is_trained_on_a_frozen_backbone():
    work = FULL.of("train_student", "cifar10_if100-vit_crt-b")
    assert [load.part for load in work.loads] == ["views", "forward", "forward"]


def test_an_online_teacher_answers_for_every_view():
    table = copy.deepcopy(PARAMS)
    table["experiments"]["digits-deit_lt"] |= {"cache": "none", "teacher": "ldam_drw_sam-digits_if20"}
    asked = Workload(table).of("train_student", "digits-deit_lt").loads[-1]
    assert (asked.part, asked.entry, asked.count) == ("forward", "teachers.ldam_drw_sam-digits_if20", 120 * 384)


@pytest.mark.parametrize(
    ("stage", "entry", "folder"),
    [
        ("train_student", "digits-vit", "students"),
        ("train_student", "digits-deit_lt", "students"),
        ("train_teacher", "ldam_drw_sam-digits_if20", "teachers"),
    ],
)
def test_disk_is_what_dvc_recorded(stage, entry, folder):
    """All seeds, to a tenth: histories and facts are not counted."""
    locked = yaml_file.read(ROOT / "dvc.lock")["stages"]
    if f"{stage}@{entry}" not in locked:
        pytest.skip(f"{stage}@{entry} was not run")
    size = next(o["size"] for o in locked[f"{stage}@{entry}"]["outs"] if o["path"] == f"data/{folder}/{entry}")
    seeds = len(PARAMS["experiments" if folder == "students" else "teachers"][entry]["seeds"])
    assert 0.9 < seeds * FULL.of(stage, entry).disk / size < 1.0


def test_memory_of_a_student_grows_with_the_views_of_a_step():
    """ViT-B: 16 bytes a parameter, then 1,024 views of 198 tokens, 768 channels, 12 blocks, 16 numbers of 4 bytes."""
    memory = FULL.of("train_student", "cifar10_if100-deit_lt-b").memory
    least = 16 * 85.82e6 + 1024 * 198 * 768 * 12 * 16 * 4
    assert least < memory < 1.05 * least


def test_a_pretraining_shows_the_encoder_a_quarter():
    """113 steps of 1,024 views for 800 epochs; operations of tests/models/test_mae.py; ImageNet-BAL has 116 a class."""
    work = FULL.of("pretrain", "imagenet_lt-mgp-b")
    assert load(work, "views").count == load(work, "train").count == 800 * 113 * 1024
    assert work.loads[1].shape.name == "MAE 768x12, patch 16, 224 px" and len(work.loads) == 2
    assert FULL.images("imagenet_bal").train == 116_000 and FULL.images("imagenet_bal160").train == 160_000


def test_features_of_a_student_and_of_its_four_teachers():
    """All 438 + 400 digits through five networks, four seeds here; two features of 256 for each test image."""
    work = FULL.of("compare_features", "cbd_ens-digits_if20")
    assert {load.entry for load in work.loads} == {
        *(f"teachers.{name}-digits_if20" for name in ("cbd_ens", "instance", "instance_2")),
        *(f"teachers.{name}-digits_if20" for name in ("instance_aug", "instance_aug_2")),
    }
    images = FULL.images("digits_if20")
    assert {(load.part, load.count) for load in work.loads} == {("forward", 4 * (images.train + images.test))}
    held = 4 * 2 * images.test * 256
    assert work.memory == held + 4 * sum(load.shape.params for load in work.loads) + images.train * 3 * 8 * 8
    on_files = FULL.of("compare_features", "cbd-imagenet_lt").flop  # two ResNet-50, 115,846 + 50,000 images
    assert on_files == pytest.approx(2 * 2 * 4.089e9 * 165_846, rel=1e-3)


def test_stages_that_compute_nothing():
    assert FULL.of("tables", "digits") is None and FULL.of("evaluate", "digits-vit") is None


def test_images_that_nobody_counted():
    with pytest.raises(
        UserError, match=r"datasets.cifar10_if100-mini: how many images there are is not known; make subsample@"
    ):
        FULL.images("cifar10_if100-mini")
    known = Images(10, 1236, 10_000, 32)
    assert Workload(PARAMS, {"cifar10_if100-mini": known}).images("cifar10_if100-mini") == known
    assert FULL.images("digits_if20") == Images(10, 438, 400, 8)
    assert FULL.images("imagenet_lt").train == 115_846


def test_names_and_keys_that_are_not_there():
    with pytest.raises(UserError, match=r"digits-vitt: no such entry in params.yaml; did you mean 'digits-vit'"):
        FULL.of("train_student", "digits-vitt")
    table = copy.deepcopy(PARAMS)
    del table["views"]["digits-mix_always"]["repeats"]
    with pytest.raises(UserError, match=r"train_student@digits-vit: params.yaml lacks 'repeats'"):
        Workload(table).of("train_student", "digits-vit")


def test_every_entry_can_be_counted():
    """Of datasets whose size the recipe says."""
    stages = {"train_teacher": "teachers", "cache_logits": "caches", "pretrain": "pretrainings"}
    for stage, section in (stages | {"train_student": "experiments"}).items():
        for name, entry in PARAMS[section].items():
            if PARAMS["datasets"][entry["dataset"]]["source"] != "imagefolder" and not entry.get("released"):
                work = FULL.of(stage, name)
                assert work.flop > 0 and work.memory > 0 and work.disk > 0


def test_nothing_heavy_is_loaded_before_a_network_is_counted():
    """The reviewers' pages of a repository whose entries are all run count none."""
    code = "import sys, stages.review; print(*{'torch', 'timm', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
