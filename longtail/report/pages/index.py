"""reports/index.html: what of each paper is reproduced, its claims, tables and figures, and every run behind them.

Everything is read from reports/, params.yaml, docs/ and data/published; nothing is computed anew but differences and
verdicts. What was not run is empty or says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from longtail.report.claims.judge import Judged
from longtail.report.claims.ledger import (
    RULES,
    SIGNS,
    ClaimGroup,
    claim_groups,
    decided,
    miniature_verdicts,
    multiplicity,
    verdicts,
)
from longtail.report.claims.reruns import RerunLine
from longtail.report.figures.captions import FIGURES
from longtail.report.pages import pictures, web
from longtail.report.pages.claims import shown
from longtail.report.pages.entries import entries
from longtail.report.pages.pictures import Picture
from longtail.report.pages.study_page import first, noted
from longtail.report.pages.whole import whole
from longtail.report.results import Results, load
from longtail.report.review.coverage import Coverage, PaperItem, Place, Project
from longtail.report.review.facts import Judgements
from longtail.report.review.shares import PAPERS, STATES, Agreement, agreement, by_kind, counts, state
from longtail.report.review.words import Shown, Words, left, stand
from longtail.report.study import StudyConfig, Table
from longtail.report.tables.grid import Record, records
from longtail.report.tables.render import entry_id
from longtail.report.tables.side_by_side import PrintedTable, SideBySide, printed_tables, side_by_side

FILES = {"CSV": "csv", "Markdown": "md", "LaTeX": "tex"}
IMAGES_LIMIT = 3_500_000  # bytes of images inside the page, encoded; beyond it they are linked


@dataclass(frozen=True)
class Paper:
    """A line of the first screen. items: (name, state, anchor); no anchor: nothing makes it yet."""

    name: str
    counts: dict[str, int]
    items: tuple[tuple[str, str, str | None], ...]
    agreement: Agreement | None  # None = nothing of it is comparable here
    verdicts: dict[str, int]  # {verdict: claims}, by full recipes
    in_miniature: dict[str, int]  # {verdict: comparisons in miniatures}


@dataclass(frozen=True)
class PlacedTable:
    """A table of the paper as one study makes it. files: {CSV, Markdown, LaTeX: place below reports/}, those made."""

    title: str
    comparable: bool
    table: SideBySide
    files: dict[str, str]


@dataclass(frozen=True)
class PlacedFigure:
    """A figure of the paper as one study or overview draws it; picture None = not drawn. note: what is said of the runs
    and numbers that it shows."""

    title: str
    caption: str
    comparable: bool
    command: str
    picture: Picture | None = None
    note: str = ""


@dataclass(frozen=True)
class Item:
    """A table or figure of a paper, and where it is made: studies with the full recipe first."""

    paper: str
    item: str
    shows: str
    note: str
    anchor: str
    state: str
    tables: tuple[PlacedTable, ...]
    figures: tuple[PlacedFigure, ...]


def page(
    params: Mapping,
    coverage: Coverage,
    published: Path,
    reports: Path,
    ledger: list[Judged],
    inputs: str,
    reruns: list[RerunLine],
    words: Words,
    judgements: Judgements,
) -> str:
    """The whole page. ledger and reruns: of report.claims. Raises UserError for a damaged or wrong file, by name."""
    project = Project(params, reports)
    studies = dict(sorted(project.studies.items(), key=lambda named: not named[1].comparable))
    results = {
        name: load(reports / "metrics" / name, name, study, reports / "runs" / name) for name, study in studies.items()
    }
    made = {
        (name, table.name): (study, table, records(table, results[name], published))
        for name, study in studies.items()
        for table in study.tables
    }
    files = image_files(coverage, project)
    embedded = sum(path.stat().st_size for path in files.values()) * 4 / 3 <= IMAGES_LIMIT
    show = pictures.inside if embedded else pictures.linked
    drawings = {place: show(path, reports) for place, path in files.items()}
    items = [_item(item, project, made, drawings) for item in coverage.items if state(item, project)]
    claims = claim_groups(ledger, published)
    rest = left(project, judgements.assumptions)
    mapped = {(place.study, place.table) for item in coverage.items for place in (*item.full, *item.miniature)}
    ours = [_mapped(name, coverage.of(name), project, items, made, claims) for name in coverage.papers]
    others = {n: printed_tables(published, stem) for n, (_, stem) in PAPERS.items() if n not in coverage.papers}
    return web.page(
        "index.html.j2",
        scripts=("sort.js", "enlarge.js", "filter.js"),
        inputs=inputs,
        words=words,
        judgements=judgements,
        stand=stand(coverage, {p: by_kind(coverage.of(p), project) for p in coverage.papers}, _rows(claims), rest),
        left=rest,
        titles={name: study.title for name, study in studies.items()},
        states=STATES,
        papers=[*ours, *(_printed(name, found, claims) for name, found in others.items())],
        compared=any(paper.agreement and paper.agreement.cells for paper in ours),
        claims=shown(claims, _images(studies, results, words)),
        groups=claims,
        reruns=reruns,
        whole=whole([(study, cells) for study, _, cells in made.values()], ledger, reports),
        signs=SIGNS,
        rules=RULES,
        multiplicity=multiplicity(ledger),
        decided=decided,
        anchors={item.name for study in studies.values() for item in (*study.experiments, *study.teachers)},
        items=items,
        pictured=[(each.says, placed) for each in words.pictured if (placed := _pictured(each, project, show))],
        own=[_table(name[0], *about, reports) for name, about in made.items() if name not in mapped],
        others=others,
        venues={name: venue for name, (venue, _) in PAPERS.items()},
        embedded=embedded,
        runs=[
            (name, study, list(entries(name, study, results[name], params, reports))) for name, study in studies.items()
        ],
        entry_id=entry_id,
        first=first,
    )


def _images(studies: Mapping[str, StudyConfig], results: Mapping[str, Results], words: Words) -> dict[str, str]:
    """{study: what its images are called}: those of its first run, or its title where that has no name."""
    found = {}
    for name, study in studies.items():
        run = next(iter((*results[name].experiments.values(), *results[name].teachers.values())), None)
        found[name] = words.datasets.get(run["dataset"] if run else "", study.title)
    return found


def _rows(claims: list[ClaimGroup]) -> list[dict[str, str]]:
    """Of every comparison what counts verdicts."""
    return [
        {
            **{"id": group.claim.id, "overall": group.verdict},
            **{"miniature": str(int(line.judged.miniature)), "verdict": line.judged.verdict},
        }
        for group in claims
        for line in group.lines
    ]


def _mapped(
    name: str, coverage: Coverage, project: Project, items: list[Item], made: Mapping, claims: list[ClaimGroup]
) -> Paper:
    """coverage: of this paper alone."""
    studies = {place.study for item in coverage.items for place in (*item.full, *item.miniature)}
    tables = [(study, cells) for (of, _), (study, _, cells) in made.items() if of in studies]
    links = tuple(
        (item.item, item.state, item.anchor if item.tables or item.figures else None)
        for item in items
        if item.paper == name
    )
    return Paper(name, counts(coverage, project), links, agreement(tables), *_verdicts(claims, name))


def _printed(name: str, tables: list[PrintedTable], claims: list[ClaimGroup]) -> Paper:
    links = tuple((table.name, "none", table.anchor) for table in tables)
    nothing = dict.fromkeys(STATES, 0) | {"none": len(tables)}
    return Paper(name, nothing, links, None, *_verdicts(claims, name))


def _verdicts(claims: list[ClaimGroup], paper: str) -> tuple[dict[str, int], dict[str, int]]:
    return verdicts(claims, paper), miniature_verdicts(claims, paper)


def _item(item: PaperItem, project: Project, made: Mapping, drawings: Mapping[Place, Picture]) -> Item:
    places = (*item.full, *item.miniature)
    for place in places:
        project.check(place, place in item.miniature, item.name)
    return Item(
        paper=item.paper,
        item=item.item,
        shows=item.shows,
        note=item.note,
        anchor=_anchor(item),
        state=state(item, project),
        tables=tuple(
            _table(place.study, *made[place.study, place.table], project.reports) for place in places if place.table
        ),
        figures=tuple(_figure(place, project, drawings.get(place)) for place in places if not place.table),
    )


def _anchor(item: PaperItem) -> str:
    """E.g. livt-item-table-2, dive-item-figs-4-5-and-6: nothing that ends a link where it is pasted into a text."""
    words = re.sub("[^a-z0-9]+", "-", item.item.lower().replace(".", ""))
    return f"{item.paper.lower()}-item-{words.strip('-')}"


def _table(name: str, study: StudyConfig, table: Table, cells: list[Record], reports: Path) -> PlacedTable:
    """name: of the study."""
    stem = f"tables/{name}/{table.name}"
    files = {kind: f"{stem}.{suffix}" for kind, suffix in FILES.items() if (reports / f"{stem}.{suffix}").is_file()}
    return PlacedTable(study.title, study.comparable, side_by_side(table, cells, study), files)


def image_files(coverage: Coverage, project: Project) -> dict[Place, Path]:
    """{place: its drawing}, where there is one."""
    found = {}
    for item in coverage.items:
        for place in (*item.full, *item.miniature):
            if not place.table:
                folder = f"overviews/{place.overview}" if place.overview else f"figures/{place.study}"
                if path := pictures.find(project.reports / folder, place.name):
                    found[place] = path
    return found


def _pictured(each: Shown, project: Project, show: Callable) -> PlacedFigure | None:
    """A figure below what the papers do; None where it is not drawn."""
    path = pictures.find(project.reports / "figures" / each.study, each.figure)
    if path is None or each.study not in project.studies:
        return None
    return _figure(Place(study=each.study, figure=each.figure), project, show(path, project.reports))


def _figure(place: Place, project: Project, drawn: Picture | None) -> PlacedFigure:
    if place.overview:
        overview = project.overviews[place.overview]
        title, caption, comparable, said = overview.title, overview.note, True, ""
        command = f"dvc repro {project.address(place.target)}"
    else:
        study = project.studies[place.study]
        said = noted(project.reports / "figures" / place.study, place.figure) if drawn else ""
        title, caption, comparable = study.title, FIGURES[place.figure][1], study.comparable
        command = f"make repro STUDY={place.study}"
    return PlacedFigure(title, caption, comparable, command, drawn, said)
