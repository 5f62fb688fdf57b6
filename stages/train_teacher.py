"""Train a CNN (ResNet; CE, LDAM, balanced softmax, focal or PaCo; DRW; SGD or SAM; DiVE, CBD) on a long-tailed dataset.

    python stages/train_teacher.py ldam_drw_sam-digits_if20 \\
        --dataset data/datasets/digits_if20.npz --out data/teachers/ldam_drw_sam-digits_if20

Every number stands in the entry's block of params.yaml (section `teachers`). Each of its seeds gets a folder
OUT/seed<k>/ with model.safetensors (last epoch), model_best.safetensors (best on the test set, the papers' protocol),
model_validation.safetensors (chosen on validation images, where the dataset has some),
predictions.npz, history.csv, config.yaml, identity.json and probe.json. Seeds that are there already are not trained
again; a run that was killed continues where it stopped. An entry with `distil` learns from others, its `sources`, whose
folders are passed in their order: --teacher data/teachers/balanced_softmax-digits_if20; one with `start` goes on from
their weights, or, with 0 epochs, is what they make together. One with `experts` is one network of several (RIDE), and
with `start: {train: router}` what chooses among them is trained alone; predictions.npz then holds experts_last and
experts_best too, how many answered each test image. Engine compiled replays the steps as CUDA graphs;
--precision and --engine are no part of the recipe. Several GPUs train one CNN: LONGTAIL_NPROC=4 in the environment
here, `torchrun` on several machines (docs/cluster.md); its batch stays one, for batch statistics too, and the result is
that of one process but for the order of float sums. Cost: ResNet-8 on the 438 digits, batch 32, 0.2 s an epoch with SAM
on one CPU core, half of that without, a third more than that half where another one teaches.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.runs import execution, seeds
from longtail.runs.launch import launch
from longtail.runs.parallel import Team, joined
from longtail.runs.probe import Probe
from longtail.runs.single_run import identity
from longtail.training.labels import seed_folder
from longtail.training.teacher import load_sources, recipe, teacher_digest
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_probe import teacher_probe
from longtail.training.teacher_training import check_precision, train_teacher


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", help="name of a block under `teachers` in the params file")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/<name>.npz from stages/subsample.py")
    parser.add_argument(
        "--teacher", type=Path, nargs="*", default=[], help="folders of the entry's `sources`, in their order"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the results: <out>/seed<k>/")
    add_params(parser)
    add_device(parser)
    execution.add_options(parser, ("fp32", "bf16"), on_cuda="fp32")  # as published: METHODS 2.3
    parser.add_argument("--jobs", type=int, default=0, help="seeds at a time (default: one per core; one on CUDA)")
    return parser.parse_args()


def sources_of(config: TeacherConfig, entry: str, folders: list[Path]) -> list[Path]:
    """The folders of those that the entry learns from. Raises UserError where one is not given or is its own."""
    found = []
    for place, name in enumerate(config.sources):
        if name == "none":
            continue
        if name == entry:
            raise UserError(f"teachers.{entry}.sources: an entry cannot learn from itself")
        if place >= len(folders):
            raise UserError(f"teachers.{entry} learns from {name}; pass --teacher data/teachers/{name}")
        found.append(folders[place])
    return found


def probe(config: TeacherConfig, data: LongTail, taught_by: list[Path], seed: int) -> Probe:
    """What the code computes for one seed."""
    return teacher_probe(config, data, seed, load_sources(config, taught_by, data, seed, "cpu"))


def main() -> None:
    args = parse()
    launch(sys.argv)
    with joined(seeds.pick_device(args.device)) as (team, device):
        train(args, team, device)


def train(args: argparse.Namespace, team: Team, device) -> None:
    """Check what was asked for and train every seed that is missing."""
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
    if args.jobs > 1 and team.size > 1:
        raise UserError(f"--jobs {args.jobs}: {team.size} processes train one seed after the other; leave it out")
    taught_by = sources_of(config, args.entry, args.teacher)
    identities = {}
    for seed in config.seeds:
        learnt = [teacher_digest(seed_folder(folder, seed)) for folder in taught_by]
        identities[seed] = identity(recipe(config), seed, data.digest, *learnt)
    how = execution.chosen(args, device)
    check_precision(how)
    work = partial(train_teacher, config, data, device=device, execution=how, taught_by=taught_by)
    seeds.run_seeds(work, identities, args.out, device, args.jobs, team, partial(probe, config, data, taught_by))


if __name__ == "__main__":
    run_main(main)
