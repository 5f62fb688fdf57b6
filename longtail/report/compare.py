"""Two makings of the same results, cell by cell: of two machines, of two commits, or as committed and as just made.

The same software on the same kind of processor writes the same bytes. Elsewhere rounding differs, and after some epochs
a run is as far off as one with another seed would be. So a cell is held against its spread over seeds: within the 95 %
interval of the difference of two means of such runs, or outside. The test images are the same for both.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from longtail.base import csv_file
from longtail.base.errors import UserError
from longtail.base.text import pipe_table, signed
from longtail.report import machines
from longtail.report.claims.rules import LEVEL, holm

MADE = "metrics", "tables", "runs", "analysis", "scores", "experts"  # folders of reports/, by study, that stages write
TABLE = ("label", "column", "head", "entry", "last_mean", "last_stderr", "last_n")
SHRINK = 2  # degrees of freedom by which the spread of the study's other cells counts in a cell's own
KINDS = {"experiments": "students", "teachers": "teachers"}


@dataclass(frozen=True)
class Tree:
    """One side: its reports/ and, of a checkout, data/ beside it."""

    name: str
    reports: Path
    data: Path | None = None


@dataclass(frozen=True)
class Cell:
    """A cell of a table, of both sides, in points."""

    study: str
    name: str  # e.g. DeiT-LT, CLS head: tail
    run: str  # the entry that it is of
    a: float
    b: float
    within: float | None  # half the interval of the difference; None where no cell of the column has a spread
    p: float | None

    @property
    def outside(self) -> bool:
        return self.within is not None and abs(self.b - self.a) > self.within


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    a: Tree
    b: Tree
    studies: tuple[str, ...]
    cells: tuple[Cell, ...]
    files: int  # made by stages, on either side
    differing: tuple[str, ...]  # of them
    verdicts: int  # comparisons of claims that were run on both sides
    turned: tuple[str, ...]  # of them, in words
    alone: tuple[str, ...]  # cells that one side has, in words

    @property
    def outside(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.outside]

    @property
    def unknown(self) -> list[Cell]:
        """Different, and nothing says how far apart another seed would be."""
        return [cell for cell in self.cells if cell.within is None and cell.a != cell.b]

    @property
    def equal(self) -> bool:
        return not self.differing

    @property
    def allowed(self) -> int:
        """Cells that may be outside by chance (95 %): cells of one run move together, at worst all or none of them."""
        return _chance(Counter((cell.study, cell.run) for cell in self.cells if cell.within is not None).values())

    @property
    def too_far(self) -> bool:
        """Whether more is outside than chance explains: in number, or one cell by itself (Holm over all)."""
        p = [cell.p for cell in self.cells if cell.p is not None]
        return len(self.outside) > self.allowed or min(holm(p), default=1.0) <= LEVEL

    def sentence(self) -> str:
        """What came of it, in one line."""
        several = "study " if len(self.studies) == 1 else f"{len(self.studies)} studies: "
        of = several + ", ".join(self.studies)
        same = f"verdicts: {self.verdicts - len(self.turned)} of {self.verdicts} the same"
        same += f" ({'; '.join(self.turned)})" if self.turned else ""
        if self.equal:
            return f"byte-equal ({of}): all {self.files} files, {len(self.cells)} cells; {same}"
        known = [cell for cell in self.cells if cell.within is not None or cell.a == cell.b]
        inside = len(known) - len(self.outside)
        parts = [f"{inside} of {len(self.cells)} cells within what another seed would give ({of})"]
        if self.outside:
            names = "; ".join(cell.name for cell in self.outside[:5]) + "; …" * (len(self.outside) > 5)
            by_chance = "more than chance explains" if self.too_far else "as chance may have it"
            parts.append(f"{len(self.outside)} outside, {by_chance}: {names}")
        if self.unknown:
            parts.append(f"{len(self.unknown)} differ and have one seed, so that no spread is known")
        if self.alone:
            parts.append(f"{len(self.alone)} on one side alone")
        return "; ".join([*parts, f"{len(self.differing)} of {self.files} files differ", same])

    def lines(self, everything: bool = False) -> list[str]:
        """A Markdown table of the cells that differ, or of all."""
        rows = [
            (
                cell.name if len(self.studies) == 1 else f"{cell.study}: {cell.name}",
                *(f"{cell.a:.2f}", f"{cell.b:.2f}", signed(cell.b - cell.a, 2)),
                "one seed" if cell.within is None else f"± {cell.within:.2f}" + " **outside**" * cell.outside,
            )
            for cell in self.cells
            if everything or cell.a != cell.b
        ]
        header = ("cell", self.a.name, self.b.name, "difference", "expected spread")
        return pipe_table(header, "lrrrl", rows) if rows else []

    def places(self) -> list[str]:
        """Where either side was made."""
        return [f"{tree.name}: {place(tree, self.studies)}" for tree in (self.a, self.b)]


def tree(path: Path, name: str) -> Tree:
    """A checkout or a folder of reports. Raises UserError for anything else."""
    if (path / "reports/tables").is_dir():
        return Tree(name, path / "reports", path / "data")
    if (path / "tables").is_dir():
        return Tree(name, path)
    raise UserError(f"{path}: neither a checkout with reports/tables nor a folder of reports with tables/")


def compare(a: Tree, b: Tree, studies: tuple[str, ...] = ()) -> Comparison:
    """studies: those to compare, by default those that both sides have tables of.

    Raises UserError where there is none, or a file is damaged.
    """
    there = [{p.name for p in (t.reports / "tables").glob("*") if p.is_dir()} for t in (a, b)]
    chosen = studies or tuple(sorted(there[0] & there[1]))
    lacking = [(t.name, s) for t, found in zip((a, b), there, strict=True) for s in chosen if s not in found]
    if lacking:
        raise UserError(f"nothing to compare: no tables of {lacking[0][1]} in {lacking[0][0]}")
    if not chosen:
        raise UserError(f"nothing to compare: {a.name} and {b.name} have tables of no study in common")
    cells, alone = [], []
    for study in chosen:
        found, only = _cells(a, b, study)
        cells, alone = cells + found, alone + only
    files, differing = _files(a, b, chosen)
    return Comparison(a, b, chosen, tuple(cells), files, differing, *_verdicts(a, b, chosen), tuple(alone))


def _cells(a: Tree, b: Tree, study: str) -> tuple[list[Cell], list[str]]:
    sides = [_read(side.reports / "tables" / study) for side in (a, b)]
    both = [key for key in sides[0] if key in sides[1]]
    pooled = {key: _pooled(sides[0][key], sides[1][key]) for key in both}
    usual = {}
    for column in {key[2] for key in both}:
        spreads = [s for key, (s, free) in pooled.items() if key[2] == column and free]
        usual[column] = median(spreads) if spreads else None
    cells = []
    for key in both:
        first, second = (side[key] for side in sides)
        within, p = _expected(first, second, pooled[key], usual[key[2]])
        name = f"{first['label']}: {first['column']}"
        cells.append(Cell(study, name, key[0], float(first["last_mean"]), float(second["last_mean"]), within, p))
    alone = [
        f"{study}, {tree.name}: {row['label']}: {row['column']}"
        for tree, mine, other in ((a, *sides), (b, *sides[::-1]))
        for key, row in mine.items()
        if key not in other
    ]
    return cells, alone


def _read(folder: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    """{(entry, head, column): row} of what was run, each once though it stands in several tables."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for path in sorted(folder.glob("*.csv")):
        for row in csv_file.read(path, TABLE, "make the tables again"):
            if row["entry"] and row["last_mean"]:
                found.setdefault((row["entry"], row["head"], row["column"]), row)
    return found


def _pooled(a: dict[str, str], b: dict[str, str]) -> tuple[float, int]:
    """(standard deviation over seeds, degrees of freedom) of both sides together."""
    squares = free = 0
    for row in (a, b):
        n = int(row["last_n"])
        if n > 1:
            squares += (n - 1) * n * float(row["last_stderr"]) ** 2
            free += n - 1
    return (math.sqrt(squares / free), free) if free else (0.0, 0)


def _expected(
    a: dict[str, str], b: dict[str, str], pooled: tuple[float, int], usual: float | None
) -> tuple[float | None, float | None]:
    """(half the 95 % interval of the difference of both means, p of the difference found).

    A spread from three seeds is uncertain, now and then 0: it counts together with that of the column's other cells.
    """
    if usual is None:
        return None, None
    from scipy.special import stdtr, stdtrit  # SciPy: which files that are equal do not cost

    spread, free = pooled
    sd = math.sqrt((free * spread**2 + SHRINK * usual**2) / (free + SHRINK))
    scale = sd * math.sqrt(1 / int(a["last_n"]) + 1 / int(b["last_n"]))
    gap = abs(float(a["last_mean"]) - float(b["last_mean"]))
    if scale == 0.0:
        return 0.0, float(gap == 0.0)
    within = -float(stdtrit(free + SHRINK, LEVEL / 2)) * scale
    return within, 2 * float(stdtr(free + SHRINK, -gap / scale))


def _chance(cells_of_runs) -> int:
    """How many cells may be outside: more than that are so with a chance of 5 % at most, each run's all or none."""
    chances = {0: 1.0}
    for cells in cells_of_runs:
        spread: dict[int, float] = {}
        for count, p in chances.items():
            spread[count] = spread.get(count, 0.0) + p * (1 - LEVEL)
            spread[count + cells] = spread.get(count + cells, 0.0) + p * LEVEL
        chances = spread
    left = 1.0
    for count in sorted(chances):
        left -= chances[count]
        if left <= LEVEL + 1e-9:
            return count
    return max(chances)


def _files(a: Tree, b: Tree, studies: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """(files of either side, those that differ)."""
    names = {
        path.relative_to(side.reports).as_posix()
        for side in (a, b)
        for study in studies
        for made in MADE
        for path in (side.reports / made / study).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    return len(names), tuple(sorted(name for name in names if _content(a, name) != _content(b, name)))


def _content(side: Tree, name: str) -> bytes | None:
    path = side.reports / name
    return path.read_bytes() if path.is_file() else None


def _verdicts(a: Tree, b: Tree, studies: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """(comparisons of claims that were run on both sides, those whose verdict is another one)."""
    sides = []
    for side in (a, b):
        path, found, seen = side.reports / "claims.csv", {}, Counter()
        rows = csv_file.read(path, ("id", "study", "verdict"), "run stages/claims.py") if path.is_file() else []
        for row in rows:
            seen[row["id"], row["study"]] += 1
            if row["study"] in studies and row["verdict"] != "not yet run":
                found[row["id"], row["study"], seen[row["id"], row["study"]]] = row["verdict"]
        sides.append(found)
    both = [key for key in sides[0] if key in sides[1]]
    turned = [f"{key[0]}: {sides[0][key]} → {sides[1][key]}" for key in both if sides[0][key] != sides[1][key]]
    return len(both), tuple(turned)


def place(side: Tree, studies: tuple[str, ...]) -> str:
    """Device and processor of the runs: as told beside them in data/, else as recorded in reports/machines."""
    found = set()
    for study in studies:
        record = machines.load(side.reports, study).runs
        for section, folder in KINDS.items():
            under = side.reports / "metrics" / study / ("teachers" if section == "teachers" else "")
            for path in sorted(under.glob("*.json")):
                told = sorted((side.data / folder / f"{path.stem}.environment").glob("seed*.json")) if side.data else []
                facts = [json.loads(each.read_text(encoding="utf-8")) for each in told]
                facts = [each for each in facts if each.get("device")]
                facts = facts or list(record.get(section, {}).get(path.stem, {}).get("seeds", {}).values())
                found |= {f"{machines.place(each)}, torch {each.get('torch')}" for each in facts}
    return "; ".join(sorted(found)) or machines.ABSENT
