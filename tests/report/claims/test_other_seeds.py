"""Verdicts of two studies that differ in their seeds: which are the same, and how far apart the numbers are."""

from __future__ import annotations

import csv

import pytest

from longtail.base import csv_file
from longtail.base.errors import UserError
from longtail.report.claims.other_seeds import ABOUT, COLUMNS, section, sentence, side_by_side
from tests.helpers.reporting import run_stage

HEADER = (*COLUMNS, "metric", "higher_head", "lower_head")


def put(tmp_path, rows: list[tuple]):
    """claims.csv of rows (id, study, verdict, difference, low, high), all of top1."""
    assert set(ABOUT) <= set(HEADER)
    path = tmp_path / "reports/claims.csv"
    path.parent.mkdir()
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for name, study, verdict, *numbers in rows:
            seeds = 0 if verdict == "not yet run" else 6
            writer.writerow((name, f"Claim {name}.", study, verdict, *numbers, "points", seeds, "top1", "avg", "avg"))
    return path


BEATS = [("beats", "a", "holds", 10.0, 7.0, 13.0), ("beats", "b", "holds", 4.9, 0.9, 8.9)]
TAIL = [("tail", "a", "holds", 5.0, 2.0, 8.0), ("tail", "b", "undecided", 1.0, -3.0, 5.0)]
ALONE = [("alone", "a", "holds", 5.0, 2.0, 8.0), ("late", "a", "holds", 5.0, 2.0, 8.0)]
NOT_RUN = [("late", "b", "not yet run", "", "", "")]


def test_differences_that_lie_apart_by_hand(tmp_path):
    """Halves of 3 and 4 points: the difference of both may be 5 away from 0; 5.1 is outside, 4 is not."""
    found = side_by_side(put(tmp_path, BEATS + TAIL), "a", "b")
    assert [each.apart for each in found] == ["−5.10 ± 5.00 **outside**", "−4.00 ± 5.00"]
    assert [each.same for each in found] == [True, False]
    assert found[1].b.text == "+1.00 points, −3.00 to +5.00 (6 seeds): undecided, points the claimed way"


def test_what_was_not_run_counts_neither_way(tmp_path):
    found = side_by_side(put(tmp_path, BEATS + TAIL + ALONE + NOT_RUN), "a", "b")
    assert [each.claim for each in found] == ["beats", "tail", "late"] and found[2].apart == ""
    told = "verdicts of a and b: 1 of 2 the same (tail: holds → undecided); 1 not run"
    assert sentence(found, "a", "b") == told


def test_the_ledger_has_a_section_once_other_seeds_were_run(tmp_path):
    path = put(tmp_path, BEATS + TAIL + ALONE + NOT_RUN)
    rows = csv_file.read(path)
    told = section(rows, path, [("a", "b")])
    assert told[0] == "## The same claims with other seeds"
    assert "In short: verdicts of a and b: 1 of 2 the same (tail: holds → undecided); 1 not run." in told
    late = [row for row in rows if row["id"] == "late"]
    assert section(late, path, [("a", "b")]) == [] == section(rows, path, [])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (BEATS[:1], "no claim is compared in a study 'b'"),
        ([BEATS[0], TAIL[1]], "a and b have no comparison in common"),
    ],
)
def test_nothing_to_set_side_by_side_is_one_line(tmp_path, rows, said):
    with pytest.raises(UserError) as error:
        side_by_side(put(tmp_path, rows), "a", "b")
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("rows", "code"), [(BEATS, 0), (BEATS + TAIL, 1), (ALONE[1:] + NOT_RUN, 0)])
def test_another_verdict_is_the_exit_code(tmp_path, monkeypatch, capsys, rows, code):
    put(tmp_path, rows)
    monkeypatch.chdir(tmp_path)
    assert run_stage("compare", "--seeds", "a", "b", "--out", "page.md") == code
    printed = capsys.readouterr().out
    assert "| same verdict |" in printed and printed.strip() in (tmp_path / "page.md").read_text()
