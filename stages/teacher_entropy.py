"""How sure a teacher is of what it was trained on, and of what it is asked to label: entropy histograms (METHODS 4.5).

    python stages/teacher_entropy.py ldam_drw_sam-digits_if20 --teacher data/teachers/ldam_drw_sam-digits_if20 \\
        --dataset data/datasets/digits_if20.npz --out reports/analysis/digits/teachers/ldam_drw_sam-digits_if20

CACHE names a teacher and a student's view recipe (section `caches`). `in`: every training image once, weakly augmented
at native resolution or by the views of the teacher's entry, in its normalisation; for a CNN that was trained as a
student is, an epoch of the views it was trained on. `out`: one epoch of the student's strong and mixed views, brought
to the teacher's size. Natural log; cosines of LDAM teachers are multiplied by their scale first. Writes into OUT:
    entropy.csv       seed, domain, bin_left, bin_right, count: 50 equal bins from 0 to log C
    entropy_mean.csv  seed, domain, mean_nats, n
    taught.npz        of the first seed: training images of three classes, a view of each, what the teacher calls it
Digits: a second. CIFAR-10: half a minute on one core.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from longtail.analysis.entropy import entropy_histogram, entropy_in, entropy_out, entropy_own_views, taught
from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import new_folder
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.runs.seeds import pick_device
from longtail.training.cache import CacheConfig
from longtail.training.labeller import Labeller, load_labeller
from longtail.training.labels import seed_folder
from longtail.training.teacher_config import TeacherConfig
from longtail.views.student_views import ViewRecipe, Views


def in_distribution(labeller: Labeller, data: LongTail, seed: int, device: torch.device) -> torch.Tensor:
    """Entropy in nats on views as the network saw them in training, float64 [n]."""
    own = labeller.trained_as
    if isinstance(own, TeacherConfig):
        return entropy_in(labeller.network, own, data, seed, device)
    recipe = params.build(ViewRecipe, own.config["views"], f"{own.folder / 'config.yaml'}: views")
    views = Views(recipe, data.train_images, own.config["seed"], device=device, labels=data.train_labels)
    return entropy_own_views(labeller.network, views, device)


def measure(
    config: CacheConfig, recipe: ViewRecipe, teacher: Path, data: LongTail, device: torch.device
) -> tuple[list[tuple], list[tuple], dict[str, np.ndarray] | None]:
    """Rows of entropy.csv and entropy_mean.csv, arrays of taught.npz."""
    histogram, means, pictures = [], [], None
    for seed in config.seeds:
        labeller = load_labeller(config.teacher_kind, seed_folder(teacher, seed), data, recipe, device)
        views = Views(recipe, data.train_images, seed, device=device, labels=data.train_labels)
        if seed == config.seeds[0]:
            pictures = taught(labeller, views, data, device)
        domains = {
            "in": in_distribution(labeller, data, seed, device),
            "out": entropy_out(labeller.network, views, labeller.logit_scale, device),
        }
        for domain, nats in domains.items():
            edges, counts = entropy_histogram(nats, data.num_classes)
            bins = zip(edges[:-1], edges[1:], counts, strict=True)
            histogram += [(seed, domain, f"{a:.6f}", f"{b:.6f}", int(n)) for a, b, n in bins]
            means.append((seed, domain, f"{nats.mean().item():.6f}", len(nats)))
        print(f"{config.teacher} seed {seed}: " + ", ".join(f"{m[1]} {m[2]} nats" for m in means[-2:]), flush=True)
    return histogram, means, pictures


def write_csv(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="CACHE", help="name of a block under `caches` in the params file")
    parser.add_argument("--teacher", type=Path, required=True, help="data/teachers/T or data/students/T")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/NAME.npz it was trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when complete")
    add_params(parser)
    add_device(parser)
    args = parser.parse_args()
    table = params.load(args.params)
    config = params.build(CacheConfig, params.entry(table, "caches", args.entry), f"caches.{args.entry}")
    recipe = params.build(ViewRecipe, params.entry(table, "views", config.views), f"views.{config.views}")
    if not args.teacher.is_dir():
        script = f"stages/train_{config.teacher_kind.removesuffix('s')}.py"
        raise UserError(f"{args.teacher}: no such folder; train it first ({script} {config.teacher})")
    data = LongTail.load(args.dataset)
    if data.name != config.dataset:
        raise UserError(f"caches.{args.entry}.dataset is '{config.dataset}' but {args.dataset} holds '{data.name}'")
    device = pick_device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    histogram, means, pictures = measure(config, recipe, args.teacher, data, device)
    with new_folder(args.out) as folder:
        write_csv(folder / "entropy.csv", ("seed", "domain", "bin_left", "bin_right", "count"), histogram)
        write_csv(folder / "entropy_mean.csv", ("seed", "domain", "mean_nats", "n"), means)
        if pictures:
            np.savez_compressed(folder / "taught.npz", **pictures)


if __name__ == "__main__":
    run_main(main)
