"""Four runs as a 2 x 2: differences over paired seeds with their intervals, in every format, and wrong squares."""

from __future__ import annotations

import csv
import io

import pytest

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.base.files import write_json
from longtail.report.results import load
from longtail.report.tables.grid import records, to_csv
from longtail.report.tables.render import to_html, to_latex, to_markdown
from longtail.report.tables.side_by_side import side_by_side
from longtail.report.tables.square import differences, square_layout, with_differences
from tests.helpers.reporting import PUBLISHED, T2, metrics_file, run_stage, study

FOUR = {"a": [80.0, 81.0, 82.0], "b": [82.0, 82.0, 85.0], "c": [79.0, 80.0, 81.0], "d": [84.0, 84.0, 85.0]}
SQUARE = {"down": ["cold", "warm"], "across": ["small", "large"]}
ROWS = [{"label": f"run {name}", "teacher": name} for name in FOUR]
TABLE = {"name": "x", "caption": "X.", "columns": ["top1", "tail"], "rows": ROWS, "square": SQUARE}
ITEMS = [{"name": name, "label": f"Run {name}"} for name in FOUR]


def of(**changes):
    return study(teachers=ITEMS, experiments=[], caches=[], tables=[TABLE | changes])


def made(folder, four=FOUR, **changes):
    """The study, its table, and the records of these runs."""
    for name, top1 in four.items():
        write_json(folder / "teachers" / f"{name}.json", metrics_file(name, "teacher", top1))
    one = of(**changes)
    return one, one.tables[0], records(one.tables[0], load(folder, "s", one), PUBLISHED)


def test_each_difference_is_over_paired_seeds(tmp_path):
    """b - a = 2, 1, 3: mean 2, s.e. 1/sqrt(3), and t of two degrees of freedom, 4.302653, times that: 2.484138."""
    _, table, cells = made(tmp_path, columns=["top1"])
    found = {d.label: d.found for d in differences(table, cells)}
    assert list(found) == [
        *("cold: large minus small", "warm: large minus small", "small: warm minus cold", "large: warm minus cold"),
        "warm, large minus cold, small",
    ]
    assert [round(e.mean, 6) for e in found.values()] == [2.0, 4.333333, -1.0, 1.333333, 3.333333]
    first = found["cold: large minus small"]
    assert first.interval == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert found["small: warm minus cold"].interval == (-1, -1)


def test_the_square_in_markdown(tmp_path):
    one, table, cells = made(tmp_path)
    text = to_markdown(square_layout(table, cells, one)).splitlines()
    assert text[2] == "|  |  | small | large | difference |"
    assert text[4] == "| All | cold | 81.00 ± 0.58 | 83.00 ± 1.00 | +2.00 (−0.484 to +4.48) |"
    assert text[5].startswith("|  | warm | 80.00 ± 0.58 | 84.33 ± 0.33 | +4.33 (")
    assert text[6].startswith("|  | difference | −1.00 (−1.00 to −1.00) | +1.33 (−1.54 to +4.20) | +3.33 (")
    assert text[7] == "| Tail | cold | 40.00 ± 0.00 | 40.00 ± 0.00 | 0.00 (0.00 to 0.00) |"
    below = " ".join(text[10:])
    assert "paired by number" in below and "a (3 seeds), b (3 seeds), c (3 seeds), d (3 seeds)." in below
    assert "best on test" not in below


def test_runs_that_are_missing_and_few_seeds_have_no_interval(tmp_path):
    one, table, cells = made(tmp_path, {"a": [80.0, 81.0], "b": [82.0, 85.0], "d": [84.0]}, columns=["top1"])
    text = to_markdown(square_layout(table, cells, one)).splitlines()
    assert text[4] == "| All | cold | 80.50 ± 0.50 | 83.50 ± 1.50 | +3.00 |"
    assert text[5] == "|  | warm | *not run* | 84.00 |  |"
    assert text[6] == "|  | difference |  | +2.00 | +4.00 |"  # of seed 0, which b, a and d have
    assert "c (not run), d (1 seed)" in text[-1]


def test_the_other_formats_have_the_same_numbers(tmp_path):
    one, table, cells = made(tmp_path)
    grid = square_layout(table, cells, one)
    tex, page = to_latex(grid, "s-x"), to_html(grid)
    assert r"\quad cold & 81.00 $\pm$ 0.58 & 83.00 $\pm$ 1.00 & +2.00 ($-$0.484 to +4.48) \\" in tex
    assert '<th scope="row" rowspan="3">All</th>' in page and "+2.00 (−0.484 to +4.48)" in page
    rows = list(csv.DictReader(io.StringIO(to_csv(with_differences(table, cells), False))))
    assert len(rows) == 4 * 2 + 5 * 2 and all(None not in row for row in rows)
    first = rows[8]
    assert (first["label"], first["column"], first["entry"]) == ("cold: large minus small", "top1", "")
    assert (first["last_mean"], first["last_stderr"], first["last_n"]) == ("2.0", "0.5774", "3")


def test_in_the_index_differences_stand_below_the_runs(tmp_path):
    one, table, cells = made(tmp_path)
    shown = side_by_side(table, cells, one)
    assert [line.label for line in shown.lines][3:5] == ["run d", "cold: large minus small"]
    assert (shown.run, shown.of, len(shown.lines)) == (4, 4, 9)
    told = shown.lines[4].groups["last"]
    assert (told[0].text, told[0].stderr) == ("+2.00", "(−0.484 to +4.48)")


def test_the_stage_writes_the_square(tmp_path):
    made(tmp_path / "metrics")
    values = study(teachers=ITEMS, experiments=[], caches=[], tables=[TABLE])
    (tmp_path / "params.yaml").write_text(yaml_file.dump({"studies": {"s": params.plain(values)}}))
    line = ["tables", "s", "--params", tmp_path / "params.yaml", "--metrics", tmp_path / "metrics"]
    assert run_stage(*line, "--published", PUBLISHED, "--out", tmp_path / "out") == 0
    assert "| All | cold |" in (tmp_path / "out/x.md").read_text()
    assert "cold: large minus small,top1" in (tmp_path / "out/x.csv").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": ROWS[:3]}, "table 'x': a square has four rows, each a run of its own, nothing printed"),
        ({"rows": [*ROWS[:3], ROWS[0] | {"label": "again"}]}, "each a run of its own"),
        ({"rows": [*ROWS[:3], ROWS[3] | {"printed": {**T2, "method": "ViT", "backbone": "ViT-B"}}]}, "nothing printed"),
        ({"rows": [*ROWS[:3], ROWS[3] | {"groups": "count"}]}, "the rows of a square have one head and one rule"),
        ({"rows": [row | {"groups": "count_images"} for row in ROWS]}, "a square has no count_images"),
        ({"columns": ["forward-50"]}, "a square has no forward-50"),
        ({"square": {"down": ["cold", "cold"], "across": ["small", "large"]}}, "must be two names"),
        ({"square": {"down": ["cold"], "across": ["small", "large"]}}, "expected 2 values, found 1"),
    ],
)
def test_wrong_squares_are_one_line(changes, said):
    with pytest.raises(UserError) as error:
        of(**changes)
    assert said in str(error.value) and "\n" not in str(error.value)
