"""The printed numbers: columns as documented, text kept exact, and one row's arithmetic."""

from __future__ import annotations

import csv
import re

import pytest

from longtail.base.errors import UserError
from longtail.report.published import FIELDS, PrintedCell, printed_cells, printed_curve, printed_tails, read, select
from longtail.report.study import Curve, Printed
from tests.helpers.reporting import PUBLISHED, S3, T2

FILES = sorted(p.name for p in PUBLISHED.glob("*.csv"))


def test_documented_columns():
    documented = re.search(r"Columns:\s*`([^`]+)`", (PUBLISHED / "README.md").read_text())[1].split(",")
    assert tuple(documented) == FIELDS
    assert len(FILES) >= 30


@pytest.mark.parametrize("name", FILES)
def test_every_csv_parses(name):
    for row in read(PUBLISHED, name):
        assert None not in row and None not in row.values()
        for key in ("value", "stderr"):
            assert re.fullmatch(r"[-−+]?\d+(\.\d+)?|", row[key]), (key, row)
        assert row["paper"] and row["metric"] and row["split"]


def test_groups_of_a_printed_row_give_its_overall():
    """Table S.3, CIFAR-10-LT rho 100, average: 3/4/3 classes; (3*93.8 + 4*83.7 + 3*85.7)/10 = 87.33, printed 87.3."""
    printed = Printed(**S3, method="DeiT-LT [teacher=PaCo+SAM] expert=Average")
    cells = printed_cells(PUBLISHED, printed, ("top1", "head", "mid", "tail"), "row")
    weighted = sum(n * float(cells[g].value) for n, g in ((3, "head"), (4, "mid"), (3, "tail"))) / 10
    assert weighted == pytest.approx(87.33)
    assert abs(weighted - float(cells["top1"].value)) < 0.1
    assert cells["top1"].text == "87.3 ± 0.10"  # the trailing zero is the paper's
    assert cells["top1"].source == "DeiT-LT, Table S.3 (CIFAR-10-LT, ρ = 100)"


def test_dash_and_doubt():
    dash = printed_cells(PUBLISHED, Printed(**T2, method="RIDE", backbone="ResNet-32"), ("top1",), "row")["top1"]
    assert (dash.text, dash.doubt) == ("–", None)
    doubtful = Printed(**{**T2, "imbalance": 50}, method="LDAM+DRW", backbone="ResNet-32")
    cell = printed_cells(PUBLISHED, doubtful, ("top1",), "row")["top1"]
    assert cell.text == "79.3" and cell.doubt.startswith("DOUBTFUL: identical to the CB-Focal cell")
    assert PrintedCell("1", "", "agrees with", "").doubt is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "VIT"}, "method 'VIT'; did you mean 'ViT'"),
        ({"backbone": "ViT-L"}, "backbone 'ViT-L'; did you mean 'ViT-B'"),
        ({"dataset": "CIFAR10-LT"}, "dataset 'CIFAR10-LT'; did you mean 'CIFAR-10-LT'"),
        ({"imbalance": 10}, "imbalance '10'; did you mean '100'"),
        ({"file": "deit_lt_table2.csv"}, "did you mean 'deit_lt_table_2.csv'"),
    ],
)
def test_a_typo_names_the_nearest(change, message):
    printed = Printed(**{**T2, "method": "ViT", "backbone": "ViT-B", **change})
    with pytest.raises(UserError, match=re.escape(message)):
        printed_cells(PUBLISHED, printed, ("top1",), "row 'ViT'")


def test_a_split_that_is_not_printed_is_told_unless_left_out():
    values = {**T2, "method": "ViT", "backbone": "ViT-B"}
    with pytest.raises(UserError, match="no row with split 'tail'"):
        printed_cells(PUBLISHED, Printed(**values), ("top1", "tail"), "row")
    cells = printed_cells(PUBLISHED, Printed(**values, columns=("top1",)), ("top1", "tail"), "row")
    assert {k: c.text for k, c in cells.items()} == {"top1": "62.6"}
    with pytest.raises(UserError, match="no paper prints 'nll'"):
        printed_cells(PUBLISHED, Printed(**values), ("nll",), "row")


def test_two_rows_for_one_cell_are_refused(tmp_path):
    with open(tmp_path / "x.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        writer.writerows([("P", "1", "D", "1", "M", "B", "top1", "all", value, "", "") for value in ("1", "2")])
    with pytest.raises(UserError, match="2 rows for column 'top1'"):
        printed_cells(tmp_path, Printed("x.csv", "M", "B", "D", 1), ("top1",), "row")
    (tmp_path / "y.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column 'paper' in columns a, b; expected paper,"):
        read(tmp_path, "y.csv")


def test_curve_read_off_figure_4a():
    points = printed_curve(PUBLISHED, Curve("cls_dist_distance", "DeiT-LT", "DeiT-LT [teacher=L-D-SAM]"))
    assert points[0] == (100, 0.012) and points[-1] == (1200, 0.435)
    assert points == sorted(points)
    heads = printed_curve(PUBLISHED, Curve("attention_distance", "ViT", "ViT"))
    assert len(heads) == 24 and heads[0] == (1, 0, 101.0) and heads[-1] == (2, 11, 114.7)
    assert [head for _, head, _ in heads] == [*range(12), *range(12)]  # as numbers: 10 comes after 9
    with pytest.raises(UserError, match="did you mean"):
        printed_curve(PUBLISHED, Curve("feature_rank", "x", "DeiT-LT [teacher=LDSAM]"))


def test_tails_read_off_figure_1c():
    assert printed_tails(PUBLISHED, "ViT") == {1: 85, 50: 41, 100: 23}
    assert printed_tails(PUBLISHED, "DeiT-LT") == {1: 94.5, 50: 75, 100: 64.5}
    with pytest.raises(UserError, match="did you mean 'DeiT'"):
        printed_tails(PUBLISHED, "DeIT")


def test_the_teachers_accuracy_on_views_stands_under_the_teachers_backbone():
    """DeiT-LT Table 1, first row: a RegNetY of 79.1 on the views, a DeiT-B of 70.2 on the test set."""
    first = {**T2, "file": "deit_lt_table_1.csv", "method": "distill from RegNetY-16GF", "backbone": "DeiT-B"}
    columns = ("top1", "teacher_top1_on_views")
    cells = printed_cells(PUBLISHED, Printed(**first, teacher_backbone="RegNetY-16GF"), columns, "row")
    assert {k: c.text for k, c in cells.items()} == {"top1": "70.2", "teacher_top1_on_views": "79.1"}
    with pytest.raises(UserError, match="no row with metric 'teacher_acc_on_train_views'"):
        printed_cells(PUBLISHED, Printed(**first), columns, "row")


def test_select_narrows_in_order():
    rows = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    assert select(rows, "w", a="2") == [rows[1]]
    with pytest.raises(UserError, match="no row with b 'y'"):
        select(rows, "w", a="1", b="y")
