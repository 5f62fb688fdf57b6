"""Which tables and figures of the papers can be made here, from what, and what of it was run: docs/coverage.md.

docs/coverage.yaml maps each item of a paper to tables and figures of studies, or to an overview. Everything else is
read: the entries an item needs from params.yaml, whether they were run from the files under reports/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, nearest
from longtail.base.text import pipe_table, plain
from longtail.report.figures.captions import FIGURES
from longtail.report.study import OF_STUDENTS, OF_TEACHERS, StudyConfig
from longtail.report.tables.overview import OverviewConfig

ANALYSES = {  # figure: the file of an entry's analysis folder that it is drawn from
    "entropy": "entropy.csv",
    "taught": "taught.npz",
    "cls_dist_distance": "cls_dist_distance.csv",
    "attention_distance": "attention_distance.csv",
    "attention_distance_train": "attention_distance.csv",
    "feature_rank": "feature_rank.csv",
    "rollout": "rollout.npz",
    "rollout_mean": "rollout.npz",
    "reconstructions": "reconstructions.npz",
    "training_loss": "curves.csv",
    "test_accuracy": "curves.csv",
    "virtual_examples": "groups.csv",
    "virtual_examples_settings": "groups.csv",
    "virtual_example_curves": "classes.csv",
    "virtual_example_curves_tau": "classes.csv",
    "tsne": "tsne.csv",
    "neighbours": "neighbours.npz",
    "feature_drift": "drift.csv",
    "predictions": "predictions.npz",
}
UNDER = {"entropy": "teachers/", "taught": "teachers/", "reconstructions": "pretrainings/"} | dict.fromkeys(
    OF_TEACHERS, "virtual_examples/"
)
UNDER |= {figure: f"{stage}/" for figure, stage in OF_STUDENTS.items()}


@dataclass(frozen=True)
class Place:
    """Where an item is made: a table or a figure of a study, or an overview."""

    study: str | None = None
    table: str | None = None
    figure: str | None = None
    overview: str | None = None
    lacks: str = ""  # rows, curves or maps of the item, the authors' own, that it leaves out: it is shown in part

    def __post_init__(self) -> None:
        of_study = self.study and (self.table is None) != (self.figure is None) and not self.overview
        if not of_study and not (self.overview and not (self.study or self.table or self.figure)):
            raise ValueError("a place is a study with a table or a figure, or an overview")

    @property
    def of(self) -> tuple[str, str]:
        """What of params.yaml it belongs to: ("study" or "overview", its name)."""
        return ("overview", self.overview) if self.overview else ("study", self.study or "")

    @property
    def target(self) -> str:
        return f"overview@{self.overview}" if self.overview else f"report@{self.study}"

    @property
    def name(self) -> str:
        return self.table or self.figure or "tail_accuracy"


@dataclass(frozen=True)
class PaperItem:
    """One table or figure of a paper."""

    item: str  # e.g. Table 2
    shows: str
    full: tuple[Place, ...]  # of studies with the published recipe
    miniature: tuple[Place, ...] = ()  # of studies that are not comparable
    note: str = ""
    paper: str = "DeiT-LT"  # its name in docs/claims.yaml
    # numbered tables and figures with results that it stands for: 0 of settings, a drawing, numbers in the text; None:
    # one where it has places
    targets: int | None = None

    def __post_init__(self) -> None:
        if self.targets is not None and self.targets < 0:
            raise ValueError(f"targets: {self.targets}; at least 0")

    @property
    def counted(self) -> int:
        """How many targets it is."""
        return int(bool(self.full or self.miniature)) if self.targets is None else self.targets

    @property
    def name(self) -> str:
        """E.g. LiVT, Table 2."""
        return f"{self.paper}, {self.item}"


@dataclass(frozen=True)
class Coverage:
    """docs/coverage.yaml."""

    items: tuple[PaperItem, ...]

    @property
    def papers(self) -> tuple[str, ...]:
        """Those with an item, in the order of the file."""
        return tuple(dict.fromkeys(item.paper for item in self.items))

    @property
    def targets(self) -> int:
        """Numbered tables and figures with results."""
        return sum(item.counted for item in self.items)

    def of(self, paper: str) -> Coverage:
        """The items of one paper."""
        return Coverage(tuple(item for item in self.items if item.paper == paper))


@dataclass(frozen=True)
class Need:
    """One run that a table or figure shows."""

    entry: str | None  # None: no entry of params.yaml makes it yet
    label: str
    file: str  # under reports/; what it leaves when done
    done: bool


def read(path: Path, everything: Mapping, told: Callable[[str], None] = lambda note: None) -> Coverage:
    """docs/coverage.yaml without the places whose study or overview the params files do not have: who studies data of
    his own may keep his own entries alone. told: called with a line that names what is left out.

    Raises UserError where the file is missing, no YAML, or not of its shape.
    """
    coverage = params.read(Coverage, path)
    here = {("study", name) for name in everything.get("studies") or {}}
    here |= {("overview", name) for name in everything.get("overviews") or {}}
    left: dict[tuple[str, str], int] = {}

    def kept(places: tuple[Place, ...]) -> tuple[Place, ...]:
        for place in places:
            if place.of not in here:
                left[place.of] = left.get(place.of, 0) + 1
        return tuple(place for place in places if place.of in here)

    items = tuple(replace(i, full=kept(i.full), miniature=kept(i.miniature)) for i in coverage.items)
    if left:
        names = ", ".join(f"{kind} {name}" for kind, name in left)
        told(f"{path}: {sum(left.values())} places left out, as params has no {names}")
    return Coverage(items)


class Project:
    """The studies and overviews of params.yaml, and the folder reports/."""

    def __init__(self, table: dict, reports: Path):
        self.reports = reports
        self.files = table.get("place") or {}
        self.studies = {
            name: params.build(StudyConfig, values, f"studies.{name}")
            for name, values in (table.get("studies") or {}).items()
        }
        overviews = table.get("overviews") or {}
        self.overviews = {n: params.build(OverviewConfig, v, f"overviews.{n}") for n, v in overviews.items()}

    def address(self, target: str) -> str:
        """A stage of a study or overview as DVC wants it: after its dvc.yaml, if that is not the root's."""
        return self.files.get(target.partition("@")[2], "") + target

    def check(self, place: Place, miniature: bool, where: str) -> None:
        """Raises UserError where params.yaml has no such table, figure or overview, or it is of the other kind."""
        if place.overview:
            _known(place.overview, self.overviews, f"{where}: overview")
            return
        _known(place.study, self.studies, f"{where}: study")
        study = self.studies[place.study]
        if place.table:
            _known(place.table, [table.name for table in study.tables], f"{where}: table of {place.study}")
        else:
            _known(place.figure, FIGURES, f"{where}: figure")
        if study.comparable == miniature:
            kind = "the published recipe" if study.comparable else "a miniature"
            raise UserError(f"{where}: study '{place.study}' is {kind}; list it under the other key")

    def needs(self, place: Place) -> list[Need]:
        """The runs a place shows, each once, in its order."""
        if place.overview:
            overview = self.overviews[place.overview]
            found = [
                (entry, f"{series.label}, ρ = {factor}", f"metrics/{study}/{entry}.json" if entry else "")
                for series in overview.series
                for study, factor, entry in zip(overview.studies, overview.factors, series.entries, strict=True)
            ]
        else:
            found = self._of_table(place) if place.table else self._of_figure(place)
        unique = dict.fromkeys(found)
        return [Need(*need, done=bool(need[0]) and (self.reports / need[2]).is_file()) for need in unique]

    def _of_table(self, place: Place) -> list[tuple[str | None, str, str]]:
        metrics = f"metrics/{place.study}"
        found = {}  # by entry: a run may stand in several rows
        rows = next(t for t in self.studies[place.study].tables if t.name == place.table).rows
        papers = self.studies[place.study].comparable and any(row.printed for row in rows if not row.copied)
        for row in rows:
            if row.copied or (papers and not row.printed):  # of others, or ours alone beside the paper's own
                continue
            kinds = ((row.entry, ""), (row.teacher, "teachers/"), (row.cache, "caches/"))
            named = [(name, row.label, f"{metrics}/{under}{name}.json") for name, under in kinds if name]
            for need in named or [(None, row.label, "")]:
                found.setdefault(need[2] or row.label, need)
        return list(found.values())

    def _of_figure(self, place: Place) -> list[tuple[str | None, str, str]]:
        study = self.studies[place.study]
        teachers = {item.name for item in study.teachers}
        found = []
        for item in study.shown(place.figure):
            if place.figure not in ANALYSES:  # drawn from metrics
                file = f"metrics/{place.study}/{'teachers/' if item.name in teachers else ''}{item.name}.json"
            else:
                file = f"analysis/{place.study}/{UNDER.get(place.figure, '')}{item.name}/{ANALYSES[place.figure]}"
            found.append((item.name, item.label, file))
        return found


def _known(name: str, names, where: str) -> None:
    if name not in names:
        raise UserError(f"{where}: no '{name}'{nearest(name, names)}")


def page(coverage: Coverage, project: Project, left: Sequence[str] = ()) -> str:
    """The Markdown page. left: what `read` told. Raises UserError for an item that names
    what params.yaml does not have."""
    lines = [
        "# Coverage",
        "",
        "Every table and figure of these papers and their supplements: where it is made here, and what of it was run.",
        "Generated by `make coverage` from `docs/coverage.yaml`, the params files and `reports/`; do not edit.",
        "Tables land in `reports/tables/<study>/`, figures in `reports/figures/<study>/`, overviews in",
        "`reports/overviews/<name>/`. A run is an entry of a params.yaml with all its seeds, trained or analysed.",
    ]
    for note in left:
        lines += ["", f"{note}."]
    told = [f"{paper} {coverage.of(paper).targets}" for paper in coverage.papers]
    lines += ["", f"Numbered tables and figures with results: {', '.join(told)}; {coverage.targets} in all."]
    for paper in coverage.papers:
        lines += ["", f"## {paper}", "", *_paper(coverage.of(paper), project)]
    return "\n".join(lines) + "\n"


def _paper(coverage: Coverage, project: Project) -> list[str]:
    """The table of one paper's items, and what each needs."""
    rows, details = [], []
    for item in coverage.items:
        for miniature, places in ((False, item.full), (True, item.miniature)):
            for place in places:
                project.check(place, miniature, item.name)
        targets = " ".join(dict.fromkeys(project.address(place.target) for place in item.full))
        command = f"`dvc repro {targets}`" if targets else "–"
        states = [_state(places, project) for places in (item.full, item.miniature)]
        rows.append((item.item, item.shows, command, *states))
        details += ["", f"**{item.item}.** {item.note}".rstrip(), *_details(item, project)]
    table = pipe_table(("item", "shows", "command", "full recipe", "miniature"), "lllll", rows)
    return [*table, "", "### What each needs", *details]


def _state(places: tuple[Place, ...], project: Project) -> str:
    """`3 of 9 runs` over all places, and how many have no entry."""
    if not places:
        return "–"
    needs = {need.file or (place.target, need.label): need for place in places for need in project.needs(place)}
    made = [need for need in needs.values() if need.entry]
    absent = len(needs) - len(made)
    text = f"{sum(need.done for need in made)} of {len(made)} runs"
    return f"{text}, {absent} without an entry" if absent else text


def _details(item: PaperItem, project: Project) -> list[str]:
    lines = [""] if item.full or item.miniature else []
    for kind, places in (("full recipe", item.full), ("miniature", item.miniature)):
        for place in places:
            needs = project.needs(place)
            groups = {
                "run": [f"`{need.entry}`" for need in needs if need.done],
                "not run": [f"`{need.entry}`" for need in needs if need.entry and not need.done],
                "no entry": [f"“{plain(need.label)}”" for need in needs if not need.entry],
            }
            told = "; ".join(f"{state}: {', '.join(dict.fromkeys(names))}" for state, names in groups.items() if names)
            lacks = f", without {place.lacks}" if place.lacks else ""
            lines.append(f"* `{place.target}`, `{place.name}` ({kind}{lacks}): {told}")
    return lines
