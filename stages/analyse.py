"""What a trained student attends to and how rich its features are: EXPERIMENT's seeds -> CSVs and rollout maps.

    python stages/analyse.py digits-deit_lt --run data/students/digits-deit_lt \\
        --dataset data/datasets/digits_if20.npz --out reports/analysis/digits/digits-deit_lt

Writes into OUT (METHODS 4.1 to 4.4; last-epoch weights, test images under the evaluation transform):
    attention_distance.csv  seed, block, head, distance_px: tail-class images; heads sorted ascending within a block
    feature_rank.csv        seed, token, block, centring, rank: directions that hold 99 % of the tail's feature energy
    cls_dist_distance.csv   seed, epoch, distance: 1 - cosine(CLS, DIST) on training views; header only without DIST
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

from longtail import params
from longtail.analysis import attention_distances, feature_ranks, load_student, rollouts, spread, tail_test
from longtail.data import LongTail
from longtail.errors import UserError, run_main
from longtail.output import new_folder
from longtail.runs import pick_device

ROLLOUT_IMAGES = 8
COLUMNS = {
    "attention_distance": ("seed", "block", "head", "distance_px"),
    "feature_rank": ("seed", "token", "block", "centring", "rank"),
    "cls_dist_distance": ("seed", "epoch", "distance"),
}


def diversity(history: Path) -> list[tuple[int, float]]:
    """(epoch, 1 - cosine) from a run's history.csv; empty where it has no such column (plain ViT)."""
    if not history.is_file():
        raise UserError(f"{history}: no such file; train the entry first (stages/train_student.py)")
    text = history.read_text()
    if not text.endswith("\n"):
        raise UserError(f"{history}: cut short, its last line has no end; train the entry again")
    rows = list(csv.DictReader(text.splitlines()))
    if rows and "cls_dist_distance" not in rows[0]:
        return []
    try:
        return [(int(row["epoch"]), float(row["cls_dist_distance"])) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{history}: cut short or damaged ({error}); train the entry again") from None


def analyse(run: Path, seeds: list[int], data: LongTail, out: Path, device: torch.device) -> None:
    """Fill the folder `out` from run/seed<k> of every seed."""
    tail = tail_test(data)
    tables: dict[str, list[tuple]] = {name: [] for name in COLUMNS}
    for seed in seeds:
        folder = run / f"seed{seed}"
        student = load_student(folder, data, device)
        tables["cls_dist_distance"] += [(seed, epoch, f"{d:.6f}") for epoch, d in diversity(folder / "history.csv")]
        if not student.attends:
            print(f"{run.name} seed {seed}: a CNN, which has no attention and no tokens to analyse", flush=True)
            continue
        distances = attention_distances(student, data.test_images[tail])
        for (block, head), distance in np.ndenumerate(distances):
            tables["attention_distance"].append((seed, block, head, f"{distance:.6f}"))
        tables["feature_rank"] += [(seed, *row) for row in feature_ranks(student, data.test_images, tail)]
        if seed == seeds[0]:
            shown = spread(data.test_labels, tail, ROLLOUT_IMAGES)
            np.savez(out / "rollout.npz", labels=data.test_labels[shown], **rollouts(student, data.test_images[shown]))
        print(f"{run.name} seed {seed}: block 1 {distances[0].mean():.1f} px", flush=True)
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
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="params file (default: params.yaml)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: CUDA if present")
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
