"""Tail accuracy by imbalance factor: what was run, what was not, and what the paper's figure shows beside it."""

from __future__ import annotations

import math

import pytest
import yaml

from longtail.base import params
from longtail.base.errors import UserError
from longtail.base.files import write_json
from longtail.report.tables.overview import OverviewConfig, printed, table, tail_accuracy, tails
from longtail.report.tables.render import to_markdown
from tests.helpers.reporting import PUBLISHED, metrics_file, run_stage

ENTRY = {
    "title": "Tail accuracy",
    "note": "Made up.",
    "balanced": "one",
    "moderate": "fifty",
    "severe": "hundred",
    "factors": [1, 50, 100],
    "series": [
        {"label": "ViT", "entries": ["one-vit", "fifty-vit", "hundred-vit"], "printed": "ViT"},
        {"label": "Ours", "entries": ["one-x", None, "hundred-x"]},
    ],
}


def config(**changes) -> OverviewConfig:
    return params.build(OverviewConfig, ENTRY | changes, "overviews.o")


def measured(entry: str, study: str, tail: list[float]) -> dict:
    """A metrics file whose tail accuracy differs by seed; best is as last."""
    found = metrics_file(entry, "experiment", [90.0 for _ in tail])
    n = len(tail)
    mean = sum(tail) / n
    stderr = math.sqrt(sum((t - mean) ** 2 for t in tail) / (n - 1) / n) if n > 1 else None
    for phase, shift in (("last", 0), ("best", 1)):
        found["summary"][phase]["avg"]["tail"] = {"mean": mean + shift, "stderr": stderr, "n": n}
    return found | {"study": study}


@pytest.fixture
def metrics(tmp_path):
    """ViT at 1 and 100, not at 50; of the other nothing."""
    write_json(tmp_path / "metrics/one/one-vit.json", measured("one-vit", "one", [80.0]))
    write_json(tmp_path / "metrics/hundred/hundred-vit.json", measured("hundred-vit", "hundred", [20.0, 24.0]))
    return tmp_path / "metrics"


@pytest.fixture(autouse=True)
def close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_a_gap_is_left_where_nothing_was_run(metrics):
    """Standard error of 20 and 24: sqrt(8)/sqrt(2) = 2. The printed points are those of Fig. 1c."""
    values = tails(config(), metrics)
    drawn = tail_accuracy(config(), values, printed(config(), PUBLISHED))
    assert drawn.rows[:2] == [("ViT", 1, 80.0, None, 1), ("ViT", 100, 22.0, 2.0, 2)]
    assert drawn.rows[2:] == [("ViT (printed)", f, v, "", "") for f, v in ((1, 85.0), (50, 41.0), (100, 23.0))]
    ax = drawn.figure.axes[0]
    assert list(ax.get_xticks()) == [1, 50, 100]
    ours = next(line for line in ax.lines if line.get_label() == "ViT")
    assert list(ours.get_xdata()) == [1, 50, 100] and math.isnan(ours.get_ydata()[1])  # no line across the gap
    line = next(line for line in ax.lines if line.get_label() == "ViT (printed)")
    assert line.is_dashed() and line.get_linewidth() < 1 and list(line.get_ydata()) == [85, 41, 23]


def test_the_table_says_what_was_not_run(metrics):
    values = tails(config(), metrics)
    text = to_markdown(table(config(), values, printed(config(), PUBLISHED))).splitlines()
    lines = [line for line in text if line.startswith("| ")]
    assert lines == [
        "|  |  | ρ = 1 | ρ = 50 | ρ = 100 |",
        "| ViT | printed | 85 | 41 | 23 |",
        "|  | ours, last epoch | 80.00 | *not run* | 22.00 ± 2.00 |",
        "|  | ours, best on test | 81.00 | *not run* | 23.00 ± 2.00 |",
        "| Ours | ours, last epoch | *not run* | *not run* | *not run* |",
        "|  | ours, best on test | *not run* | *not run* | *not run* |",
    ]


def test_nothing_was_run(tmp_path):
    values = tails(config(), tmp_path / "absent")
    assert tail_accuracy(config(), values, {}) is None
    assert to_markdown(table(config(), values, {})).count("*not run*") == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"severe": "one"}, "must be three studies"),
        ({"factors": [1, 100, 50]}, "factors must rise"),
        ({"series": []}, "series: at least one"),
        ({"series": [ENTRY["series"][0]] * 2}, "a label of its own"),
        ({"series": [{"label": "x", "entries": ["a", "b"]}]}, "expected 3 values, found 2"),
    ],
)
def test_mistakes_are_told(change, message):
    with pytest.raises(UserError, match=message):
        config(**change)


def test_stage_writes_figure_and_table(metrics, tmp_path, capsys):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"overviews": {"o": ENTRY}}))
    inputs = ["--metrics", metrics, "--published", PUBLISHED, "--params", tmp_path / "params.yaml"]
    assert run_stage("overview", "o", *inputs, "--out", tmp_path / "out") == 0
    assert "2 of 6 entries were run" in capsys.readouterr().out
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".pdf", ".svg", ".png", ".csv", ".md", ".tex", ".html"}
    write_json(metrics / "fifty/fifty-vit.json", measured("fifty-vit", "one", [50.0]))
    assert run_stage("overview", "o", *inputs, "--out", tmp_path / "out") == 2
    assert "fifty-vit.json: study is 'one', expected 'fifty'" in capsys.readouterr().err
