"""How often a teacher is right on the training views it labels: reports/metrics/<study>/caches/<entry>.json.

Reads the meta.json of every seed of a cache (section `caches`). The views are the student's strong, mixed ones, all
epochs; the true label of a mixed view is its dominant image's. It is what DeiT-LT's Table 1 prints as the teacher's
accuracy, not an accuracy on the test set (METHODS trap 55). At once.

  python stages/evaluate_labels.py ldam_drw_sam-digits --cache data/caches/ldam_drw_sam-digits \\
      --out reports/metrics/digits/caches/ldam_drw_sam-digits.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from longtail.base import intact, params
from longtail.base.errors import UserError, run_main
from longtail.base.files import write_json
from longtail.base.options import add_params
from longtail.evaluation.metrics import summarise

SCHEMA = 1
MEASURED = "teacher_top1_on_views"


def accuracy(folder: Path, entry: str) -> float:
    """% of one seed's views of which the teacher names the dominant label. Raises UserError."""
    path = folder / "meta.json"
    intact.check(folder, path.name)
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        found, share = meta["cache"], float(meta[MEASURED])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make the cache first (stages/cache_logits.py {entry})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged or lacks {error}; make the cache again") from None
    if found != entry:
        raise UserError(f"{path}: of cache '{found}', expected '{entry}'; pass --cache data/caches/{entry}")
    return share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="CACHE", help="name of a block under `caches` in the params file")
    parser.add_argument("--cache", type=Path, required=True, help="data/caches/CACHE from stages/cache_logits.py")
    parser.add_argument("--out", type=Path, required=True, help="metrics file to write")
    add_params(parser)
    args = parser.parse_args()
    values = params.entry(params.load(args.params), "caches", args.entry)
    for key in ("study", "teacher", "seeds"):
        if not values.get(key):
            raise UserError(f"caches.{args.entry}.{key}: missing; the evaluation needs it")
    shares = {seed: accuracy(args.cache / f"seed{seed}", args.entry) for seed in values["seeds"]}
    write_json(
        args.out,
        {
            "schema": SCHEMA,
            "entry": args.entry,
            "kind": "cache",
            "study": values["study"],
            "teacher": values["teacher"],
            "seeds": {str(seed): {MEASURED: share} for seed, share in shares.items()},
            "summary": {MEASURED: summarise(list(shares.values()))},
        },
    )
    print(f"{args.entry}: " + ", ".join(f"seed {seed} {share:.2f} %" for seed, share in shares.items()))


if __name__ == "__main__":
    run_main(main)
