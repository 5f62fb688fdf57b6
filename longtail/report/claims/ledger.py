"""The ledger of claims: CSV and Markdown as text, and the groups of lines that the index shows."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from textwrap import wrap

from longtail.base.text import pipe_table, points
from longtail.report.claims import reruns
from longtail.report.claims.judge import Claim, Comparison, Judged, overall
from longtail.report.claims.reruns import RerunLine
from longtail.report.claims.rules import COUNTED, LEAST_SEEDS, LEVEL, Verdict, expected_false, side
from longtail.report.published import PrintedCell

HEADER = (
    *("id", "paper", "where", "text", "overall", "study", "miniature", "verdict", "difference", "low", "high", "unit"),
    *("points", "covers", "p", "p_holm", "higher_value", "lower_value"),
    *("seeds", "method", "reason", "metric", "higher", "higher_head", "lower", "lower_head"),
    *("printed_higher", "printed_lower", "printed_difference", "printed_note", "others", "cause"),
)
NO_STUDY = "no run yet"


@dataclass(frozen=True)
class Counterpart:
    """The printed numbers beside a comparison; None where the paper prints none."""

    higher: PrintedCell | None
    lower: PrintedCell | None

    @property
    def difference(self) -> float | None:
        """Higher minus lower, as printed; None unless both are."""
        if not (self.higher and self.lower and self.higher.value and self.lower.value):
            return None
        return float(self.higher.value) - float(self.lower.value)

    @property
    def text(self) -> str:
        """The difference with its sign, to the digits that are printed; nothing for None."""
        if self.difference is None:
            return ""
        digits = max(len(cell.value.partition(".")[2]) for cell in (self.higher, self.lower))
        return f"{self.difference:+.{digits}f}".replace("-", "−")

    @property
    def notes(self) -> list[str]:
        """Of cells that are not to be trusted blindly."""
        return [cell.doubt for cell in (self.higher, self.lower) if cell and cell.doubt]


def reported(claim: Claim) -> str:
    """What others report about a claim, each with its address; nothing where nobody is named."""
    return " ".join(f"{other.text} ({other.source})" for other in claim.others)


def place(pair: Comparison) -> str:
    """Where the numbers are compared: our study, or the printed setting where there is none."""
    if pair.study or not pair.higher.printed:
        return pair.study or NO_STUDY
    printed = pair.higher.printed
    return f"{NO_STUDY}: {printed.dataset}, ρ = {printed.imbalance}, {printed.backbone}"


def counterpart(comparison: Comparison, published: Path, where: str) -> Counterpart:
    """What is printed of both sides. Raises UserError for a selector that fits nothing, naming `where`."""
    sides = (("higher", comparison.higher), ("lower", comparison.lower))
    return Counterpart(*(side.counterpart(published, f"{where}, {name}") for name, side in sides))


def to_csv(ledger: list[Judged], published: Path) -> str:
    """Every comparison, ours to 4 decimals, printed as text; empty where there is no number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    for judged, verdict, printed in _lines(ledger, published):
        claim, pair = judged.claim, judged.comparison
        line = [claim.id, claim.paper, claim.where, claim.text, verdict, pair.study, int(judged.miniature)]
        ends = (judged.difference, *(judged.interval or (None, None)))
        line += [judged.verdict, *map(_four, ends), judged.unit, side(judged.difference), judged.covers]
        line += map(_four, (judged.p, judged.p_holm, *(judged.values or (None, None))))
        line += [judged.seeds, judged.method, judged.reason, pair.higher.metric]
        line += [part for side in pair.sides for part in (" minus ".join(side.runs), side.head)]
        line += [cell.value if cell else "" for cell in (printed.higher, printed.lower)]
        line += [_four(printed.difference), "; ".join(filter(None, (*printed.notes, pair.note)))]
        writer.writerow([*line, reported(claim), judged.cause])
    return out.getvalue()


def multiplicity(ledger: list[Judged]) -> str:
    """How many comparisons were tested at once, and what that does to their verdicts: a sentence or two."""
    tested = [judged for judged in ledger if judged.p is not None]
    found = [judged for judged in tested if judged.verdict in ("holds", "does not hold")]
    stand = [judged for judged in found if judged.p_holm <= LEVEL]
    if not tested:
        return "No comparison was tested yet."
    names = "; ".join(f"{judged.claim.id} in {judged.comparison.study}" for judged in stand)
    return (
        f"{len(tested)} comparisons were tested and {len(found)} have a verdict. If none of these differences were "
        f"real, {expected_false(len(tested)):.1f} verdicts would be expected all the same, at {100 * LEVEL:g} % each; "
        "verdicts are not corrected for that. With all to be right at once (Holm), "
        f"{len(stand)} stand{': ' * bool(stand)}{names}."
    )


RULES = (
    "Each claim is that one number is higher than another. It **holds** where the 95 % interval of the difference "
    "(last epoch, a teacher's with the weights that teach; seeds paired by number) is above 0, **does not hold** where "
    f"it is below, and is **undecided** where 0 is in it. A verdict needs {LEAST_SEEDS} seeds of either side and an "
    "interval that covers training seeds and test images together; with fewer seeds a comparison is **one run** or "
    "**two runs**, and with an interval over seeds alone it is undecided. Where neither side is above chance it is "
    "**not informative**; one side at zero and the other above chance is a difference, and classes that a side never "
    "gets right are named. No interval tells of other subsets of the training images."
)


def to_markdown(
    ledger: list[Judged], published: Path, others: Sequence[RerunLine] = (), again: Sequence[str] = ()
) -> str:
    """A page: how verdicts are made, their counts, a table for each paper, the lines `again` (other_seeds.section), and
    who else ran it."""
    lines = [
        "# Claim ledger",
        "",
        "What the papers claim, in our words, and what our runs say.",
        *wrap(RULES, 118),
        "A claim as a whole has the worst verdict of its full recipes; miniatures show whether the pattern appears,",
        "and decide nothing. Differences are higher minus lower; (?) marks printed numbers that are doubtful, as told",
        "in claims.csv. What others report of their own runs stands in the last column, with its address, and is no",
        "part of a verdict. `docs/verdicts.md` has the rules at length, and how often such an interval covers the",
        "truth.",
        "",
        *wrap(multiplicity(ledger), 118),
        "",
    ]
    for paper, group in groupby(ledger, key=lambda judged: judged.claim.paper):
        found = list(group)
        verdicts = Counter(_overalls(found).values())
        counts = ", ".join(f"{verdicts[verdict]} {text}" for verdict, text in COUNTED.items())
        lines += [f"## {paper}", "", f"Claims: {counts}.", ""]
        rows, seen = [], ""
        for judged, verdict, printed in _lines(found, published):
            claim = judged.claim
            first = f"**{claim.text}** {claim.where}: *{verdict}*" if claim.id != seen else ""
            rows.append((first, *_row(judged, printed), reported(claim) if first else ""))
            seen = claim.id
        header = ("claim", "study", "printed", "higher", "lower", "ours", "95 % interval", "test", "verdict")
        lines += pipe_table((*header, "others' reproductions"), "llrrrrllll", rows)
        lines.append("")
    return "\n".join([*lines, *again, *(reruns.to_markdown(list(others)) if others else ())])


def _row(judged: Judged, printed: Counterpart) -> tuple[str, ...]:
    pair = judged.comparison
    study = place(pair) + (" (miniature)" if judged.miniature else "")
    ours = "" if judged.difference is None else f"{points(judged.difference)} {judged.unit}"
    ends = f"{points(judged.interval[0])} to {points(judged.interval[1])}" if judged.interval else ""
    test = "; ".join(text for text in (judged.method, judged.reason, pair.note, judged.cause) if text)
    mark = " (?)" if printed.notes or pair.note else ""
    return study, printed.text + mark, *values(judged), ours, ends, test, judged.told


def values(judged: Judged) -> tuple[str, str]:
    """Both sides as text, in the unit of their difference."""
    return ("", "") if judged.values is None else tuple(f"{value:.4g}" for value in judged.values)


def _four(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _overalls(ledger: list[Judged]) -> dict[str, str]:
    """{claim id: verdict of the claim as a whole}."""
    groups = groupby(ledger, key=lambda judged: judged.claim.id)
    return {name: overall(list(found)) for name, found in groups}


def _lines(ledger: list[Judged], published: Path):
    """Of each comparison: itself, the verdict of its claim, what is printed."""
    verdicts = _overalls(ledger)
    for judged in ledger:
        where = f"claim '{judged.claim.id}' ({place(judged.comparison)})"
        yield judged, verdicts[judged.claim.id], counterpart(judged.comparison, published, where)


SIGNS = {  # {verdict: (symbol, class)}: never by colour alone
    "holds": ("✓", "good"),
    "does not hold": ("✗", "bad"),
    "undecided": ("?", "warn"),
    "one run": ("◔", "soft"),
    "two runs": ("◑", "soft"),
    "not informative": ("○", "soft"),
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
    def sides(self) -> tuple[tuple[str, str], ...]:
        """((67.33, its run), (57.17, its run)): what our difference is of."""
        runs = (side.name for side in self.judged.comparison.sides)
        return tuple((text, name) for text, name in zip(values(self.judged), runs, strict=True) if text)

    @property
    def way(self) -> str:
        """Which way it points where there is no verdict; empty where there is one, or nothing to point."""
        return self.judged.told.removeprefix(self.judged.verdict).removeprefix(", ")

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


def decided(groups: list[ClaimGroup], verdict: Verdict) -> list[tuple[ClaimGroup, list[ClaimLine], dict[Verdict, int]]]:
    """The claims that have that verdict in a study: (claim, the studies with it, {other verdict: its studies}), those
    of a full recipe first. What was not run is no verdict."""
    found = []
    for group in groups:
        lines = sorted((line for line in group.lines if line.judged.verdict == verdict), key=_miniature)
        counts = Counter(line.judged.verdict for line in group.lines)
        others = {name: counts[name] for name in SIGNS if counts[name] and name not in (verdict, "not yet run")}
        if lines:
            found.append((group, lines, others))
    return sorted(found, key=lambda claim: _miniature(claim[1][0]))


def _miniature(line: ClaimLine) -> bool:
    return line.judged.miniature
