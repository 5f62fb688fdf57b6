"""What stands beside what in the index: agreement with print, states of a paper's items, printed tables, curves."""

from __future__ import annotations

import subprocess
import sys

import pytest

from longtail.report.claims.judge import Claim, Comparison, Judged
from longtail.report.claims.ledger import claim_groups, decided, miniature_verdicts, verdicts
from longtail.report.claims.measures import Measure
from longtail.report.pages import web
from longtail.report.pages.entries import HEIGHT, POINTS, WIDTH, Entry, Seed, _gpu_hours, curve
from longtail.report.pages.web import page
from longtail.report.published import PrintedCell
from longtail.report.review.coverage import PaperItem, Place, Project
from longtail.report.review.shares import state
from longtail.report.tables.grid import Record
from longtail.report.tables.side_by_side import agrees, printed_tables
from tests.helpers.pages import Page
from tests.helpers.reporting import PUBLISHED, study_dict, write_metrics
from tests.helpers.root import ROOT


def cell(printed: str, mean: float | None, stderr: float | None = None) -> Record:
    ours = {"mean": mean, "stderr": stderr, "n": 3}
    shown = PrintedCell(printed, "", "", "x")
    return Record(0, "x", "top1", "avg", "x", "0" * 64, shown, last=ours, best=None)


@pytest.mark.parametrize(
    ("printed", "mean", "stderr", "wanted"),
    [
        ("80.0", 81.0, None, True),
        ("80.0", 81.01, None, False),
        ("80.0", 79.0, 0.1, True),  # a point, however small the spread
        ("80.0", 76.0, 2.0, True),  # exactly two standard errors
        ("80.0", 75.99, 2.0, False),
        ("", 80.0, 1.0, None),  # a dash in the paper
        ("80.0", None, None, None),  # a group without classes
    ],
)
def test_agreement_is_a_point_or_two_standard_errors(printed, mean, stderr, wanted):
    assert agrees(cell(printed, mean, stderr), "last") is wanted
    assert agrees(cell(printed, mean, stderr), "best") is None


def test_states_of_a_papers_items(tmp_path):
    """Of study s the teacher and s-deit_lt were run: its table of experts is whole, the overall one is not."""
    write_metrics(tmp_path / "metrics/s")
    write_metrics(tmp_path / "metrics/m")
    project = Project({"studies": {n: {**study_dict(), "comparable": n != "m"} for n in "sxm"}}, tmp_path)

    def of(full: list[tuple[str, str]], miniature: list[tuple[str, str]] = ()) -> str | None:
        places = [tuple(Place(study=s, table=t) for s, t in kind) for kind in (full, miniature)]
        return state(PaperItem("Table 9", "x", *places), project)

    assert of([("s", "experts")]) == "full"
    assert of([("s", "overall")]) == "part"
    assert of([("s", "experts"), ("x", "experts")]) == "part"
    assert of([("x", "experts")], [("m", "experts")]) == "miniature"
    assert of([], [("m", "overall")]) == "miniature_part"
    assert of([("x", "overall")]) == "none"
    assert of([]) is None


def test_printed_tables_are_all_there_and_as_printed():
    found = {table.name: table for table in printed_tables(PUBLISHED, "livt")}
    assert list(found) == [f"Table {n}" for n in range(1, 8)]
    assert [t.name for t in printed_tables(PUBLISHED, "dive")][-1] == "Table 8"
    cells = sum(len(values) for table in found.values() for *_, values in table.lines)
    lines = (len((PUBLISHED / f"livt_table_{n}.csv").read_text().splitlines()) - 1 for n in range(1, 8))
    assert cells == sum(lines)
    row = next(line for line in found["Table 5"].lines if line[2] == "MGP on ImageNet-BAL, BFT loss CE")
    assert row[:2] == ("iNaturalist-2018", "500") and row[4]["head"] == "63.7"


def test_a_curve_in_the_units_of_the_drawing():
    """Seed 0 falls from the top left to the bottom right; a gap is left out; one value makes no line."""
    seeds = {
        "0": {"epoch": [0, 1, 2], "loss": [3.0, None, 1.0]},
        "1": {"epoch": [0, 1, 2], "loss": [2.0, 2.0, 1.5]},
        "2": {"epoch": [0, 1, 2], "loss": [9.0, None, None]},
    }
    made = curve("Loss", seeds, "loss")
    assert made.lines["0"] == f"0,0 {WIDTH:.0f},{HEIGHT:.0f}"
    assert made.lines["1"] == f"0,{HEIGHT / 2:.0f} {WIDTH / 2:.0f},{HEIGHT / 2:.0f} {WIDTH:.0f},{HEIGHT * 0.75:.0f}"
    assert (made.low, made.high, made.epochs, made.ends) == ("1", "3", 3, {"0": "1", "1": "1.5"})
    assert curve("Loss", seeds, "absent") is None and curve("Loss", {}, "loss") is None
    flat = curve("Loss", {"0": {"epoch": [0, 1], "loss": [2.0, 2.0]}}, "loss")
    assert flat.lines["0"] == f"0,0 {WIDTH:.0f},0"


def test_a_long_curve_is_thinned_and_keeps_its_end():
    long = list(range(1200))
    points = curve("x", {"0": {"epoch": long, "loss": [float(i % 7) for i in long]}}, "loss").lines["0"].split()
    assert len(points) <= POINTS + 1 and points[0].startswith("0,") and points[-1].startswith(f"{WIDTH:.0f},")


def seed(device: str, processes: int | None) -> Seed:
    facts = {"processes": processes} if processes else {}
    return Seed("0", {}, 0.0, 1, 1800.0, device, facts)


def test_cost_is_of_all_seeds_and_gpu_hours_of_gpus_alone():
    seeds = (seed("NVIDIA H200", 4), seed("NVIDIA H200", None), seed("cpu x1", 1))
    assert Entry("x", "x", "experiment", "s", seeds=seeds).hours == 1.5
    assert _gpu_hours(seeds) == 2.5
    assert _gpu_hours(seeds[2:]) is None


def judged(verdict: str, name: str, miniature: bool = False, paper: str = "DeiT-LT") -> Judged:
    pair = Comparison(Measure(entry="a"), Measure(entry="b"), study="s")
    claim = Claim(name, paper, "Table 1", "A is more than B.", full=(pair,))
    return Judged(claim, pair, miniature, verdict, difference=1.0, interval=(0.5, 1.5), seeds=3)


def test_verdicts_are_counted_by_claim_and_in_miniature_by_comparison():
    ledger = [
        *(judged("holds", "one"), judged("undecided", "one"), judged("holds", "one", miniature=True)),
        *(judged("not yet run", "two"), judged("does not hold", "two", True), judged("not yet run", "two", True)),
        judged("holds", "three", paper="CBD"),
    ]
    groups = claim_groups(ledger, PUBLISHED)
    assert [group.verdict for group in groups] == ["undecided", "not yet run", "holds"]
    assert verdicts(groups, "DeiT-LT") == {"undecided": 1, "not yet run": 1}
    assert miniature_verdicts(groups, "DeiT-LT") == {"holds": 1, "does not hold": 1}
    found = [(g.claim.id, [line.judged.miniature for line in of], rest) for g, of, rest in decided(groups, "holds")]
    assert found == [("one", [False, True], {"undecided": 1}), ("three", [False], {})]
    assert [(group.claim.id, rest) for group, _, rest in decided(groups, "does not hold")] == [("two", {})]
    assert groups[0].lines[0].ours == "+1.00 points" and groups[0].lines[0].interval == "+0.50 to +1.50"
    assert groups[0].lines[0].printed_difference == ""


def test_a_digest_names_contents_and_not_places(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "metrics").mkdir(parents=True)
        (tmp_path / place / "metrics/x.json").write_text("1")
        (tmp_path / place / "metrics/.gitignore").write_text(place)
    digests = {web.digest(tmp_path / place, {"p": tmp_path / "absent"}) for place in ("a", "b")}
    assert len(digests) == 1
    (tmp_path / "b/metrics/x.json").rename(tmp_path / "b/metrics/y.json")
    assert web.digest(tmp_path / "b", {}) not in digests
    assert web.stated(f'<meta name="inputs" content="{digests.copy().pop()}">') in digests
    assert web.stated("<html>") is None


def test_the_index_needs_no_torch():
    code = "import sys, longtail.report.pages.index, longtail.report.pages.web; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_reader_of_pages_notices_what_is_wrong():
    with pytest.raises(AssertionError):
        Page("<p><b></p></b>")
    assert Page('<a href="#x">y</a>').lead_nowhere() == {"#x"}
    assert page("curve.html.j2") == "\n"
