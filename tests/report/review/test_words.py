"""The first screens' sentences: counted, said in the same words everywhere, and no more than was shown."""

from __future__ import annotations

import re

import pytest

from longtail.base import params
from longtail.base.errors import UserError
from longtail.report.review.coverage import Coverage, Project
from longtail.report.review.facts import Assumptions, Estimate
from longtail.report.review.shares import PAPERS, Share
from longtail.report.review.words import Left, Stand, Words, glossary, introduction, left, stand, summary
from tests.helpers.reporting import study_dict
from tests.helpers.root import ROOT

ASSUMED = Assumptions(10.0, "A GPU", 500.0, 100.0, (0.25, 0.5), 1.0)
NOTHING = Share(5, 0, 0, 2)
WORDS = params.read(Words, ROOT / "docs/words.yaml")
SHOWN = ("README.md", "docs/index.md")
BOASTS = (
    r"the reference\b|reference reproduction|first ever|state.of.the.art|no other|most complete|bases .* do not have"
)


def told(
    share: Share = NOTHING, claims: dict | None = None, small: dict | None = None, studies: dict | None = None
) -> Stand:
    return Stand(share, claims or {"not yet run": 3}, small or {}, Left(studies or {}, ASSUMED))


def test_nothing_run_is_said_as_nothing():
    assert told().confirmed == "Confirmed with a full recipe: nothing yet of 5 tables and figures and 3 claims."
    assert "nothing is counted" in told().unrun


def test_miniatures_are_counted_apart_and_confirm_nothing():
    small = {"holds": 4, "does not hold": 1, "undecided": 2, "one run": 1, "not yet run": 9}
    text = told(small=small).confirmed
    assert text.startswith("Confirmed with a full recipe: nothing yet")
    assert "4 of 8 comparisons hold, 1 do not, 3 decide nothing; that confirms no printed number." in text


def test_full_recipes_are_counted_where_there_are_some():
    text = told(Share(5, 1, 2, 0), {"holds": 1, "does not hold": 1, "not yet run": 1}).confirmed
    assert text == (
        "With the full recipe 1 of 5 tables and figures were made whole, 2 in part; 1 of 3 claims hold, 1 do not."
    )


def test_hours_are_those_of_what_is_named():
    """100 TFLOP/s at 50 % and 25 %: 1.8e17 operations in 1 and 2 hours, a hundredth of it below one."""
    found = Left({"a": Estimate(3, 1.8e17, 8), "b": Estimate(2, 1.8e15, 8)}, ASSUMED)
    assert (found.hours("a"), found.hours("b"), found.hours("c"), found.runs) == ("1 to 2", "< 1", "–", 5)
    assert found.hours() == "1.01 to 2.02"
    assert told(studies=found.studies).unrun.startswith(
        "Not run: 5 entries of full recipes, with all their seeds 1.01 to"
    )


def test_what_is_left_is_read_from_the_reviewers_page_and_of_full_recipes_alone(tmp_path):
    project = Project({"studies": {"s": study_dict(), "m": {**study_dict(), "comparable": False}}}, tmp_path)
    assert left(project, ASSUMED).studies == {}
    (tmp_path / "review").mkdir()
    path = tmp_path / "review/left.csv"
    path.write_text("study,runs,flop,disk\ns,2,10,3\nm,1,5,1\nanother,1,5,1\n")
    assert left(project, ASSUMED).studies == {"s": Estimate(2, 10.0, 3)}
    path.write_text("study,runs\ns,2\n")
    with pytest.raises(UserError, match=r"left\.csv.*stages/review\.py"):
        left(project, ASSUMED)


def test_claims_count_once_and_comparisons_of_miniatures_each():
    rows = [
        {"id": "a", "overall": "holds", "miniature": "0", "verdict": "holds"},
        {"id": "a", "overall": "holds", "miniature": "1", "verdict": "undecided"},
        {"id": "b", "overall": "not yet run", "miniature": "1", "verdict": "undecided"},
    ]
    items = params.build(Coverage, {"items": [{"item": "Table 1", "shows": "x", "full": []}]}, "coverage")
    shares = {"DeiT-LT": {"tables": Share(1, 1, 0, 0), "figures": Share(2, 0, 0, 1)}}
    found = stand(items, shares, rows, Left({}, ASSUMED))
    assert found.share == Share(3, 1, 0, 1)
    assert found.claims == {"holds": 1, "not yet run": 1} and found.small == {"undecided": 2}


def test_the_words_are_of_every_paper_and_dataset():
    everything = params.load_all(ROOT)
    assert list(WORDS.papers) == list(PAPERS) and set(WORDS.datasets) == set(everything["datasets"])
    for paper in WORDS.papers.values():
        page = " ".join((ROOT / paper.folder / "README.md").read_text(encoding="utf-8").split())
        assert paper.title in page


@pytest.mark.parametrize("name", SHOWN)
def test_links_lead_from_where_the_words_stand(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    up = "" if name == "README.md" else "../"
    assert introduction(WORDS, up).strip() in text and glossary(WORDS).strip() in text
    for link in re.findall(r"\]\((?!https:)([^)#]+)\)", introduction(WORDS, up) + summary(WORDS, told(), up)):
        assert ((ROOT / name).parent / link).exists(), link


@pytest.mark.parametrize("name", (*SHOWN, "pyproject.toml", "docs/conf.py", "CITATION.cff"))
def test_no_superlative_before_a_full_recipe_was_run(name):
    assert re.findall(BOASTS, (ROOT / name).read_text(encoding="utf-8"), re.IGNORECASE) == []
