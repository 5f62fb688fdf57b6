"""Do claims come out the same with other training seeds? Two studies of one recipe set side by side, claim by claim.

Read from claims.csv, where each study's comparisons are judged on their own. Loads nothing but the standard library.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from longtail.base import csv_file
from longtail.base.errors import UserError
from longtail.base.text import pipe_table, points, signed
from longtail.report.claims import rules

COLUMNS = ("id", "text", "study", "verdict", "difference", "low", "high", "unit", "seeds")
ABOUT = ("id", "metric", "higher_head", "lower_head")  # a comparison, whichever study it is in
NOT_RUN = "not yet run"


@dataclass(frozen=True)
class Outcome:
    """What one study says of a comparison."""

    verdict: str
    difference: float | None
    interval: tuple[float, float] | None
    unit: str
    seeds: int

    @property
    def run(self) -> bool:
        return self.verdict != NOT_RUN

    @property
    def text(self) -> str:
        """`+10.5 points, 6.1 to 14.9 (6 seeds): holds`."""
        if self.difference is None:
            return self.verdict
        ends = f", {points(self.interval[0])} to {points(self.interval[1])}" if self.interval else ""
        told = rules.told(self.verdict, self.difference)
        return f"{points(self.difference)} {self.unit}{ends} ({self.seeds} seeds): {told}"


@dataclass(frozen=True)
class Both:
    """One comparison in both studies."""

    claim: str  # its id
    text: str
    a: Outcome
    b: Outcome

    @property
    def run(self) -> bool:
        return self.a.run and self.b.run

    @property
    def same(self) -> bool:
        return self.a.verdict == self.b.verdict

    @property
    def apart(self) -> str:
        """Difference of the two differences, and half the 95 % interval that chance allows it: seeds are independent,
        test images, of which either interval knows, are the same, so that it is rather too wide than too narrow."""
        if not (self.run and self.a.interval and self.b.interval):
            return ""
        halves = [(each.interval[1] - each.interval[0]) / 2 for each in (self.a, self.b)]
        gap, within = self.b.difference - self.a.difference, math.hypot(*halves)
        return f"{signed(gap, 2)} ± {within:.2f}" + " **outside**" * (abs(gap) > within)


def side_by_side(claims: Path, a: str, b: str) -> list[Both]:
    """Every comparison that both studies have, in the order of claims.csv; of those that were not run, too.

    Raises UserError where the file is not as it should be, and as `paired` does.
    """
    return paired(csv_file.read(claims, (*COLUMNS, *ABOUT), "run stages/claims.py"), claims, a, b)


def paired(rows: Iterable[dict[str, str]], claims: Path, a: str, b: str) -> list[Both]:
    """As `side_by_side`, of rows of `claims`. Raises UserError where a study has no comparison in it, or both have none
    in common."""
    found: dict[str, dict[tuple, tuple[str, Outcome]]] = {a: {}, b: {}}
    seen: Counter = Counter()
    for row in rows:
        if (study := row["study"]) in found:
            key = tuple(row[name] for name in ABOUT)
            seen[study, key] += 1
            found[study][*key, seen[study, key]] = row["text"], _outcome(row)
    if lacking := [study for study in (a, b) if not found[study]]:
        raise UserError(
            f"{claims}: no claim is compared in a study '{lacking[0]}'; docs/claims.yaml says where they are"
        )
    both = [key for key in found[a] if key in found[b]]
    if not both:
        raise UserError(f"{claims}: {a} and {b} have no comparison in common")
    return [Both(key[0], found[a][key][0], found[a][key][1], found[b][key][1]) for key in both]


def _outcome(row: dict[str, str]) -> Outcome:
    number = {name: float(row[name]) if row[name] else None for name in ("difference", "low", "high")}
    interval = None if number["low"] is None else (number["low"], number["high"])
    return Outcome(row["verdict"], number["difference"], interval, row["unit"], int(row["seeds"]))


def lines(found: list[Both], a: str, b: str) -> list[str]:
    """A Markdown table, a row a comparison."""
    rows = []
    for each in found:
        verdict = ("yes" if each.same else "**no**") if each.run else "not run"
        rows.append((each.text, each.a.text, each.b.text, each.apart, verdict))
    return pipe_table(("claim", a, b, "apart, ± 95 %", "same verdict"), "lllrl", rows)


def sentence(found: list[Both], a: str, b: str) -> str:
    """`verdicts of digits and digits-other_seeds: 5 of 6 the same (…: holds → undecided); 1 not run`."""
    run = [each for each in found if each.run]
    turned = [f"{each.claim}: {each.a.verdict} → {each.b.verdict}" for each in run if not each.same]
    told = f"verdicts of {a} and {b}: {len(run) - len(turned)} of {len(run)} the same"
    told += f" ({'; '.join(turned)})" if turned else ""
    return told + (f"; {len(found) - len(run)} not run" if len(run) < len(found) else "")


def section(rows: list[dict[str, str]], claims: Path, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """The part of claims.md about studies that were run again with other seeds; empty as long as none was."""
    told: list[str] = []
    for a, b in pairs:
        found = paired(rows, claims, a, b)
        if any(each.run for each in found):
            told += [*lines(found, a, b), "", f"In short: {sentence(found, a, b)}.", ""]
    rule = (
        "The same recipe with other training seeds. Apart: the second difference less the first, and how far they may",
        "lie apart by chance, the root of the squares of half their intervals.",
    )
    return ["## The same claims with other seeds", "", *rule, "", *told] if told else []
