"""What the first screens say before any table: what this is, what was confirmed, what was not run and its cost.

README.md, docs/index.md and reports/index.html show the same sentences. The words are docs/words.yaml's; numbers are
counted from coverage, the ledger of claims and what the reviewers' pages say is left to run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from longtail.base import csv_file
from longtail.base.text import number, plain
from longtail.report.review.coverage import Coverage, Project
from longtail.report.review.facts import Assumptions, Estimate
from longtail.report.review.pages import LEFT, LEFT_COLUMNS
from longtail.report.review.shares import PAPERS, Share


@dataclass(frozen=True)
class PaperWords:
    """A paper in a sentence or two, and where it is."""

    title: str
    idea: str
    arxiv: str
    code: str | None  # None: the authors released none
    folder: str  # its page's, from the root


@dataclass(frozen=True)
class Shown:
    """A figure of the README's first screen, or of the index."""

    study: str
    figure: str
    says: str  # what it shows, in a sentence


@dataclass(frozen=True)
class Words:
    """docs/words.yaml."""

    introduction: str
    papers: dict[str, PaperWords]
    words: dict[str, str]
    datasets: dict[str, str]
    figures: tuple[Shown, ...] = ()  # two, side by side
    pictured: tuple[Shown, ...] = ()  # in the index, below the papers

    @property
    def what(self) -> str:
        """What this is, in a sentence."""
        named = [f"{name} ({PAPERS[name][0]})" for name in self.papers]
        return (
            f"A reproduction of {', '.join(named[:-1])} and {named[-1]}, from raw images to tables and figures, "
            "each number beside the printed one."
        )


@dataclass(frozen=True)
class Left:
    """The full recipes that are left to run. studies: {name: what is left}, without those that train nothing or whose
    images nobody counted."""

    studies: dict[str, Estimate]
    assumed: Assumptions

    def hours(self, *names: str) -> str:
        """`1.2 to 3.1`: GPU-hours of these studies, of all where none is named; a dash where nothing is counted."""
        found = [each for name, each in self.studies.items() if not names or name in names]
        if not found:
            return "–"
        low, high = self.assumed.gpu_hours(sum(each.flop for each in found))
        return "< 1" if high < 1 else f"{number(low)} to {number(high)}"

    @property
    def runs(self) -> int:
        return sum(each.runs for each in self.studies.values())


def left(project: Project, assumed: Assumptions) -> Left:
    """From reports/review/left.csv (stages/review.py); of studies with the published recipe alone. Nothing where that
    was not made. Raises UserError where it is something else."""
    path = project.reports / "review" / LEFT
    rows = csv_file.read(path, LEFT_COLUMNS, "make it again with stages/review.py") if path.is_file() else []
    found = {
        row["study"]: Estimate(int(row["runs"]), float(row["flop"]), int(row["disk"]))
        for row in rows
        if row["study"] in project.studies and project.studies[row["study"]].comparable
    }
    return Left(found, assumed)


@dataclass(frozen=True)
class Stand:
    """How far it has come. claims: {verdict: claims, by full recipes}; small: {verdict: comparisons in miniatures}."""

    share: Share
    claims: Mapping[str, int]
    small: Mapping[str, int]
    left: Left

    @property
    def confirmed(self) -> str:
        """What has been confirmed."""
        share, total = self.share, sum(self.claims.values())
        judged = total - self.claims.get("not yet run", 0)
        if share.full or share.part or judged:
            refuted = self.claims.get("does not hold", 0)
            told = (
                f"With the full recipe {share.full} of {share.total} tables and figures were made whole, {share.part} "
            )
            told += f"in part; {self.claims.get('holds', 0)} of {total} claims hold, {refuted} do not."
        else:
            told = f"Confirmed with a full recipe: nothing yet of {share.total} tables and figures and {total} claims."
        small = {verdict: count for verdict, count in self.small.items() if verdict != "not yet run"}
        if small:
            held, refuted, count = small.get("holds", 0), small.get("does not hold", 0), sum(small.values())
            told += f" In miniature (small data, small models or a reduced schedule) {held} of {count} comparisons "
            told += f"hold, {refuted} do not, {count - held - refuted} decide nothing; that confirms no printed number."
        return told

    @property
    def unrun(self) -> str:
        """What was not run, and what it would cost."""
        if not self.left.studies:
            return "Not run: see the list of runs; nothing is counted of what is left."
        return (
            f"Not run: {self.left.runs} entries of full recipes, with all their seeds {self.left.hours()} hours of one "
            f"{self.left.assumed.gpu} by calculation; nothing of it was timed, and CNNs take longer than calculated."
        )


def stand(
    coverage: Coverage, shares: Mapping[str, Mapping[str, Share]], ledger: Sequence[Mapping[str, str]], rest: Left
) -> Stand:
    """shares: of report.review.shares.by_kind, by paper; ledger: rows with id, overall, miniature (`1`) and verdict."""
    total = Share(0, 0, 0, 0)
    for paper in coverage.papers:
        total += shares[paper]["tables"] + shares[paper]["figures"]
    whole = Counter({row["id"]: row["overall"] for row in ledger}.values())
    return Stand(total, whole, Counter(row["verdict"] for row in ledger if row["miniature"] == "1"), rest)


def summary(words: Words, found: Stand, up: str) -> str:
    """The first screen's sentences as Markdown. up: the way to the root, `` or `../`."""
    cost = f"([what each study would cost]({up}reports/review/cost.md))"
    return "\n\n".join((words.what, found.confirmed, f"{found.unrun} {cost}")) + "\n"


def introduction(words: Words, up: str) -> str:
    """The subject, and each paper in a sentence or two with its links, as Markdown."""
    lines = [words.introduction, ""]
    for name, paper in words.papers.items():
        code = f"[official code]({paper.code})" if paper.code else "no code released"
        links = f"[paper]({paper.arxiv}), {code}, [here]({up}{paper.folder}/README.md)"
        lines.append(f"* **{name}** ({PAPERS[name][0]}). {plain(paper.idea)} {links}")
    return "\n".join(lines) + "\n"


def glossary(words: Words) -> str:
    """The words as a Markdown list."""
    return "\n".join(f"* **{plain(word)}**: {plain(meaning)}" for word, meaning in words.words.items()) + "\n"
