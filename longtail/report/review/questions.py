"""docs/questions.md: what users of the four papers ask, each answered with a number and a link.

The words stand in templates/questions.md.j2; the numbers are looked up when the page is made: printed ones in
data/published, ours in reports/, settings in the params files, those of others in docs/METHODS.md, costs by
calculation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from longtail.base.errors import UserError, nearest
from longtail.base.text import SIZES, TIMES, number, points, with_unit
from longtail.cost.upstream import TRAINED
from longtail.cost.workload import Workload
from longtail.report import machines, published
from longtail.report.results import Results, load
from longtail.report.review.coverage import Project
from longtail.report.review.facts import Assumptions, claims

PAGE = "questions.md.j2"


class Answers:
    """What an answer may look up. Each method raises UserError, with what was asked for, where it is not there."""

    def __init__(
        self, files: Mapping, reports: Path, published: Path, methods: Path, assumed: Assumptions, params: dict
    ):
        """files: {name of a params file: the sections that stand in it}; params: those of all together."""
        self.files, self.reports, self.folder, self.assumed, self.params = files, reports, published, assumed, params
        self.project, self.workload = Project(params, reports), Workload(params)
        self.results: dict[str, Results] = {}
        self.where, self.words = methods, methods.read_text(encoding="utf-8")

    def printed(
        self, file: str, dataset: str, method: str, metric: str = "top1", split: str = "all", **more: str
    ) -> str:
        """The one cell of a CSV of data/published with these values, with its standard error where one is printed."""
        wanted = {"dataset": dataset, "method": method, "metric": metric, "split": split, **more}
        rows = published.select(published.read(self.folder, file), f"{PAGE} ({file})", **wanted)
        if len(rows) != 1:
            raise UserError(f"{PAGE} ({file}): {len(rows)} rows of {wanted}; one is needed")
        return published.PrintedCell(rows[0]["value"], rows[0]["stderr"], "", "").text

    def method(self, pattern: str) -> str:
        """The group of a pattern that docs/METHODS.md has once."""
        found = re.findall(pattern, self.words)
        if len(found) != 1:
            raise UserError(f"{PAGE}: {self.where} has '{pattern}' {len(found)} times; once is needed")
        return found[0]

    def setting(self, path: str) -> Any:
        """A value of the params files by its path, keys apart by a slash: teachers/paco_sam-imagenet_lt/arch."""
        value: Any = self.params
        for key in path.split("/"):
            if not isinstance(value, Mapping) or key not in value:
                known = value if isinstance(value, Mapping) else ()
                raise UserError(f"{PAGE}: no '{path}' in the params files{nearest(key, known)}")
            value = value[key]
        return value

    def metrics(self, study: str, entry: str) -> dict | None:
        """A run's record; None where it was not run."""
        config = self.setting(f"studies/{study}") and self.project.studies[study]
        items = {item.name for item in (*config.experiments, *config.teachers)}
        if entry not in items:
            raise UserError(f"{PAGE}: no '{entry}' in study {study}{nearest(entry, items)}")
        if study not in self.results:
            self.results[study] = load(self.reports / "metrics" / study, study, config)
        results = self.results[study]
        return (results.experiments | results.teachers).get(entry)

    def ours(self, study: str, entry: str, when: str = "last", head: str = "avg", metric: str = "top1") -> str:
        """Accuracy in %, mean and standard error over seeds; `not run`."""
        record = self.metrics(study, entry)
        if record is None:
            return "not run"
        value = record["summary"][when][head][metric]
        return f"{value['mean']:.2f}" + ("" if value["stderr"] is None else f" ± {value['stderr']:.2f}")

    def seeds(self, study: str, entry: str) -> int:
        record = self.metrics(study, entry)
        return 0 if record is None else len(record["seeds"])

    def images(self, study: str, entry: str) -> str:
        """Training images of a run that was made."""
        record = self.metrics(study, entry)
        if record is None:
            raise UserError(f"{PAGE}: {entry} of {study} was not run, so that its images are not counted")
        return f"{sum(record['class_counts']):,}"

    def seconds(self, study: str, entry: str, kind: str) -> str:
        """Mean training time of a seed as reports/machines has it."""
        record = self.metrics(study, entry)
        made = machines.load(self.reports, study).of(kind, entry, record["config_hash"]) if record else {}
        told = [facts["seconds"] for facts in made.values()]
        return with_unit(sum(told) / len(told), TIMES) if told else "not recorded"

    def groups(self, entry: str) -> list[int]:
        """Views of each mix group of a student's first step."""
        block = self.setting(f"experiments/{entry}")
        step = self.workload.layout(block["views"], block["dataset"]).groups_of_step(0)
        return [group.stop - group.start for group in step]

    def command(self, stage: str, entry: str) -> str:
        """How `dvc repro` is asked for a stage of an entry, whichever folder it stands in."""
        section = TRAINED[stage]
        self.setting(f"{section}/{entry}")
        file = next(name for name, own in self.files.items() if entry in (own.get(section) or {}))
        folder = file.removesuffix("params.yaml")
        return f"dvc repro {folder}dvc.yaml:{stage}@{entry}" if folder else f"dvc repro {stage}@{entry}"

    def hours(self, stage: str, entry: str) -> str:
        """GPU-hours of training one seed, by calculation, from the highest to the lowest assumed utilisation."""
        low, high = self.assumed.gpu_hours(self.workload.of(stage, entry).flop)
        return "less than 1 GPU-hour" if high < 1 else f"{number(low)} to {number(high)} GPU-hours"

    def memory(self, stage: str, entry: str) -> str:
        """Of one seed, counted, with all views of a step at once."""
        return with_unit(self.workload.of(stage, entry).memory, SIZES)

    def verdict(self, claim: str, study: str) -> str:
        """Of a comparison in one study: verdict, difference and 95 % interval."""
        rows = claims(self.reports / "claims.csv")
        found = [row for row in rows or () if (row["id"], row["study"]) == (claim, study)]
        if len(found) != 1:
            raise UserError(f"{PAGE}: {len(found)} rows of {claim} in {study} in claims.csv; one is needed")
        row = found[0]
        told = f"{points(float(row['difference']))} {row['unit']}" if row["difference"] else ""
        told += f", {points(float(row['low']))} to {points(float(row['high']))}" if row["low"] else ""
        return f"{row['verdict']} ({told})" if told else row["verdict"]


def page(answers: Answers) -> str:
    """The Markdown page, ending in a newline."""
    environment = Environment(
        loader=PackageLoader("longtail.report", "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(PAGE).render(a=answers).strip() + "\n"
