"""Pretrain a ViT encoder without labels: pretrainings.<ENTRY> of params.yaml, every seed of it.

    python stages/pretrain.py digits-mgp --dataset data/datasets/digits_if20.npz --out data/students/digits-mgp

A masked autoencoder (LiVT's masked generative pretraining, METHODS 5.2): three quarters of the patches of each image
are hidden, the encoder sees the others, and a small decoder predicts the pixels of what is hidden. OUT/seed<k>/ gets
the encoder's weights, which experiments name under `start`, the decoder's in decoder.safetensors, config.yaml,
history.csv, identity.json and probe.json. A run that is killed continues from its own checkpoint; finished seeds of
this very configuration are kept. Several GPUs train one encoder: LONGTAIL_NPROC=4 in the environment here, `torchrun`
on several machines (docs/cluster.md). The result is that of one process but for the order of float sums.
Cost: digits half a minute a seed on one core; ViT-B at 224 px days of a GPU.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from longtail.base import environment, params
from longtail.base.errors import UserError, run_main
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.runs import seeds as runs
from longtail.runs.execution import Execution, add_options, chosen
from longtail.runs.launch import launch
from longtail.runs.parallel import Team, joined
from longtail.runs.single_run import identity
from longtail.training.pretraining import pretrain
from longtail.training.pretraining_config import PretrainingConfig, resolve_pretraining
from longtail.training.pretraining_probe import pretraining_probe


def run(config: PretrainingConfig, data: LongTail, device, execution: Execution, seed: int, workspace) -> None:
    """Train one seed."""
    pretrain(config, data, seed, workspace, device, execution)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", help="name under `pretrainings` in params.yaml")
    parser.add_argument("--dataset", type=Path, required=True, help="npz of stages/subsample.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results: <out>/seed<k>/")
    add_params(parser)
    add_device(parser)
    add_options(parser)
    parser.add_argument(
        "--micro-batch",
        type=int,
        default=environment.of(environment.MICRO_BATCH),
        help="views a forward pass, to bound memory (default: LONGTAIL_MICRO_BATCH, or 0: all of a step)",
    )
    parser.add_argument("--jobs", type=int, default=0, help="seeds at a time (default: one per core; one on CUDA)")
    args = parser.parse_args()
    launch(sys.argv)
    with joined(runs.pick_device(args.device)) as (team, device):
        train(args, team, device)


def train(args: argparse.Namespace, team: Team, device) -> None:
    """Check what was asked for and train every seed that is missing."""
    config, seeds = resolve_pretraining(params.load(args.params), args.entry)
    data = LongTail.load(args.dataset)
    if data.name != config.dataset:
        raise UserError(
            f"pretrainings.{args.entry}.dataset is '{config.dataset}' but {args.dataset} holds '{data.name}'"
        )
    if args.micro_batch % config.views.mix_group:
        raise UserError(f"--micro-batch {args.micro_batch}: must be a multiple of mix_group {config.views.mix_group}")
    if args.jobs > 1 and team.size > 1:
        raise UserError(f"--jobs {args.jobs}: {team.size} processes train one seed after the other; leave it out")
    identities = {seed: identity(config, seed, data.digest) for seed in seeds}
    work = partial(run, config, data, device, chosen(args, device, args.micro_batch))
    runs.run_seeds(work, identities, args.out, device, args.jobs, team, partial(pretraining_probe, config, data))


if __name__ == "__main__":
    run_main(main)
