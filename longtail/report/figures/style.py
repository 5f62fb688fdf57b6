"""One style for every figure, saved with the same bytes from the same data, or as SVG inside a page.

A matplotlib figure as a small SVG element to stand inside a page, readable on white and on black.

Text stays text and takes the page's font; what is drawn in INK takes the page's text colour. There is no style
attribute or element (a page's policy may forbid them, and a style sheet would reach the whole page) and no namespace
(HTML needs none); ids begin with the chart's own name.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib
import matplotlib.pyplot as plt
import matplotlib.style
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

matplotlib.use("Agg")

matplotlib.style.use("longtail.report.figures.longtail")  # longtail.mplstyle, beside this file
matplotlib.rcParams["figure.max_open_warning"] = 0  # all figures of a study are drawn before the first is saved
COLORS = tuple(matplotlib.rcParams["axes.prop_cycle"].by_key()["color"])
GREYS = ("#8a8a8a", "#b9b9b9", "#5c5c5c", "#d6d6d6")
PRINTED = {"linestyle": (0, (4, 3)), "linewidth": 0.8}  # a thin dashed line
COLUMN, TEXT = 3.35, 6.9  # inches across: one column of a journal's page, all of it


def new_figure(columns: int = 1, rows: int = 1, width: float = COLUMN, height: float = 2.35, **kwargs):
    """Figure and axes [rows, columns]; width and height of the whole figure in inches."""
    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **kwargs)


def legend_above(figure: Figure, *entries, columns: int = 3) -> None:
    """A legend above the axes, in as many columns as fit the figure; entries: handles and labels, else all of it."""
    for number in range(columns, 0, -1):
        legend = figure.legend(*entries, loc="outside upper center", ncols=number)
        if number == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def shown(label: str | None) -> str | None:
    """A label for a legend, which leaves out those that begin with _: an invisible letter goes before it."""
    return f"\u200b{label}" if label and label.startswith("_") else label


def colors_of(students: Sequence[str], teachers: Sequence[str]) -> dict[str, str]:
    """One colour a label, the same in all figures of a study; teachers are grey."""
    named = {label: COLORS[i % len(COLORS)] for i, label in enumerate(students)}
    return {label: GREYS[i % len(GREYS)] for i, label in enumerate(teachers)} | named


def printed_style(label: str, colors: Mapping[str, str]) -> dict:
    """How a printed curve is drawn: thin, dashed, in the colour of our entry of that label, else black."""
    return {**PRINTED, "color": colors.get(label, "black")}


def line_with_band(ax: Axes, x, mean, stderr, **style) -> None:
    """A line, and a band of one standard error around it (none where it is missing)."""
    (line,) = ax.plot(x, mean, **style)
    if any(s is not None and s > 0 for s in stderr):
        low = [m - (s or 0) for m, s in zip(mean, stderr, strict=True)]
        high = [m + (s or 0) for m, s in zip(mean, stderr, strict=True)]
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def lay_out(figure: Figure, canvas: type[FigureCanvasBase]) -> None:
    """Place the axes once and for all, for text as wide as on that canvas. Left to itself, every savefig does it again
    and draws the whole figure in vain for it."""
    if engine := figure.get_layout_engine():  # else it has been laid out
        canvas(figure)
        engine.execute(figure)
        figure.set_layout_engine(None)


class Drawing(NamedTuple):
    """A figure, the CSV behind it, and what the caption says of these numbers alone."""

    figure: Figure
    header: Sequence[str]
    rows: Sequence[Sequence]
    note: str = ""


def save(drawing: Drawing, stem: Path) -> None:
    """stem.pdf, stem.svg, stem.png, and the numbers drawn as stem.csv; no dates or versions inside, so bytes repeat."""
    figure, header, rows, _ = drawing
    lay_out(figure, FigureCanvasPdf)  # all three are the same picture
    figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
    plt.close(figure)
    with open(stem.with_suffix(".csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)


INK = "#000000"  # becomes the text colour of the page
PIXELS = 114  # of CSS an inch: letters of 7 and 8 points are then about as large as the page's small text
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
LEFT_OUT = ("metadata", "style")
INHERITED = ("font-family", "font-style", "font-weight", "font-variant", "font-stretch")
PLACES = ("d", "transform", "x", "y", "width", "height")
_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"(?<=url\(#)[^)]+")


def to_svg(figure: Figure, name: str, text: str) -> Markup:
    """An <svg> element, role "img" with `text` as its label; the same figure gives the same bytes.

    name: letters, digits, - and _; begins every id.
    """
    file = io.BytesIO()
    lay_out(figure, FigureCanvasSVG)
    figure.savefig(file, format="svg", metadata=NO_METADATA, transparent=True)
    root = ElementTree.fromstring(file.getvalue())
    _plain(root)
    _name_ids(root, name)
    box = [float(v) for v in root.get("viewBox").split()[2:]]  # points
    size = {"viewBox": "0 0 " + " ".join(f"{v:g}" for v in box)}
    size |= {of: f"{PIXELS * v / 72:.0f}" for of, v in zip(("width", "height"), box, strict=True)}
    said = {"class": "chart", "role": "img", "aria-label": text}
    root.attrib = said | size | {"fill": "currentColor", "stroke-linejoin": "round"}
    return Markup(re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode")).strip())


def _plain(element: Element) -> None:
    """Names without namespaces, style declarations as attributes, numbers with two decimals, ink as the text colour."""
    element.tag = _local(element.tag)
    element.attrib = {_local(key): value for key, value in element.attrib.items()}
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":  # as matplotlib before 3.10 writes it: 9px 'DejaVu Sans', sans-serif
            element.set("font-size", re.search(r"[\d.]+px", value)[0])
        elif key and key not in INHERITED:
            element.set(key, value)
    for key, value in element.attrib.items():
        if value == INK:
            element.set(key, "currentColor")
        elif value.startswith("data:"):
            element.set(key, value.replace("\n", ""))
        elif key in PLACES:
            element.set(key, _short(value))
    if element.get("transform", "").startswith("rotate(0 "):
        del element.attrib["transform"]
    for child in list(element):
        if _local(child.tag) in LEFT_OUT:
            element.remove(child)
        else:
            _plain(child)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _short(value: str) -> str:
    """Two decimals, no trailing zeros, single spaces."""
    value = _NUMBER.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), value)
    return re.sub(r"-0(?![\d.])", "0", re.sub(r"\s+", " ", value)).strip()


def _name_ids(root: Element, name: str) -> None:
    """Ids nobody refers to are dropped, the others become name-1, name-2 …"""
    used: dict[str, str] = {}

    def new(old: str) -> str:
        return used.setdefault(old, f"{name}-{len(used) + 1}")

    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "href" and value.startswith("#"):
                element.set(key, "#" + new(value[1:]))
            else:
                element.set(key, _REFERENCE.sub(lambda m: new(m[0]), value))
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", used[own])
