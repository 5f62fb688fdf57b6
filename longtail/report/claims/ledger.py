"""The claim ledger as the index shows it: a group of lines for each claim, and how many claims hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from longtail.base.text import points
from longtail.report.claims.judge import Claim, Judged, Verdict, overall
from longtail.report.claims.text import Counterpart, counterpart

SIGNS = {  # {verdict: (symbol, class)}: never by colour alone
    "holds": ("✓", "good"),
    "does not hold": ("✗", "bad"),
    "undecided": ("?", "warn"),
    "not yet run": ("–", "soft"),
}


@dataclass(frozen=True)
class ClaimLine:
    """What one study says of a claim, as text; empty = not run, or not printed."""

    judged: Judged
    printed: Counterpart

    @property
    def printed_difference(self) -> str:
        return points(self.printed.difference)

    @property
    def printed_sides(self) -> str:
        """`84.5 − 70.2`: what the difference is of."""
        sides = (self.printed.higher, self.printed.lower)
        return " − ".join(side.value for side in sides) if self.printed.difference is not None else ""

    @property
    def ours(self) -> str:
        return f"{points(self.judged.difference)} {self.judged.unit}" if self.judged.difference is not None else ""

    @property
    def interval(self) -> str:
        ends = self.judged.interval
        return f"{points(ends[0])} to {points(ends[1])}" if ends else ""


@dataclass(frozen=True)
class ClaimGroup:
    """A claim, its verdict, and the studies that bear on it: full recipes first."""

    claim: Claim
    verdict: Verdict
    lines: tuple[ClaimLine, ...]


def claim_groups(ledger: list[Judged], published: Path) -> list[ClaimGroup]:
    """The ledger claim by claim, in its order. Raises UserError for a printed cell that is not there."""
    groups = []
    for _, found in groupby(ledger, key=lambda judged: judged.claim.id):
        judged = list(found)
        claim = judged[0].claim
        lines = (ClaimLine(j, counterpart(j.comparison, published, f"claim '{claim.id}'")) for j in judged)
        groups.append(ClaimGroup(claim, overall(judged), tuple(lines)))
    return groups


def verdicts(groups: list[ClaimGroup], paper: str) -> dict[str, int]:
    """{verdict: claims of the paper}, those that occur; with the full recipe."""
    found = Counter(group.verdict for group in groups if group.claim.paper == paper)
    return {verdict: found[verdict] for verdict in SIGNS if found[verdict]}


def miniature_verdicts(groups: list[ClaimGroup], paper: str) -> dict[str, int]:
    """{verdict: comparisons of the paper's claims in miniatures}, those that were run."""
    lines = (line.judged for group in groups if group.claim.paper == paper for line in group.lines)
    found = Counter(judged.verdict for judged in lines if judged.miniature)
    return {verdict: found[verdict] for verdict in SIGNS if found[verdict] and verdict != "not yet run"}


def decided(groups: list[ClaimGroup], verdict: Verdict) -> list[tuple[ClaimGroup, ClaimLine]]:
    """The studies in which a claim has that verdict, full recipes first."""
    found = [(group, line) for group in groups for line in group.lines if line.judged.verdict == verdict]
    return sorted(found, key=lambda pair: pair[1].judged.miniature)
