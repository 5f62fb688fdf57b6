"""The claims of the papers and what our runs say of each: docs/claims.yaml judged by reports/.

A claim says that one number is higher than another; a comparison is such a pair in one study. It is decided by the 95 %
interval of the difference, seeds paired by number: from three seeds on by t, from fewer by a bootstrap over test
images, which tells nothing of other training seeds. Verdicts are of the last epoch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from longtail.base import params
from longtail.base.errors import UserError
from longtail.evaluation import statistics
from longtail.report.claims.measures import BY_IMAGE, Measure

Verdict = Literal["holds", "does not hold", "undecided", "not yet run"]
WORST_FIRST: tuple[Verdict, ...] = ("does not hold", "undecided", "not yet run", "holds")
SEEDS_FOR_T = 3
Answers = tuple[np.ndarray, np.ndarray, np.ndarray]  # right(a) - right(b) [S, M], labels [M], class weights [C]


@dataclass(frozen=True)
class Comparison:
    """What a claim says is higher and what lower, in one study of ours (None: nothing of ours tests it yet)."""

    higher: Measure
    lower: Measure
    study: str | None = None
    note: str = ""  # what a reader of the printed numbers must know

    def __post_init__(self) -> None:
        if self.higher.metric != self.lower.metric:
            raise ValueError(f"higher is {self.higher.metric}, lower {self.lower.metric}: compare one metric")
        if {bool(self.study)} != {bool(side.name) for side in (self.higher, self.lower)}:
            raise ValueError("a study and both sides' runs, or none of the three")

    @property
    def entries(self) -> tuple[str, ...]:
        """The runs compared, each once."""
        return tuple(dict.fromkeys(side.name for side in (self.higher, self.lower) if side.name))


@dataclass(frozen=True)
class Reproduction:
    """What somebody else reports about a claim: his runs, not ours, and no part of the verdict."""

    source: str  # public address
    text: str  # one sentence, in our words

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https://[^\s()<>|]+", self.source):
            raise ValueError(f"source '{self.source}': a public address, https://…")
        if not self.text.strip():
            raise ValueError(f"source '{self.source}': say in `text` what it reports")


@dataclass(frozen=True)
class Claim:
    """One statement of a paper that a number decides, in our words."""

    id: str
    paper: Literal["DeiT-LT", "LiVT", "DiVE", "CBD"]
    where: str  # e.g. Table 5
    text: str
    full: tuple[Comparison, ...]  # with the published recipe
    miniature: tuple[Comparison, ...] = ()  # in studies that are not comparable: they show the pattern, not the claim
    others: tuple[Reproduction, ...] = ()  # others' reproductions

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]+", self.id):
            raise ValueError(f"id '{self.id}': use a-z, 0-9 and -")
        if not self.full:
            raise ValueError(f"claim '{self.id}' needs a comparison under `full`")


@dataclass(frozen=True)
class Claims:
    """docs/claims.yaml."""

    claims: tuple[Claim, ...]

    def __post_init__(self) -> None:
        ids = [claim.id for claim in self.claims]
        twice = {name for name in ids if ids.count(name) > 1}
        if twice:
            raise ValueError(f"claim '{min(twice)}' stands there twice")


@dataclass(frozen=True)
class Judged:
    """What our runs say of a claim in one comparison. Difference and interval in `unit`: higher minus lower."""

    claim: Claim
    comparison: Comparison
    miniature: bool
    verdict: Verdict
    difference: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 0  # that both sides have
    method: str = ""  # e.g. paired t over 3 seeds; empty where nothing was tested
    reason: str = ""  # why there is no verdict, or what the interval leaves out
    interval_both: tuple[float, float] | None = None  # over seeds and test images at once, from two seeds on

    @property
    def unit(self) -> str:
        return self.comparison.higher.unit


def load(path: Path) -> list[Claim]:
    """The claims of a file. Raises UserError where it is missing, no YAML, or not of its shape."""
    return list(params.read(Claims, path).claims)


def ledger(claims: list[Claim], reports: Path) -> list[Judged]:
    """Every comparison judged, claim by claim, full recipes first. Raises UserError for a damaged file of reports/."""
    return [
        judge(claim, comparison, miniature, reports)
        for claim in claims
        for miniature, comparisons in ((False, claim.full), (True, claim.miniature))
        for comparison in comparisons
    ]


def overall(judged: list[Judged]) -> Verdict:
    """The verdict of one claim: of its full recipes alone, the worst one, so that it holds only where all do."""
    found = {j.verdict for j in judged if not j.miniature}
    return next(verdict for verdict in WORST_FIRST if verdict in found)


def judge(claim: Claim, comparison: Comparison, miniature: bool, reports: Path) -> Judged:
    """One comparison judged. Raises UserError as `ledger` does."""
    about = (claim, comparison, miniature)
    if comparison.study is None:
        return Judged(*about, "not yet run", reason="no run of ours tests it yet")
    sides = [side.by_seed(comparison.study, reports) for side in (comparison.higher, comparison.lower)]
    absent = [name for name, side in zip(_names(comparison), sides, strict=True) if side is None]
    if absent:
        return Judged(*about, "not yet run", reason=f"not run: {', '.join(dict.fromkeys(absent))}")
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        return Judged(*about, "undecided", reason="no seed has both numbers")
    return _decide(about, statistics.over_shared_seeds(*sides), shared, _answers(comparison, shared, reports))


def _decide(about: tuple, found: statistics.Estimate, shared: list[int], answers: Answers | str) -> Judged:
    """From the difference over seeds, and what it is image by image (or why that is not known)."""
    several = "1 seed" if len(shared) == 1 else f"{len(shared)} seeds"
    told = {"difference": found.mean, "seeds": len(shared)}
    if not isinstance(answers, str):
        sampled = statistics.over_images(*answers)
        if abs(100 * sampled.mean - found.mean) > 0.01:
            raise UserError(
                f"{about[1].study}: by their predictions {' and '.join(about[1].entries)} differ by "
                f"{100 * sampled.mean:.2f}, by their metrics by {found.mean:.2f}; run stages/evaluate.py again"
            )
        if len(shared) > 1:
            told["interval_both"] = _points(statistics.over_seeds_and_images(*answers).interval)
    if len(shared) >= SEEDS_FOR_T:
        method = f"paired t over {several}"
        return Judged(*about, verdict(found.interval), interval=found.interval, method=method, **told)
    if isinstance(answers, str):
        return Judged(*about, "undecided", reason=f"{several}, and {answers}", **told)
    told |= {"interval": _points(sampled.interval), "reason": "other training seeds are not in the interval"}
    method = f"paired bootstrap over {sampled.n:,} test images, {several}"
    return Judged(*about, verdict(told["interval"]), method=method, **told)


def verdict(interval: tuple[float, float]) -> Verdict:
    """By where the interval of `higher - lower` lies."""
    low, high = interval
    return "holds" if low > 0 else "does not hold" if high < 0 else "undecided"


def _points(interval: tuple[float, float]) -> tuple[float, float]:
    """Shares of 1 as percentage points."""
    return 100 * interval[0], 100 * interval[1]


def _answers(comparison: Comparison, seeds: list[int], reports: Path) -> Answers | str:
    """The difference image by image; or why it is not known."""
    if comparison.higher.metric not in BY_IMAGE:
        return "no number for single test images"
    sides = [side.by_image(comparison.study, reports, seeds) for side in (comparison.higher, comparison.lower)]
    if None in sides:
        return "no predictions of single test images"
    (right_a, labels), (right_b, other) = sides
    if not np.array_equal(labels, other):
        raise UserError(f"{' and '.join(comparison.entries)}: predictions of different test sets cannot be paired")
    members = comparison.higher.members(comparison.study, reports)
    weights = statistics.class_weights(labels, int(labels.max()) + 1, members)
    if np.bincount(labels)[weights > 0].min() < 2:
        return "a class with a single test image"
    return right_a.astype(float) - right_b, labels, weights


def _names(comparison: Comparison) -> tuple[str, str]:
    return comparison.higher.name, comparison.lower.name
