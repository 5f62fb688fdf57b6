"""The claims of the papers and what our runs say of each: docs/claims.yaml judged by reports/.

A claim says that one number is higher than another; a comparison is such a pair in one study. Its difference, seeds
paired by number, and the difference's interval are found here, and judged by claims/rules.py. Numbers are of the last
epoch, but those of a teacher that teaches with its best one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from longtail.base import params
from longtail.base.errors import UserError
from longtail.evaluation import statistics
from longtail.report.claims import rules
from longtail.report.claims.measures import BY_IMAGE, Measure
from longtail.report.claims.reruns import Reproduction, Rerun
from longtail.report.claims.rules import BOTH, LEAST_SEEDS, Covers, Verdict

Answers = tuple[np.ndarray, np.ndarray, np.ndarray]  # right(a) - right(b) [S, M], labels [M], class weights [C]
UNKNOWN = "Cause not known."
WHY_NOT_BOTH = "the interval covers training seeds alone"


@dataclass(frozen=True)
class Comparison:
    """What a claim says is higher and what lower, in one study of ours (None: nothing of ours tests it yet)."""

    higher: Measure
    lower: Measure
    study: str | None = None
    note: str = ""  # what a reader of the printed numbers must know
    cause: str = ""  # why it does not hold here, in a sentence, where records tell; shown where that is the verdict

    def __post_init__(self) -> None:
        if self.higher.metric != self.lower.metric:
            raise ValueError(f"higher is {self.higher.metric}, lower {self.lower.metric}: compare one metric")
        if {bool(self.study)} != {bool(side.name) for side in (self.higher, self.lower)}:
            raise ValueError("a study and both sides' runs, or none of the three")

    @property
    def sides(self) -> tuple[Measure, Measure]:
        return self.higher, self.lower

    def of(self, side: Measure) -> str | None:
        """The study of a side."""
        return side.study or self.study

    @property
    def entries(self) -> tuple[str, ...]:
        """The runs compared, each once."""
        return tuple(dict.fromkeys(side.name for side in (self.higher, self.lower) if side.name))


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
class OtherSeeds:
    """Two studies of one recipe that differ in their training seeds."""

    study: str
    again: str


@dataclass(frozen=True)
class Claims:
    """docs/claims.yaml."""

    claims: tuple[Claim, ...]
    reruns: tuple[Rerun, ...] = ()  # who else ran it
    other_seeds: tuple[OtherSeeds, ...] = ()

    def __post_init__(self) -> None:
        ids = [claim.id for claim in self.claims]
        twice = {name for name in ids if ids.count(name) > 1}
        if twice:
            raise ValueError(f"claim '{min(twice)}' stands there twice")


@dataclass(frozen=True)
class Judged:
    """What our runs say of a claim in one comparison, in `unit`. Difference and interval: higher minus lower."""

    claim: Claim
    comparison: Comparison
    miniature: bool
    verdict: Verdict
    difference: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 0  # that both sides have
    method: str = ""  # how the interval was found; empty where there is none
    reason: str = ""  # why there is no verdict, or what is to be known of it
    covers: Covers = ""  # the sources of variance that the interval covers
    values: tuple[float, float] | None = None  # higher and lower: means over the seeds that both have
    p: float | None = None  # of "no difference", where the interval covers both sources and the comparison tells
    p_holm: float | None = None  # the same, adjusted for the number of such comparisons of the ledger

    @property
    def unit(self) -> str:
        return self.comparison.higher.unit

    @property
    def cause(self) -> str:
        """Why it does not hold, or that this is not known; empty for other verdicts."""
        return (self.comparison.cause or UNKNOWN) if self.verdict == "does not hold" else ""

    @property
    def told(self) -> str:
        """The verdict, and the way the difference points where there is none."""
        return rules.told(self.verdict, self.difference)


def load(path: Path) -> list[Claim]:
    """The claims of a file. Raises UserError where it is missing, no YAML, or not of its shape."""
    return list(params.read(Claims, path).claims)


def load_reruns(path: Path) -> tuple[Rerun, ...]:
    """Who else ran it, by the same file. Raises UserError as `load` does."""
    return params.read(Claims, path).reruns


def load_other_seeds(path: Path) -> tuple[OtherSeeds, ...]:
    """Studies to be set side by side, by the same file. Raises UserError as `load` does."""
    return params.read(Claims, path).other_seeds


def ledger(claims: list[Claim], reports: Path) -> list[Judged]:
    """Every comparison judged, claim by claim, full recipes first. Raises UserError for a damaged file of reports/."""
    found = [
        judge(claim, comparison, miniature, reports)
        for claim in claims
        for miniature, comparisons in ((False, claim.full), (True, claim.miniature))
        for comparison in comparisons
    ]
    tested = [place for place, judged in enumerate(found) if judged.p is not None]
    for place, p in zip(tested, rules.holm([found[place].p for place in tested]), strict=True):
        found[place] = replace(found[place], p_holm=p)
    return found


def overall(judged: list[Judged]) -> Verdict:
    """The verdict of one claim: of its full recipes alone."""
    return rules.overall(j.verdict for j in judged if not j.miniature)


def judge(claim: Claim, comparison: Comparison, miniature: bool, reports: Path) -> Judged:
    """One comparison judged, its p not yet adjusted. Raises UserError as `ledger` does."""
    about = (claim, comparison, miniature)
    if comparison.study is None:
        return Judged(*about, "not yet run", reason="no run of ours tests it yet")
    sides = [side.by_seed(comparison.of(side), reports) for side in comparison.sides]
    if None in sides:
        absent = [name for side in comparison.sides for name in side.absent(comparison.of(side), reports)]
        return Judged(*about, "not yet run", reason=f"not run: {', '.join(dict.fromkeys(absent))}")
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        return Judged(*about, "undecided", reason="no seed has both numbers")
    higher, lower = (float(np.mean([side[seed] for seed in shared])) for side in sides)
    told = {"values": (higher, lower), "difference": higher - lower, "seeds": len(shared)}
    answers, zeros = _answers(comparison, shared, reports)
    told |= _interval(comparison, [sides[0][seed] - sides[1][seed] for seed in shared], answers, shared, reports)
    reasons = [told.pop("reason", ""), zeros]
    useless = _uninformative(comparison, (higher, lower), shared, reports)
    found = "not informative" if useless else rules.verdict(len(shared), told.get("interval"), told.get("covers", ""))
    if useless:
        told["p"] = None
    return Judged(*about, found, reason="; ".join(filter(None, (useless, *reasons))), **told)


def _interval(pair: Comparison, by_seed: list[float], answers: Answers | str, seeds: list[int], reports: Path) -> dict:
    """Fields of Judged on the interval. by_seed: differences; answers: image by image, or why they are not known."""
    several = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    if not isinstance(answers, str):
        _, labels, weights = answers
        mean, images = _mean(*answers), int((weights[labels] > 0).sum())
        if abs(mean - np.mean(by_seed)) > 0.01:
            raise UserError(
                f"{pair.study}: by their predictions {' and '.join(pair.entries)} differ by {mean:.2f}, by their "
                f"metrics by {np.mean(by_seed):.2f}; run stages/evaluate.py again"
            )
        if len(seeds) < LEAST_SEEDS:
            method = f"paired bootstrap over {images:,} test images, {several}"
            told = {"method": method, "covers": "test images", "reason": "other training seeds are not in the interval"}
            return told | {"interval": _points(statistics.over_images(*answers).interval)}
        found = statistics.over_seeds_and_images(*answers)
        method = f"paired, over {several} and {images:,} test images"
        return {"interval": _points(found.interval), "p": found.p, "covers": BOTH, "method": method}
    if len(seeds) < LEAST_SEEDS:
        return {"reason": f"{several}, and {answers}"}
    spread = _spread(pair, seeds, reports)
    if spread:
        found = statistics.over_seeds_and_spread(by_seed, *spread)
        method = f"paired, over {several} and the spread of {spread[1]:,} images"
        return {"interval": found.interval, "p": found.p, "covers": BOTH, "method": method}
    told = {"method": f"paired t over {several}", "covers": "training seeds", "reason": f"{answers}: {WHY_NOT_BOTH}"}
    return told | {"interval": statistics.over_seeds(by_seed).interval}


def _mean(difference: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """The weighted difference in points, of all seeds."""
    each = difference.mean(axis=0)
    return 100 * float(sum(weights[k] * each[labels == k].mean() for k in np.flatnonzero(weights)))


def _spread(pair: Comparison, seeds: list[int], reports: Path) -> tuple[float, int] | None:
    """(standard error of the difference over the images of an analysis, the fewer images of the two sides); None where
    it is not recorded. The sides' images are taken as drawn apart, which can only widen the interval."""
    sides = [side.spread(pair.of(side), reports, seeds) for side in pair.sides]
    if None in sides:
        return None
    return float(np.hypot(sides[0][0], sides[1][0])), min(sides[0][1], sides[1][1])


def _uninformative(pair: Comparison, values: tuple[float, float], seeds: list[int], reports: Path) -> str:
    """Why a comparison tells nothing: neither side is above chance. Empty where it does."""
    found = [side.metrics(pair.of(side), reports) for side in pair.sides]
    if None in found or not all("classes" in metrics for metrics in found):
        return ""  # of caches: no classes, no accuracy over them
    classes = found[0]["classes"]
    over_all = []
    for side, metrics in zip(pair.sides, found, strict=True):
        top1 = [metrics["seeds"][str(seed)][side.weights].get(side.head, {}).get("top1") for seed in seeds]
        over_all += [float(np.mean(top1))] if None not in top1 else []
    both = tuple(over_all) if len(over_all) == 2 else None
    return rules.uninformative(values, pair.higher.chance(classes), both, 100 / classes)


def _points(interval: tuple[float, float]) -> tuple[float, float]:
    """Shares of 1 as percentage points."""
    return 100 * interval[0], 100 * interval[1]


def _answers(comparison: Comparison, seeds: list[int], reports: Path) -> tuple[Answers | str, str]:
    """The difference image by image, or why it is not known; and which side never gets a class right, in words."""
    if comparison.higher.metric not in BY_IMAGE:
        return "no number for single test images", ""
    sides = [side.by_image(comparison.of(side), reports, seeds) for side in comparison.sides]
    if None in sides:
        return "no predictions of single test images", ""
    (right_a, labels), (right_b, other) = sides
    if not np.array_equal(labels, other):
        raise UserError(f"{' and '.join(comparison.entries)}: predictions of different test sets cannot be paired")
    members = comparison.higher.members(comparison.of(comparison.higher), reports)
    weights = statistics.class_weights(labels, int(labels.max()) + 1, members)
    differences = comparison.higher.minus or comparison.lower.minus
    zeros = "" if differences else _zeros((right_a, right_b), labels, weights)
    if np.bincount(labels)[weights > 0].min() < 2:
        return "a class with a single test image", zeros
    return (right_a.astype(float) - right_b, labels, weights), zeros


def _zeros(sides: tuple[np.ndarray, np.ndarray], labels: np.ndarray, weights: np.ndarray) -> str:
    """Classes compared of which a side gets no image right with any seed; sides: int8 [S, M] of higher and lower."""
    compared = np.flatnonzero(weights)
    told = []
    for name, right in zip(("higher", "lower"), sides, strict=True):
        none = sum(not right[:, labels == k].any() for k in compared)
        told += [f"the {name} side is never right in {none} of {len(compared)} classes"] if none else []
    return "; ".join(told)
