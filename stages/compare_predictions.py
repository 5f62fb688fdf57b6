"""What several CNNs say of the same test images, and those on which a student alone is right (DiVE Fig. 9).

    python stages/compare_predictions.py dive-digits_if20 --dataset data/datasets/digits_if20.npz \\
        --run data/teachers/dive-digits_if20 \\
        --others data/teachers/ce-digits_if20 data/teachers/balanced_softmax-digits_if20 \\
        --out reports/analysis/digits-dive/compare_predictions/dive-digits_if20

Of entries of `teachers` that are named under `compare_predictions`, with one or two others of the same data set, from
the saved test logits of the last epoch: no network runs. Shown are the first test images, in the order of the test set,
on which the student alone is right (all others wrong), and the first on which it alone is wrong (all others right):
nobody picks them. Writes into OUT
    counts.csv       seed, images, right_alone, wrong_alone: how many test images there are, and how many of each kind
    predictions.npz  of the first seed and the images shown: networks [E], names of entries, the student's last; query
                     int64 [Q] (place in the test set), right_alone bool [Q], label int64 [Q], answer int64 [E, Q],
                     their classes' names label_name [Q] and answer_name [E, Q], picture uint8 [Q, S, S, 3]
Digits: half a second.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import new_folder
from longtail.base.images import pictures
from longtail.base.options import add_params
from longtail.data.long_tail import LongTail
from longtail.evaluation.predictions import TestSet, check, load_predictions, load_test_set
from longtail.evaluation.run_record import read_seed

COLUMNS = ("seed", "images", "right_alone", "wrong_alone")


@dataclass(frozen=True)
class Comparison:
    """One entry of `compare_predictions`, named as the student is. dvc.yaml needs its data set here too."""

    study: str
    dataset: str  # the student's, and that of the others
    others: tuple[str, str]  # entries of `teachers`; `none` where there is one alone
    images: int  # of each kind that the figure shows, at most

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images: {self.images}; at least 1")
        if not self.named or len(set(self.named)) < len(self.named):
            raise ValueError(f"others: {list(self.others)}; name one or two different entries, else none")

    @property
    def named(self) -> list[str]:
        return [name for name in self.others if name != "none"]


def read(table: dict, name: str) -> tuple[Comparison, list[int]]:
    """What is compared, and the student's seeds. Raises UserError where entries contradict each other."""
    where = f"compare_predictions.{name}"
    shown = params.build(Comparison, params.entry(table, "compare_predictions", name), where)
    if name in shown.others:
        raise UserError(f"{where}.others: names the student itself; name the networks that it is held against")
    student = params.entry(table, "teachers", name)
    if (its := student.get("dataset")) != shown.dataset:
        raise UserError(f"{where}.dataset: {shown.dataset}, but teachers.{name}.dataset is {its}; write the same")
    if not student.get("seeds"):
        raise UserError(f"teachers.{name}.seeds: missing; the comparison needs it")
    return shown, student["seeds"]


def answers(run: Path, seed: int, test: TestSet, dataset: Path) -> np.ndarray:
    """The class that seed k of a run gives each test image at its last epoch, int64 [M]. Raises UserError where it is
    not there or of another test set."""
    folder = run / f"seed{seed}"
    facts, found = read_seed(folder).facts, load_predictions(folder / "predictions.npz")
    check(found, facts, test, str(folder), str(dataset))
    return found.logits["last"]["cls"].argmax(1)


def alone(right: np.ndarray) -> np.ndarray:
    """Test images on which the last of several networks is right and all others are wrong, bool [M]; given where each
    is right, bool [E, M], or, for the opposite kind, where each is wrong."""
    return right[-1] & ~right[:-1].any(0)


def shown_images(
    given: np.ndarray, names: list[str], data: LongTail, right: np.ndarray, wrong: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz. given: int64 [E, M], of the networks `names`; right, wrong: int64, places of the
    images on which the last is alone so."""
    query = np.concatenate([right, wrong])
    label, answer, classes = data.test_labels[query], given[:, query], np.array(data.class_names)
    named = {"label_name": classes[label], "answer_name": classes[answer]}
    of = {"networks": np.array(names), "query": query, "right_alone": np.arange(len(query)) < len(right)}
    return of | {"label": label, "answer": answer} | named | {"picture": pictures(data.test_images, query)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="STUDENT", help="name of a block under `teachers`")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/NAME.npz that all were trained on")
    parser.add_argument("--run", type=Path, required=True, help="folder of stages/train_teacher.py, with its seeds")
    parser.add_argument("--others", type=Path, nargs=2, required=True, help="such folders of `others`, in their order")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when complete")
    add_params(parser)
    args = parser.parse_args()
    shown, seeds = read(params.load(args.params), args.entry)
    data, test = LongTail.load(args.dataset), load_test_set(args.dataset)
    if data.name != shown.dataset:
        raise UserError(f"teachers.{args.entry}.dataset is '{shown.dataset}' but {args.dataset} holds '{data.name}'")
    others = [folder for folder, name in zip(args.others, shown.others, strict=True) if name != "none"]
    rows, arrays = [], {}
    for seed in seeds:
        given = np.stack([answers(run, seed, test, args.dataset) for run in (*others, args.run)])
        kinds = [np.flatnonzero(alone(hit)) for hit in (given == test.labels, given != test.labels)]
        rows.append((seed, len(test.labels), *map(len, kinds)))
        first = (places[: shown.images] for places in kinds)
        arrays = arrays or shown_images(given, [*shown.named, args.entry], data, *first)
        print(f"{args.entry} seed {seed}: alone right on {rows[-1][2]}, alone wrong on {rows[-1][3]} test images")
    with new_folder(args.out) as folder:
        with open(folder / "counts.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
        np.savez_compressed(folder / "predictions.npz", **arrays)


if __name__ == "__main__":
    run_main(main)
