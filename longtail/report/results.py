"""The metrics files of a study, as tables, figures and the report read them. A missing file is an entry not run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from longtail.base import typed
from longtail.base.errors import UserError
from longtail.evaluation.metrics import DECIMALS, EXPERTS, summarise
from longtail.report.reading import diagnostics
from longtail.report.records import CacheMetrics, Metrics
from longtail.report.study import COUNT_RULE, ON_VIEWS, SHIFTS, Column, Row, StudyConfig

SCHEMA = 1
MAKER = {
    "experiment": "stages/evaluate.py",
    "teacher": "stages/evaluate.py",
    "cache": "stages/evaluate_labels.py",
}

FORMATS = {"experiment": Metrics, "teacher": Metrics, "cache": CacheMetrics}


@dataclass(frozen=True)
class Results:
    """{entry name: content of its metrics file} of the entries that were run, in the study's order."""

    experiments: dict[str, dict]
    teachers: dict[str, dict]
    caches: dict[str, dict]
    runs: Path | None = None  # folder of the study's runs, for shifted test sets and groups by images

    def of(self, row: Row) -> dict | None:
        """The metrics file of a table row; None when it names no entry or the entry was not run."""
        return self.experiments.get(row.entry) if row.entry else self.teachers.get(row.teacher)

    def value(self, row: Row, column: Column, phase: str) -> dict | None:
        """{mean, stderr, n} of one cell at the last, best or validation's epoch; None where it was not run or measured.

        Raises UserError for a head that the run has not. A teacher's accuracy on views knows no epoch and no head.
        """
        if column == ON_VIEWS:
            found = self.caches.get(row.cache) if phase != "validation" else None
            return found["summary"][column] if found else None
        if column in SHIFTS:
            return self._shifted(row, column) if phase == "last" else None
        metrics = self.of(row)
        if metrics is None or phase not in metrics["summary"]:
            return None
        heads = metrics["summary"][phase]
        if row.head not in heads:
            raise UserError(f"row '{row.label}': {metrics['entry']} has no head '{row.head}'; it has cls")
        if row.groups == "count_images" and column in COUNT_RULE:
            return self._by_images(row, metrics, phase, COUNT_RULE[column])
        if column == EXPERTS:
            return heads[row.head].get(column, summarise([]))  # a network without experts has no number of them
        return heads[row.head][row.measured(column)]

    def by_seed(self, row: Row, column: Column) -> dict[int, float]:
        """{seed: one cell at the last epoch}: of what a seed's own metrics hold, so nothing of test images counted
        alike, shifted tests and caches; seeds without a value are left out. Raises UserError as `value` does."""
        metrics = self.of(row)
        if metrics is None or column == ON_VIEWS or column in SHIFTS or row.groups == "count_images":
            return {}
        self.value(row, column, "last")
        found = {int(s): of["last"][row.head].get(row.measured(column)) for s, of in metrics["seeds"].items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def _by_images(self, row: Row, metrics: dict, phase: str, group: str) -> dict | None:
        """Accuracy over a group's test images, whatever their class, from each class's accuracy and its number of test
        images, which diagnostics.json has; None where that was not made."""
        found = self._diagnosed(row)
        if found is None:
            return None
        members = metrics["groups"]["count"][group]
        images = [found["test_counts"][label] for label in members]
        if not sum(images):
            return summarise([])
        seeds = []
        for measured in metrics["seeds"].values():
            accuracies = measured[phase][row.head]["per_class"]
            right = sum(n * accuracies[label] for label, n in zip(members, images, strict=True) if n)
            seeds.append(round(right / sum(images), DECIMALS))
        return summarise(seeds)

    def _diagnosed(self, row: Row) -> dict | None:
        """diagnostics.json of the row's run; None where that was not made, or names no run."""
        name = row.entry or row.teacher
        if self.runs is None or name is None:
            return None
        return diagnostics(self.runs / name if row.entry else self.runs / "teachers" / name)

    def _shifted(self, row: Row, column: Column) -> dict | None:
        """From diagnostics.json of the row's run; None where that was not made."""
        found = self._diagnosed(row)
        if found is None:
            return None
        if row.head not in found["heads"]:
            raise UserError(f"row '{row.label}': {found['entry']} has no head '{row.head}'; it has cls")
        tests = {f"{test['direction']}-{test['factor']}": test for test in found["heads"][row.head]["shifts"]}
        return tests[column][row.correction]


def load(folder: Path, name: str, study: StudyConfig, runs: Path | None = None) -> Results:
    """The study's files: <entry>.json, teachers/<teacher>.json, caches/<cache>.json under the folder.

    runs: folder of the study's runs, reports/runs/<study>, which tables of shifted test sets and groups by images need.

    Raises UserError for a file of something else.
    """
    kinds = (
        (study.experiments, folder, "experiment"),
        (study.teachers, folder / "teachers", "teacher"),
        (study.caches, folder / "caches", "cache"),
    )
    found = (
        {i.name: read(under / f"{i.name}.json", i.name, kind, name) for i in items} for items, under, kind in kinds
    )
    return Results(*({k: v for k, v in each.items() if v is not None} for each in found), runs)


def read(path: Path, entry: str, kind: str, study: str) -> dict | None:
    """A metrics file; None where it is missing.

    Raises UserError where it is cut short, of something else, or not as longtail/report/records.py says.
    """
    if not path.is_file():
        return None
    again = f"run {MAKER[kind]} {entry} again"
    text = path.read_bytes()
    try:
        metrics = json.loads(text)
        found = {key: metrics[key] for key in ("schema", "entry", "kind", "study")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cut short or no metrics file ({error}); {again}") from None
    for key, wanted in {"schema": SCHEMA, "entry": entry, "kind": kind, "study": study}.items():
        if found[key] != wanted:
            raise UserError(f"{path}: {key} is {found[key]!r}, expected {wanted!r}; {again}")
    try:
        typed.read(FORMATS[kind], text)  # for its check: whole numbers stay as they stand in the file
    except UserError as error:
        raise UserError(f"{path}: not of schema {SCHEMA}: {error}; {again}") from None
    return metrics
