"""Take over a trained checkpoint of somebody else's: evaluate it here and write it as a run of this project.

    python stages/import_checkpoint.py ckpt.best.pth.tar --kind teacher --like ldam_drw_sam-cifar10_if100 \\
        --dataset data/datasets/cifar10_if100.npz --out data/teachers/ldam_drw_sam-cifar10_if100

Reads the state_dicts of DeiT-LT, DeiT and LiVT (students), of Saddle-LongTail and LDAM-DRW, of PaCo (teachers), and of
LiVT's and the original masked autoencoders (pretrainings), bare or in a training checkpoint, .pth or .safetensors;
nothing in a file is run. The weights must fit the model of --like, an entry of `teachers`, `experiments` or
`pretrainings` in params.yaml; several files are the entry's first seeds, in order. Each gets a folder OUT/seed<k>/ as
training leaves it, which evaluate, cache_logits, analyse and train_student take (docs/checkpoints.md).

The class order is tested: where another order of the outputs predicts the test set clearly better, the file is refused,
with the order that would reconcile it. --class-map applies one: its name (source, frequency, numbers_as_text,
names_as_text, names_as_numbers), a JSON file with a list of the output that stands for each class, or as_is. A
pretraining has no classes: its names, shapes and numbers alone are checked.
Cost: one evaluation of the test set; CIFAR-10, DeiT-B: two hours on one core, a minute on a GPU (estimates).
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np

from longtail.base import params
from longtail.base.errors import UserError, nearest, run_main
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.exchange.checkpoints import Checkpoint, read_checkpoint
from longtail.exchange.imported import Like, import_pretraining, import_run
from longtail.exchange.permutation import known_orders
from longtail.runs import seeds as runs
from longtail.runs.single_run import identity
from longtail.training.experiment import resolve
from longtail.training.pretraining_config import resolve_pretraining
from longtail.training.teacher import recipe
from longtail.training.teacher_config import TeacherConfig

AS_IS = "as_is"


def entry(everything: dict, kind: str, name: str) -> tuple[Like, tuple[int, ...]]:
    """The entry that the checkpoints shall fit, and its seeds."""
    if kind == "student":
        config, seeds = resolve(everything, name)
        return Like(f"experiments.{name}", config), seeds
    if kind == "pretraining":
        config, seeds = resolve_pretraining(everything, name)
        return Like(f"pretrainings.{name}", config), seeds
    where = f"teachers.{name}"
    config = params.build(TeacherConfig, params.entry(everything, "teachers", name), where)
    return Like(where, config), config.seeds


def class_map(name: str | None, data: LongTail) -> np.ndarray | None:
    """The order that --class-map names, int64 [C]; None where it was not given or is as_is."""
    orders = {AS_IS: None, **known_orders(data)}
    if name is None or name in orders:
        return orders.get(name)
    if not Path(name).is_file():
        what = "neither a file nor an order that differs from the dataset's"
        raise UserError(f"--class-map {name}: {what}{nearest(name, orders)}")
    try:
        listed = json.loads(Path(name).read_text(encoding="utf-8-sig"))
        if wrong := [value for value in listed if type(value) is not int]:  # np.int64 would make 1 of 1.7
            raise UserError(f"--class-map {name}: {wrong[0]!r} is no whole number")
        order = np.array(listed, np.int64)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"--class-map {name}: no JSON list of numbers ({error})") from None
    if order.shape != (data.num_classes,) or not np.array_equal(np.sort(order), np.arange(data.num_classes)):
        last = data.num_classes - 1
        raise UserError(f"--class-map {name}: expected every number from 0 to {last} once, found {order.size} numbers")
    return order


def keep_trained(out: Path) -> None:
    """Raises UserError where a trained result would be replaced."""
    for path in sorted(out.glob("seed*/identity.json")):
        if '"imported": true' not in path.read_text():
            raise UserError(f"{path.parent}: holds a run that was trained here; give another --out, or move it away")


def work(like: Like, data: LongTail, files: dict[int, Checkpoint], order, tested, device, seed: int, workspace) -> None:
    if like.kind == "pretraining":
        import_pretraining(like, data, files[seed], seed, workspace)
    else:
        import_run(like, data, files[seed], order, seed, workspace, device, tested)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="a checkpoint for each seed")
    parser.add_argument(
        "--kind", choices=("teacher", "student", "pretraining"), required=True, help="which section --like stands in"
    )
    parser.add_argument("--like", metavar="ENTRY", required=True, help="entry of params.yaml with its model and views")
    parser.add_argument("--dataset", type=Path, required=True, help="npz of stages/subsample.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results: <out>/seed<k>/")
    parser.add_argument("--class-map", metavar="ORDER", help="which output stands for which class (default: the same)")
    add_params(parser)
    add_device(parser)
    args = parser.parse_args()
    like, seeds = entry(params.load(args.params), args.kind, args.like)
    if like.kind == "pretraining" and args.class_map is not None:
        raise UserError(
            f"--class-map {args.class_map}: {like.where} is a pretraining, which has no classes; leave it out"
        )
    data = LongTail.load(args.dataset)
    if data.name != like.config.dataset:
        raise UserError(f"{like.where}.dataset is '{like.config.dataset}' but {args.dataset} holds '{data.name}'")
    if len(args.files) > len(seeds):
        raise UserError(f"{len(args.files)} files, but {like.where} has {len(seeds)} seeds")
    keep_trained(args.out)
    order = class_map(args.class_map, data)
    files = {seed: read_checkpoint(path) for seed, path in zip(seeds, args.files, strict=False)}
    resolved = recipe(like.config) if args.kind == "teacher" else like.config
    applied, tested = None if order is None else order.tolist(), args.class_map != AS_IS
    identities = {s: identity(resolved, s, data.digest, c.digest, applied, tested) for s, c in files.items()}
    device = runs.pick_device(args.device)
    runs.run_seeds(partial(work, like, data, files, order, tested, device), identities, args.out, device, jobs=1)


if __name__ == "__main__":
    run_main(main)
