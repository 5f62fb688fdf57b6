"""The metrics files of a study, as tables, figures and the report read them. A missing file is an entry not run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from longtail.base.errors import UserError
from longtail.report.study import ON_VIEWS, Column, Row, StudyConfig

SCHEMA = 1
MAKER = {
    "experiment": "stages/evaluate.py",
    "teacher": "stages/evaluate.py",
    "cache": "stages/evaluate_labels.py",
}

# What is read of a metrics file: a block's keys (`?`: may lack; `*`: each), a list's items, the types of a value.
TEXT, INTEGER, NUMBER, MAYBE = (str,), (int,), (int, float), (int, float, type(None))
OVER_SEEDS = {"mean": MAYBE, "stderr": MAYBE, "n": INTEGER}
SCALARS = [column for column in get_args(Column) if column != ON_VIEWS]
HEAD = {**dict.fromkeys(SCALARS, MAYBE), "per_class": [MAYBE]}
SUMMARY = dict.fromkeys(SCALARS, OVER_SEEDS)
PHASE = {"epoch": INTEGER, "avg": HEAD, "cls": HEAD, "dist?": HEAD}
SEED = {"last": PHASE, "best": PHASE}
HEADS = {"avg": SUMMARY, "cls": SUMMARY, "dist?": SUMMARY}
ABOUT = {"dataset": TEXT, "config_hash": TEXT, "class_counts": [INTEGER]}
RUN = {**ABOUT, "seeds": {"*": SEED}, "summary": {"last": HEADS, "best": HEADS}}
SHAPE = {"experiment": RUN, "teacher": RUN, "cache": {"summary": {ON_VIEWS: OVER_SEEDS}}}


@dataclass(frozen=True)
class Results:
    """{entry name: content of its metrics file} of the entries that were run, in the study's order."""

    experiments: dict[str, dict]
    teachers: dict[str, dict]
    caches: dict[str, dict]

    def of(self, row: Row) -> dict | None:
        """The metrics file of a table row; None when it names no entry or the entry was not run."""
        return self.experiments.get(row.entry) if row.entry else self.teachers.get(row.teacher)

    def value(self, row: Row, column: Column, phase: str) -> dict | None:
        """{mean, stderr, n} of one cell at the last or best epoch; None where it was not run.

        Raises UserError for a head that the run has not. A teacher's accuracy on views knows no epoch and no head.
        """
        if column == ON_VIEWS:
            found = self.caches.get(row.cache)
            return found["summary"][column] if found else None
        metrics = self.of(row)
        if metrics is None:
            return None
        heads = metrics["summary"][phase]
        if row.head not in heads:
            raise UserError(f"row '{row.label}': {metrics['entry']} has no head '{row.head}'; it has cls")
        return heads[row.head][row.measured(column)]


def load(folder: Path, name: str, study: StudyConfig) -> Results:
    """The study's files: <entry>.json, teachers/<teacher>.json, caches/<cache>.json under the folder.

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
    return Results(*({k: v for k, v in each.items() if v is not None} for each in found))


def read(path: Path, entry: str, kind: str, study: str) -> dict | None:
    """A metrics file; None where it is missing.

    Raises UserError where it is cut short, of something else, or lacks what tables and figures read.
    """
    if not path.is_file():
        return None
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        found = {key: metrics[key] for key in ("schema", "entry", "kind", "study")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cut short or no metrics file ({error}); run {MAKER[kind]} {entry} again") from None
    for key, wanted in {"schema": SCHEMA, "entry": entry, "kind": kind, "study": study}.items():
        if found[key] != wanted:
            raise UserError(f"{path}: {key} is {found[key]!r}, expected {wanted!r}; run {MAKER[kind]} {entry} again")
    wrong = fault(metrics, SHAPE[kind])
    if wrong:
        raise UserError(f"{path}: not of schema {SCHEMA}: {wrong}; run {MAKER[kind]} {entry} again")
    return metrics


def fault(value: Any, shape: dict | list | tuple, at: str = "") -> str | None:
    """What is first found not to be of the shape, and where: `summary.last.avg.top1: missing`; None where all is."""
    if isinstance(shape, tuple):
        right = isinstance(value, shape) and not isinstance(value, bool)
        if right and (not isinstance(value, float) or math.isfinite(value)):
            return None
        return f"{at}: expected {' or '.join(kind.__name__ for kind in shape)}, found {value!r:.60}"
    if not isinstance(value, type(shape)):
        return f"{at}: expected a {'block' if isinstance(shape, dict) else 'list'}, found {value!r:.60}"
    inner: list[tuple[str | int, Any]] = []  # key, shape
    if isinstance(shape, list):
        inner = [(i, shape[0]) for i in range(len(value))]
    elif "*" in shape:
        inner = [(key, shape["*"]) for key in value]
    else:
        inner = [(key.rstrip("?"), of) for key, of in shape.items() if not key.endswith("?") or key[:-1] in value]
    if not inner:
        return f"{at}: empty"
    for key, of in inner:
        here = f"{at}.{key}".lstrip(".")
        wrong = f"{here}: missing" if isinstance(shape, dict) and key not in value else fault(value[key], of, here)
        if wrong:
            return wrong
    return None
