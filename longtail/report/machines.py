"""Where and how fast the runs in git were made: reports/machines/<study>.json, and what pages tell of it.

Results are the same bytes wherever the same software runs on the same kind of processor; their time, commit and machine
are not, so those stand in this record alone. `make machines STUDY=…` writes it, no stage of the pipeline does, and none
reads it. It speaks of runs with certain settings: of a run with others, or one that it lacks, nothing is recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.base import typed
from longtail.base.errors import UserError
from longtail.base.text import pipe_table, plain
from longtail.report.records import Machine, StudyMachines
from longtail.report.results import Results
from longtail.report.study import StudyConfig

SCHEMA = 1
FACTS = tuple(Machine.__annotations__)
DECIDE = ("device", "processor", "instructions", "python", "torch", "numpy", "pillow", "timm")  # what bytes depend on
SECTIONS = {"experiment": "experiments", "teacher": "teachers"}
ABSENT = "not recorded"


@dataclass(frozen=True)
class Machines:
    """runs: {experiments | teachers: {entry: {config_hash, seeds: {seed: facts}}}}, as in the file."""

    runs: dict[str, dict[str, dict[str, Any]]]

    def of(self, kind: str, entry: str, config_hash: str | None) -> dict[str, dict[str, Any]]:
        """{seed: facts} of an experiment or a teacher; empty where none of a run with these settings is recorded."""
        found = self.runs.get(SECTIONS[kind], {}).get(entry)
        return found["seeds"] if found and found["config_hash"] == config_hash else {}


def load(reports: Path, study: str) -> Machines:
    """The record of a study, empty where there is none. Raises UserError where it is damaged or of something else."""
    path = reports / "machines" / f"{study}.json"
    if not path.is_file():
        return Machines({})
    try:
        text = path.read_text(encoding="utf-8")
        found = typed.read(StudyMachines, text)
        if found["study"] != study:
            raise UserError(f"study is '{found['study']}'")
    except (ValueError, UserError) as error:
        raise UserError(
            f"{path}: no record of where {study} was made: {error}; run make machines STUDY={study}"
        ) from None
    return Machines({section: json.loads(text)[section] for section in SECTIONS.values()})


def content(study: str, machines: Machines) -> dict[str, Any]:
    """What stands in the file (docs/schema/machines.schema.json)."""
    return {"schema": SCHEMA, "study": study, **{s: machines.runs.get(s, {}) for s in SECTIONS.values()}}


def same_place(here: dict, there: dict) -> bool:
    """Were two runs made by the same software on the same kind of processor, as far as is known? Their bytes are then
    equal. False where a fact is not told, but for those of libraries that a run may not have loaded."""
    told = all(here.get(key) and there.get(key) for key in ("device", "processor", "instructions"))
    return told and all(here.get(key) == there.get(key) for key in DECIDE)


def place(facts: dict) -> str:
    """Device and processor in a few words: `cpu x1, AMD EPYC (family 25, model 1)`."""
    return ", ".join(part for part in (facts.get("device"), facts.get("processor")) if part) or ABSENT


def places(seeds: Iterable[dict]) -> str:
    """Of several seeds, each place once."""
    return "; ".join(sorted({place(facts) for facts in seeds})) or ABSENT


def cost(study: StudyConfig, results: Results, machines: Machines) -> str:
    """What the study's training took, as Markdown: entry, seeds, mean seconds of a seed, where; ends in a newline."""
    rows, total, lacking = [], 0.0, 0
    kinds = (("teacher", study.teachers, results.teachers), ("experiment", study.experiments, results.experiments))
    for kind, items, found in kinds:
        for item in items:
            metrics = found.get(item.name, {"seeds": {}, "config_hash": None})
            made = machines.of(kind, item.name, metrics["config_hash"])
            seconds = [made[seed]["seconds"] for seed in metrics["seeds"] if seed in made]
            total, lacking = total + sum(seconds), lacking + len(metrics["seeds"]) - len(seconds)
            mean = f"{sum(seconds) / len(seconds):,.0f}" if seconds else ABSENT if metrics["seeds"] else "*not run*"
            where = places(made.values()) if seconds else ""
            rows.append((f"{plain(item.label)} (`{item.name}`)", len(metrics["seeds"]), mean, where))
    lines = pipe_table(("trained", "seeds", "seconds a seed", "on"), "lrrl", rows)
    lines += ["", f"Training in all: {total / 60:,.0f} minutes of one process."]
    if lacking:
        lines[-1] += f" Of {lacking} {'run' if lacking == 1 else 'runs'} the time is {ABSENT}."
    return "\n".join(lines) + "\n"
