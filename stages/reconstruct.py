"""What a pretrained encoder and its decoder make of hidden patches: PRETRAINING's first seed, on a few test images.

    python stages/reconstruct.py digits-mgp --run data/students/digits-mgp \\
        --dataset data/datasets/digits_if20.npz --out reports/analysis/digits-livt/pretrainings/digits-mgp

Writes into OUT (METHODS 5.2; last-epoch weights, test images of as many classes as there are, resized to the views'
size):
    reconstructions.npz  images, masked, reconstructed: uint8 [K, S, S, 3]; labels int64 [K]
    curves.csv           seed, epoch, loss: of every seed
Hidden patches are grey in `masked`. The network predicts each patch normalised by its own mean and deviation, which the
picture takes from the image; visible patches are shown as they are. Digits: a second on one core.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from longtail.analysis.reconstruction import load_autoencoder, reconstructions
from longtail.base import intact, params
from longtail.base.errors import UserError, run_main
from longtail.base.files import new_folder
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.runs.seeds import pick_device

SHOWN = 8  # images


def losses(path: Path) -> list[tuple[str, str]]:
    """(epoch, loss) of a run's history.csv. Raises UserError where it is missing or damaged."""
    intact.check(path.parent, path.name)
    if not path.is_file():
        raise UserError(f"{path}: no such file; pretrain the entry first (stages/pretrain.py)")
    text = path.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    if not text.endswith("\n") or any(not row.get("epoch") or not row.get("loss") for row in rows):
        raise UserError(f"{path}: cut short or damaged; pretrain the entry again")
    return [(row["epoch"], row["loss"]) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="PRETRAINING", help="name of a block under `pretrainings` in the params file")
    parser.add_argument("--run", type=Path, required=True, help="data/students/PRETRAINING from stages/pretrain.py")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/NAME.npz it was trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when complete")
    add_params(parser)
    add_device(parser)
    args = parser.parse_args()
    entry = params.entry(params.load(args.params), "pretrainings", args.entry)
    if not entry.get("seeds"):
        raise UserError(f"pretrainings.{args.entry}.seeds: missing; the pictures need it")
    data = LongTail.load(args.dataset)
    if data.name != entry.get("dataset"):
        where = f"pretrainings.{args.entry}.dataset"
        raise UserError(f"{where} is '{entry.get('dataset')}' but {args.dataset} holds '{data.name}'")
    device, seeds = pick_device(args.device), list(entry["seeds"])
    with new_folder(args.out) as folder:
        made = reconstructions(load_autoencoder(args.run / f"seed{seeds[0]}", data, device), data, SHOWN)
        np.savez(folder / "reconstructions.npz", **made)
        with open(folder / "curves.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("seed", "epoch", "loss"))
            for seed in seeds:
                writer.writerows((seed, *row) for row in losses(args.run / f"seed{seed}" / "history.csv"))


if __name__ == "__main__":
    run_main(main)
