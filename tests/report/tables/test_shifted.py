"""Tables of shifted test sets: from diagnostics.json, by the row's correction, beside printed cells (DiVE Table 8)."""

from __future__ import annotations

import csv
import json

import pytest

from longtail.base import yaml_file
from longtail.report.study import SHIFTS
from tests.helpers import run_files
from tests.helpers.reporting import PUBLISHED, run_stage

CELL = {"file": "dive_table_8.csv", "backbone": "ResNeXt-50", "dataset": "ImageNet-LT shifted test", "imbalance": 256}
ROWS = [
    {"label": "BSCE", "teacher": "t", "printed": {**CELL, "method": "BSCE"}},
    {"label": "BSCE, corrected", "teacher": "t", "correction": "from_uniform"},
    {"label": "CE, corrected", "entry": "e", "correction": "from_train_prior", "head": "dist"},
    {"label": "Not run", "entry": "n"},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("shifted")
    reports = run_files.write(root)
    values = yaml_file.read(root / "params.yaml")
    values["studies"]["s"]["tables"] = [{"name": "shifts", "caption": "C", "columns": list(SHIFTS), "rows": ROWS}]
    (root / "params.yaml").write_text(yaml_file.dump(values))
    return root, reports


def tables(made, *more) -> int:
    root, reports = made
    inputs = ("--params", root / "params.yaml", "--metrics", reports / "metrics/s", "--published", PUBLISHED, *more)
    return run_stage("tables", "s", *inputs, "--out", root / "tables")


def test_cells_are_those_of_the_diagnosis(made):
    root, reports = made
    assert tables(made, "--runs", reports / "runs/s") == 0
    with open(root / "tables/shifts.csv", newline="") as file:
        ours = {(row["label"], row["column"]): row["last_mean"] for row in csv.DictReader(file)}
    of = (
        ("BSCE", "teachers/t", "avg", "raw"),
        ("BSCE, corrected", "teachers/t", "avg", "from_uniform"),
        ("CE, corrected", "e", "dist", "from_train_prior"),
    )
    for label, below, head, correction in of:
        tests = json.loads((reports / "runs/s" / below / "diagnostics.json").read_text())["heads"][head]["shifts"]
        wanted = {f"{t['direction']}-{t['factor']}": str(t[correction]["mean"]) for t in tests}
        assert {column: ours[label, column] for column in SHIFTS} == wanted
    assert {ours["Not run", column] for column in SHIFTS} == {""}


def test_printed_beside_ours_of_the_last_epoch_alone(made):
    root, reports = made
    assert tables(made, "--runs", reports / "runs/s") == 0
    text = (root / "tables/shifts.md").read_text()
    assert "| BSCE | printed | 59.46 | 58.51 |" in text and "best on test" not in text
    assert "5.29<sup>a</sup>" in text and "<sup>a</sup> DOUBTFUL OCR" in text
    assert text.count("ours, last epoch") == 3 and text.count("*not run*") == len(SHIFTS)


def test_without_the_runs_nothing_is_run(made):
    root, _ = made
    assert tables(made) == 0 and (root / "tables/shifts.md").read_text().count("*not run*") == 4 * len(SHIFTS)
