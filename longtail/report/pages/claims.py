"""The claims as the index shows them: a line a claim, what was run side by side by recipe and images, the rest folded.

Two tables of the same columns: claims of which something was run, and those of which nothing was. Each line says of
itself what the filter asks for: its paper, its verdicts, the studies of its runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from longtail.report.claims.ledger import SIGNS, ClaimGroup, ClaimLine

FULL = "Full recipe"
NOT_RUN = "not yet run"


@dataclass(frozen=True)
class ClaimRow:
    """A claim. studies: {column group: its comparisons that were run}; unrun: the others."""

    group: ClaimGroup
    studies: dict[str, tuple[ClaimLine, ...]]
    unrun: tuple[ClaimLine, ...]

    @property
    def height(self) -> int:
        """Rows of the table: the most comparisons that one group of columns has, at least 1."""
        return max(map(len, self.studies.values()), default=1)

    @property
    def run(self) -> tuple[ClaimLine, ...]:
        return tuple(line for lines in self.studies.values() for line in lines)

    @property
    def printed(self) -> ClaimLine | None:
        """The first comparison that the paper prints."""
        return next((line for line in self.group.lines if line.printed_difference), None)

    @property
    def verdicts(self) -> str:
        """Those of its comparisons that were run, as one text for the filter: `|holds|undecided|`."""
        return _joined(line.judged.verdict for line in self.run or self.unrun)

    @property
    def runs(self) -> str:
        """`|miniature|digits|`, or `|none|`."""
        kinds = {"miniature" if line.judged.miniature else "full" for line in self.run}
        return _joined([*sorted(kinds), *(line.judged.comparison.study for line in self.run)] if kinds else ["none"])


def _joined(texts) -> str:
    return f"|{'|'.join(dict.fromkeys(texts))}|"


@dataclass(frozen=True)
class ShownClaims:
    """columns: the groups of columns, full recipes first."""

    run: tuple[ClaimRow, ...]
    unrun: tuple[ClaimRow, ...]
    columns: tuple[str, ...]

    @property
    def rows(self) -> tuple[ClaimRow, ...]:
        return self.run + self.unrun

    @property
    def papers(self) -> list[str]:
        return [*dict.fromkeys(row.group.claim.paper for row in self.rows)]

    @property
    def verdicts(self) -> dict[str, int]:
        """{verdict: comparisons that were run}, in the order of SIGNS."""
        found = Counter(line.judged.verdict for row in self.run for line in row.run)
        return {verdict: found[verdict] for verdict in SIGNS if found[verdict]}

    @property
    def studies(self) -> list[str]:
        """Those of the comparisons that were run."""
        return [*dict.fromkeys(line.judged.comparison.study for row in self.run for line in row.run)]

    @property
    def comparisons(self) -> int:
        return sum(self.verdicts.values())

    @property
    def left(self) -> int:
        """Comparisons that were not run."""
        return sum(len(row.unrun) for row in self.rows)


def shown(groups: list[ClaimGroup], images: Mapping[str, str]) -> ShownClaims:
    """images: {study in miniature: what it is of}, which its comparisons stand under."""
    rows = []
    for group in groups:
        studies: dict[str, list[ClaimLine]] = {}
        unrun = []
        for line in group.lines:
            if line.judged.verdict == NOT_RUN:
                unrun.append(line)
                continue
            study = line.judged.comparison.study
            under = images.get(study, study) if line.judged.miniature else FULL
            studies.setdefault(under, []).append(line)
        rows.append(ClaimRow(group, {name: tuple(lines) for name, lines in studies.items()}, tuple(unrun)))
    named = dict.fromkeys(name for row in rows for name in row.studies)
    columns = (*([FULL] if FULL in named else []), *(name for name in named if name != FULL))
    return ShownClaims(tuple(r for r in rows if r.studies), tuple(r for r in rows if not r.studies), columns)
