"""Who else ran it: what is printed, what released weights and logs give, what third parties got, and ours.

Others' numbers stand in docs/claims.yaml, each with its settings and a public address; printed ones come from
data/published, ours from reports/. They are no part of a verdict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longtail.base.text import pipe_table
from longtail.evaluation import statistics
from longtail.report.claims.measures import Measure
from longtail.report.claims.rules import LEAST_SEEDS

RELEASED, RERUN = "released weights", "rerun"
Kind = Literal["released weights", "authors' log", "rerun"]
HEADER = ("paper", "setting", "printed", "released weights or authors' log", "others' reruns", "ours")


@dataclass(frozen=True)
class Reproduction:
    """What somebody else reports: his runs, not ours, and no part of the verdict."""

    source: str  # public address
    text: str  # one sentence, in our words: what was run, with which settings
    value: str = ""  # of the number asked for, as reported; or what is said of it, such as `lower`
    kind: Kind = RERUN

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https://[^\s()<>|]+", self.source):
            raise ValueError(f"source '{self.source}': a public address, https://…")
        if not self.text.strip():
            raise ValueError(f"source '{self.source}': say in `text` what it reports")


@dataclass(frozen=True)
class Rerun:
    """One printed number and everybody's."""

    paper: Literal["DeiT-LT", "LiVT", "DiVE", "CBD"]
    setting: str
    ours: Measure  # `printed` among it
    study: str
    others: tuple[Reproduction, ...]

    def __post_init__(self) -> None:
        if not self.ours.name or not self.ours.printed:
            raise ValueError(f"'{self.setting}': ours names a run, and what is printed of it")
        if not self.others:
            raise ValueError(f"'{self.setting}': name at least one of `others`")
        bare = next((other.source for other in self.others if not other.value.strip()), None)
        if bare:
            raise ValueError(f"'{self.setting}': source '{bare}' needs a `value`")


@dataclass(frozen=True)
class RerunLine:
    """A line of the table, as text; ours is empty where it was not run."""

    paper: str
    setting: str
    printed: str
    by_authors: tuple[Reproduction, ...]
    by_others: tuple[Reproduction, ...]
    ours: str


def lines(reruns: tuple[Rerun, ...], reports: Path, published: Path) -> list[RerunLine]:
    """Raises UserError for a printed cell that is not there, and for a damaged file of reports/."""
    return [
        RerunLine(
            each.paper,
            each.setting,
            each.ours.counterpart(published, f"who else ran it, '{each.setting}'").text,
            tuple(other for other in each.others if other.kind != RERUN),
            tuple(other for other in each.others if other.kind == RERUN),
            _ours(each, reports),
        )
        for each in reruns
    ]


def _ours(rerun: Rerun, reports: Path) -> str:
    """`55.10 (54.20 to 56.00, 3 seeds)`; an interval from three seeds on."""
    found = rerun.ours.by_seed(rerun.study, reports)
    if not found:
        return ""
    over = statistics.over_seeds(list(found.values()))
    interval = f"{over.interval[0]:.2f} to {over.interval[1]:.2f}, " if over.n >= LEAST_SEEDS else ""
    return f"{over.mean:.2f} ({interval}{over.n} seed{'s' * (over.n > 1)})"


def to_markdown(found: list[RerunLine]) -> list[str]:
    """The section of claims.md."""
    rows = [
        (line.paper, line.setting, line.printed, _told(line.by_authors), _told(line.by_others), line.ours or "not run")
        for line in found
    ]
    return [
        "## Who else ran it",
        "",
        "Printed; what the released weights or the authors' own logs give; what others got who ran it themselves;",
        "ours, at the last epoch, with the 95 % interval over seeds.",
        "",
        *pipe_table(HEADER, "llrllr", rows),
        "",
    ]


def _told(others: tuple[Reproduction, ...]) -> str:
    return " ".join(f"**{other.value}** {other.text} ({other.source})" for other in others)
