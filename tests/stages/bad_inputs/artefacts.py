"""Files of other stages that a stage refuses: how they are spoiled, the stage that reads them, and what it says."""

from __future__ import annotations

import numpy as np

from tests.helpers.stage_processes import (
    ANALYSE,
    CACHE,
    ENTROPY,
    EVALUATE,
    EVALUATE_TEACHER,
    STUDENT,
    TEACHER,
    VIT,
    without,
)
from tests.stages.bad_inputs.spoiling import (
    CACHE_RUN,
    NPZ,
    STUDENT_RUN,
    TEACHER_RUN,
    Spoil,
    checksum,
    cut,
    dataset,
    gone,
    labels,
    meta,
    only_seed_one,
    other_cache_epochs,
    other_entry,
    other_views,
    predictions,
    renamed,
    swapped,
    teacher_of,
    two_other_seeds,
)


def anew(command: tuple) -> tuple:
    """The same command to another place, where it cannot say that it is done already."""
    return (*command[:-1], f"{command[-1]}-new")


other_run = meta(f"{STUDENT_RUN}/identity.json", dataset_digest="0" * 64)
FILES: dict[str, tuple[Spoil, tuple, str]] = {
    "dataset missing": (gone(NPZ), TEACHER, "data/datasets/tiny.npz: no such dataset file; make it with stages/subsam"),
    "dataset cut short": (cut(NPZ), TEACHER, "data/datasets/tiny.npz: cut short or no dataset file"),
    "dataset altered": (
        *(dataset(seal=False, test_labels=lambda d: d.test_labels[::-1]), VIT),
        "data/datasets/tiny.npz: wrong checksum, the content was altered",
    ),
    "dataset's label out of range": (
        *(dataset(train_labels=lambda d: np.where(d.train_labels == 9, 10, d.train_labels)), TEACHER),
        "data/datasets/tiny.npz: train labels: label 10 out of range, 10 classes are 0 to 9",
    ),
    "teacher missing": (gone(TEACHER_RUN), CACHE, "data/teachers/ldam_drw_sam-tiny: holds no seed, seed 0 is asked"),
    "teacher's weights missing": (
        *(gone(f"{TEACHER_RUN}/model_best.safetensors"), anew(CACHE)),
        "model_best.safetensors: no such file; run the stage that makes it first",
    ),
    "teacher's weights cut short": (
        *(cut(f"{TEACHER_RUN}/model_best.safetensors"), anew(CACHE)),
        "model_best.safetensors: damaged or cut short",
    ),
    "teacher's config cut short": (
        *(cut(f"{TEACHER_RUN}/config.yaml"), ENTROPY),
        "ldam_drw_sam-tiny/seed0/config.yaml",
    ),
    "teacher of another class order": (
        *(swapped, anew(CACHE)),
        "same classes, other order; its output column for class i is [1, 0, 2, 3, 4, 5, 6, 7, 8, 9][i]",
    ),
    "teacher of other classes": (renamed, anew(CACHE), ": not the same classes"),
    "teacher of another dataset entry": (
        *(lambda r: teacher_of(r, "places"), anew(CACHE)),
        "teacher trained on dataset 'places', asked to label 'tiny'",
    ),
    "teacher of another dataset entry of the same content": (
        *(other_entry, tuple(a.replace("tiny.npz", "other.npz") for a in anew(CACHE))),
        "teacher trained on dataset 'tiny', asked to label 'other'",
    ),
    "no cache given": (
        *(lambda r: None, without(STUDENT, "--cache")),
        "experiments.tiny-deit_lt learns from a teacher; pass --cache FOLDER",
    ),
    "cache missing": (gone(CACHE_RUN), STUDENT, "data/caches/ldam_drw_sam-tiny: holds no seed, seed 0 is asked for"),
    "cache's labels missing": (
        *(gone(f"{CACHE_RUN}/labels.npy"), anew(STUDENT)),
        "ldam_drw_sam-tiny/seed0/labels.npy: no such file",
    ),
    "cache's labels cut short": (
        *(cut(f"{CACHE_RUN}/labels.npy"), anew(STUDENT)),
        "ldam_drw_sam-tiny/seed0: cache cut short or unreadable",
    ),
    "cache's meta cut short": (
        *(cut(f"{CACHE_RUN}/meta.json"), anew(STUDENT)),
        "ldam_drw_sam-tiny/seed0: cache cut short or unreadable",
    ),
    "cache of fewer rows": (labels(lambda t: t[:2]), anew(STUDENT), "labels are (2, 128), meta.json says 3 x 128"),
    "cache's label out of range": (
        *(labels(lambda t: np.where(t == t[0, 0], 77, t)), anew(STUDENT)),
        "labels.npy: label 77 out of range, 10 classes are 0 to 9",
    ),
    "cache of another class order": (
        *(swapped, anew(STUDENT)),
        "same classes, other order; its output column for class i is [1, 0, 2, 3, 4, 5, 6, 7, 8, 9][i]",
    ),
    "cache of another dataset": (
        *(meta(f"{CACHE_RUN}/meta.json", dataset="places"), anew(STUDENT)),
        "made for dataset places, this run has tiny",
    ),
    "cache of another dataset content": (
        *(dataset(train_images=lambda d: d.train_images[::-1]), anew(STUDENT)),
        "made for dataset content",
    ),
    "cache of another seed": (only_seed_one, anew(STUDENT), "made for seed 1, this run has 0; make the cache again"),
    "cache of two other seeds": (
        *(two_other_seeds, anew(STUDENT)),
        "data/caches/ldam_drw_sam-tiny: holds seed3, seed4, seed 0 is asked for",
    ),
    "cache of too few epochs": (other_cache_epochs, STUDENT, "holds 3 epochs, the run needs 9; raise caches.*.epochs"),
    "cache of other views": (other_views, STUDENT, "made for view recipe"),
    "cache of other pixels": (
        *(meta(f"{CACHE_RUN}/meta.json", pixel_checksums=checksum), anew(STUDENT)),
        "pixels of epoch 0 differ from those the teacher labelled",
    ),
    "predictions missing": (gone(f"{STUDENT_RUN}/predictions.npz"), EVALUATE, "predictions.npz: no such file"),
    "predictions cut short": (cut(f"{STUDENT_RUN}/predictions.npz"), EVALUATE, "predictions.npz: cut short or damaged"),
    "predictions' label out of range": (
        *(predictions(labels=np.full(100, 10)), EVALUATE),
        "predictions: label 10 out of range, 10 classes are 0 to 9",
    ),
    "predictions of another class order": (
        *(swapped, EVALUATE),
        "this permutation of the run's classes would reconcile them: 1: 1 -> 0, 0: 0 -> 1",
    ),
    "predictions of another dataset content": (other_run, EVALUATE, "trained on dataset content 000000000000, but"),
    "run's facts cut short": (
        *(cut(f"{STUDENT_RUN}/identity.json"), EVALUATE),
        "identity.json, config.yaml or history.csv is damaged",
    ),
    "teacher's predictions cut short": (
        *(cut(f"{TEACHER_RUN}/predictions.npz"), EVALUATE_TEACHER),
        "predictions.npz: cut short or damaged",
    ),
    "student missing": (gone("data/students/tiny-deit_lt"), ANALYSE, "data/students/tiny-deit_lt: no such folder"),
    "student's seed missing": (gone(STUDENT_RUN), ANALYSE, "seed0/config.yaml: no such file; train the entry first"),
    "student's weights cut short": (
        *(cut(f"{STUDENT_RUN}/model.safetensors"), ANALYSE),
        "model.safetensors: damaged or cut short",
    ),
    "student's history cut short": (
        *(cut(f"{STUDENT_RUN}/history.csv", 0.5), ANALYSE),
        "history.csv: cut short",
    ),
    "student of another class order": (swapped, ANALYSE, "same classes, other order; its output column for class i is"),
}
