"""The two experts of a distilled student, CLS and DIST: which mixture to take, and what each learnt from the teacher.

    python stages/experts.py digits-deit_lt --run data/students/digits-deit_lt \\
        --dataset data/datasets/digits_if20.npz --cache data/caches/ldam_drw_sam-digits \\
        --out reports/experts/digits/digits-deit_lt.json

Fusion: w of w * CLS + (1 - w) * DIST (raw logits) with the best mean of per-class accuracies on labelled images that
the subset left out (of lists: the validation list), each seed its own; then the test accuracy at that w, at w = .5 and
of each head. A long-tailed learner does not have those labels: it is an analysis beside the result, never the result.
Agreement: how often CLS, DIST, the teacher's label and the class of the dominant image are the same on training views,
by mixing and class group: views of the last epoch with mixing and of the last of training, both seen with the weights
of the last epoch. Teacher: --cache, or --teacher where the entry says `cache: none`. The papers print neither.
A student without DIST gets a file that says so. What the file holds: docs/schema/experts.schema.json.
Needs the raw images that subsample needs. Digits: seconds on one core; CIFAR-10, ViT-B: a minute on a GPU (estimate).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import write_json
from longtail.base.options import add_device, add_params
from longtail.data.config import DatasetConfig
from longtail.data.long_tail import LongTail
from longtail.evaluation.predictions import load_predictions

SCHEMA = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="EXPERIMENT", help="name of a block under `experiments` in the params file")
    parser.add_argument("--run", type=Path, required=True, help="data/students/EXPERIMENT from stages/train_student.py")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/NAME.npz it was trained on")
    parser.add_argument("--cache", type=Path, help="data/caches/CACHE it learnt from")
    parser.add_argument("--teacher", type=Path, help="data/teachers/TEACHER, for `cache: none`")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--limit", type=int, default=100, help="held-out images a class (default: %(default)s)")
    add_params(parser)
    add_device(parser)
    args = parser.parse_args()
    everything = params.load(args.params)
    entry = params.entry(everything, "experiments", args.entry)
    for key in ("study", "seeds", "dataset"):
        if not entry.get(key):
            raise UserError(f"experiments.{args.entry}.{key}: missing; the stage needs it")
    if args.limit < 1:
        raise UserError(f"--limit {args.limit}: at least 1 image a class")
    tested = {seed: load_predictions(args.run / f"seed{seed}" / "predictions.npz") for seed in entry["seeds"]}
    distilled = all("dist" in predictions.logits["last"] for predictions in tested.values())
    found = {"schema": SCHEMA, "entry": args.entry, "study": entry["study"], "distilled": distilled}
    if distilled:
        from longtail.analysis.experts import experts  # loads torch, which the others do without

        where = f"datasets.{entry['dataset']}"
        config = params.build(DatasetConfig, params.entry(everything, "datasets", entry["dataset"]), where)
        data = LongTail.load(args.dataset)
        if data.name != entry["dataset"]:
            where = f"experiments.{args.entry}.dataset is '{entry['dataset']}'"
            raise UserError(f"{where} but {args.dataset} holds '{data.name}'")
        source = {"cache": args.cache, "teacher": args.teacher}
        found |= experts(args.run, tested, data, args.dataset, config, source, args.limit, args.device)
    write_json(args.out, found)


if __name__ == "__main__":
    run_main(main)
