"""How a run is computed: numbers' precision, compiled or eager, views in a pass. Nothing of it is in a recipe.

A stage takes it from --precision, --engine and --micro-batch, or, started by DVC or Snakemake, from LONGTAIL_PRECISION,
LONGTAIL_ENGINE and LONGTAIL_MICRO_BATCH in the environment. Results keep it in their identity.json.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from longtail.base import environment

DTYPES = dict(zip(environment.PRECISIONS, (torch.float32, torch.bfloat16, torch.float16), strict=True))


@dataclass(frozen=True)
class Execution:
    """precision: of autocast; weights, their gradients, losses and batch statistics are float32 in each.

    engine: eager, or compiled: a student's blocks by torch.compile, a teacher's steps as CUDA graphs; a machine that
    cannot goes on eagerly and says so. micro_batch: views in one forward pass of a student, a multiple of the mix
    group; 0 = a whole optimizer step.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    engine: Literal["eager", "compiled"] = "eager"
    micro_batch: int = 0

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """For the forward passes of what is trained."""
        return nullcontext() if self.precision == "fp32" else torch.autocast(device.type, DTYPES[self.precision])


def add_options(parser, precisions: tuple[str, ...] = tuple(DTYPES), on_cuda: str = "bf16") -> None:
    """Give an argparse parser --precision and --engine. on_cuda: what `auto` is there."""
    parser.add_argument(
        "--precision",
        choices=("auto", *precisions),
        default=environment.of(environment.PRECISION),
        help=f"of forward passes (autocast); default: LONGTAIL_PRECISION, or auto: {on_cuda} on CUDA, fp32 on a CPU",
    )
    parser.set_defaults(on_cuda=on_cuda)
    parser.add_argument(
        "--engine",
        choices=("auto", *environment.ENGINES),
        default=environment.of(environment.ENGINE),
        help="default: LONGTAIL_ENGINE, or auto: compiled on CUDA, eager on a CPU",
    )


def chosen(args, device: torch.device, micro_batch: int = 0) -> Execution:
    """What the options ask for on this device."""
    cuda = device.type == "cuda"
    precision = args.precision if args.precision != "auto" else args.on_cuda if cuda else "fp32"
    engine = args.engine if args.engine != "auto" else "compiled" if cuda else "eager"
    return Execution(precision, engine, micro_batch)
