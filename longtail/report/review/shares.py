"""How much of each paper is reproduced: each item by what of it was run, cells that agree, README's table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

from longtail.base.text import pipe_table
from longtail.report.review.coverage import Coverage, PaperItem, Project
from longtail.report.study import StudyConfig
from longtail.report.tables.grid import Record
from longtail.report.tables.side_by_side import agrees

STATES = {  # of an item: {state: (symbol, heading)}
    "full": ("●", "full recipe"),
    "part": ("◐", "in part"),
    "miniature": ("○", "miniature"),
    "miniature_part": ("◌", "miniature, in part"),
    "none": ("–", "not run"),
}


@dataclass(frozen=True)
class Agreement:
    """Cells of comparable studies that have both numbers: how many, and how many agree; best = the papers' protocol."""

    cells: int
    last: int
    best: int


def state(item: PaperItem, project: Project) -> str | None:
    """A key of STATES; None for an item with nothing to run (settings). A target that nothing makes yet is not run."""
    if not item.full and not item.miniature:
        return "none" if item.counted else None
    whole = with_full_recipe(item, project)
    if whole is not None:
        return "full" if whole else "part"
    return {None: "none", False: "miniature_part", True: "miniature"}[in_miniature(item, project)]


def with_full_recipe(item: PaperItem, project: Project) -> bool | None:
    """Is every run of the published recipe there, and nothing lacking? None: nothing of it was run."""
    done = [need.done for place in item.full for need in project.needs(place)]
    return all(done) and not any(place.lacks for place in item.full) if any(done) else None


def in_miniature(item: PaperItem, project: Project) -> bool | None:
    """Does a study in miniature show all that the item shows? None: nothing of it was run. It does where each of its
    places there is made of runs that are there and lacks nothing."""
    whole: dict[str, bool] = {}
    begun = False
    for place in item.miniature:
        done = [need.done for need in project.needs(place)]
        begun = begun or any(done)
        whole[place.of[1]] = whole.get(place.of[1], True) and bool(done) and all(done) and not place.lacks
    return any(whole.values()) if begun else None


def counts(coverage: Coverage, project: Project) -> dict[str, int]:
    """{state: targets of those papers}."""
    found = [(state(item, project), item.counted) for item in coverage.items]
    return {name: sum(number for of, number in found if of == name) for name in STATES}


def agreement(tables: list[tuple[StudyConfig, list[Record]]]) -> Agreement:
    """Over the cells of those tables; cells of studies that are not comparable, or not run, are in no count."""
    cells = [cell for study, records in tables if study.comparable for cell in records]
    both = [cell for cell in cells if agrees(cell, "last") is not None]
    last, best = (sum(bool(agrees(cell, phase)) for cell in both) for phase in ("last", "best"))
    return Agreement(len(both), last, best)


PAPERS = {  # by its name in docs/coverage.yaml: where it appeared, how its files in data/published begin
    "DeiT-LT": ("CVPR 2024", "deit_lt"),
    "LiVT": ("CVPR 2023", "livt"),
    "DiVE": ("ICCV 2021", "dive"),
    "CBD": ("BMVC 2021", "cbd"),
}


@dataclass(frozen=True)
class Share:
    """Of a paper's targets, or of its tables or figures among them."""

    total: int
    full: int  # every run of the published recipe is there
    part: int  # some are
    miniature: int  # a miniature shows all of it
    miniature_part: int = 0  # one shows some of it

    def __str__(self) -> str:
        part = f" and {self.part} in part" if self.part else ""
        small = f" and {self.miniature_part} in part" if self.miniature_part else ""
        return f"{self.full} of {self.total} with the full recipe{part}, {self.miniature} in miniature{small}"

    def __add__(self, other: Share) -> Share:
        return Share(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


def by_kind(coverage: Coverage, project: Project) -> dict[str, Share]:
    """{"tables", "figures"} of a paper and its supplement, numbered ones with results: no settings. What nothing makes
    yet is one of them that was not run."""
    found = {}
    for kind in ("tables", "figures"):
        items = [i for i in coverage.items if i.counted and i.item.startswith("Fig") == (kind == "figures")]
        shares = []
        for shown in (with_full_recipe, in_miniature):
            of_each = [(item.counted, shown(item, project)) for item in items]
            shares += [sum(number for number, whole in of_each if whole is wanted) for wanted in (True, False)]
        found[kind] = Share(sum(item.counted for item in items), *shares)
    return found


def markdown(
    coverage: Coverage, project: Project, published: Path, hours: Callable[[str], str] = lambda study: "–"
) -> str:
    """Papers by what of them was run, then studies by how many entries were; ends in a newline. hours: GPU-hours that
    a study with the full recipe has left."""
    papers: list[tuple[str, ...]] = []
    for paper, (venue, stem) in PAPERS.items():
        told = f"none of {len(list(published.glob(f'{stem}_table_*.csv')))} yet", "none yet"
        if paper in coverage.papers:
            ours = by_kind(coverage.of(paper), project)
            told = str(ours["tables"]), str(ours["figures"])
        papers.append((f"{paper} ({venue})", *told))
    studies = []
    for name, study in project.studies.items():
        folder = project.reports / "metrics" / name
        runs = []
        for items, under in ((study.teachers, folder / "teachers"), (study.experiments, folder)):
            runs.append(f"{sum((under / f'{item.name}.json').is_file() for item in items)} of {len(items)}")
        studies.append((f"`{name}`", "full" if study.comparable else "miniature", *runs, hours(name)))
    lines = pipe_table(("paper", "tables", "figures"), "lll", papers)
    head = ("study", "recipe", "teachers run", "students run", "GPU-hours left")
    lines += ["", *pipe_table(head, "llrrr", studies)]
    return "\n".join(lines) + "\n"
