"""The metrics files of a study, as tables, figures and the report read them. A missing file is an entry not run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from longtail.errors import UserError
from longtail.study import Row, StudyConfig

SCHEMA = 1


@dataclass(frozen=True)
class Results:
    """{entry name: content of its metrics file} of the entries that were run, in the study's order."""

    experiments: dict[str, dict]
    teachers: dict[str, dict]

    def of(self, row: Row) -> dict | None:
        """The metrics file of a table row; None when it names no entry or the entry was not run."""
        return self.experiments.get(row.entry) if row.entry else self.teachers.get(row.teacher)


def load(folder: Path, name: str, study: StudyConfig) -> Results:
    """<folder>/<entry>.json and <folder>/teachers/<teacher>.json. Raises UserError for a file of something else."""
    experiments = {i.name: _read(folder / f"{i.name}.json", i.name, "experiment", name) for i in study.experiments}
    teachers = {i.name: _read(folder / "teachers" / f"{i.name}.json", i.name, "teacher", name) for i in study.teachers}
    return Results(*({k: v for k, v in found.items() if v is not None} for found in (experiments, teachers)))


def _read(path: Path, entry: str, kind: str, study: str) -> dict | None:
    if not path.is_file():
        return None
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        found = {key: metrics[key] for key in ("schema", "entry", "kind", "study")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cut short or no metrics file ({error}); run stages/evaluate.py {entry} again"
        ) from None
    for key, wanted in {"schema": SCHEMA, "entry": entry, "kind": kind, "study": study}.items():
        if found[key] != wanted:
            raise UserError(
                f"{path}: {key} is {found[key]!r}, expected {wanted!r}; run stages/evaluate.py {entry} again"
            )
    return metrics
