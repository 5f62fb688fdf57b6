"""The figures of a study as PDF and PNG, with the numbers drawn as CSV beside each.

Accuracy by class group from the metrics files; teacher entropy, CLS-DIST distance, attention distance, feature rank
and rollout maps from the analysis folders. Entries that were not run are left out, and a figure without any is skipped.
Curves read off the paper's figures, where the study names them, are drawn thin and dashed.

  python stages/figures.py digits --metrics reports/metrics/digits --analysis reports/analysis/digits \\
      --published data/published --out reports/figures/digits
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from longtail import figures, params
from longtail.errors import UserError, run_main
from longtail.output import new_folder
from longtail.plots import colors_of, save
from longtail.predictions import read_npz
from longtail.published import CURVES, printed_curve
from longtail.results import load
from longtail.rollout_figure import rollout
from longtail.study import FIGURES, Item, StudyConfig

ROLLOUT_KEYS = ("images", "maps", "tokens", "labels")


def read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of an analysis CSV; UserError where it lacks a column."""
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    lacking = [c for c in columns if c not in (reader.fieldnames or ())]
    if lacking or any(row[c] is None for row in rows for c in columns):
        raise UserError(f"{path}: cut short or damaged, expected columns {', '.join(columns)}; make it again")
    return rows


def series(folder: Path, items: tuple[Item, ...], name: str, *columns: str) -> dict[str, list[dict[str, str]]]:
    """{label: rows of <folder>/<entry>/<name>} of the entries that have it."""
    paths = {item.label: folder / item.name / name for item in items}
    return {label: read_csv(path, columns) for label, path in paths.items() if path.is_file()}


def draw(name: str, study: StudyConfig, metrics: Path, analysis: Path, published: Path) -> dict[str, figures.Drawing]:
    """{figure name: drawing} of what was run."""
    results = load(metrics, name, study)
    entries = {**results.teachers, **results.experiments}
    labels = {item.name: item.label for item in study.teachers + study.experiments}
    curves = {f: {c.label: printed_curve(published, c) for c in study.curves if c.figure == f} for f in CURVES}
    colors = colors_of([i.label for i in study.experiments], [i.label for i in study.teachers])
    students, teachers = (analysis, study.experiments), (analysis / "teachers", study.caches)
    maps = {item.label: analysis / item.name / "rollout.npz" for item in study.experiments}
    drawn = {
        "groups": figures.groups({labels[entry]: found for entry, found in entries.items()}, colors),
        "entropy": figures.entropy(
            series(*teachers, "entropy.csv", "domain", "bin_left", "bin_right", "count"),
            series(*teachers, "entropy_mean.csv", "domain", "mean_nats", "n"),
        ),
        "cls_dist_distance": figures.cls_dist_distance(
            series(*students, "cls_dist_distance.csv", "epoch", "distance"), colors, curves["cls_dist_distance"]
        ),
        "attention_distance": figures.attention_distance(
            series(*students, "attention_distance.csv", "block", "head", "distance_px"), colors
        ),
        "feature_rank": figures.feature_rank(
            series(*students, "feature_rank.csv", "token", "block", "centring", "rank"), colors, curves["feature_rank"]
        ),
        "rollout": rollout({label: read_npz(path, ROLLOUT_KEYS) for label, path in maps.items() if path.is_file()}),
    }
    return {figure: drawing for figure, drawing in drawn.items() if drawing is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY", help="name under `studies` in params.yaml")
    parser.add_argument("--metrics", type=Path, required=True, help="folder of metrics files; may lack entries")
    parser.add_argument("--analysis", type=Path, required=True, help="folder of analyses; may lack entries")
    parser.add_argument("--published", type=Path, required=True, help="folder of printed numbers, data/published")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced as a whole")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: %(default)s")
    args = parser.parse_args()
    entry = params.entry(params.load(args.params), "studies", args.study)
    study = params.build(StudyConfig, entry, f"studies.{args.study}")
    drawn = draw(args.study, study, args.metrics, args.analysis, args.published)
    with new_folder(args.out) as folder:
        for figure, drawing in drawn.items():
            save(*drawing, folder / figure)
    missing = [figure for figure in FIGURES if figure not in drawn]
    print(f"{args.study}: {len(drawn)} figures" + (f"; not run: {', '.join(missing)}" if missing else ""))


if __name__ == "__main__":
    run_main(main)
