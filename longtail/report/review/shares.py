"""How much of each paper was run, counted: the README's short table. What each item needs is in docs/coverage.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longtail.base.text import pipe_table
from longtail.report.review.coverage import Coverage, Place, Project

OTHERS = {"LiVT (CVPR 2023)": "livt", "DiVE (ICCV 2021)": "dive", "CBD (BMVC 2021)": "cbd"}  # files in data/published


@dataclass(frozen=True)
class Share:
    """Of a paper's tables, or figures, that show results."""

    total: int
    full: int  # every run of the published recipe is there
    part: int  # some are
    miniature: int  # some of a miniature are

    def __str__(self) -> str:
        part = f" and {self.part} in part" if self.part else ""
        return f"{self.full} of {self.total} with the full recipe{part}, {self.miniature} in miniature"


def by_kind(coverage: Coverage, project: Project) -> dict[str, Share]:
    """{"tables", "figures"} of DeiT-LT and its supplement; settings are no results."""

    def done(places: tuple[Place, ...]) -> list[bool]:
        return [need.done for place in places for need in project.needs(place)]

    found = {}
    for kind in ("tables", "figures"):
        items = [i for i in coverage.items if i.full and i.item.startswith("Fig.") == (kind == "figures")]
        runs = [done(item.full) for item in items]
        full = sum(all(each) for each in runs)
        part = sum(any(each) for each in runs) - full
        found[kind] = Share(len(items), full, part, sum(any(done(item.miniature)) for item in items))
    return found


def markdown(coverage: Coverage, project: Project, published: Path) -> str:
    """Papers by what of them was run, then studies by how many entries were; ends in a newline."""
    ours = by_kind(coverage, project)
    papers: list[tuple[str, ...]] = [("DeiT-LT (CVPR 2024)", str(ours["tables"]), str(ours["figures"]))]
    for paper, stem in OTHERS.items():
        papers.append((paper, f"none of {len(list(published.glob(f'{stem}_table_*.csv')))} yet", "none yet"))
    studies = []
    for name, study in project.studies.items():
        folder = project.reports / "metrics" / name
        runs = []
        for items, under in ((study.teachers, folder / "teachers"), (study.experiments, folder)):
            runs.append(f"{sum((under / f'{item.name}.json').is_file() for item in items)} of {len(items)}")
        studies.append((f"`{name}`", "full" if study.comparable else "miniature", *runs))
    lines = pipe_table(("paper", "tables", "figures"), "lll", papers)
    lines += ["", *pipe_table(("study", "recipe", "teachers run", "students run"), "llrr", studies)]
    return "\n".join(lines) + "\n"
