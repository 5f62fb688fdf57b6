"""The figures of a study as SVG, for light and dark, or PNG where they show pictures, with the numbers drawn as CSV.

Accuracy by class group, of the two experts and over a setting from the metrics files, all else from the analysis
folders: curves by epoch, attention, rank, rollout, reconstructions, labels, entropy, virtual examples, maps, drift,
neighbours, answers to test images. What a caption says of the runs drawn (data, networks, epochs, seeds) is a text
beside the figure. Which entries a figure shows stands under studies.<STUDY>.figures; those not run are left out, and a
figure without any. Thin dashes are read off printed figures. --print: PDF and PNG of 300 pixels to the inch.

  python stages/figures.py digits --metrics reports/metrics/digits --analysis reports/analysis/digits \\
      --runs reports/runs/digits --published data/published --words docs/words.yaml \\
      --out reports/figures/digits --print reports/figures_print/digits
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from longtail.base import params, yaml_file
from longtail.base.errors import run_main
from longtail.base.files import new_folder
from longtail.base.options import add_params
from longtail.evaluation.predictions import read_npz
from longtail.report.figures import about, dive_figures, predictions, study_figures
from longtail.report.figures.captions import FIGURES
from longtail.report.figures.cbd_figures import NEIGHBOUR_KEYS, feature_drift, neighbours, sweep
from longtail.report.figures.files import save
from longtail.report.figures.rollout import PICTURES, TAUGHT, reconstructions, rollout, rollout_mean, taught
from longtail.report.figures.style import Drawing, looks_of
from longtail.report.published import CURVES, printed_curve
from longtail.report.reading import series
from longtail.report.results import Results, load
from longtail.report.study import StudyConfig

ROLLOUT_KEYS, PICTURE_KEYS = ("images", "maps", "average", "tokens", "labels"), (*PICTURES, "labels")


def draw(study: StudyConfig, results: Results, analysis: Path, published: Path) -> dict[str, Drawing]:
    """{figure name: drawing} of what was run."""
    entries = {**results.teachers, **results.experiments}
    curves = {f: {c.label: printed_curve(published, c) for c in study.curves if c.figure == f} for f in CURVES}
    students = dict.fromkeys([*(i.label for i in study.experiments), *(c.label for c in study.curves)])
    looks = looks_of(list(students), [i.label for i in study.teachers])

    def read(figure: str, file: str, *columns: str, under: str = "") -> dict[str, list[dict[str, str]]]:
        return series(analysis / under, study.shown(figure), file, *columns)

    def arrays(figure: str, file: str, keys: tuple[str, ...], under: str = "") -> dict[str, dict[str, np.ndarray]]:
        paths = {item.label: analysis / under / item.name / file for item in study.shown(figure)}
        return {label: read_npz(path, keys) for label, path in paths.items() if path.is_file()}

    def distances(figure: str, images: str, printed: dict) -> Drawing | None:
        found = read(figure, "attention_distance.csv", "images", "block", "head", "distance_px")
        return study_figures.attention_distance(found, images, looks, printed)

    examples, compared = (partial(read, under=folder) for folder in ("virtual_examples", "compare_features"))
    of_images = "predictions", "predictions.npz", predictions.KEYS, "compare_predictions"
    alone = read("predictions", "counts.csv", "images", "right_alone", "wrong_alone", under="compare_predictions")

    def epochs(figure: str, column: str) -> tuple[dict, dict]:
        return read(figure, "curves.csv", "epoch", column), looks

    def metrics(figure: str) -> dict[str, dict]:
        return {i.label: entries[i.name] for i in study.shown(figure) if i.name in entries}

    teachers = analysis / "teachers", study.shown("entropy")
    of_group = "groups.csv", "seed", "tau", "power", "group", "examples"
    of_class = "classes.csv", "seed", "tau", "power", "class", "images", "examples"
    smoothing = {
        panel.title: [(epsilon, entries[name]) for epsilon, name in panel.teachers if name in entries]
        for panel in study.smoothing
    }
    ranks = read("feature_rank", "feature_rank.csv", "token", "block", "centring", "rank")
    maps = {figure: arrays(figure, "rollout.npz", ROLLOUT_KEYS) for figure in ("rollout", "rollout_mean")}
    told = {figure: about.said(study.shown(figure), found, results.runs) for figure, found in maps.items()}
    named = about.said(study.experiments, {}, results.runs)  # the classes
    drawn = {
        "groups": study_figures.groups(metrics("groups"), looks),
        "experts": study_figures.experts(metrics("experts")),
        "entropy": study_figures.entropy(
            series(*teachers, "entropy.csv", "domain", "bin_left", "bin_right", "count"),
            series(*teachers, "entropy_mean.csv", "domain", "mean_nats", "n"),
        ),
        "taught": taught(arrays("taught", "taught.npz", TAUGHT, "teachers"), named),
        "cls_dist_distance": study_figures.cls_dist_distance(
            read("cls_dist_distance", "cls_dist_distance.csv", "epoch", "distance"), looks, curves["cls_dist_distance"]
        ),
        "attention_distance": distances("attention_distance", "test", curves["attention_distance"]),
        "attention_distance_train": distances("attention_distance_train", "train", {}),
        "feature_rank": study_figures.feature_rank(ranks, looks, curves["feature_rank"]),
        "rollout": rollout(maps["rollout"], told["rollout"]),
        "rollout_mean": rollout_mean(maps["rollout_mean"], told["rollout_mean"]),
        "reconstructions": reconstructions(
            arrays("reconstructions", "reconstructions.npz", PICTURE_KEYS, "pretrainings"), named
        ),
        "training_loss": study_figures.training_loss(*epochs("training_loss", "loss")),
        "virtual_examples": dive_figures.virtual_examples(examples("virtual_examples", *of_group)),
        "virtual_examples_settings": dive_figures.virtual_examples_settings(
            examples("virtual_examples_settings", *of_group),
            examples("virtual_examples_settings", "rule.csv", "seed", "power", "tau"),
        ),
        "virtual_example_curves": dive_figures.virtual_example_curves(examples("virtual_example_curves", *of_class)),
        "virtual_example_curves_tau": dive_figures.virtual_example_curves_tau(
            examples("virtual_example_curves_tau", *of_class)
        ),
        "tsne": dive_figures.tsne(examples("tsne", "tsne.csv", "class", "images", "x", "y")),
        "predictions": predictions.predictions(arrays(*of_images), alone, study.teachers),
        "head_smoothing": dive_figures.head_smoothing(smoothing),
        "sweep": sweep(study.sweeps, results.teachers),
        "neighbours": neighbours(
            arrays("neighbours", "neighbours.npz", NEIGHBOUR_KEYS, "compare_features"),
            compared("neighbours", "neighbours.csv", "seed", "features", "group", "k", "share", "most"),
        ),
        "feature_drift": feature_drift(compared("feature_drift", "drift.csv", "seed", "images", "group", "drift")),
        "test_accuracy": study_figures.test_accuracy(*epochs("test_accuracy", "test_top1_avg")),
    }
    return {figure: drawing for figure, drawing in drawn.items() if drawing is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY", help="name under `studies` in params.yaml")
    parser.add_argument("--metrics", type=Path, required=True, help="folder of metrics files; may lack entries")
    parser.add_argument("--analysis", type=Path, required=True, help="folder of analyses; may lack entries")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs' records; may lack entries")
    parser.add_argument("--published", type=Path, required=True, help="folder of printed numbers, data/published")
    parser.add_argument("--words", type=Path, help="what data sets are called, docs/words.yaml; else their names")
    parser.add_argument("--out", type=Path, required=True, help="folder of small files to write; replaced as a whole")
    parser.add_argument("--print", type=Path, required=True, help="folder of files for print; replaced as a whole")
    add_params(parser)
    args = parser.parse_args()
    entry = params.entry(params.load(args.params), "studies", args.study)
    study = params.build(StudyConfig, entry, f"studies.{args.study}")
    titles = yaml_file.read(args.words)["datasets"] if args.words else {}
    results = load(args.metrics, args.study, study, args.runs)
    drawn = draw(study, results, args.analysis, args.published)
    with new_folder(args.out) as small, new_folder(args.print) as print_:
        for figure, drawing in drawn.items():
            told = about.sentence(study, figure, {row[0] for row in drawing.rows}, results, titles, args.analysis)
            note = f"{told} {drawing.note}".strip()
            save(drawing._replace(note=note), figure, f"{study.title}: {FIGURES[figure][0]}", small, print_)
    missing = [figure for figure in FIGURES if figure not in drawn]
    print(f"{args.study}: {len(drawn)} figures" + (f"; not run: {', '.join(missing)}" if missing else ""))


if __name__ == "__main__":
    run_main(main)
