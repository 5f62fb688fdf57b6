"""Groups in which every test image counts alike, as CBD's Table 8 has them, on a test set that is not balanced."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from longtail.base import yaml_file
from tests.helpers import run_files
from tests.helpers.reporting import PUBLISHED, run_stage

ROWS = [
    {"label": "By images", "entry": "e", "groups": "count_images"},
    {"label": "By classes", "entry": "e", "groups": "count"},
    {"label": "Not run", "entry": "n", "groups": "count_images"},
]
SIZES = [3, 4, 9, 2]  # test images; few-shot classes are the last two


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(run_files, "LABELS", np.repeat(np.arange(4), SIZES))
    reports = run_files.write(tmp_path)
    values = yaml_file.read(tmp_path / "params.yaml")
    table = {"name": "groups", "caption": "C", "columns": ["top1", "head", "mid", "tail"], "rows": ROWS}
    values["studies"]["s"]["tables"] = [table]
    (tmp_path / "params.yaml").write_text(yaml_file.dump(values))
    return tmp_path, reports


def tables(made, *more) -> dict[tuple[str, str, str], str]:
    """{(label, column, last or best): mean}."""
    root, reports = made
    inputs = ("--params", root / "params.yaml", "--metrics", reports / "metrics/s", "--published", PUBLISHED, *more)
    assert run_stage("tables", "s", *inputs, "--out", root / "tables") == 0
    with open(root / "tables/groups.csv", newline="") as file:
        found = list(csv.DictReader(file))
    return {(r["label"], r["column"], phase): r[f"{phase}_mean"] for r in found for phase in ("last", "best")}


def test_they_are_the_share_of_a_groups_images_that_are_right(made):
    """Counted image by image from the logits, which the table does not read."""
    root, reports = made
    found = tables(made, "--runs", reports / "runs/s")
    labels = run_files.LABELS
    right = {"last": [], "best": []}
    for seed in (0, 1):
        logits = run_files.predictions(seed, "cls dist").logits
        for phase, of in right.items():
            answers = np.add(*(logits[phase][head].astype(np.float64) for head in ("cls", "dist"))).argmax(1)
            of.append(answers == labels)
    for phase, of in right.items():
        for column, members in (("many", [0]), ("medium", [1]), ("few", [2, 3])):
            inside = np.isin(labels, members)
            expected = np.mean([100 * seed[inside].sum() / inside.sum() for seed in of])
            assert float(found["By images", column, phase]) == pytest.approx(expected, abs=1e-4)
        shares = [float(found["By images", g, phase]) * n for g, n in (("many", 3), ("medium", 4), ("few", 11))]
        assert sum(shares) / sum(SIZES) == pytest.approx(float(found["By images", "top1", phase]), abs=1e-3)
    assert found["By images", "few", "last"] != found["By classes", "few", "last"]
    assert found["Not run", "few", "last"] == ""
    text = (root / "tables/groups.md").read_text()
    assert "every image counts alike" in text and "classes with more than 100" in text


def test_without_the_runs_they_are_not_run(made):
    found = tables(made)
    assert found["By images", "few", "last"] == "" and found["By images", "top1", "last"] != ""
