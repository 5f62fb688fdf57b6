"""All results as one tidy table, reports/results.csv: a row a run, seed, head, epoch, test set, metric and group.

    import pandas as pd
    results = pd.read_csv("reports/results.csv")
    means = results[results.seed.isna()]  # over seeds; the other rows are single seeds
    seeds = results.merge(pd.read_csv("reports/runs.csv"), on=["study", "entry", "kind", "seed"])

A row without a seed is the mean over seeds, with its standard error, and from three seeds on its 95 % t-interval; these
are the numbers of the printed tables. What is the same in all rows of a run stands in runs.csv once: its data,
configuration and machine. COLUMNS and RUNS say what each column holds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from longtail.base import params
from longtail.evaluation import statistics
from longtail.evaluation.metrics import DECIMALS, EXPERTS, SCALARS
from longtail.report import machines, reading
from longtail.report.claims.rules import LEAST_SEEDS
from longtail.report.results import Results, load
from longtail.report.study import ON_VIEWS, StudyConfig

COLUMNS = {
    "study": "name under `studies`",
    "entry": "name under `experiments`, `teachers` or `caches`: one row of a table",
    "kind": "experiment (a student), teacher, or cache (a teacher's labels of training views)",
    "full_recipe": "1: the published data and recipe; 0: a miniature, not comparable with the papers' numbers",
    "seed": "empty in rows of the mean over seeds",
    "head": "cls, dist, or avg: the mean of their raw logits. Networks with one head have avg alone",
    "epoch": "last (the result), best (on the test set), validation (chosen on validation images); empty for caches",
    "at_epoch": "which epoch that is, from 1; empty in means",
    "test": "given, or a shifted test set: `forward-50`, corrected by known class shares `forward-50 from_uniform`",
    "metric": "top1, top5, balanced, macro_f1, ece, mce, classwise_ece, teacher_top1_on_views (%); nll (nats); experts",
    "group": "of top1: all; head, mid, tail (the papers' cuts); many, medium, few (by images): means over classes",
    "value": "of the seed, or mean over seeds",
    "stderr": "of the mean, std(ddof=1)/sqrt(n); from two seeds on",
    "low": "of the 95 % t-interval over seeds, from three seeds on; of single seeds and of shifted test sets none",
    "high": "its other end",
    "n": "seeds with a value; 1 in rows of a seed",
    "train_seconds": "training time of the seed, of one process; in means of all seeds together; empty: not recorded",
}
RUNS = {
    "study": COLUMNS["study"],
    "entry": "name under `experiments` or `teachers`",
    "kind": "experiment or teacher",
    "seed": "of the run",
    "dataset": "name under `datasets`",
    "config": "first 8 digits of the sha256 of the resolved configuration without the seed",
    "train_seconds": "training time, of one process; empty: not recorded",
    "trained_on": "device and processor; empty: not recorded",
}
GIVEN = "given"
LEFT_OUT = (
    "Left out: what tables call an entry (params.yaml); accuracy of each class (reports/metrics); calibration by "
    "group, confusion, and shifted tests seed by seed or of single heads (reports/runs); attention and rank "
    "(reports/analysis); iNaturalist 2017's groups by images, in which classes count by their test images. Values "
    f"have {DECIMALS} decimals, as in the records."
)
GROUPS = ("head", "mid", "tail", "many", "medium", "few")


def to_csv(table: Mapping, reports: Path) -> str:
    """results.csv. table: of params.yaml and the papers' files. Raises UserError for a damaged file, by name."""
    return _text(COLUMNS, rows(table, reports))


def runs_csv(table: Mapping, reports: Path) -> str:
    """runs.csv, of the same; raises as `to_csv`."""
    found = []
    for about, metrics, facts in _runs(table, reports):
        told = {name: about[name] for name in ("study", "entry", "kind")} | {"dataset": metrics["dataset"]}
        told |= {"config": metrics["config_hash"][:8]}
        for seed in metrics["seeds"]:
            made = facts.get(seed)
            where = {"train_seconds": made["seconds"], "trained_on": machines.place(made)} if made else {}
            found.append(told | {"seed": seed} | where)
    return _text(RUNS, found)


def _text(columns: Mapping[str, str], found: Iterable[dict[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue()


def _studies(table: Mapping, reports: Path) -> Iterator[tuple[str, StudyConfig, Results]]:
    for name, entry in (table.get("studies") or {}).items():
        study = params.build(StudyConfig, entry, f"studies.{name}")
        yield name, study, load(reports / "metrics" / name, name, study)


def _runs(table: Mapping, reports: Path) -> Iterator[tuple[dict, dict, dict[str, dict]]]:
    """(the first columns, the metrics file, {seed: of the record of machines}) of each entry that was run."""
    for name, study, results in _studies(table, reports):
        yield from _of_study(name, study, results, machines.load(reports, name))


def _of_study(name: str, study: StudyConfig, results: Results, made: machines.Machines) -> Iterator[tuple]:
    kinds = (("experiment", study.experiments, results.experiments), ("teacher", study.teachers, results.teachers))
    for kind, items, found in kinds:
        for item in items:
            if item.name in found:
                metrics = found[item.name]
                about = {"study": name, "entry": item.name, "kind": kind, "full_recipe": int(study.comparable)}
                yield about, metrics, made.of(kind, item.name, metrics["config_hash"])


def rows(table: Mapping, reports: Path) -> Iterator[dict[str, object]]:
    """In the order of the studies and of their entries; of each entry its means, then its seeds."""
    for name, study, results in _studies(table, reports):
        for about, metrics, facts in _of_study(name, study, results, machines.load(reports, name)):
            below = "teachers/" if about["kind"] == "teacher" else ""
            diagnosed = reading.diagnostics(reports / "runs" / name / f"{below}{about['entry']}")
            yield from _run(about, metrics, diagnosed, facts)
        for item in study.caches:
            if item.name in results.caches:
                about = {"study": name, "entry": item.name, "kind": "cache"}
                about |= {"full_recipe": int(study.comparable), "test": GIVEN, "metric": ON_VIEWS, "group": "all"}
                seeds = {seed: of[ON_VIEWS] for seed, of in results.caches[item.name]["seeds"].items()}
                yield from _cells(about, seeds, {}, {}, results.caches[item.name]["summary"][ON_VIEWS])


def _run(about: dict, metrics: dict, diagnosed: dict | None, facts: dict[str, dict]) -> Iterator[dict[str, object]]:
    """facts: {seed: of the record of machines}; diagnosed: diagnostics.json, None where it was not made."""
    two_heads = "dist" in metrics["summary"]["last"]
    for phase in metrics["summary"]:
        epochs = {seed: of[phase]["epoch"] + 1 for seed, of in metrics["seeds"].items()}
        for head in ("cls", "dist", "avg") if two_heads else ("avg",):
            place = about | {"head": head, "epoch": phase}
            for metric, group, name in _metrics(metrics["summary"][phase][head]):
                cell = place | {"test": GIVEN, "metric": metric, "group": group}
                seeds = {seed: of[phase][head].get(name) for seed, of in metrics["seeds"].items()}
                yield from _cells(cell, seeds, epochs, facts, metrics["summary"][phase][head][name])
            for shift in diagnosed["heads"][head]["shifts"] if diagnosed and (head, phase) == ("avg", "last") else ():
                for correction in ("raw", "from_train_prior", "from_uniform"):
                    told = "" if correction == "raw" else f" {correction}"
                    cell = place | {"test": f"{shift['direction']}-{shift['factor']}{told}"}
                    yield _mean(cell | {"metric": "top1", "group": "all"}, shift[correction], facts)


def _metrics(summary: dict) -> Iterator[tuple[str, str, str]]:
    """(metric, group, its name in the records)."""
    for name in (*SCALARS, EXPERTS):
        if name in summary:
            yield ("top1", name, name) if name in GROUPS else (name, "all", name)


def _cells(cell: dict, seeds: dict, epochs: dict, facts: dict, summary: dict) -> Iterator[dict[str, object]]:
    """The row of the mean, then one a seed; of a group without images none."""
    known = {seed: value for seed, value in seeds.items() if value is not None}
    if not known:
        return
    ends = statistics.over_seeds([*known.values()]).interval if len(known) >= LEAST_SEEDS else None
    low, high = (round(end, DECIMALS) for end in ends) if ends else ("", "")
    yield _mean(cell, summary, facts) | {"low": low, "high": high}
    for seed, value in known.items():
        told = {"train_seconds": facts[seed]["seconds"]} if seed in facts else {}
        yield cell | {"seed": seed, "at_epoch": epochs.get(seed, ""), "value": value, "n": 1} | told


def _mean(cell: dict, summary: dict, facts: dict[str, dict]) -> dict[str, object]:
    told = {}
    if facts:
        told = {"train_seconds": round(sum(made["seconds"] for made in facts.values()), 1)}
    stderr = "" if summary["stderr"] is None else summary["stderr"]
    return cell | {"value": summary["mean"], "stderr": stderr, "n": summary["n"]} | told
