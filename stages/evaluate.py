"""Metrics of a trained run, from its saved test logits, and what its page shows: nothing here sees an image.

Reads <run>/seed<k>/{predictions.npz,identity.json,config.yaml,history.csv} of every seed of the entry, and the dataset
file's labels and groups. Seconds with 10 classes. Formats: docs/schema.
--out, reports/metrics/<study>/[teachers/]<entry>.json: top-1/5, per-class and group accuracies (both group rules),
balanced accuracy, macro-F1, ECE, MCE, class-wise ECE and NLL of every head (cls, dist, and avg = mean of their raw
logits), and how many experts answered where a network has several, at the last epoch and, beside it, at the best epoch
on the test set (the papers' protocol) and at the one chosen on validation images where the dataset has some, with mean
and standard error over seeds.
--details, reports/runs/<study>/[teachers/]<entry>/: run.json (configuration, identity, curves), diagnostics.json
(at the last epoch: confusions, per-class accuracy, reliability, fusion of the heads, shifted test sets) and
predictions.npz (top-1 classes of every test image; numpy reads it).

  python stages/evaluate.py digits-deit_lt --kind experiment --run data/students/digits-deit_lt \\
      --dataset data/datasets/digits_if20.npz --out reports/metrics/digits/digits-deit_lt.json \\
      --details reports/runs/digits/digits-deit_lt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import new_folder, write_json
from longtail.base.options import add_params
from longtail.evaluation.diagnostics import classes_file, combine, measure, top1
from longtail.evaluation.metrics import EXPERTS, SCALARS, summarise
from longtail.evaluation.predictions import check, load_predictions, load_test_set, phase_metrics
from longtail.evaluation.run_record import read_seed, record, same_config

SCHEMA = 1
SECTION = {"experiment": "experiments", "teacher": "teachers"}


def evaluate(about: dict, seeds: list[int], run: Path, dataset: Path, details: Path | None) -> dict:
    """The content of the metrics file (schema 1). Writes the folder `details` where one is named.

    about: entry, kind, study and dataset, as every file repeats them.
    """
    test = load_test_set(dataset)
    runs = {seed: read_seed(run / f"seed{seed}") for seed in seeds}
    about = about | {"config_hash": same_config(runs, run)}
    per_seed, measured, predicted = {}, {}, {}
    for seed in seeds:
        folder = run / f"seed{seed}"
        predictions = load_predictions(folder / "predictions.npz")
        check(predictions, runs[seed].facts, test, str(folder), str(dataset))
        per_seed[str(seed)] = {phase: phase_metrics(predictions, test, phase) for phase in predictions.phases}
        if details:
            measured[seed], predicted[seed] = measure(predictions, test), top1(predictions)
    if details:
        with new_folder(details) as folder:
            write_json(folder / "run.json", record(about, runs))
            write_json(folder / "diagnostics.json", combine(about, test, measured, predicted, predictions.logit_scale))
            np.savez_compressed(folder / "predictions.npz", **classes_file(test, predicted))
    of_all = [phase for phase in predictions.phases if all(phase in found for found in per_seed.values())]
    return {
        "schema": SCHEMA,
        **about,
        "classes": len(test.class_names),
        "class_counts": test.class_counts.tolist(),
        "groups": test.groups,
        "seeds": per_seed,
        "summary": {phase: summary(list(per_seed.values()), phase) for phase in of_all},
    }


def summary(per_seed: list[dict], phase: str) -> dict:
    """{head: {metric: {mean, stderr, n}}} over seeds."""
    heads = [head for head in per_seed[0][phase] if head != "epoch"]
    measured = [*SCALARS, *([EXPERTS] if EXPERTS in per_seed[0][phase][heads[0]] else [])]
    return {h: {m: summarise([seed[phase][h][m] for seed in per_seed]) for m in measured} for h in heads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="ENTRY", help="name under experiments (or teachers) in params.yaml")
    parser.add_argument("--run", type=Path, required=True, help="data/students/ENTRY or data/teachers/ENTRY")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/NAME.npz it was trained on")
    parser.add_argument("--kind", choices=sorted(SECTION), required=True, help="which section ENTRY stands in")
    parser.add_argument("--out", type=Path, required=True, help="metrics file to write")
    parser.add_argument("--details", type=Path, help="folder to write; left out, only the metrics are written")
    add_params(parser)
    args = parser.parse_args()
    section = SECTION[args.kind]
    values = params.entry(params.load(args.params), section, args.entry)
    for key in ("study", "seeds"):
        if not values.get(key):
            raise UserError(f"{section}.{args.entry}.{key}: missing; evaluation needs it")
    about = {"entry": args.entry, "kind": args.kind, "study": values["study"], "dataset": args.dataset.stem}
    write_json(args.out, evaluate(about, values["seeds"], args.run, args.dataset, args.details))


if __name__ == "__main__":
    run_main(main)
