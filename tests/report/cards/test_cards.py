"""Cards of data sets and models: valid for those who read them, and saying what the records say."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import mlcroissant
import pytest

from longtail.base import params, yaml_file
from longtail.report.cards import data_card
from tests.helpers.reporting import run_stage
from tests.helpers.root import ROOT, params_table

TABLE = params_table()


@pytest.fixture(scope="module")
def known() -> dict[str, data_card.ImageSource]:
    return data_card.sources(ROOT / "docs/data_sources.yaml")


@pytest.fixture(scope="module")
def digits(known) -> dict:
    record = data_card.counted(TABLE, ROOT / "reports")["digits_if20"]
    return data_card.card("digits_if20", TABLE, known["data/none"], data_card.locked(ROOT), record)


def issues(card: dict) -> set[str]:
    found = mlcroissant.Dataset(jsonld=copy.deepcopy(card)).metadata.ctx.issues
    return found.errors | found.warnings


def test_every_data_set_has_a_valid_card(known):
    """Of those that no run is committed of, without counts a class."""
    for name, entry in TABLE["datasets"].items():
        assert issues(data_card.card(name, TABLE, known[entry["raw"]], {}, None)) == set(), name


def test_the_card_of_the_digits_holds_its_classes(digits):
    """130 images of the largest class and a factor of 20: trunc(130 / 20^(i/9)), 40 test images each."""
    assert issues(digits) == set()
    rows = list(mlcroissant.Dataset(jsonld=copy.deepcopy(digits)).records("classes"))
    assert [row["classes/train"] for row in rows] == [int(130 * 20 ** (-i / 9)) for i in range(10)]
    assert {row["classes/test"] for row in rows} == {40}
    assert [row["classes/group"] for row in rows] == ["head"] * 3 + ["mid"] * 4 + ["tail"] * 3
    locked = yaml_file.read(ROOT / "dvc.lock")["stages"]["subsample@digits_if20"]["outs"][0]
    assert digits["distribution"][0]["md5"] == locked["md5"]
    assert "438 training images in 10 classes, 400 test images" in digits["description"]


def test_a_card_that_lacks_something_is_seen(digits):
    broken = copy.deepcopy(digits)
    del broken["recordSet"][0]["field"][0]["dataType"]
    with pytest.raises(mlcroissant.ValidationError):
        issues(broken)


@pytest.fixture(scope="module")
def cards(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cards") / "cards"
    words = ("--words", ROOT / "docs/words.yaml")
    given = ("--reports", ROOT / "reports", "--sources", ROOT / "docs/data_sources.yaml", *words, "--out", out)
    assert run_stage("cards", *given, "--params", ROOT / "params.yaml") == 0
    return out


def test_a_model_card_says_what_the_records_say(cards):
    text = (cards / "models/digits/digits-deit_lt.md").read_text()
    front = yaml_file.parse(text.split("---\n")[1], "front matter")
    metrics = json.loads((ROOT / "reports/metrics/digits/digits-deit_lt.json").read_text())
    told = {each["name"]: each["value"] for each in front["model-index"][0]["results"][0]["metrics"]}
    last = metrics["summary"]["last"]
    heads = {"average": "avg", "CLS": "cls", "DIST": "dist"}
    assert told == {f"top-1, {name}, last epoch, %": last[head]["top1"]["mean"] for name, head in heads.items()}
    tail = last["dist"]["tail"]
    assert f"| {tail['mean']:.2f} ± {tail['stderr']:.2f} |" in text
    assert "A miniature:" in text and "`dvc repro evaluate@digits-deit_lt` makes them" in text
    assert "best on the test set, so that" not in text
    assert "taught by the labels of the LDAM-DRW + SAM teacher. 10 classes" in text  # and no entry's name
    assert "classes outside scikit-learn's digits, ρ = 20 are given" in text
    place = re.search(r"stand in git: \[digits-deit_lt.safetensors\]\((\S+)\)", text)[1]
    assert (ROOT / "reports/cards/models/digits" / place).is_file()
    other = (cards / "models/digits-cbd/teachers/ensemble-digits_if20.md").read_text()
    assert "stand in git" not in other and "`dvc repro evaluate_teacher@ensemble-digits_if20` makes them" in other
    teacher = (cards / "models/digits/teachers/ldam_drw-digits_if20.md").read_text()
    assert "of the epoch that was best on the test set" in teacher  # its entry says select: best


def test_every_committed_run_has_a_card(cards):
    studies = params.own(ROOT / "params.yaml")["studies"]
    run = {
        path.relative_to(ROOT / "reports/metrics").with_suffix(".md")
        for path in ROOT.glob("reports/metrics/*/**/*.json")
    }
    wanted = {path.as_posix() for path in run if path.parts[0] in studies and "caches" not in path.parts}
    assert {path.relative_to(cards / "models").as_posix() for path in cards.glob("models/**/*.md")} == wanted


def test_data_of_ones_own_are_named(tmp_path, capsys):
    """No source is known of them: a line, and the other cards."""
    text = (ROOT / "params.yaml").read_text().replace("raw: data/none", "raw: data/raw/mine")
    (tmp_path / "params.yaml").write_text(text)
    given = (
        "--reports",
        tmp_path / "reports",
        "--sources",
        ROOT / "docs/data_sources.yaml",
        "--out",
        tmp_path / "cards",
    )
    assert run_stage("cards", *given, "--params", tmp_path / "params.yaml") == 0
    assert "note: no card of datasets.digits_if20: none of" in capsys.readouterr().out
    assert not list(tmp_path.glob("cards/data/*"))


def test_an_old_card_is_told(cards, capsys):
    given = ("--reports", ROOT / "reports", "--sources", ROOT / "docs/data_sources.yaml", "--out", cards)
    (cards / "data/digits_if20.json").write_text("{}")
    assert run_stage("cards", *given, "--params", ROOT / "params.yaml", "--check") == 1
    assert "data/digits_if20.json: out of date; run python stages/cards.py" in capsys.readouterr().err
