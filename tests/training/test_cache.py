from __future__ import annotations

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail, class_order, content_digest
from longtail.runs.workspace import Workspace
from longtail.training.cache import build_cache, teacher_labels, verify
from longtail.training.labels import TeacherLabels, seed_folder, views_hash
from longtail.views.student_views import Views
from tests.helpers.small import OFFSET, SIZE, STRIDE, Teacher, digits, recipe
from tests.helpers.stage_processes import CACHE, finish, start

CPU = torch.device("cpu")
SEED, EPOCHS = 3, 4


@pytest.fixture(scope="module")
def data() -> LongTail:
    return digits()


def facts(data: LongTail, classes: int = 10) -> dict:
    return {
        "cache": "c",
        "seed": SEED,
        "dataset": data.name,
        "dataset_digest": data.digest,
        "num_classes": classes,
        "class_order": data.class_order,
        "class_names": list(data.class_names),
    }


def build(
    folder: Path, data: LongTail, teacher: Teacher | None = None, workspace=Workspace, epochs=EPOCHS, **settings
) -> Path:
    """labels.npy and meta.json of SEED; returns their folder."""
    space, teacher = workspace(folder, "c", "f" * 64, CPU, quiet=True), teacher or Teacher()
    views = Views(recipe(), data.train_images, SEED)
    build_cache(teacher, views, data.train_labels, epochs, facts(data, len(teacher.weight)), space, **settings)
    return space.result


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data) -> Path:
    return build(tmp_path_factory.mktemp("cache"), data)


def told(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- the labels


def test_cached_labels_are_the_teachers_answer_to_every_single_view(folder, data):
    cache, teacher = TeacherLabels.load(folder), Teacher()
    views = Views(recipe(), data.train_images, SEED)
    assert cache.table.shape == (EPOCHS, views.positions_per_epoch) and views.steps_per_epoch > 1
    for epoch in (2, 0, EPOCHS - 1):  # mixed, and from epoch 3 on not
        for step in range(views.steps_per_epoch):
            batch = views.step(epoch, step)
            alone = []
            for view in batch.x:
                with torch.no_grad():
                    alone.append(int(teacher(view[None, :, OFFSET::STRIDE, OFFSET::STRIDE]).argmax()))
            cached = cache.at(epoch, batch.positions)
            assert cached.dtype == torch.int64 and cached.tolist() == alone
            assert teacher_labels(teacher, batch.x, views.recipe).tolist() == alone
    assert len(np.unique(cache.table)) > 5


def test_the_teacher_runs_in_float32_inside_a_students_autocast():
    x = torch.randn(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    plain = teacher_labels(Teacher(), x, recipe())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teacher_labels(Teacher(), x, recipe()), plain)  # Teacher checks its types


def test_kernels_of_the_student_are_not_changed_by_the_teacher():
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    inside = []

    class Spy(Teacher):
        def forward(self, x):
            inside.append((cudnn.benchmark, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return super().forward(x)

    teacher_labels(Spy(), torch.zeros(2, 3, SIZE, SIZE), recipe())
    assert inside == [(False, False, False)]
    assert before == (cudnn.benchmark, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)


@pytest.mark.parametrize(("classes", "dtype", "size"), [(256, np.uint8, 1), (257, np.uint16, 2)])
def test_a_label_takes_one_byte_up_to_256_classes(tmp_path, data, classes, dtype, size):
    teacher = Teacher(classes)
    result = build(tmp_path, data, teacher, epochs=1)
    cache = TeacherLabels.load(result)
    assert cache.table.dtype == dtype and cache.table.nbytes == size * cache.table.size
    batch = Views(recipe(), data.train_images, SEED).step(0, 0)
    assert torch.equal(cache.at(0, batch.positions), teacher_labels(teacher, batch.x, recipe()))
    assert cache.table.max() > 200  # nothing wrapped around


def test_meta_says_what_the_labels_belong_to(folder, data):
    meta, views = json.loads((folder / "meta.json").read_text()), Views(recipe(), data.train_images, SEED)
    assert facts(data).items() <= meta.items()
    assert (meta["epochs"], meta["positions"], meta["precision"]) == (EPOCHS, views.positions_per_epoch, "fp32")
    assert meta["views_hash"] == views_hash(recipe()) != views_hash(recipe(hflip=0.0))
    assert meta["pixel_checksums"] == [views.checksum(epoch) for epoch in range(EPOCHS)]
    assert len(set(meta["pixel_checksums"])) == EPOCHS
    table, hits = np.load(folder / "labels.npy"), 0
    for epoch in range(EPOCHS):  # against the image that covers more of the view
        for step in range(views.steps_per_epoch):
            batch = views.step(epoch, step)
            for i, position in enumerate(batch.positions.tolist()):
                image = batch.index[i] if batch.lam[i] >= 0.5 else batch.partner[i]
                hits += int(table[epoch, position] == data.train_labels[image])
    assert meta["teacher_top1_on_views"] == round(100 * hits / table.size, 4) > 0


class Stop(Exception):
    pass


@pytest.mark.parametrize("stops", [(1,), (2,), (1, 1, 1)])
def test_a_build_that_was_stopped_ends_in_the_same_bytes(tmp_path, data, folder, stops):
    class Interrupted(Workspace):
        def tick(self, state):
            self.save(state())
            self.finish()
            self.left -= 1
            if not self.left:
                raise Stop

    for after in stops:
        Interrupted.left = after
        with pytest.raises(Stop):
            build(tmp_path, data, workspace=Interrupted)
        assert not (tmp_path / "result" / "meta.json").exists()
    result = build(tmp_path, data)
    for name in ("labels.npy", "meta.json"):
        assert (result / name).read_bytes() == (folder / name).read_bytes()


def test_a_continued_build_makes_only_what_is_missing(tmp_path, data):
    class Saved(Workspace):
        def tick(self, state):
            self.save(state())
            self.finish()
            raise Stop

    class Never(Teacher):
        def forward(self, x):
            raise AssertionError("asked again")

    with pytest.raises(Stop):
        build(tmp_path, data, workspace=Saved, epochs=1)
    build(tmp_path, data, Never(), epochs=1)


# ---- refusing what does not belong


def check(folder: Path, data: LongTail, seed=SEED, epochs=EPOCHS, views=None, **meta) -> None:
    cache = TeacherLabels.load(folder)
    cache = replace(cache, meta=cache.meta | meta)
    views = views or Views(recipe(), data.train_images, seed)
    cache.check(views, data, seed, epochs, "data/caches/c/seed3")


def test_a_cache_for_these_very_views_passes(folder, data):
    check(folder, data)
    check(folder, data, epochs=2)  # a shorter run may read it


def test_another_seed_is_refused(folder, data):
    error = told(lambda: check(folder, data, seed=4))
    assert error == "data/caches/c/seed3: made for seed 3, this run has 4; make the cache again"


def test_another_dataset_is_refused(folder, data):
    error = told(lambda: check(folder, replace(data, name="other")))
    assert error == "data/caches/c/seed3: made for dataset tiny, this run has other; make the cache again"
    other = replace(data, subset_seed=9)
    other = replace(other, digest=content_digest(other))
    error = told(lambda: check(folder, other))
    assert error.startswith(f"data/caches/c/seed3: made for dataset content {data.digest}, this run has {other.digest}")


def test_another_recipe_is_refused(folder, data):
    views = Views(recipe(mix_until=2), data.train_images, SEED)
    error = told(lambda: check(folder, data, views=views))
    assert error.startswith(f"data/caches/c/seed3: made for view recipe {views_hash(recipe())}, this run has ")


def test_another_class_order_is_refused_with_the_permutation(folder, data):
    names = ("1", "0", *data.class_names[2:])
    other = replace(data, class_names=names, class_order=class_order(names))
    error = told(lambda: check(folder, other))
    assert error.startswith("data/caches/c/seed3 has class order ")
    assert error.endswith("its output column for class i is [1, 0, 2, 3, 4, 5, 6, 7, 8, 9][i]")


def test_too_few_epochs_are_refused(folder, data):
    error = told(lambda: check(folder, data, epochs=5))
    assert error == "data/caches/c/seed3: holds 4 epochs, the run needs 5; raise caches.*.epochs"


def test_other_pixels_are_refused(folder, data):
    altered = data.train_images.copy()
    altered[:, 4, 4] ^= 1
    error = told(lambda: check(folder, replace(data, train_images=altered)))  # which still claims the same digest
    assert error.startswith("data/caches/c/seed3: pixels of epoch 0 differ from those the teacher labelled")


@pytest.mark.parametrize(("epochs", "altered", "refused"), [(4, 3, True), (3, 2, True), (4, 0, True), (3, 3, False)])
def test_the_first_and_the_last_epoch_of_the_run_are_looked_at(folder, data, epochs, altered, refused):
    sums = TeacherLabels.load(folder).meta["pixel_checksums"]
    sums[altered] = "0" * 64
    if refused:
        error = told(lambda: check(folder, data, epochs=epochs, pixel_checksums=sums))
        assert f"pixels of epoch {altered} differ" in error
    else:
        check(folder, data, epochs=epochs, pixel_checksums=sums)


def copy_of(folder: Path, to: Path) -> Path:
    for name in ("labels.npy", "meta.json"):
        (to / name).write_bytes((folder / name).read_bytes())
    return to


@pytest.mark.parametrize("name", ["labels.npy", "meta.json"])
def test_a_missing_file_is_named(tmp_path, folder, name):
    copy_of(folder, tmp_path)
    (tmp_path / name).unlink()
    error = told(lambda: TeacherLabels.load(tmp_path))
    assert error == f"{tmp_path / name}: missing; make the cache with stages/cache_logits.py"


@pytest.mark.parametrize("name", ["labels.npy", "meta.json"])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, folder, name, kept):
    path = copy_of(folder, tmp_path) / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert f"{tmp_path}: cache cut short or unreadable" in told(lambda: TeacherLabels.load(tmp_path))


def test_labels_of_another_shape_or_class_are_refused(tmp_path, folder):
    table = np.load(folder / "labels.npy")
    copy_of(folder, tmp_path)
    np.save(tmp_path / "labels.npy", table[:-1])
    error = told(lambda: TeacherLabels.load(tmp_path))
    assert error == f"{tmp_path}: labels are {table[:-1].shape}, meta.json says {EPOCHS} x {table.shape[1]}"
    table[1, 2] ^= 1  # another class, in range
    np.save(tmp_path / "labels.npy", table)
    error = told(lambda: TeacherLabels.load(tmp_path))
    assert error == f"{tmp_path}: labels.npy: altered since it was made; make it again"
    table[1, 2] = 10
    np.save(tmp_path / "labels.npy", table)
    assert "labels.npy: label 10 out of range, 10 classes are 0 to 9" in told(lambda: TeacherLabels.load(tmp_path))


# ---- --verify, and which seed serves


def test_verify_counts_what_is_equal(folder, data):
    cache, views = TeacherLabels.load(folder), Views(recipe(), data.train_images, SEED)
    total = views.positions_per_epoch
    assert verify(cache, Teacher(), views, 2) == (
        f"2 of 4 epochs made again: pixels equal in 2 of 2 (100 %), labels equal in {2 * total} of {2 * total} (100 %)"
    )
    altered = cache.table.copy()
    altered[0, :3] = (altered[0, :3] + 1) % 10
    sums = [*cache.meta["pixel_checksums"][:3], "0" * 64]
    other = TeacherLabels(altered, cache.meta | {"pixel_checksums": sums})
    percent = 10_000 * (4 * total - 3) // (4 * total) / 100
    for workers in (1, 2):
        assert verify(other, Teacher(), views, 9, workers) == (
            f"4 of 4 epochs made again: pixels equal in 3 of 4 (75 %),"
            f" labels equal in {4 * total - 3} of {4 * total} ({percent:g} %)"
        )


def test_all_but_one_label_is_less_than_100_percent(data, folder):
    cache, views = TeacherLabels.load(folder), Views(recipe(), data.train_images, SEED)
    table = cache.table.copy()
    table[3, 0] ^= 1
    assert "(100 %), labels" in (line := verify(replace(cache, table=table), Teacher(), views, 4))
    assert not line.endswith("(100 %)")


# ---- worker processes


@pytest.mark.parametrize("workers", [2, 3, 9])
def test_worker_processes_change_no_byte(tmp_path, data, folder, workers):
    result = build(tmp_path, data, workers=workers)
    for name in ("labels.npy", "meta.json"):
        assert (result / name).read_bytes() == (folder / name).read_bytes()


def test_an_error_in_a_worker_is_raised_here(tmp_path, data):
    class Broken(Teacher):
        def forward(self, x):
            raise UserError("no such thing")

    assert told(lambda: build(tmp_path, data, Broken(), workers=2)) == "no such thing"


def test_a_worker_that_is_killed_is_told_in_a_line(tmp_path, data):
    class Killed(Teacher):
        def forward(self, x):
            os.kill(os.getpid(), signal.SIGKILL)

    assert "a worker process was killed" in told(lambda: build(tmp_path, data, Killed(), workers=2))


# ---- probabilities for soft distillation


def soft(tmp_path, data, top_k: int) -> tuple[TeacherLabels, torch.Tensor, torch.Tensor]:
    """A cache, the positions of its first step, and the teacher's probabilities there, float64."""
    cache = TeacherLabels.load(build(tmp_path, data, epochs=1, top_k=top_k, logit_scale=0.05))
    batch = Views(recipe(), data.train_images, SEED).step(0, 0)
    logits = batch.x[..., OFFSET::STRIDE, OFFSET::STRIDE].flatten(1).double() @ Teacher().weight.double().T
    return cache, batch.positions, (0.05 * logits).softmax(1)


def test_all_classes_kept_give_the_teachers_softmax(tmp_path, data):
    cache, positions, expected = soft(tmp_path, data, 10)
    got = cache.probabilities(0, positions)
    assert got.shape == expected.shape and got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=5e-3, atol=1e-7)  # float16 of the logarithm
    torch.testing.assert_close(got.sum(1), torch.ones(len(got)))
    assert torch.equal(got.argmax(1), cache.at(0, positions))


def test_what_top_k_leaves_is_shared_by_the_other_classes(tmp_path, data):
    cache, positions, expected = soft(tmp_path, data, 3)
    assert cache.topk["topk_logprob"].dtype == np.float16 and cache.topk["topk_classes"].dtype == np.uint8
    value, index = expected.topk(3)
    rest = (1 - value.sum(1, keepdim=True)) / 7
    by_hand = rest.repeat(1, 10).scatter_(1, index, value)
    torch.testing.assert_close(cache.probabilities(0, positions).double(), by_hand, rtol=5e-3, atol=1e-4)


def test_labels_alone_have_no_probabilities_and_top_k_no_more_than_the_classes(tmp_path, data, folder):
    error = told(lambda: TeacherLabels.load(folder).probabilities(0, torch.tensor([0])))
    assert error == "cache c holds labels only; set caches.c.top_k and make it again"
    assert told(lambda: build(tmp_path, data, top_k=11)) == "c: top_k 11 of 10 classes; at most 10"


def test_a_seed_is_served_by_its_own_folder_or_by_the_only_one(tmp_path):
    assert "holds no seed, seed 0 is asked for" in told(lambda: seed_folder(tmp_path / "nowhere", 0))
    (tmp_path / "seed1").mkdir()
    (tmp_path / "seed9.txt").touch()
    assert seed_folder(tmp_path, 1) == seed_folder(tmp_path, 5) == tmp_path / "seed1"
    (tmp_path / "seed5").mkdir()
    assert seed_folder(tmp_path, 5) == tmp_path / "seed5"
    assert "holds seed1, seed5, seed 0 is asked for; add it there" in told(lambda: seed_folder(tmp_path, 0))


def test_verify_from_the_command_line(tiny, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.environment"))  # without the sums of its files
    for jobs in (1, 2):
        out = finish(folder, *CACHE, "--verify", 3, "--jobs", jobs, cores=2).out
        assert re.fullmatch(
            r"ldam_drw_sam-tiny seed 0: 3 of 3 epochs made again:"
            r" pixels equal in 3 of 3 \(100 %\), labels equal in (\d+) of \1 \(100 %\)\n",
            out,
        )
    meta = folder / "data/caches/ldam_drw_sam-tiny/seed0/meta.json"
    for key in ("teacher_digest", "dataset_digest", "views_hash", "seed"):
        told = json.loads(meta.read_text())
        meta.write_text(json.dumps(told | {key: 7 if key == "seed" else "0" * 64}))
        run = start(folder, *CACHE, "--verify", 1)
        assert run.wait() == 2
        assert re.fullmatch(
            rf"error: data/caches/ldam_drw_sam-tiny/seed0: its {key} is .*; make the cache again\n", run.err
        )
        meta.write_text(json.dumps(told))
