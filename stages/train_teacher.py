"""Train a CNN teacher (ResNet; CE, LDAM, balanced softmax or PaCo; DRW; SGD or SAM) on a long-tailed dataset.

    python stages/train_teacher.py ldam_drw_sam-digits_if20 \\
        --dataset data/datasets/digits_if20.npz --out data/teachers/ldam_drw_sam-digits_if20

Every number stands in the entry's block of params.yaml (section `teachers`). Each of its seeds gets a folder
OUT/seed<k>/ with model.safetensors (last epoch), model_best.safetensors (best on the test set, the papers' protocol),
predictions.npz, history.csv, config.yaml, identity.json and probe.json. Seeds that are there already are not trained
again; a run that was killed continues where it stopped. Engine compiled replays the steps as CUDA graphs; --precision
and --engine are no part of the recipe. Cost: ResNet-8 on the 438 digits, batch 32, 0.2 s an epoch with SAM on one CPU
core, half of that without.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.runs import execution, seeds
from longtail.runs.single_run import identity
from longtail.training.teacher import recipe
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_probe import teacher_probe
from longtail.training.teacher_training import check_precision, train_teacher


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", help="name of a block under `teachers` in the params file")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/<name>.npz from stages/subsample.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results: <out>/seed<k>/")
    add_params(parser)
    add_device(parser)
    execution.add_options(parser, ("fp32", "bf16"), on_cuda="fp32")  # as published: METHODS 2.3
    parser.add_argument("--jobs", type=int, default=0, help="seeds at a time (default: one per core; one on CUDA)")
    return parser.parse_args()


def main() -> None:
    args = parse()
    block = params.entry(params.load(args.params), "teachers", args.entry)
    config = params.build(TeacherConfig, block, f"teachers.{args.entry}")
    if not config.seeds:
        raise UserError(f"teachers.{args.entry}.seeds: give at least one, e.g. [0, 1, 2]")
    data = LongTail.load(args.dataset)
    if data.name != config.dataset:
        raise UserError(
            f"teachers.{args.entry}.dataset is '{config.dataset}' but {args.dataset} holds '{data.name}'; "
            f"pass data/datasets/{config.dataset}.npz"
        )
    identities = {seed: identity(recipe(config), seed, data.digest) for seed in config.seeds}
    device = seeds.pick_device(args.device)
    how = execution.chosen(args, device)
    check_precision(how)
    work = partial(train_teacher, config, data, device=device, execution=how)
    seeds.run_seeds(work, identities, args.out, device, args.jobs, probe=partial(teacher_probe, config, data))


if __name__ == "__main__":
    run_main(main)
