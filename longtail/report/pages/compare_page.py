"""reports/compare.html: two runs of a study beside one another, what differs in their settings, curves over each other.

The page holds the settings and curves of every run as JSON and a small script; it asks for nothing else. Numbers are
those of reports/runs and reports/metrics: curves are means over seeds, thinned to POINTS.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from markupsafe import Markup

from longtail.base import params as tables
from longtail.base.text import number
from longtail.evaluation.metrics import summarise
from longtail.report import machines, reading
from longtail.report.pages import web
from longtail.report.results import load
from longtail.report.study import StudyConfig
from longtail.report.tables.render import entry_id

POINTS = 120  # of a curve
DIGITS = 5  # of a curve's values
CURVES = {  # what is drawn: columns of a student's and of a teacher's history
    "Training loss": ("loss", "train_loss"),
    "Test accuracy, averaged head (%)": ("test_top1_avg", "test_top1"),
    "Learning rate": ("lr",),
}
ROWS = {"top1": "all", "head": "head", "mid": "mid", "tail": "tail"}


def flat(config: Mapping, under: str = "") -> Iterator[tuple[str, str]]:
    """(`train.lr`, `0.003`) of every setting; lists are one value."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{under}{key}.")
        else:
            yield f"{under}{key}", json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value


def curve(record: Mapping, columns: tuple[str, ...]) -> list[list[float]]:
    """[[epoch from 1, mean over the seeds that have a value], …]; nothing where no seed has the column."""
    points: dict[int, list[float]] = {}
    for seed in record["seeds"].values():
        history = seed["curves"]
        values = next((history[column] for column in columns if column in history), [])
        for epoch, value in zip(history["epoch"], values, strict=False):
            if value is not None:
                points.setdefault(int(epoch) + 1, []).append(value)
    found = [[epoch, float(f"{sum(of) / len(of):.{DIGITS}g}")] for epoch, of in sorted(points.items())]
    step = -(-len(found) // POINTS)
    return found[:: step or 1] + (found[-1:] if step > 1 and (len(found) - 1) % step else [])


def runs(name: str, study: StudyConfig, reports: Path) -> list[dict]:
    """What the page knows of each run of a study that has a record. Raises UserError for a damaged file, by name."""
    results, made = load(reports / "metrics" / name, name, study), machines.load(reports, name)
    found = []
    for kind, items, of in (
        ("experiment", study.experiments, results.experiments),
        ("teacher", study.teachers, results.teachers),
    ):
        for item in items:
            below = f"{name}/{'teachers/' if kind == 'teacher' else ''}{item.name}"
            record = reading.run_record(reports / "runs" / below)
            metrics = of.get(item.name)
            if record is None or metrics is None or record["config_hash"] != metrics["config_hash"]:
                continue
            facts = made.of(kind, item.name, metrics["config_hash"])
            seconds = summarise([each["seconds"] for each in facts.values()])["mean"]
            last, best = (metrics["summary"][phase]["avg"] for phase in ("last", "best"))
            told = {f"Last epoch, {text} (%)": _estimate(last[key]) for key, text in ROWS.items()}
            told |= {"Best on test, all (%)": _estimate(best["top1"]), "Seeds": str(len(metrics["seeds"]))}
            told |= {"Seconds a seed": number(seconds) if seconds is not None else machines.ABSENT}
            told |= {"Trained on": machines.places(facts.values())}
            found.append(
                {
                    **{"entry": item.name, "label": item.label, "place": entry_id(item.name), "results": told},
                    "settings": dict(flat(record["config"])),
                    "curves": {
                        title: points for title, columns in CURVES.items() if (points := curve(record, columns))
                    },
                }
            )
    return found


def _estimate(value: dict) -> str:
    if value["mean"] is None:
        return "–"
    return f"{value['mean']:.2f}" + ("" if value["stderr"] is None else f" ± {value['stderr']:.2f}")


def page(table: Mapping, reports: Path) -> str:
    """The whole page, of every study with two runs or more; table: of params.yaml and the papers' files."""
    studies = {}
    for name, entry in (table.get("studies") or {}).items():
        study = tables.build(StudyConfig, entry, f"studies.{name}")
        found = runs(name, study, reports)
        if len(found) > 1:
            studies[name] = {"title": study.title, "runs": found}
    text = json.dumps(studies, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    inputs = tables.digest(studies)
    return web.page("compare.html.j2", ("sort.js", "compare.js"), studies=studies, data=Markup(text), inputs=inputs)
