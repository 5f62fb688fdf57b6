"""Cut a long-tailed training set out of an image source: datasets.<ENTRY> of params.yaml -> one npz.

    python stages/subsample.py digits_if20 --out data/datasets/digits_if20.npz

The file holds the kept training images and the balanced test set as uint8, labels, class names, counts, both group
rules (author cuts and many/medium/few by count), the subset seed and `class_order`, the checksum of the ordered class
list that every teacher, cache, checkpoint and prediction carries on. Construction: METHODS 1.1.
Seconds on any machine; decoding CIFAR-10 from JPEG takes half a minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import atomic_write
from longtail.base.options import add_params
from longtail.base.text import note
from longtail.data.sources import DatasetConfig, make_longtail, summary


def run(name: str, config: DatasetConfig, out: Path) -> None:
    """Make the dataset file and print its counts, and what of the source was left out."""
    data = make_longtail(name, config, note)
    atomic_write(out, data.save)
    print(summary(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", help="name under `datasets` in params.yaml")
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")
    add_params(parser)
    args = parser.parse_args()
    entry = params.entry(params.load(args.params), "datasets", args.entry)
    run(args.entry, params.build(DatasetConfig, entry, f"datasets.{args.entry}"), args.out)


if __name__ == "__main__":
    run_main(main)
