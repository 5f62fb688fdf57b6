"""reports/results.csv: read by plain pandas, every printed table is a pivot of it."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from longtail.base import params
from longtail.report.tidy import COLUMNS, LEFT_OUT, RUNS, runs_csv, to_csv
from tests.helpers import run_files
from tests.helpers.reporting import run_stage
from tests.helpers.root import ROOT

TABLES = sorted((ROOT / "reports/tables").glob("*/*.csv"))
GROUPS = ["head", "mid", "tail", "many", "medium", "few"]
KEY = ["entry", "head", "epoch", "test", "metric", "group"]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("tidy") / "results.csv"
    path.write_text(to_csv(params.load(None), ROOT / "reports"), encoding="utf-8")
    assert path.stat().st_size < 3e6
    return pd.read_csv(path)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_tables_in_git_are_pivots_of_it(results, path):
    """Mean, standard error and seeds of every cell, at both epochs; corrected rows of shifted tests are not told apart
    in a table's CSV."""
    means = results[results.seed.isna() & (results.study == path.parent.name)].fillna({"head": "avg", "epoch": "last"})
    cells = means.set_index(KEY)[["value", "stderr", "n"]]
    two_heads = set(means.entry[means["head"] == "cls"])
    found = 0
    for _, row in pd.read_csv(path).iterrows():
        if not isinstance(row.entry, str) or "corrected" in row.label:
            continue
        shift = row.column.partition("-")[0] in ("forward", "uniform", "backward")
        views = row.column == "teacher_top1_on_views"
        metric, group = ("top1", row.column) if row.column in GROUPS else (row.column, "all")
        place = (row.column, "top1", "all") if shift else ("given", metric, group)
        head = row["head"] if row.entry in two_heads else "avg"
        for epoch in ("last", "best"):
            if pd.isna(row[f"{epoch}_n"]) or views:
                continue
            mean, stderr, n = cells.loc[(row.entry, head, epoch, *place)]
            assert (mean, n) == (row[f"{epoch}_mean"], row[f"{epoch}_n"])
            assert stderr == row[f"{epoch}_stderr"] or n == 1
            found += 1
    assert found


def test_a_printed_table_is_one_pivot(results):
    """The cells of reports/tables/digits/experts.md, `mean ± standard error`, as a reader would make them."""
    mine = results[(results.study == "digits") & (results.entry == "digits-deit_lt") & results.seed.isna()]
    mine = mine[(mine.test == "given") & (mine.metric == "top1") & (mine.epoch == "last")]
    values, errors = (mine.pivot(index="head", columns="group", values=c) for c in ("value", "stderr"))
    text = (ROOT / "reports/tables/digits/experts.md").read_text(encoding="utf-8")
    for head in ("cls", "dist", "avg"):
        cells = [f"{values[g][head]:.2f} ± {errors[g][head]:.2f}" for g in ("all", "head", "mid", "tail")]
        assert f"| {' | '.join(cells)} |" in text


def test_every_row_has_its_place_and_a_value(results):
    assert list(results) == list(COLUMNS)
    assert not results.duplicated(["study", "seed", *KEY]).any()
    assert results[["study", "entry", "kind", "test", "metric", "group", "value", "n"]].notna().all(axis=None)
    assert (results.low.notna() <= (results.seed.isna() & (results.n >= 3))).all()


def test_means_seeds_interval_and_cost(tmp_path):
    """Two seeds of 1800 s; with a third one the t-interval of mean m and standard error s is m ± 4.302653 s."""
    reports = run_files.write(tmp_path)
    table = params.load(tmp_path / "params.yaml")
    (tmp_path / "two.csv").write_text(to_csv(table, reports))
    two = pd.read_csv(tmp_path / "two.csv")
    assert set(two.entry) == {"e", "t"} and set(two["head"][two.entry == "t"]) == {"avg"}
    at = (two.entry == "e") & (two["head"] == "cls") & (two.epoch == "last") & (two.group == "tail")
    mean, *seeds = two[at].itertuples()
    assert mean.value == pytest.approx(sum(s.value for s in seeds) / 2, abs=1e-4) and mean.n == 2
    assert math.isnan(mean.low) and [s.train_seconds for s in seeds] == [1800, 1800] and mean.train_seconds == 3600
    assert [s.at_epoch for s in seeds] == [3, 3]
    assert two.groupby("entry").test.nunique().tolist() == [34, 34]  # given, 11 shifts as they are and corrected twice

    from longtail.report.tidy import _cells  # of three values, whose interval is known in closed form

    row = next(_cells({}, {"0": 1.0, "1": 2.0, "2": 3.0}, {}, {}, {"mean": 2.0, "stderr": 0.5774, "n": 3}))
    half = 4.302653 / math.sqrt(3)
    assert (row["low"], row["high"]) == pytest.approx((2 - half, 2 + half), abs=1e-4)
    assert [*_cells({}, {"0": None}, {}, {}, {"mean": None, "stderr": None, "n": 0})] == []


def test_each_run_has_its_row_which_joins_those_of_its_seeds(tmp_path, results):
    reports = run_files.write(tmp_path)
    (tmp_path / "runs.csv").write_text(runs_csv(params.load(tmp_path / "params.yaml"), reports))
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert list(runs) == list(RUNS) and list(zip(runs.entry, runs.seed, strict=True))[:2] == [("e", 0), ("e", 1)]
    first = runs.iloc[0]
    assert (first.dataset, first.train_seconds, first.trained_on) == ("d", 1800, "cpu x1")
    assert first.config == run_files.metrics()["config_hash"][:8]
    runs, seeds = pd.read_csv(ROOT / "reports/runs.csv"), results[results.seed.notna() & (results.kind != "cache")]
    key = ["study", "entry", "kind", "seed"]
    assert not runs.duplicated(key).any() and len(seeds.merge(runs, on=key)) == len(seeds)


def test_it_says_when_it_is_out_of_date(tmp_path, capsys):
    reports, out = run_files.write(tmp_path), tmp_path / "results.csv"
    given = ["--params", tmp_path / "params.yaml", "--reports", reports, "--out", out]
    assert run_stage("results", *given, "--check") == 1 and "out of date" in capsys.readouterr().err
    assert not Path(out).exists()
    assert run_stage("results", *given) == 0 == run_stage("results", *given, "--check")
    made = run_files.metrics()
    made["summary"]["last"]["avg"]["top1"]["mean"] += 1
    run_files.write_json(reports / "metrics/s/e.json", made)
    assert run_stage("results", *given, "--check") == 1


def test_the_page_of_the_report_says_what_the_columns_hold():
    text = (ROOT / "docs/report.md").read_text(encoding="utf-8")
    for name, held in (*COLUMNS.items(), *RUNS.items()):
        assert f"| `{name}` | {held} |" in text
    assert LEFT_OUT in text
