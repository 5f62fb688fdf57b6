"""The whole in one figure, in the sense of rliable (Agarwal et al., NeurIPS 2021): how near print, how surely better.

Nearness is a performance profile: the share of printed cells that ours is within delta points of, over delta, from full
recipes alone. Surely better is the probability of improvement: that a run of the method beats a run of its baseline,
seeds drawn apart, mean over studies. Intervals are percentiles of a bootstrap: over runs, whose cells move together,
and over seeds within each study.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longtail.report.claims.judge import Judged
from longtail.report.claims.rules import LEAST_SEEDS, LEVEL
from longtail.report.study import StudyConfig
from longtail.report.tables.grid import Record

DELTAS = tuple(i / 4 for i in range(41))  # points, 0 to 10
REPLICATES = 2000
BEATS = {  # claim that a method beats its baseline: how it is named in the figure
    "beats-vit": "DeiT-LT over ViT",
    "livt-beats-scratch-vit": "LiVT over a ViT from scratch",
    "dive-beats-its-teacher": "DiVE over its balanced-softmax teacher",
    "cbd-beats-crt": "CBD over retraining the classifier",
}
WIDTH, HEIGHT = 300.0, 120.0  # of the plotted area


@dataclass(frozen=True)
class Profile:
    """Shares of the cells within each of DELTAS, and their interval; empty where there is no cell."""

    cells: int
    runs: int
    shares: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def line(self) -> str:
        """Points of an SVG polyline."""
        return " ".join(self._points(self.shares))

    @property
    def band(self) -> str:
        """Points of an SVG polygon."""
        return " ".join([*self._points(self.high), *reversed(self._points(self.low))])

    def at(self, delta: float) -> str:
        """The share within delta, with its interval: `60 % (40 to 80)`."""
        i = DELTAS.index(delta)
        return f"{100 * self.shares[i]:.0f} % ({100 * self.low[i]:.0f} to {100 * self.high[i]:.0f})"

    @staticmethod
    def _points(shares: tuple[float, ...]) -> list[str]:
        places = zip(DELTAS, shares, strict=True)
        return [f"{WIDTH * delta / DELTAS[-1]:.1f},{HEIGHT * (1 - share):.1f}" for delta, share in places]


@dataclass(frozen=True)
class Improvement:
    """That a method's run beats its baseline's, with its interval."""

    name: str
    miniature: bool
    probability: float
    low: float
    high: float
    studies: int
    seeds: int  # the fewest of a side


@dataclass(frozen=True)
class Whole:
    profile: Profile
    improvements: tuple[Improvement, ...]
    left_out: int  # comparisons with fewer than LEAST_SEEDS seeds on a side


def whole(tables: Iterable[tuple[StudyConfig, list[Record]]], ledger: list[Judged], reports: Path) -> Whole:
    """tables: of all studies, each with its cells; ledger: of report.claims.judge."""
    gaps: dict[str, dict[tuple, float]] = {}
    for study, cells in tables:
        for cell in cells if study.comparable else ():
            gap = cell.difference("last")
            if gap is not None and not cell.copied:
                gaps.setdefault(cell.name, {})[cell.head, cell.column, cell.printed.source] = abs(gap)
    found, left_out = [], 0
    for claim, name in BEATS.items():
        for miniature in (False, True):
            pairs = []
            for judged in ledger:
                if judged.claim.id == claim and judged.miniature == miniature and judged.seeds:
                    pair = judged.comparison
                    sides = [np.array([*side.by_seed(pair.of(side), reports).values()]) for side in pair.sides]
                    enough = min(map(len, sides)) >= LEAST_SEEDS
                    pairs, left_out = [*pairs, sides] if enough else pairs, left_out + (not enough)
            if pairs:
                fewest = min(len(side) for sides in pairs for side in sides)
                found.append(Improvement(name, miniature, *improvement(pairs), len(pairs), fewest))
    return Whole(profile([[*each.values()] for each in gaps.values()]), tuple(found), left_out)


def profile(gaps: list[list[float]]) -> Profile:
    """gaps: of each run, |ours - printed| of its cells, in points."""
    cells = sum(map(len, gaps))
    if not cells:
        return Profile(0, 0)
    deltas = np.array(DELTAS) + 1e-9
    within = np.array([(np.array(run)[:, None] <= deltas).sum(axis=0) for run in gaps])  # [runs, deltas]
    sizes = np.array([len(run) for run in gaps])
    drawn = np.random.default_rng(0).integers(0, len(gaps), (REPLICATES, len(gaps)))
    shares = within[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)[:, None]
    ends = np.quantile(shares, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return Profile(cells, len(gaps), tuple(within.sum(axis=0) / cells), *map(tuple, ends))


def improvement(studies: list[list[np.ndarray]]) -> tuple[float, float, float]:
    """(probability, low, high). studies: of each, the seeds of the method and of its baseline. A tie is a half."""

    def beats(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        gap = a[..., :, None] - b[..., None, :]
        return ((gap > 0) + 0.5 * (gap == 0)).mean(axis=(-2, -1))

    rng = np.random.default_rng(0)
    again = np.mean(
        [beats(*(rng.choice(side, (REPLICATES, len(side))) for side in sides)) for sides in studies], axis=0
    )
    low, high = np.quantile(again, [LEVEL / 2, 1 - LEVEL / 2])
    return float(np.mean([beats(*sides) for sides in studies])), float(low), float(high)
