"""Two makings of the same tables held against the spread over seeds, by hand, and the stage that prints it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from longtail.base.errors import UserError
from longtail.base.files import write_json
from longtail.report.compare import compare, tree
from tests.helpers.projects import WHO
from tests.helpers.reporting import run_stage
from tests.helpers.root import ROOT

HEADER = "label,column,head,entry,config_hash,printed,last_mean,last_stderr,last_n"


def put(root: Path, rows: list[tuple], verdict: str = "holds", study: str = "s") -> Path:
    """A checkout with one table of rows (label, column, entry, mean, stderr, n) and a ledger of one claim."""
    lines = [f"{label},{column},avg,{entry},,,{mean},{se},{n}" for label, column, entry, mean, se, n in rows]
    for folder in (f"tables/{study}", f"metrics/{study}"):
        (root / "reports" / folder).mkdir(parents=True, exist_ok=True)
    (root / f"reports/tables/{study}/t.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    ledger = f"id,study,verdict\nbeats,{study},{verdict}\nnever,{study},not yet run\nother,x,holds\n"
    (root / "reports/claims.csv").write_text(ledger)
    return root


def found(tmp_path, ours: list[tuple], theirs: list[tuple], verdict: str = "holds"):
    sides = put(tmp_path / "a", ours), put(tmp_path / "b", theirs, verdict)
    return compare(*(tree(side, side.name) for side in sides))


def row(mean: float, entry: str = "e", n: int = 3, stderr: float | str = 1.0, column: str = "top1") -> tuple:
    return (f"Line {entry}", column, entry, mean, stderr, n)


def test_the_expected_spread_by_hand(tmp_path):
    """Standard deviation root 3 on both sides; of the difference of two means of three 2 is the variance; t with 4
    degrees of freedom of its own and 2 of the column's: 2.446912 * root 2 = 3.46045."""
    cell = found(tmp_path, [row(70.0)], [row(73.4)]).cells[0]
    assert (cell.a, cell.b, cell.name, cell.run) == (70.0, 73.4, "Line e: top1", "e")
    assert cell.within == pytest.approx(3.46045, abs=1e-5) and not cell.outside
    further = found(tmp_path, [row(70.0)], [row(73.5)])
    assert further.cells[0].outside and further.cells[0].p == pytest.approx(0.0479, abs=1e-3)


def test_a_cell_without_spread_takes_the_columns(tmp_path):
    """Three seeds at 97.5 % each are not certain to the last digit; with one seed the column alone tells."""
    others = [row(70.0, f"e{i}") for i in range(3)]
    same = found(tmp_path, [*others, row(97.5, "z", stderr=0.0)], [*others, row(98.0, "z", stderr=0.0)])
    assert same.cells[-1].within == pytest.approx(2.446912 * (2 * 3 / 6 * 2 / 3) ** 0.5, abs=1e-4)
    single = found(tmp_path, [*others, row(50.0, "z", 1, "")], [*others, row(51.0, "z", 1, "")])
    assert single.cells[-1].within == pytest.approx(4.302653 * (3 * 2) ** 0.5, abs=1e-4)


def test_where_nothing_has_a_spread_it_is_said(tmp_path):
    lone = found(tmp_path, [row(50.0, n=1, stderr="")], [row(51.0, n=1, stderr="")])
    assert lone.cells[0].within is None and not lone.too_far
    assert "1 differ and have one seed, so that no spread is known" in lone.sentence()


def test_byte_equal(tmp_path):
    same = found(tmp_path, [row(70.0)], [row(70.0)])
    assert same.sentence() == "byte-equal (study s): all 1 files, 1 cells; verdicts: 1 of 1 the same"
    assert same.lines() == [] and len(same.lines(everything=True)) == 3 and not same.too_far


def test_one_run_of_ten_far_off_is_too_far_and_two_cells_just_outside_are_not(tmp_path):
    """Ten runs: chance puts 0 outside with .60, 1 with .32, 2 with .07; beyond 2 it is 1.2 %."""
    ours = [row(70.0, f"e{i}") for i in range(10)]
    near = found(tmp_path, ours, [row(73.6 if i < 2 else 70.0, f"e{i}") for i in range(10)], "undecided")
    assert (near.allowed, len(near.outside), near.too_far) == (2, 2, False)
    assert near.sentence() == (
        "8 of 10 cells within what another seed would give (study s); 2 outside, as chance may have it: Line e0: top1; "
        "Line e1: top1; 1 of 1 files differ; verdicts: 0 of 1 the same (beats: holds → undecided)"
    )
    many = found(tmp_path, ours, [row(73.6 if i < 3 else 70.0, f"e{i}") for i in range(10)])
    assert many.too_far and "3 outside, more than chance explains" in many.sentence()
    far = found(tmp_path, ours, [row(90.0 if i < 1 else 70.0, f"e{i}") for i in range(10)])
    assert len(far.outside) == 1 <= far.allowed and far.too_far  # by itself, after Holm


def test_cells_of_one_run_count_as_one_chance(tmp_path):
    """Two runs of four cells: .05^2 that both are outside, so the four of one are no surprise."""
    columns = ("top1", "head", "mid", "tail")
    ours = [row(70.0, e, column=c) for e in "ef" for c in columns]
    theirs = [row(73.6 if e == "e" else 70.0, e, column=c) for e in "ef" for c in columns]
    both = found(tmp_path, ours, theirs)
    assert (both.allowed, len(both.outside), both.too_far) == (4, 4, False)


def test_a_cell_of_two_tables_counts_once_and_one_of_one_side_is_told(tmp_path):
    a, b = put(tmp_path / "a", [row(70.0), row(60.0, "gone")]), put(tmp_path / "b", [row(71.0)])
    for side in (a, b):
        again = (side / "reports/tables/s/t.csv").read_text()
        (side / "reports/tables/s/u.csv").write_text(again)
    both = compare(tree(a, "a"), tree(b, "b"))
    assert len(both.cells) == 1 and both.alone == ("s, a: Line gone: top1",)
    assert "1 on one side alone" in both.sentence()


def test_the_machine_stands_beside_each_side(tmp_path):
    a, b = put(tmp_path / "a", [row(70.0)]), put(tmp_path / "b", [row(70.0)])
    facts = {"device": "cpu x1", "processor": "Some CPU", "torch": "2.15", "seconds": 1.0}
    write_json(b / "data/students/e.environment/seed0.json", facts)
    write_json(b / "reports/metrics/s/e.json", {})
    assert compare(tree(a, "A"), tree(b, "B")).places() == ["A: not recorded", "B: cpu x1, Some CPU, torch 2.15"]


@pytest.mark.parametrize(("path", "message"), [("nowhere", "neither a checkout"), ("a", "no tables of z in a")])
def test_what_cannot_be_compared_is_one_line(tmp_path, path, message):
    put(tmp_path / "a", [row(70.0)])
    with pytest.raises(UserError, match=message):
        side = tree(tmp_path / path, path)
        compare(side, side, ("z",))


def test_stage_exits_1_only_when_more_is_outside_than_chance_explains(tmp_path, capsys):
    a, b, c = (put(tmp_path / name, [row(mean)]) for name, mean in (("a", 70.0), ("b", 71.0), ("c", 90.0)))
    assert run_stage("compare", a, b / "reports", "--out", tmp_path / "page.md") == 0
    assert "| Line e: top1 | 70.00 | 71.00 | +1.00 | ± 3.46 |" in (tmp_path / "page.md").read_text()
    assert run_stage("compare", a, c) == 1 and "**outside**" in capsys.readouterr().out
    assert run_stage("compare", a) == 2 and run_stage("compare", a, a) == 2
    assert run_stage("compare", a, b, "--study", "z") == 2


def test_committed_and_yours(tmp_path, monkeypatch, capsys):
    """As `make repro` ends: with what HEAD has; and well, whatever is missing."""
    clone = put(tmp_path / "clone", [row(70.0)])
    monkeypatch.chdir(clone)
    assert run_stage("compare", "--committed", "s") == 0 and "note: not compared" in capsys.readouterr().out
    for command in (["init", "--quiet"], ["add", "--all"], [*WHO, "commit", "--quiet", "--message", "results"]):
        subprocess.run(["git", *command], cwd=clone, check=True)
    assert run_stage("compare", "--committed", "s") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("byte-equal (study s)")
    put(clone, [row(90.0)], "undecided")
    assert run_stage("compare", "--committed", "s") == 0  # outside, and yet it ends well
    said = capsys.readouterr().out
    assert "| cell | committed | yours |" in said and "0 of 1 cells within" in said and "holds → undecided" in said
    assert run_stage("compare", "--committed", "z") == 0
    assert "no tables of z are committed" in capsys.readouterr().out


def test_no_torch():
    code = "import longtail.report.compare, sys; sys.exit(any(m in sys.modules for m in ('torch', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
