"""What a trained run's predictions and folders tell: reports/runs/<study>/[teachers/]<entry>/.

Reads <run>/seed<k>/{predictions.npz,identity.json,config.yaml,history.csv} of every seed of the entry, and the
dataset file's labels and groups. Writes run.json (configuration, identity, curves), diagnostics.json
(long-tail evaluation at the last epoch: confusions, per-class accuracy, reliability, fusion of the heads, shifted test
sets) and predictions.npz (top-1 classes of every test image; numpy reads it). Formats: docs/schema. Seconds with 10
classes.

  python stages/diagnose.py digits-deit_lt --kind experiment --run data/students/digits-deit_lt \\
      --dataset data/datasets/digits_if20.npz --out reports/runs/digits/digits-deit_lt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import new_folder, write_json
from longtail.base.options import add_params
from longtail.evaluation.diagnostics import combine, measure, top1
from longtail.evaluation.metrics import group_codes
from longtail.evaluation.predictions import TestSet, check, load_predictions, load_test_set
from longtail.evaluation.run_record import read_seed, record, same_config

SECTION = {"experiment": "experiments", "teacher": "teachers"}


def classes_file(test: TestSet, predicted: dict[int, dict]) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz: seed<k>_<phase>_<head> and labels, uint8 or uint16 [M], and the classes' [C]."""
    classes = len(test.class_names)
    small = np.min_scalar_type(classes - 1)
    found = {
        f"seed{seed}_{phase}_{head}": answers
        for seed, phases in predicted.items()
        for phase, heads in phases.items()
        for head, answers in heads.items()
    }
    return {
        **{name: array.astype(small) for name, array in {"labels": test.labels, **found}.items()},
        "class_counts": test.class_counts,
        "groups_author": group_codes(test.groups["author"], classes).astype(np.uint8),
    }


def diagnose(entry: str, kind: str, study: str, seeds: list[int], run: Path, dataset: Path, out: Path) -> None:
    test = load_test_set(dataset)
    runs = {seed: read_seed(run / f"seed{seed}") for seed in seeds}
    about = {"entry": entry, "kind": kind, "study": study, "dataset": dataset.stem}
    about["config_hash"] = same_config(runs, run)
    measured, predicted = {}, {}
    for seed in seeds:
        folder = run / f"seed{seed}"
        predictions = load_predictions(folder / "predictions.npz")
        check(predictions, runs[seed].facts, test, str(folder), str(dataset))
        measured[seed], predicted[seed] = measure(predictions, test), top1(predictions)
    with new_folder(out) as folder:
        write_json(folder / "run.json", record(about, runs))
        write_json(folder / "diagnostics.json", combine(about, test, measured, predicted, predictions.logit_scale))
        np.savez_compressed(folder / "predictions.npz", **classes_file(test, predicted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="ENTRY", help="name under experiments (or teachers) in params.yaml")
    parser.add_argument("--run", type=Path, required=True, help="data/students/ENTRY or data/teachers/ENTRY")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/NAME.npz it was trained on")
    parser.add_argument("--kind", choices=sorted(SECTION), required=True, help="which section ENTRY stands in")
    add_params(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    section = SECTION[args.kind]
    values = params.entry(params.load(args.params), section, args.entry)
    for key in ("study", "seeds"):
        if not values.get(key):
            raise UserError(f"{section}.{args.entry}.{key}: missing; the diagnosis needs it")
    diagnose(args.entry, args.kind, values["study"], values["seeds"], args.run, args.dataset, args.out)


if __name__ == "__main__":
    run_main(main)
