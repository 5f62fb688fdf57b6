"""What a run's page is made of: sections of text, charts and tables; those of its record.

Sections of a run's page that tell how it was made: curves, cost, machine and configuration, from run.json and

reports/machines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from markupsafe import Markup

from longtail.base import yaml_file
from longtail.evaluation.metrics import summarise
from longtail.report.figures import charts
from longtail.report.figures.captions import PIXELS
from longtail.report.figures.style import Drawing
from longtail.report.figures.svg import to_svg

LONGEST = 60  # rows of the numbers beside a chart
NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; the first of a row names it."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False  # cells are words and may wrap


@dataclass(frozen=True)
class Chart:
    """A drawing and its numbers; numbers is None where they are too many for a page."""

    name: str  # id
    caption: str
    svg: Markup
    width: int  # CSS pixels
    numbers: Table | None


@dataclass(frozen=True)
class Section:
    """One question about a run. absent: the stage that would answer it, where that was not run."""

    name: str  # id
    title: str
    text: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    absent: str | None = None
    code: str | None = None


def shown(value: object) -> str:
    """A cell: two decimals, thousands apart, a dash for what was not measured."""
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def estimate(value: dict | None) -> str:
    """`mean ± s.e.` of {mean, stderr, n}; one seed has no s.e."""
    if value is None or value["mean"] is None:
        return NOTHING
    return f"{value['mean']:.2f}" + ("" if value["stderr"] is None else f" ± {value['stderr']:.2f}")


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], words: bool = False) -> Table:
    return Table(caption, header, [[shown(v) for v in row] for row in rows], words)


def chart(name: str, caption: str, drawing: Drawing, numbers: bool = True) -> Chart:
    """A drawing for the page. Of more than LONGEST rows the table has evenly spaced ones and the last."""
    rows, text = drawing.rows, caption
    step = -(-len(rows) // LONGEST)
    if step > 1:
        kept = range(len(rows) - 1, -1, -step)
        rows, text = [rows[i] for i in reversed(kept)], f"{caption} Every {step}th row; all are in the files above."
    plt.close(drawing.figure)  # of pyplot's list: the figure itself can still be drawn
    svg = to_svg(drawing.figure, name, f"{caption} {'The numbers are in the table below.' if numbers else ''}".strip())
    width = round(PIXELS * drawing.figure.get_figwidth())
    return Chart(name, caption, svg, width, table(text, drawing.header, rows) if numbers else None)


LOSS = {"loss": "Loss", "train_loss": "Loss"}
ACCURACY = {"test_top1_cls": "CLS", "test_top1_dist": "DIST", "test_top1_avg": "Average", "test_top1": "Test"}
DISTANCE = {"cls_dist_distance": "1 − cosine"}
KINDS = (
    ("loss", LOSS, "Loss", "Loss over an epoch's training views."),
    ("accuracy", ACCURACY, "Top-1 on the test set (%)", "Top-1 at the epochs evaluated."),
    ("distance", DISTANCE, "1 − cosine(CLS, DIST)", "Distance of CLS and DIST on training views."),
)


def curves(record: dict) -> Section:
    seeds = [seed["curves"] for seed in record["seeds"].values()]
    epochs = max((seed.get("epoch", []) for seed in seeds), key=len)
    drawn = []
    for name, columns, ylabel, caption in KINDS:
        series = {}
        for column, label in columns.items():
            found = [seed[column] for seed in seeds if column in seed]
            if any(v is not None for values in found for v in values):
                series[label] = _over_seeds(found, len(epochs))
        if series.keys() == {"CLS", "Average"}:  # one head: both are that head
            series = {"Test": series["CLS"]}
        if series:
            drawing = charts.lines([epoch + 1 for epoch in epochs], series, "Epoch", ylabel)
            drawn.append(chart(f"curve-{name}", caption, drawing))
    text = "Mean over seeds, with a band of one standard error."
    text = text if drawn else "This run was imported: it has no history."
    return Section("curves", "Curves of training", text, drawn)


def _over_seeds(values: list[list], epochs: int) -> dict[str, list]:
    """Mean and standard error at each epoch, over the seeds that have it."""
    points = [summarise([v[e] for v in values if e < len(v)]) for e in range(epochs)]
    return {of: [p[of] for p in points] for of in ("mean", "stderr")}


MEASURED = ("seconds", "device", "peak_memory_mb")  # of each seed, in columns


def cost(record: dict, made: dict[str, dict]) -> Section:
    """Time, device and memory of each seed; what it was and where it was made, once where all seeds agree.

    made: {seed: facts} of the record of machines; empty where none is there.
    """
    seeds = {seed: {**of["identity"], **made.get(seed, {})} for seed, of in record["seeds"].items()}
    listed = []
    for key in sorted({key for of in seeds.values() for key in of} - {*MEASURED}):
        values = {seed: _brief(of.get(key)) for seed, of in seeds.items()}
        same = set(values.values())
        text = same.pop() if len(same) == 1 else "; ".join(f"seed {seed}: {v}" for seed, v in values.items())
        if text:
            listed.append((key.replace("_", " "), text))
    told = table("What it was; digests by their first 12 digits.", ("Fact", "Value"), listed, True)
    if not made:
        text = "Time and machine are not recorded: `make machines` does that where a study was made."
        return Section("cost", "Cost and machine", text, tables=[told])
    rows = [(seed, *(made.get(seed, {}).get(key) for key in MEASURED)) for seed in seeds]
    spent = sum(of["seconds"] for of in made.values())
    text = f"Training took {spent:,.1f} s in all, {spent / 3600:.2f} hours of the device named."
    return Section(
        "cost",
        "Cost and machine",
        text,
        tables=[table("Each seed.", ("Seed", "Seconds", "Device", "Peak memory (MB)"), rows), told],
    )


def _brief(fact: object) -> str:
    """A fact in a cell; of a digest the first 12 digits."""
    text = "" if fact is None else str(fact)
    return text[:12] if re.fullmatch(r"[0-9a-f]{40,}", text) else text


def config(record: dict) -> Section:
    text = "Every number of the run, resolved, without the seed. The hash is of exactly this."
    dumped = yaml_file.dump(record["config"], sort_keys=True, allow_unicode=True, width=100, default_flow_style=None)
    return Section("config", "Resolved configuration", text, code=dumped)
