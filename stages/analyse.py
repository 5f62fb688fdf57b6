"""What a trained student attends to and how rich its features are: EXPERIMENT's seeds -> CSVs and rollout maps.

    python stages/analyse.py digits-deit_lt --run data/students/digits-deit_lt \\
        --dataset data/datasets/digits_if20.npz --out reports/analysis/digits/digits-deit_lt

Writes into OUT (METHODS 4.1 to 4.4; last-epoch weights, test images under the evaluation transform):
    attention_distance.csv  seed, images, block, head, distance_px: tail-class images of the test and of the training
                            set; heads sorted ascending within a block
    feature_rank.csv        seed, token, block, centring, rank: directions that hold 99 % of the tail's feature energy
    cls_dist_distance.csv   seed, epoch, distance: 1 - cosine(CLS, DIST) on training views; header only without DIST
    cls_dist_test.csv       the same on evaluation views of all test images, where nothing is mixed: of the epochs that
                            the run evaluated (of runs made before that was kept: the last alone)
    image_spread.csv        seed, metric, images, block, token, centring, rows, stderr, n: standard errors of the above
                            over images; of feature rank of its mean over blocks, by a bootstrap of the tail's images
    curves.csv              seed, epoch, loss, test_top1_<head>: empty where the epoch or the head was not evaluated
    rollout.npz             first seed: images uint8 [K, S, S, 3], labels, tokens, maps [K, T, g, g], average [K, g, g]
Of a CNN all are headers only, and there is no rollout.npz.
Digits: a few seconds on one core. CIFAR-10, ViT-B: minutes on a GPU.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from longtail.analysis.image_spread import Spread, apart_on_views, spreads, standard_error
from longtail.analysis.student import (
    attention_distances,
    feature_ranks,
    load_student,
    rollouts,
    spread,
    tail_test,
    tail_train,
)
from longtail.base import csv_file, params
from longtail.base.errors import UserError, run_main
from longtail.base.files import new_folder
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.evaluation.predictions import read_npz
from longtail.runs.seeds import pick_device

ROLLOUT_IMAGES = 8
COLUMNS = {
    "attention_distance": ("seed", "images", "block", "head", "distance_px"),
    "feature_rank": ("seed", "token", "block", "centring", "rank"),
    "cls_dist_distance": ("seed", "epoch", "distance"),
    "cls_dist_test": ("seed", "epoch", "distance"),
    "image_spread": ("seed", *Spread._fields),
    "curves": ("seed", "epoch", "loss", "test_top1_cls", "test_top1_dist", "test_top1_avg"),
}


def history(path: Path) -> list[dict[str, str]]:
    """A run's history.csv, one row an epoch; none of an imported run. Raises UserError where it is cut short."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; train the entry first (stages/train_student.py)")
    text = path.read_text()
    if not text.endswith("\n"):
        raise UserError(f"{path}: cut short, its last line has no end; train the entry again")
    rows = csv_file.read(path, ("epoch",), "cut short or damaged; train the entry again")
    if any(not row["epoch"].isdigit() for row in rows):
        raise UserError(f"{path}: cut short or damaged; train the entry again")
    return rows


def diversity(rows: list[dict[str, str]], path: Path, column: str = "cls_dist_distance") -> list[tuple[int, float]]:
    """(epoch, 1 - cosine) of a history; empty where it has no such column (plain ViT). Of test images (`test_...`) an
    epoch that was not evaluated has no value, and is left out."""
    try:
        having = [r for r in rows if column in r and (r[column] or not column.startswith("test_"))]
        return [(int(r["epoch"]), float(r[column])) for r in having]
    except ValueError as error:
        raise UserError(f"{path}: cut short or damaged ({error}); train the entry again") from None


def analyse(run: Path, seeds: list[int], data: LongTail, out: Path, device: torch.device) -> None:
    """Fill the folder `out` from run/seed<k> of every seed."""
    tail = tail_test(data)
    selections = {"test": data.test_images[tail], "train": data.train_images[tail_train(data)]}
    tables: dict[str, list[tuple]] = {name: [] for name in COLUMNS}
    for seed in seeds:
        folder = run / f"seed{seed}"
        student = load_student(folder, data, device)
        epochs = history(folder / "history.csv")
        apart = diversity(epochs, folder / "history.csv")
        tables["cls_dist_distance"] += [(seed, epoch, f"{distance:.6f}") for epoch, distance in apart]
        tables["curves"] += [(seed, *(row.get(column, "") for column in COLUMNS["curves"][1:])) for row in epochs]
        if not student.attends:
            print(f"{run.name} seed {seed}: a CNN, which has no attention and no tokens to analyse", flush=True)
            continue
        for images, selected in selections.items():
            distances = attention_distances(student, selected)
            for (block, head), distance in np.ndenumerate(distances):
                tables["attention_distance"].append((seed, images, block, head, f"{distance:.6f}"))
            print(f"{run.name} seed {seed}: block 1 {distances[0].mean():.1f} px on {images} images", flush=True)
        tables["feature_rank"] += [(seed, *row) for row in feature_ranks(student, data.test_images, tail)]
        found = spreads(student, selections, (data.test_images, tail, data.test_labels), seed)
        if student.special > 1:
            tested = diversity(epochs, folder / "history.csv", "test_cls_dist_distance")[:-1]
            each = apart_on_views(student, data.test_images)
            last = (
                epochs[-1]["epoch"] if epochs else read_npz(folder / "predictions.npz", ("last_epoch",))["last_epoch"]
            )
            tested.append((int(last), each.mean()))
            tables["cls_dist_test"] += [(seed, epoch, f"{distance:.6f}") for epoch, distance in tested]
            found.append(Spread("cls_dist_test", images="test", stderr=standard_error(each), n=len(each)))
        tables["image_spread"] += [(seed, *line._replace(stderr=f"{line.stderr:.4g}")) for line in found]
        if seed == seeds[0]:
            shown = spread(data.test_labels, tail, ROLLOUT_IMAGES)
            np.savez(out / "rollout.npz", labels=data.test_labels[shown], **rollouts(student, data.test_images[shown]))
    for name, columns in COLUMNS.items():
        with open(out / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(tables[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="EXPERIMENT", help="name of a block under `experiments` in the params file")
    parser.add_argument("--run", type=Path, required=True, help="data/students/EXPERIMENT from stages/train_student.py")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/NAME.npz it was trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when complete")
    add_params(parser)
    add_device(parser)
    args = parser.parse_args()
    entry = params.entry(params.load(args.params), "experiments", args.entry)
    if not entry.get("seeds"):
        raise UserError(f"experiments.{args.entry}.seeds: missing; the analysis needs it")
    if not args.run.is_dir():
        raise UserError(f"{args.run}: no such folder; train the entry first (stages/train_student.py {args.entry})")
    data = LongTail.load(args.dataset)
    if data.name != entry.get("dataset"):
        where = f"experiments.{args.entry}.dataset"
        raise UserError(f"{where} is '{entry.get('dataset')}' but {args.dataset} holds '{data.name}'")
    device = pick_device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # METHODS trap 50
    with new_folder(args.out) as folder:
        analyse(args.run, list(entry["seeds"]), data, folder, device)


if __name__ == "__main__":
    run_main(main)
