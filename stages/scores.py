"""The few numbers that `dvc metrics` and `dvc plots` show: one short JSON for each entry of a study that was run.

From the metrics files, at the last epoch, means over seeds in %: per head (cls, dist, and avg = mean of their raw
logits) the accuracy over all, head, mid and tail classes, and under `per_class` one record a class: its number, its
training images, and each head's accuracy; where an epoch was chosen on validation images, `validation` has the accuracy
at it. An entry that was not run has no file. Under a second.

  python stages/scores.py digits --metrics reports/metrics/digits --out reports/scores/digits
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import new_folder, write_json
from longtail.base.options import add_params
from longtail.evaluation.metrics import AUTHOR_GROUPS, summarise
from longtail.report.results import load
from longtail.report.study import StudyConfig


def scores(metrics: dict) -> dict:
    """{head: {metric: mean}} and per_class [{class, train_images, head: mean}] of one metrics file (schema 1); and
    validation {head: mean top1}, where an epoch was chosen on validation images."""
    last = metrics["summary"]["last"]
    short = {head: {name: last[head][name]["mean"] for name in ("top1", *AUTHOR_GROUPS)} for head in last}
    seeds = [seed["last"] for seed in metrics["seeds"].values()]
    by_class = [
        {"class": number, "train_images": count}
        | {head: summarise([seed[head]["per_class"][number] for seed in seeds])["mean"] for head in last}
        for number, count in enumerate(metrics["class_counts"])
    ]
    chosen = metrics["summary"].get("validation") or {}
    validated = {"validation": {head: of["top1"]["mean"] for head, of in chosen.items()}} if chosen else {}
    return {**short, **validated, "per_class": by_class}


def run(name: str, study: StudyConfig, metrics: Path, out: Path) -> None:
    """Write out/<entry>.json and out/teachers/<teacher>.json of what was run."""
    results = load(metrics, name, study)
    with new_folder(out) as folder:
        for under, entries in ((folder, results.experiments), (folder / "teachers", results.teachers)):
            for entry, found in entries.items():
                under.mkdir(exist_ok=True)
                write_json(under / f"{entry}.json", scores(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY", help="name under `studies` in params.yaml")
    parser.add_argument("--metrics", type=Path, required=True, help="folder of metrics files; may lack entries")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced as a whole")
    add_params(parser)
    args = parser.parse_args()
    entry = params.entry(params.load(args.params), "studies", args.study)
    study = params.build(StudyConfig, entry, f"studies.{args.study}")
    run(args.study, study, args.metrics, args.out)


if __name__ == "__main__":
    run_main(main)
