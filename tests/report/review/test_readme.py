"""The README's tables and badges: from the reports alone, refused when stale, one line for a wrong marker."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import yaml

from longtail.base import params
from longtail.base.errors import UserError
from longtail.report.review import badges
from longtail.report.review.coverage import Coverage, Project
from longtail.report.review.shares import Share, by_kind, markdown
from tests.helpers.reporting import PUBLISHED, run_stage, study_dict, write_metrics
from tests.helpers.root import ROOT

STUDIES = {"s": study_dict(), "mini": {**study_dict(), "comparable": False}}
TABLES = {"item": "Table 9", "shows": "x", "full": [{"study": "s", "table": "overall"}]}
EXPERTS = {"item": "Table 10", "shows": "x", "full": [{"study": "s", "table": "experts"}]}
FIGURE = {"item": "Fig. 1", "shows": "x", "full": [{"study": "s", "figure": "groups"}]}
SETTINGS = {"item": "Table S.1", "shows": "settings", "full": []}
OF_MINI = {"miniature": [{"study": "mini", "figure": "groups"}]}
ITEMS = {"items": [TABLES, EXPERTS, FIGURE | OF_MINI, SETTINGS]}


def coverage(*items: dict) -> Coverage:
    return params.build(Coverage, {"items": list(items)}, "coverage")


@pytest.fixture
def project(tmp_path) -> Project:
    """Of study `s` the teacher and s-deit_lt were run, s-vit not; of `mini` nothing."""
    write_metrics(tmp_path / "reports/metrics/s")
    return Project({"studies": STUDIES}, tmp_path / "reports")


def test_shares_count_items_that_show_results(project):
    """Table 9 lacks s-vit, Table 10 needs s-deit_lt alone; settings count nowhere, miniatures apart."""
    found = by_kind(coverage(*ITEMS["items"]), project)
    assert found == {"tables": Share(2, full=1, part=1, miniature=0), "figures": Share(1, full=0, part=1, miniature=0)}
    assert str(found["tables"]) == "1 of 2 with the full recipe and 1 in part, 0 in miniature"


def test_a_miniature_counts_whole_where_all_of_it_is_there_and_nothing_is_lacking(project):
    """The figure shows s-vit and the teacher too; in a second study all is there; a place says what it leaves out."""
    reports = project.reports / "metrics"
    write_metrics(reports / "mini")
    assert by_kind(coverage(FIGURE | OF_MINI), project)["figures"] == Share(1, 0, 1, 0, miniature_part=1)
    whole = project.reports / "metrics/mini/s-vit.json"
    whole.write_text((reports / "mini/s-deit_lt.json").read_text())
    assert by_kind(coverage(FIGURE | OF_MINI), project)["figures"] == Share(1, 0, 1, 1)
    lacking = {"miniature": [{"study": "mini", "figure": "groups", "lacks": "the curve of a CNN"}]}
    found = by_kind(coverage(FIGURE | lacking), project)["figures"]
    assert (
        found == Share(1, 0, 1, 0, 1)
        and str(found) == "0 of 1 with the full recipe and 1 in part, 0 in miniature and 1 in part"
    )
    (reports / "s/s-vit.json").write_text(whole.read_text())
    full = {"full": [{"study": "s", "figure": "groups", "lacks": "a map"}]}
    assert by_kind(coverage(FIGURE), project)["figures"].full == 1
    assert by_kind(coverage(FIGURE | full), project)["figures"] == Share(1, 0, 1, 0)


def test_an_item_counts_as_its_targets_and_what_nothing_makes_is_not_run(project):
    three = {**EXPERTS, "item": "Figs 4, 5 and 6", "targets": 3}
    absent, text = {**SETTINGS, "item": "Table 5", "targets": 1}, {**TABLES, "item": "In the text", "targets": 0}
    found = by_kind(coverage(EXPERTS, three, absent, text, FIGURE), project)
    assert found == {"tables": Share(2, 1, 0, 0), "figures": Share(4, 3, 1, 0)}
    assert found["tables"] + found["figures"] == Share(6, 4, 1, 0)


def test_nothing_was_run(tmp_path):
    project = Project({"studies": STUDIES}, tmp_path / "absent")
    text = markdown(coverage(*ITEMS["items"]), project, PUBLISHED)
    row = "| DeiT-LT (CVPR 2024) | 0 of 2 with the full recipe, 0 in miniature | 0 of 1 with the full recipe, 0 in"
    assert row in text and "| `s` | full | 0 of 1 | 0 of 2 |" in text and "| `mini` | miniature | 0 of 1 |" in text


def test_papers_and_studies_are_counted(project):
    """LiVT prints seven tables; a CSV for each is in data/published."""
    text = markdown(coverage(*ITEMS["items"]), project, PUBLISHED)
    assert "| LiVT (CVPR 2023) | none of 7 yet | none yet |" in text
    assert "| `s` | full | 1 of 1 | 1 of 2 |" in text
    item = {**ITEMS["items"][0], "paper": "LiVT"}
    text = markdown(coverage(*ITEMS["items"], item), project, PUBLISHED)
    assert "| LiVT (CVPR 2023) | 0 of 1 with the full recipe and 1 in part, 0 in miniature | 0 of 0 with" in text
    assert "| DeiT-LT (CVPR 2024) | 1 of 2 with the full recipe" in text and "| DiVE (ICCV 2021) | none of" in text


LEDGER = """id,study,overall
a,one,holds
a,two,holds
b,one,not yet run
c,one,does not hold
d,one,not yet run
"""


def test_claims_are_counted_once_each(tmp_path):
    path = tmp_path / "claims.csv"
    assert badges.badges({}, path) == {}
    path.write_text(LEDGER)
    assert badges.badges({}, path) == {"claims": ("claims, full recipe", "1 hold, 1 do not hold, 2 not yet run")}
    path.write_text("id,overall\n")
    assert badges.verdicts(path) == "none"
    wrong = {"id,verdict\na,holds\n": "no column 'overall'", "id,overall\na,maybe\n": "verdict 'maybe', expected"}
    for text, message in wrong.items():
        path.write_text(text)
        with pytest.raises(UserError, match=rf"claims\.csv: .*{message}.*run stages/claims\.py again"):
            badges.verdicts(path)


def test_a_badge_is_an_image_that_reads_its_text():
    text = badges.svg("<claims>", "1 & 2")
    tree = ElementTree.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    assert tree.get("aria-label") == tree.find(f"{name}title").text == "<claims>: 1 & 2"
    (left, right) = tree.iter(f"{name}text")
    assert (left.text, right.text) == ("<claims>", "1 & 2")
    ends = [float(part.get("x")) + float(part.get("textLength")) for part in (left, right)]
    assert ends[0] < float(right.get("x")) and ends[1] < float(tree.get("width"))
    assert "href" not in text and badges.svg("a", "b") == badges.svg("a", "b")


@pytest.fixture
def place(tmp_path, project) -> list:
    """Arguments of the stage; the tables of study `s` are made."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"studies": STUDIES}))
    (tmp_path / "coverage.yaml").write_text(yaml.safe_dump({"items": [*ITEMS["items"], {**EXPERTS, "paper": "LiVT"}]}))
    reports, told = tmp_path / "reports", ["--params", tmp_path / "params.yaml", "--published", PUBLISHED]
    out = reports / "tables/s"
    assert run_stage("tables", "s", "--metrics", reports / "metrics/s", "--out", out, *told) == 0
    told += ["--words", ROOT / "docs/words.yaml", "--judgements", ROOT / "docs/review.yaml"]
    return [*told, "--reports", reports, "--coverage", tmp_path / "coverage.yaml", "--readme", tmp_path / "README.md"]


def test_stage_fills_the_readme_and_draws_its_badges(place, tmp_path, capsys):
    readme, folder = tmp_path / "README.md", tmp_path / "reports/badges"
    marked = [f"<!-- {name} -->\nstale\n<!-- end -->\n" for name in ("badges", "table:s/overall", "reproduced")]
    readme.write_text("# Title\n\n" + "\n".join(marked) + "\nAfter.\n")
    assert run_stage("readme", *place, "--check") == 1
    assert "out of date" in capsys.readouterr().err and "stale" in readme.read_text() and not folder.exists()
    assert run_stage("readme", *place) == 0
    assert run_stage("readme", *place, "--check") == 0
    text = readme.read_text()
    assert "stale" not in text and text.endswith("<!-- end -->\n\nAfter.\n")
    assert "| Teacher | 81.9 |" in text and "| `s` | full | 1 of 1 | 1 of 2 |" in text
    assert f"]({folder}/livt.svg)\n" in text and {p.name for p in folder.iterdir()} == {"deit_lt.svg", "livt.svg"}
    assert "![DeiT-LT: 1 of 3 with the full recipe and 2 in part" in text and "![LiVT: 1 of 1 with the full" in text

    (tmp_path / "reports/claims.csv").write_text(LEDGER)  # a new badge
    assert run_stage("readme", *place, "--check") == 1
    assert run_stage("readme", *place) == 0
    assert (
        "![claims, full recipe: 1 hold, 1 do not hold, 2 not yet run]" in readme.read_text()
        and (folder / "claims.svg").is_file()
    )
    (folder / "livt.svg").write_text("<svg/>")
    capsys.readouterr()
    assert run_stage("readme", *place, "--check") == 1
    assert capsys.readouterr().err.startswith(f"{folder}: out of date")
    (tmp_path / "reports/claims.csv").unlink()
    assert run_stage("readme", *place) == 0
    assert {p.name for p in folder.iterdir()} == {"deit_lt.svg", "livt.svg"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table:s/overal -->\n<!-- end -->\n", "did you mean 's/overall'"),
        ("<!-- table:s/overall -->\n", "has no <!-- end -->"),
        ("<!-- badges -->\n<!-- table:s/experts -->\n<!-- end -->\n", "marker 'badges' has no <!-- end -->"),
        ("nothing\n", "no marker"),
    ],
)
def test_a_wrong_marker_is_told_and_nothing_is_written(text, message, place, tmp_path, capsys):
    (tmp_path / "README.md").write_text(text)
    assert run_stage("readme", *place) == 2 and message in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == text and not (tmp_path / "reports/badges").exists()


def test_what_belongs_to_no_study_of_params_stays_and_is_told(place, tmp_path, capsys):
    text = "<!-- table:digits/experts -->\nas it was\n<!-- end -->\n<!-- cost:digits -->\n3 s\n<!-- end -->\n"
    (tmp_path / "README.md").write_text(text)
    assert run_stage("readme", *place) == 0 and (tmp_path / "README.md").read_text() == text
    told = capsys.readouterr().out
    assert "'table:digits/experts' left as it is, as params has no study digits" in told and "'cost:digits'" in told
