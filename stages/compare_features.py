"""A student's features beside those that it is held against: drift, and nearest training images (CBD Fig. 4).

    python stages/compare_features.py cbd-digits_if20 --dataset data/datasets/digits_if20.npz \\
        --run data/teachers/cbd-digits_if20 --teacher data/teachers/instance-digits_if20 data/teachers/none \\
        data/teachers/none data/teachers/none data/teachers/none \\
        --out reports/analysis/digits-cbd/compare_features/cbd-digits_if20

Of entries of `teachers` with `sources` that are named under `compare_features`. All training and test images without
augmentation, in eval mode and float32; "teacher" are all sources together, their features joined as in training
(METHODS 7.1). Writes into OUT
    drift.csv       seed, images (train, test), group, drift: 1 - cosine of both features, mean over the classes of the
                    group of their means over images; group `all` is of all classes
    classes.csv     seed, images, class, training_images, drift: of at most 1,000 classes
    neighbours.csv  seed, features (teacher, student), group, k, share, most: of the k nearest training images by
                    cosine, the share of a test image's own class, mean as above; most: what classes of fewer than k
                    training images allow
    neighbours.npz  of some test images and the first seed: group [Q], query int64 [Q] (place in the test set), label
                    int64 [Q], picture uint8 [Q, S, S, 3]; under teacher and student: _place int64 [Q, k] (in the
                    training set), _label int64 [Q, k], _cosine float32 [Q, k], _picture uint8 [Q, k, S, S, 3]
The features of the test images are held, those of the training images pass by. Digits: a second a seed on one core.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from longtail.analysis import compared_features as cf
from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import new_folder
from longtail.base.images import pictures
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.evaluation.metrics import AUTHOR_GROUPS, COUNT_GROUPS
from longtail.runs.seeds import pick_device
from longtail.training.teacher_config import NONE, TeacherConfig

MANY_CLASSES = 1000  # beyond it classes.csv has no rows
COLUMNS = {
    "drift": ("seed", "images", "group", "drift"),
    "classes": ("seed", "images", "class", "training_images", "drift"),
    "neighbours": ("seed", "features", "group", "k", "share", "most"),
}
GROUPS = {"author": AUTHOR_GROUPS, "count": COUNT_GROUPS}


@dataclass(frozen=True)
class Comparison:
    """One entry of `compare_features`, named as the student is. dvc.yaml needs its data set and sources here too."""

    study: str
    dataset: str  # the student's
    sources: tuple[str, str, str, str, str]  # the student's
    groups: Literal["author", "count"]  # by which rule: head, mid and tail, or many, medium and few
    neighbours: int  # k; the paper shows 5
    queries: int  # test images of each group that the figure shows

    def __post_init__(self) -> None:
        if min(self.neighbours, self.queries) < 1:
            raise ValueError(f"at least 1: neighbours, queries; found {self.neighbours}, {self.queries}")


def read(table: dict, name: str) -> tuple[TeacherConfig, Comparison]:
    """The student's entry, and what is shown of it. Raises UserError where they contradict each other."""
    config = params.build(TeacherConfig, params.entry(table, "teachers", name), f"teachers.{name}")
    where = f"compare_features.{name}"
    shown = params.build(Comparison, params.entry(table, "compare_features", name), where)
    if config.sources == NONE:
        raise UserError(f"{where}: teachers.{name} has no `sources`, so nothing to compare it with; name a student")
    for key in ("dataset", "sources"):
        said, its = (params.plain(getattr(of, key)) for of in (shown, config))
        if said != its:
            raise UserError(f"{where}.{key}: {said}, but teachers.{name}.{key} is {its}; write the same")
    return config, shown


def measure(seed: int, found: cf.Compared, data: LongTail, shown: Comparison, rows: dict[str, list[tuple]]) -> None:
    """Adds the rows of one seed to those of each file."""
    groups, names = getattr(data, f"{shown.groups}_groups"), ("all", *GROUPS[shown.groups])
    k, counts = shown.neighbours, data.class_counts
    for images, labels in (("train", data.train_labels), ("test", data.test_labels)):
        means, averages = cf.by_group(found.drift[images], labels, groups)
        named = zip(names, averages, strict=True)
        rows["drift"] += [(seed, images, group, f"{v:.6f}") for group, v in named if v is not None]
        if len(counts) <= MANY_CLASSES:
            of_class = enumerate(zip(counts.tolist(), means.tolist(), strict=True))
            rows["classes"] += [(seed, images, c, n, f"{v:.6f}") for c, (n, v) in of_class if v == v]
    _, most = cf.by_group(cf.most_right(counts, data.test_labels, k), data.test_labels, groups)
    for features, (places, _) in found.nearest.items():
        right = cf.right_share(places, data.train_labels, data.test_labels)
        named = zip(names, cf.by_group(right, data.test_labels, groups)[1], most, strict=True)
        rows["neighbours"] += [(seed, features, g, k, f"{v:.6f}", f"{m:.6f}") for g, v, m in named if v is not None]


def shown_pictures(found: cf.Compared, data: LongTail, shown: Comparison) -> dict[str, np.ndarray]:
    """The arrays of neighbours.npz."""
    groups = getattr(data, f"{shown.groups}_groups")
    query = cf.queries(data.test_labels, groups, shown.queries)
    label = data.test_labels[query]
    arrays = {"group": np.array(GROUPS[shown.groups])[groups[label]], "query": query, "label": label}
    arrays["picture"] = pictures(data.test_images, query)
    for features, (places, cosines) in found.nearest.items():
        place = places[query]
        of = {"place": place, "label": data.train_labels[place], "cosine": cosines[query]}
        of["picture"] = pictures(data.train_images, place)
        arrays |= {f"{features}_{key}": value for key, value in of.items()}
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="STUDENT", help="name of a block under `teachers` with `sources`")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/NAME.npz that it was trained on")
    parser.add_argument("--run", type=Path, required=True, help="folder of stages/train_teacher.py, with its seeds")
    parser.add_argument("--teacher", type=Path, nargs=5, required=True, help="such folders of its five `sources`")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when complete")
    add_params(parser)
    add_device(parser)
    args = parser.parse_args()
    config, shown = read(params.load(args.params), args.entry)
    data = LongTail.load(args.dataset)
    if data.name != config.dataset:
        raise UserError(f"teachers.{args.entry}.dataset is '{config.dataset}' but {args.dataset} holds '{data.name}'")
    device, rows, arrays = pick_device(args.device), {name: [] for name in COLUMNS}, {}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    folders = [folder for folder, name in zip(args.teacher, config.sources, strict=True) if name != "none"]
    for seed in config.seeds:
        pair = cf.load_pair(config, args.run, folders, data, seed, device)
        found = cf.compare(pair, data, shown.neighbours)
        measure(seed, found, data, shown, rows)
        arrays = arrays or shown_pictures(found, data, shown)
        drift = {images: v for of, images, group, v in rows["drift"] if (of, group) == (seed, "all")}
        print(f"{args.entry} seed {seed}: drift {drift['train']} on training images, {drift['test']} on test images")
    with new_folder(args.out) as folder:
        for name, columns in COLUMNS.items():
            with open(folder / f"{name}.csv", "w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([columns, *rows[name]])
        np.savez_compressed(folder / "neighbours.npz", **arrays)


if __name__ == "__main__":
    run_main(main)
