"""What there is to run, as the Snakefile and its jobs read it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.base.errors import UserError, nearest
from longtail.base.params import digest

STATE = Path(".snakemake/dvc")  # under the repository, which all machines that run jobs must see
PIPELINE = "dvc.yaml"
REPORT = "report@"  # the stage that ends a study; the rest of its name is the study's
RAW, CUT = "raw@", "subsample@"  # a folder that somebody has to fill; the stages that cut a data set out of it


def to_text(content: dict[str, Any]) -> str:
    """A plan or a job's record as its file holds it: JSON, with its sha256."""
    return json.dumps({"sha256": digest(content), "content": content})


def from_text(text: str) -> dict[str, Any] | None:
    """What `to_text` was given; None where the text is cut short or damaged."""
    try:
        found = json.loads(text)
        content = found["content"]
        return content if found["sha256"] == digest(content) else None
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Plan:
    """What there is to run.

    stages: {stage: its address for DVC}. stale: {stage: the stale stages it directly needs}, upstream first. lacking:
    {stale stage that needs raw data which are not here: {data set: folder}}.
    """

    name: str
    stages: dict[str, str]
    stale: dict[str, list[str]]
    lacking: dict[str, dict[str, str]]

    @property
    def studies(self) -> list[str]:
        return [stage.removeprefix(REPORT) for stage in self.stages if stage.startswith(REPORT)]

    @property
    def fresh(self) -> list[str]:
        """Stages that are up to date."""
        return [stage for stage in self.stages if stage not in self.stale]

    def record(self, stage: str) -> str:
        """Path of the record that the job of a stage writes."""
        return str(STATE / "records" / self.name / f"{stage}.json")

    def records(self, stages: Iterable[str]) -> list[str]:
        """The records of those stages that are stale."""
        return [self.record(stage) for stage in stages if stage in self.stale]

    def goal(self, target: str | None) -> list[str]:
        """Files to ask for to bring a study or a stage up to date; None: everything whose raw data are here.

        UserError where there is no such study, or where its raw data are not here.
        """
        if target in self.fresh:
            stages = []
        elif target is None:
            stages = [stage for stage in self.stages if stage not in self.lacking]
        elif target in self.stages or target in self.studies:
            stages = [target if target in self.stages else f"{REPORT}{target}"]
        else:
            raise UserError(f"study: no study '{target}' in any params.yaml{nearest(target, self.studies)}")
        for stage in stages:
            self.check(stage)
        return self.records(stages) or [PIPELINE]  # a file that is there: nothing to be done

    def inputs(self, stage: str) -> list[str]:
        """The records that the job of a stale stage waits for. UserError where its raw data are not here."""
        self.check(stage)
        return self.records(self.stale[stage])

    def check(self, stage: str) -> None:
        """UserError where the stage needs raw data that are not here."""
        for name, folder in self.lacking.get(stage, {}).items():
            raise UserError(
                f"{stage}: its data set {name} is cut from {folder}, which is not here; "
                f"`python stages/doctor.py {name}` says what belongs there"
            )

    def left_out(self) -> list[str]:
        """What `goal(None)` leaves out, in lines; none where all raw data are here."""
        sets: dict[str, list[str]] = {}
        studies: dict[str, list[str]] = {}
        for stage, needs in self.lacking.items():
            for name, folder in needs.items():
                if stage == f"{CUT}{name}":
                    sets.setdefault(folder, []).append(name)
            for folder in dict.fromkeys(needs.values()):
                if stage.startswith(REPORT):
                    studies.setdefault(folder, []).append(stage.removeprefix(REPORT))
        head = "left out, their raw data are not here (`python stages/doctor.py DATA_SET` says what belongs there):"
        lines = [
            f"  {folder}: data sets {', '.join(names)}; studies {', '.join(studies.get(folder, ['none']))}"
            for folder, names in sorted(sets.items())
        ]
        return [head, *lines] if lines else []
