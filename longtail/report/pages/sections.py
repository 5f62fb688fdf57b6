"""What a run's page is made of: sections of text, charts and tables. The template shows them, one way for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from markupsafe import Markup

from longtail.report.figures.study_figures import Drawing
from longtail.report.figures.svg import PIXELS, to_svg

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
