"""Metrics of a trained run, from its saved test logits: reports/metrics/<study>/[teachers/]<entry>.json.

Reads <run>/seed<k>/{predictions.npz,identity.json,config.yaml} of every seed of the entry, and the dataset file's
labels and groups. Writes top-1/5, per-class and group accuracies (both group rules), balanced accuracy, macro-F1, ECE,
MCE, class-wise ECE and NLL of every head (cls, dist, and avg = mean of their raw logits), at the last epoch and, beside
it, at the best epoch on the test set (the papers' protocol), with mean and standard error over seeds. About a second.

  python stages/evaluate.py digits-deit_lt --kind experiment --run data/students/digits-deit_lt \\
      --dataset data/datasets/digits_if20.npz --out reports/metrics/digits/digits-deit_lt.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from longtail.base import intact, params, yaml_file
from longtail.base.errors import UserError, run_main
from longtail.base.files import write_json
from longtail.base.options import add_params
from longtail.evaluation.metrics import SCALARS, summarise
from longtail.evaluation.predictions import PHASES, check, load_predictions, load_test_set, phase_metrics

SCHEMA = 1
INCOMPLETE = "the run is not complete, train it again"
SECTION = {"experiment": "experiments", "teacher": "teachers"}


def read_run(folder: Path) -> tuple[dict, str]:
    """identity.json of one seed's result, and the hash of its config.yaml without the seed."""
    intact.check(folder, "identity.json", "config.yaml")
    try:
        facts = json.loads((folder / "identity.json").read_text())
        config = yaml_file.mapping(folder / "config.yaml", INCOMPLETE)
        if "dataset_digest" not in facts:
            raise KeyError("dataset_digest")
        return facts, params.digest({k: v for k, v in config.items() if k != "seed"})
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; {INCOMPLETE}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: identity.json or config.yaml is damaged or lacks {error}; train it again") from None


def evaluate(entry: str, kind: str, study: str, seeds: list[int], run: Path, dataset: Path) -> dict:
    """The content of the metrics file (schema 1)."""
    test = load_test_set(dataset)
    per_seed, hashes = {}, {}
    for seed in seeds:
        folder = run / f"seed{seed}"
        predictions = load_predictions(folder / "predictions.npz")
        facts, config_hash = read_run(folder)
        check(predictions, facts, test, str(folder), str(dataset))
        hashes.setdefault(config_hash, seed)
        per_seed[str(seed)] = {phase: phase_metrics(predictions, test, phase) for phase in PHASES}
    if len(hashes) > 1:
        (a, i), (b, j) = list(hashes.items())[:2]
        raise UserError(
            f"{run}: seed {i} has config {a[:8]} and seed {j} {b[:8]}; train the entry again, all seeds alike"
        )
    return {
        "schema": SCHEMA,
        "entry": entry,
        "kind": kind,
        "study": study,
        "dataset": dataset.stem,
        "config_hash": next(iter(hashes)),
        "classes": len(test.class_names),
        "class_counts": test.class_counts.tolist(),
        "groups": test.groups,
        "seeds": per_seed,
        "summary": {phase: summary(list(per_seed.values()), phase) for phase in PHASES},
    }


def summary(per_seed: list[dict], phase: str) -> dict:
    """{head: {metric: {mean, stderr, n}}} over seeds."""
    heads = [head for head in per_seed[0][phase] if head != "epoch"]
    return {h: {m: summarise([seed[phase][h][m] for seed in per_seed]) for m in SCALARS} for h in heads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="ENTRY", help="name under experiments (or teachers) in params.yaml")
    parser.add_argument("--run", type=Path, required=True, help="data/students/ENTRY or data/teachers/ENTRY")
    parser.add_argument("--dataset", type=Path, required=True, help="data/datasets/NAME.npz it was trained on")
    parser.add_argument("--kind", choices=sorted(SECTION), required=True, help="which section ENTRY stands in")
    parser.add_argument("--out", type=Path, required=True, help="metrics file to write")
    add_params(parser)
    args = parser.parse_args()
    section = SECTION[args.kind]
    values = params.entry(params.load(args.params), section, args.entry)
    for key in ("study", "seeds"):
        if not values.get(key):
            raise UserError(f"{section}.{args.entry}.{key}: missing; evaluation needs it")
    write_json(args.out, evaluate(args.entry, args.kind, values["study"], values["seeds"], args.run, args.dataset))


if __name__ == "__main__":
    run_main(main)
