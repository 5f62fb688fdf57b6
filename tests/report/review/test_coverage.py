"""The page of what of the paper is made where, and what of it was run."""

from __future__ import annotations

import copy
import re

import pytest
import yaml

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.report.figures.captions import FIGURES
from longtail.report.review.coverage import ANALYSES, Coverage, Need, Place, Project, page, read
from longtail.report.review.shares import PAPERS, state
from tests.helpers.reporting import run_stage, study_dict, write_metrics
from tests.helpers.root import ROOT

SERIES = [{"label": "DeiT-LT", "entries": ["s-deit_lt", None, "z-x"]}]
OVERVIEW = {
    **{"title": "Tails", "note": "n", "factors": [1, 50, 100], "series": SERIES},
    **{"balanced": "s", "moderate": "y", "severe": "z"},
}
PARAMS = {
    "studies": {"s": study_dict(), "mini": {**study_dict(), "comparable": False}},
    "overviews": {"o": OVERVIEW},
}
ITEM = {"item": "Table 9", "shows": "nothing", "full": [{"study": "s", "table": "overall"}], "note": "A note."}


@pytest.fixture
def project(tmp_path) -> Project:
    """Of the study `s` the teacher and s-deit_lt were run, and s-deit_lt was analysed."""
    write_metrics(tmp_path / "metrics/s")
    (tmp_path / "analysis/s/s-deit_lt").mkdir(parents=True)
    (tmp_path / "analysis/s/s-deit_lt/curves.csv").write_text("seed,epoch\n")
    return Project(PARAMS, tmp_path)


def told(project: Project, **place) -> list[tuple]:
    return [(need.entry, need.done) for need in project.needs(Place(**place))]


def test_what_a_table_a_figure_and_an_overview_need(project):
    """RIDE and LDAM 50 have no entry; s-vit was never run; `Ours alone` is no row of the paper's."""
    assert project.needs(Place(study="s", table="overall")) == [
        Need("t", "Teacher", "metrics/s/teachers/t.json", True),
        Need("s-vit", "ViT", "metrics/s/s-vit.json", False),
        Need(None, "RIDE", "", False),
        Need(None, "LDAM 50", "", False),
    ]
    assert told(project, study="s", table="experts") == [("s-deit_lt", True)]
    assert told(project, study="s", figure="test_accuracy") == [("s-vit", False), ("s-deit_lt", True)]
    assert told(project, study="s", figure="rollout") == [("s-vit", False), ("s-deit_lt", False)]
    assert told(project, study="s", figure="groups") == [("t", True), ("s-vit", False), ("s-deit_lt", True)]
    assert told(project, study="s", figure="entropy") == [("c", False)]
    assert told(project, overview="o") == [("s-deit_lt", True), (None, False), ("z-x", False)]


def test_a_row_with_a_cache_needs_its_labels_too_and_copied_rows_need_nothing(tmp_path):
    values = copy.deepcopy(study_dict())
    values["tables"][0]["rows"][1]["cache"] = "c"
    values["tables"][0]["rows"][2]["copied"] = True
    project = Project({"studies": {"s": values}}, tmp_path)
    needs = project.needs(Place(study="s", table="overall"))
    assert ("c", "metrics/s/caches/c.json") in [(n.entry, n.file) for n in needs]
    assert "RIDE" not in [n.label for n in needs]


def test_our_own_rows_beside_the_papers_are_not_counted_as_its(tmp_path):
    """`Ours alone` has no printed cell. Where nothing of a table is printed, or in a miniature, all its rows count."""
    values = copy.deepcopy(study_dict())
    alone = values["tables"][0]["rows"][4]
    assert alone["label"] == "Ours alone" and "printed" not in alone
    alone["entry"] = "s-deit_lt"

    def needs(values: dict) -> list[str]:
        project = Project({"studies": {"s": values}}, tmp_path)
        return [need.label for need in project.needs(Place(study="s", table="overall"))]

    assert needs(values) == ["Teacher", "ViT", "RIDE", "LDAM 50"]
    assert needs(values | {"comparable": False})[-1] == "Ours alone"
    for row in values["tables"][0]["rows"]:
        row.pop("printed", None)
        row.setdefault("entry", "s-vit")
    values["tables"][0]["rows"] = [row for row in values["tables"][0]["rows"] if "teacher" not in row]
    assert "Ours alone" in needs(values)


def test_page(project):
    mini = [{"study": "mini", "figure": "groups"}]
    other = {"item": "Fig. 9", "shows": "settings", "full": []}
    third = {"item": "Fig. 10", "shows": "tails", "full": [{"overview": "o"}]}
    made = params.build(Coverage, {"items": [{**ITEM, "miniature": mini}, other, third]}, "coverage")
    text = page(made, project)
    assert "| Table 9 | nothing | `dvc repro report@s` | 1 of 2 runs, 2 without an entry | 0 of 3 runs |" in text
    assert "| Fig. 9 | settings | – | – | – |" in text
    assert "| Fig. 10 | tails | `dvc repro overview@o` | 1 of 2 runs, 1 without an entry | – |" in text
    assert "**Table 9.** A note.\n\n* `report@s`, `overall` (full recipe): run: `t`; not run: `s-vit`" in text
    assert "; no entry: “RIDE”, “LDAM 50”\n" in text


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"study": "t", "table": "overall"}, "Table 9: study: no 't'"),
        ({"study": "s", "table": "overal"}, "Table 9: table of s: no 'overal'; did you mean 'overall'"),
        ({"study": "s", "figure": "rollot"}, "Table 9: figure: no 'rollot'; did you mean 'rollout'"),
        ({"overview": "p"}, "Table 9: overview: no 'p'"),
        ({"study": "mini", "table": "overall"}, "study 'mini' is a miniature; list it under the other key"),
    ],
)
def test_what_is_not_there_is_told(project, place, message):
    with pytest.raises(UserError, match=message):
        page(params.build(Coverage, {"items": [{**ITEM, "full": [place]}]}, "coverage"), project)


@pytest.mark.parametrize(
    "place", [{"study": "s"}, {"study": "s", "table": "a", "figure": "b"}, {"overview": "o", "table": "a"}, {}]
)
def test_a_place_is_one_thing(place):
    with pytest.raises(UserError, match="a place is a study with a table or a figure, or an overview"):
        params.build(Place, place, "place")


def test_every_figure_has_its_source():
    assert set(ANALYSES) | {"groups", "experts", "head_smoothing", "sweep"} == set(FIGURES)


def test_stage_writes_and_checks(tmp_path, capsys):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (tmp_path / "coverage.yaml").write_text(yaml.safe_dump({"items": [ITEM]}))
    line = ["--coverage", tmp_path / "coverage.yaml", "--reports", tmp_path, "--out", tmp_path / "coverage.md"]
    line += ["--params", tmp_path / "params.yaml"]
    assert run_stage("coverage", *line, "--check") == 1 and not (tmp_path / "coverage.md").exists()
    assert "out of date" in capsys.readouterr().err
    assert run_stage("coverage", *line) == 0 and run_stage("coverage", *line, "--check") == 0
    write_metrics(tmp_path / "metrics/s")  # a run came in
    assert run_stage("coverage", *line, "--check") == 1
    (tmp_path / "coverage.yaml").write_text("items: [")
    assert run_stage("coverage", *line) == 2 and "not valid YAML" in capsys.readouterr().err
    (tmp_path / "coverage.yaml").unlink()
    assert run_stage("coverage", *line) == 2 and "no such file" in capsys.readouterr().err


def test_every_table_and_figure_of_the_papers_is_listed():
    """METHODS 3.12, 5.7, 6.6 and 7.3; each item names its paper."""
    items = yaml_file.read(ROOT / "docs/coverage.yaml")["items"]
    of = {p: [i["item"] for i in items if i["paper"] == p] for p in PAPERS}
    tables = [f"Table {n}" for n in ("1", "2", "3", "4", "5", "6", "S.1", "S.2", "S.3", "S.4")]
    drawings = ("1a", "1b", "1c", "2")
    figures = [f"Fig. {n}" for n in (*drawings, "3", "4a", "4b", "4c", "5", "S.1", "S.2", "S.3", "S.4", "S.5")]
    assert of["DeiT-LT"] == [*tables, "Supplement A.3", *figures]
    assert of["LiVT"] == [*(f"Table {n}" for n in range(1, 8)), "Fig. 1", "Fig. 2", "Fig. 3", "Fig. (appendix)"]
    drawn = ["Fig. 1", "Fig. 2", "Fig. 3", "Figs 4, 5 and 6", "Fig. 7", "Fig. 8", "Fig. 9"]
    assert of["DiVE"] == [*(f"Table {n}" for n in range(1, 9)), *drawn, "Section 1 and footnote 1"]
    assert of["CBD"] == [*(f"Table {n}" for n in range(1, 9)), *(f"Fig. {n}" for n in range(1, 5)), "In the text"]
    assert sum(map(len, of.values())) == len(items)


def test_the_targets_of_the_papers():
    """55 numbered tables and figures with results: no settings (S.1, S.2, DiVE Table 7), no drawings (DeiT-LT 1a, 1b
    and 2, DiVE Fig. 2, CBD Fig. 1), not the appendix that nobody has, nothing in the text. "Figs 4, 5 and 6" are
    three."""
    coverage = read(ROOT / "docs/coverage.yaml", params.load_all(ROOT))
    assert {paper: coverage.of(paper).targets for paper in PAPERS} == dict(zip(PAPERS, (19, 10, 15, 11), strict=True))
    assert coverage.targets == 55
    none = [(i.paper, i.item) for i in coverage.items if not i.counted]
    assert none == [
        *(("DeiT-LT", item) for item in ("Table S.1", "Table S.2", "Supplement A.3", "Fig. 1a", "Fig. 1b", "Fig. 2")),
        ("LiVT", "Fig. (appendix)"),
        *(("DiVE", item) for item in ("Table 7", "Fig. 2", "Section 1 and footnote 1")),
        *(("CBD", item) for item in ("Fig. 1", "In the text")),
    ]
    for item in coverage.items:  # what a name says of numbers is what is counted
        numbers = re.findall(r"\d+", item.item.split("S.")[-1])
        assert item.counted in (0, len(numbers)), item.item
    text = page(coverage, Project(params.load_all(ROOT), ROOT / "reports"))
    assert "with results: DeiT-LT 19, LiVT 10, DiVE 15, CBD 11; 55 in all." in text


def test_a_target_is_what_has_places_unless_the_item_says(project):
    kinds = [{}, {"full": []}, {"full": [], "targets": 1}, {"targets": 0}, {"targets": 3}]
    items = params.build(Coverage, {"items": [{**ITEM, **kind} for kind in kinds]}, "coverage").items
    assert [item.counted for item in items] == [1, 0, 1, 0, 3]
    assert [state(item, project) for item in items] == ["part", None, "none", "part", "part"]
    with pytest.raises(UserError, match="targets: -1; at least 0"):
        params.build(Coverage, {"items": [{**ITEM, "targets": -1}]}, "coverage")


def test_papers_stand_apart(project):
    """Both have a Table 9; what the second names wrongly is told with its paper."""
    second = {**ITEM, "paper": "LiVT", "full": [{"study": "s", "table": "experts"}], "note": ""}
    coverage = params.build(Coverage, {"items": [ITEM, second]}, "coverage")
    assert coverage.papers == ("DeiT-LT", "LiVT") and len(coverage.of("LiVT").items) == 1
    first, other = page(coverage, project).split("\n## LiVT\n")
    assert "## DeiT-LT" in first and "1 of 2 runs" in first and "`experts`" not in first
    assert "| Table 9 | nothing | `dvc repro report@s` | 1 of 1 runs | – |" in other and "A note." not in other
    wrong = {**second, "full": [{"study": "s", "table": "expert"}]}
    with pytest.raises(UserError, match="LiVT, Table 9: table of s: no 'expert'"):
        page(params.build(Coverage, {"items": [ITEM, wrong]}, "coverage"), project)


def test_places_of_studies_that_params_lacks_are_left_out_and_told(tmp_path, capsys):
    """Who keeps a study of his own alone; the stage says it, and so does its page."""
    other = {"item": "Fig. 1", "shows": "x", "full": [{"study": "gone", "figure": "groups"}, {"overview": "nowhere"}]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (tmp_path / "coverage.yaml").write_text(yaml.safe_dump({"items": [ITEM, other]}))
    line = ["--coverage", tmp_path / "coverage.yaml", "--reports", tmp_path, "--out", tmp_path / "coverage.md"]
    assert run_stage("coverage", *line, "--params", tmp_path / "params.yaml") == 0
    told = "2 places left out, as params has no study gone, overview nowhere"
    assert capsys.readouterr().out == f"note: {tmp_path / 'coverage.yaml'}: {told}\n"
    page = (tmp_path / "coverage.md").read_text()
    assert told in page and "| Fig. 1 | x | – | – | – |" in page and "gone@" not in page


def test_no_place_of_the_repository_is_left_out():
    told = []
    read(ROOT / "docs/coverage.yaml", params.load_all(ROOT), told.append)
    assert told == []
