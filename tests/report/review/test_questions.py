"""docs/questions.md: each number is the record's, no result is typed into the words, and what is missing is named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from longtail.base import params
from longtail.base.errors import UserError
from longtail.report.review.facts import Assumptions
from longtail.report.review.questions import Answers, page
from tests.helpers.reporting import PUBLISHED
from tests.helpers.root import ROOT

TEMPLATE = ROOT / "longtail/report/templates/questions.md.j2"
ASSUMED = Assumptions(10.0, "A GPU", 500.0, 100.0, (0.25, 0.5), 1.0)
ASKED = (  # a word of each question of the users'
    *("own teacher", "own data", "45.3", "One GPU or eight", "Which ResNet", "beat the teacher", "raw image"),
    *("Which epoch", "far too low", "released LiVT weights", "K > 1", "how much memory"),
)


@pytest.fixture(scope="module")
def everything() -> dict:
    """Params of all papers; paths in them are from the root."""
    return params.load_all(ROOT)


@pytest.fixture(scope="module")
def files() -> dict:
    return {name: params.own(path) for name, path in params.files(ROOT).items()}


def answers(files: dict, everything: dict, reports: Path, methods: Path = ROOT / "docs/METHODS.md") -> Answers:
    return Answers(files, reports, PUBLISHED, methods, ASSUMED, everything)


@pytest.fixture(scope="module")
def ours(files, everything) -> Answers:
    return answers(files, everything, ROOT / "reports")


def test_every_question_is_answered_in_a_few_lines_with_a_number_or_a_command_and_a_link(ours):
    heads = re.split(r"^## ", page(ours), flags=re.MULTILINE)[1:]
    assert len(heads) == len(ASKED)
    for text, asked in zip(heads, ASKED, strict=True):
        title, _, answer = text.partition("\n")
        prose = [line for line in answer.strip().splitlines() if line and not line.startswith("|")]
        assert asked in title and len(prose) <= 7, title
        assert re.search(r"\d|`make |`dvc |`python ", answer) and "](" in answer, title


def test_no_result_is_typed_into_the_words():
    """A decimal outside of what is looked up could only be a number of a table; sections of METHODS have them too."""
    words = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", "", TEMPLATE.read_text(encoding="utf-8"))
    words = re.sub(r"\[[^]]*\]\([^)]*\)", "", words)
    assert re.findall(r"\d+\.\d+|\d+ %", words) == ["100 %"]  # of an area


def test_the_page_follows_its_records(files, everything, tmp_path):
    """A mean and an error changed in their file; a run that is gone."""
    for part in ("metrics", "machines"):
        shutil.copytree(ROOT / "reports" / part, tmp_path / part)
    shutil.copy(ROOT / "reports/claims.csv", tmp_path)
    record = tmp_path / "metrics/digits/digits-deit_lt.json"
    run = json.loads(record.read_text())
    run["summary"]["last"]["avg"]["top1"] |= {"mean": 12.347, "stderr": 0.124}
    record.write_text(json.dumps(run))
    (tmp_path / "metrics/digits-cbd/teachers/cbd_ens-digits_if20.json").unlink()
    text = page(answers(files, everything, tmp_path))
    assert "the student 12.35 ± 0.12 %" in text
    assert "and not run with K = 4 (0 seeds)" in text


def test_what_is_looked_up_is_by_hand(ours):
    """Table 2 of DeiT-LT; 2 ranks x 4 micro-batches x 128 views; 1.5e21 operations at 100 TFLOP/s."""
    printed = {"dataset": "CIFAR-100-LT", "method": "DeiT-LT [teacher=PaCo+SAM]", "imbalance": "100"}
    assert ours.printed("deit_lt_table_2.csv", **printed) == "55.6"
    assert ours.groups("cifar100_if100-deit_lt_paco_sam-b") == [128] * 8
    assert ours.command("train_teacher", "cbd_ens-imagenet_lt").endswith(
        "papers/cbd/dvc.yaml:train_teacher@cbd_ens-imagenet_lt"
    )
    assert ours.command("train_student", "digits-vit") == "dvc repro train_student@digits-vit"
    flop = ours.workload.of("train_student", "imagenet_lt-deit_lt-b").flop
    low, high = flop / (100e12 * 0.5) / 3600, flop / (100e12 * 0.25) / 3600
    assert ours.hours("train_student", "imagenet_lt-deit_lt-b") == f"{low:.3g} to {high:,.0f} GPU-hours"


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (lambda a: a.method("#5: two GPUs"), "has '#5: two GPUs' 0 times"),
        (lambda a: a.setting("teachers/paco_sam-imagenet_l/arch"), "did you mean 'paco_sam-imagenet_lt'"),
        (lambda a: a.ours("digits", "digits-deit"), "no 'digits-deit' in study digits"),
        (lambda a: a.printed("deit_lt_table_2.csv", "CIFAR-10-LT", "ViT"), "2 rows"),
        (lambda a: a.verdict("cbd-ensemble-over-two", "digits-cbd"), "0 rows of cbd-ensemble-over-two"),
        (lambda a: a.images("cifar100_if100", "cifar100_if100-deit_lt_paco_sam-b"), "was not run"),
    ],
)
def test_what_is_not_there_is_named(ours, asked, line):
    with pytest.raises(UserError, match=re.escape(line)):
        asked(ours)
