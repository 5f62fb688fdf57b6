"""The virtual examples that a CNN makes of each class, the temperature that DiVE's rule takes, a map of its features.

    python stages/virtual_examples.py balanced_softmax-digits_if20 --dataset data/datasets/digits_if20.npz \\
        --run data/teachers/balanced_softmax-digits_if20 \\
        --out reports/analysis/digits-dive/virtual_examples/balanced_softmax-digits_if20

Of entries of `teachers` that are named under `virtual_examples`, with the study that shows them and the data set whose
images they see: their own, or another one of the same classes (DiVE's FULL teacher, on the long-tailed images). Every
training image once, without augmentation, in eval mode and float32, through the weights that teach (the entry's
`select`); cosines of LDAM teachers are multiplied by their scale. Temperatures 1 to 10 and 20, each with and without a
power of 1/2 (METHODS 6.2). Writes into OUT
    groups.csv   seed, tau, power, group, examples: averages over classes by the count rule; INPUT's row has tau 0
    classes.csv  seed, tau, power, class, images, examples: of at most 1,000 classes
    rule.csv     seed, power, tau: the smallest temperature with more examples of few-shot than of many-shot classes;
                 empty where none of 1 to 10 has, or where there is no such group
    tsne.csv     class, images, x, y: t-SNE of the first seed's features of test images, at most 100 of one class of
                 each of ten frequency groups; images is the class' number of training images
Digits: some ten seconds on a core, nearly all of them t-SNE.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from longtail.analysis import tsne
from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import new_folder
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.evaluation import virtual_examples as ve
from longtail.runs.seeds import pick_device
from longtail.training.labels import seed_folder
from longtail.training.teacher import TestSet, features, load_teacher
from longtail.training.teacher_config import TeacherConfig

MANY_CLASSES = 1000  # beyond it classes.csv has no rows
COLUMNS = {
    "groups": ("seed", "tau", "power", "group", "examples"),
    "classes": ("seed", "tau", "power", "class", "images", "examples"),
    "rule": ("seed", "power", "tau"),
    "tsne": ("class", "images", "x", "y"),
}


@dataclass(frozen=True)
class Shown:
    """One entry of `virtual_examples`, named as the teacher is."""

    study: str
    dataset: str  # whose images it is shown


def training_logits(
    network: nn.Module, config: TeacherConfig, data: LongTail, device: torch.device
) -> tuple[np.ndarray, float]:
    """Logits of all training images as the teacher is tested, float32 [N, C], and their scale before a softmax."""
    shown = TestSet(config, replace(data, test_images=data.train_images), device)
    return shown.logits(network).cpu().numpy(), config.logit_scale


def measure(seed: int, logits: np.ndarray, scale: float, data: LongTail, rows: dict[str, list[tuple]]) -> None:
    """Adds the rows of one seed to those of each file."""
    averages, counts = {}, np.asarray(data.class_counts)

    def keep(tau: float, power: float, values: np.ndarray) -> None:
        averages[tau, power] = found = ve.group_averages(values, data.count_groups)
        named = zip(ve.GROUPS, found, strict=True)
        rows["groups"] += [(seed, tau, power, group, f"{v:.4f}") for group, v in named if v is not None]
        if len(counts) <= MANY_CLASSES:
            of_class = enumerate(zip(counts.tolist(), values, strict=True))
            rows["classes"] += [(seed, tau, power, k, n, f"{v:.4f}") for k, (n, v) in of_class]

    keep(0.0, 1.0, counts.astype(np.float64))  # INPUT: the labels themselves
    del averages[0.0, 1.0]
    for power in ve.POWERS:
        for tau in (*ve.TAUS, *ve.MORE_TAUS):
            keep(tau, power, ve.virtual_examples(logits, tau, power, scale))
    tried = {key: found for key, found in averages.items() if key[0] in ve.TAUS}
    try:
        chosen = ve.rule_of_thumb(tried)
    except ValueError:  # no few-shot class, as of CIFAR-100-LT at an imbalance factor of 10
        chosen = dict.fromkeys(ve.POWERS)
    rows["rule"] += [(seed, power, "" if tau is None else tau) for power, tau in chosen.items()]


def placed(network: nn.Module, config: TeacherConfig, data: LongTail, device: torch.device) -> list[tuple]:
    """Rows of tsne.csv."""
    classes = tsne.one_of_each_group(data.class_counts)
    chosen = tsne.chosen_images(data.test_labels, classes)
    found = features(network, TestSet(config, data, device)).cpu().numpy()[chosen]
    labels = data.test_labels[chosen].tolist()
    places = zip(labels, tsne.tsne(found).tolist(), strict=True)
    return [(k, int(data.class_counts[k]), f"{x:.3f}", f"{y:.3f}") for k, (x, y) in places]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="TEACHER", help="name of a block under `teachers` in the params file")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/NAME.npz that it is shown")
    parser.add_argument("--run", type=Path, required=True, help="folder of stages/train_teacher.py, with its seeds")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when complete")
    add_params(parser)
    add_device(parser)
    args = parser.parse_args()
    table = params.load(args.params)
    config = params.build(TeacherConfig, params.entry(table, "teachers", args.entry), f"teachers.{args.entry}")
    where = f"virtual_examples.{args.entry}"
    shown = params.build(Shown, params.entry(table, "virtual_examples", args.entry), where)
    data = LongTail.load(args.dataset)
    if data.name != shown.dataset:
        raise UserError(f"{where}.dataset is '{shown.dataset}' but {args.dataset} holds '{data.name}'")
    device, rows = pick_device(args.device), {name: [] for name in COLUMNS}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for seed in config.seeds:
        network, found = load_teacher(seed_folder(args.run, seed), data, device, config.dataset)
        measure(seed, *training_logits(network, found, data, device), data, rows)
        if seed == config.seeds[0]:
            rows["tsne"] = placed(network, found, data, device)
    with new_folder(args.out) as folder:
        for name, columns in COLUMNS.items():
            with open(folder / f"{name}.csv", "w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([columns, *rows[name]])
    for seed, power, tau in rows["rule"]:
        print(f"{args.entry} seed {seed}: power {power}: {f'tau {tau}' if tau else 'no temperature of those tried'}")


if __name__ == "__main__":
    run_main(main)
