"""The rules of judgement: when a difference decides a claim, and what is said of it otherwise. No number is read here.

1. A verdict (holds, does not hold) needs `LEAST_SEEDS` training seeds on either side, and a 95 % interval that covers
   both training seeds and test images. Fewer seeds are `one run` or `two runs`; an interval over one of the two sources
   leaves a claim undecided. Both are shown with the side to which they point.
2. Where neither side is above chance the comparison is `not informative`: in the metric compared where that is an
   accuracy, or over all classes. One side at zero and the other above chance is a difference, and is judged; whole
   classes at zero are named beside it.
3. A claim as a whole has the worst verdict of its full recipes.
4. Several claims at once: of n tested differences that are all zero, 5 % are taken for one. `holm` says which of them
   stand when all are to be right at once (Holm 1979).

Loads nothing but the standard library. docs/verdicts.md has the page for readers, benchmarks/verdicts.py the
coverage of the intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

LEAST_SEEDS = 3  # of either side, for a verdict, and for an interval over seeds (Student's t) at all
LEVEL = 0.05  # 1 - the confidence of an interval

Verdict = Literal["holds", "does not hold", "undecided", "one run", "two runs", "not informative", "not yet run"]
WORST_FIRST: tuple[Verdict, ...] = (
    *("does not hold", "undecided", "one run", "two runs", "not informative", "not yet run", "holds"),
)
COUNTED: dict[Verdict, str] = {  # how many claims …, in the order in which they are listed
    "holds": "hold",
    "does not hold": "do not hold",
    "undecided": "undecided",
    "one run": "of one run",
    "two runs": "of two runs",
    "not informative": "not informative",
    "not yet run": "not yet run",
}
Side = Literal["claimed", "other", ""]
Covers = Literal["training seeds and test images", "training seeds", "test images", ""]
BOTH: Covers = "training seeds and test images"


def verdict(seeds: int, interval: tuple[float, float] | None, covers: Covers) -> Verdict:
    """Of an informative comparison. seeds: that both sides have; interval: of higher minus lower; covers: what of.

    Raises ValueError for no seed: what was not run has no difference.
    """
    if seeds < 1:
        raise ValueError("no seed: nothing was run")
    if seeds < LEAST_SEEDS:
        return "one run" if seeds == 1 else "two runs"
    if interval is None or covers != BOTH:
        return "undecided"
    low, high = interval
    return "holds" if low > 0 else "does not hold" if high < 0 else "undecided"


def side(difference: float | None) -> Side:
    """The way a difference points, higher minus lower: the claimed way, the other, or none."""
    return "" if not difference else "claimed" if difference > 0 else "other"


def told(found: Verdict, difference: float | None) -> str:
    """The verdict, and the way it points where it is none: `undecided, points the other way`."""
    if found not in ("undecided", "one run", "two runs") or difference is None:
        return found
    way = {"claimed": "points the claimed way", "other": "points the other way", "": "points neither way"}
    return f"{found}, {way[side(difference)]}"


def uninformative(
    metric: tuple[float, float], chance: float | None, overall: tuple[float, float] | None, overall_chance: float
) -> str:
    """Why a comparison tells nothing; empty where it does.

    metric: both sides' mean in the metric compared, in %; chance: of that metric, None where it is no accuracy.
    overall: both sides' top-1 over all classes, None where nothing of the kind is known.
    """
    if chance is not None and max(metric) <= chance:
        return f"neither side is above chance ({chance:g} %)"
    if overall is not None and max(overall) <= overall_chance:
        return f"neither side is above chance over all classes ({overall_chance:g} %)"
    return ""


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """Of a claim, from those of its full recipes: the worst, so that it holds only where all do."""
    found = set(verdicts)
    return next(each for each in WORST_FIRST if each in found)


def holm(p: Sequence[float]) -> list[float]:
    """p-values as adjusted for their number, in the order given (Holm 1979): at or below `LEVEL`, all that are so are
    right at once with 95 %."""
    adjusted, worst = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = worst
    return adjusted


def expected_false(tested: int) -> float:
    """Verdicts to expect of so many tested differences if every one of them were zero."""
    return LEVEL * tested
