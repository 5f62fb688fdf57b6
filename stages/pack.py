"""Decode the images of a dataset once, into a file of raw pixels a split that training maps into memory.

    python stages/pack.py imagenet_lt --dataset data/datasets/imagenet_lt.npz --out data/packed/imagenet_lt

For entries of sources list, inat and csv. The pack holds the pixels that decoding gives, so it changes no result and
is no stage of the DAG: name the folder under `files.pack` of the entry and make the dataset file again, which keeps its
digest. What does change pixels is `files.short_side`: images resized before the random crop are not the published
pipeline. Raw pixels take three bytes each; the stage stops before it starts where the disk has no room for them.
A run that was stopped goes on where it was; a finished pack is checked against its checksums.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.options import add_params
from longtail.base.workers import cores
from longtail.data.config import DatasetConfig
from longtail.data.file_images import FileImages
from longtail.data.long_tail import LongTail
from longtail.data.packed_images import vars_of
from longtail.data.packing import pack_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", help="name under `datasets` in params.yaml")
    parser.add_argument("--dataset", type=Path, required=True, help="npz of stages/subsample.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pack; the entry's files.pack")
    add_params(parser)
    parser.add_argument("--jobs", type=int, default=0, help="worker processes (default: one per core)")
    args = parser.parse_args()
    where = f"datasets.{args.entry}"
    config = params.build(DatasetConfig, params.entry(params.load(args.params), "datasets", args.entry), where)
    if config.files is None:
        raise UserError(f"{where}: images of source {config.source} are in the dataset file; there is nothing to pack")
    data = LongTail.load(args.dataset)
    if data.name != args.entry:
        raise UserError(f"{args.dataset} holds '{data.name}', not '{args.entry}'")
    if config.files.pack not in (None, str(args.out)):
        raise UserError(f"{where}.files.pack is {config.files.pack}, --out {args.out}; they must be the same folder")
    for split, images in (("train", data.train_images), ("test", data.test_images)):
        from_files = FileImages(**vars_of(images))
        print(f"{args.entry} {split}: {pack_split(from_files, split, args.out, args.jobs or cores())}", flush=True)


if __name__ == "__main__":
    run_main(main)
