"""A matplotlib figure as a small SVG: an element to stand inside a page, or a file of its own, for light and for dark.

Text stays text. There is no style attribute or element (a page's policy may forbid them, and a style sheet would reach
the whole page), no metadata, and two decimals of a point, so the same figure gives the same bytes; ids begin with the
drawing's own name. Inside a page what is drawn in INK takes the page's text colour, and so does text; a file has its
own colours and a ground, since whoever shows it may show it on any.
"""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from longtail.report.figures.captions import PIXELS
from longtail.report.figures.style import INK, lay_out

NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
LEFT_OUT = ("metadata", "style")
INHERITED = ("font-family", "font-style", "font-weight", "font-variant", "font-stretch")
PLACES = ("d", "transform", "x", "y", "width", "height")
FONTS = "DejaVu Sans, Verdana, sans-serif"  # as wide as one another, the last apart
PAPER = "#ffffff"  # the ground of a light page
_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"(?<=url\(#)[^)]+")


def to_svg(figure: Figure, name: str, text: str) -> Markup:
    """An <svg> element, role "img" with `text` as its label; the same figure gives the same bytes.

    name: letters, digits, - and _; begins every id.
    """
    root = _drawn(figure, name)
    for element in root.iter():
        for key, value in element.attrib.items():
            if value == INK:
                element.set(key, "currentColor")
    said = {"class": "chart", "role": "img", "aria-label": text}
    root.attrib = said | root.attrib | {"fill": "currentColor", "stroke-linejoin": "round"}
    return Markup(_written(root))


def to_file(figure: Figure, name: str, title: str) -> str:
    """The text of an SVG file on white, with a title for those who hear it; name: as of `to_svg`."""
    root = _drawn(figure, name)
    plain = {"fill": INK, "font-family": FONTS, "stroke-linejoin": "round"}
    root.attrib = {"xmlns": "http://www.w3.org/2000/svg", "role": "img"} | root.attrib | plain
    root.text, ground = None, f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    opening, body = _written(root).split(">", 1)
    return f"{opening}><title>{escape(title)}</title>{ground}{body}\n"


def _drawn(figure: Figure, name: str) -> Element:
    """The root of the drawing, with its size in points and pixels as its only attributes."""
    file = io.BytesIO()
    lay_out(figure, FigureCanvasSVG)
    figure.savefig(file, format="svg", metadata=NO_METADATA, transparent=True)
    root = ElementTree.fromstring(file.getvalue())
    _plain(root)
    _name_ids(root, name)
    box = [float(v) for v in root.get("viewBox").split()[2:]]  # points
    root.attrib = {of: f"{PIXELS * v / 72:.0f}" for of, v in zip(("width", "height"), box, strict=True)}
    root.attrib = {"viewBox": "0 0 " + " ".join(f"{v:g}" for v in box)} | root.attrib
    return root


def _written(root: Element) -> str:
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode")).strip()


def _plain(element: Element) -> None:
    """Names without namespaces, style declarations as attributes, numbers with two decimals."""
    element.tag = _local(element.tag)
    element.attrib = {_local(key): value for key, value in element.attrib.items()}
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":  # as matplotlib before 3.10 writes it: 9px 'DejaVu Sans', sans-serif
            element.set("font-size", re.search(r"[\d.]+px", value)[0])
        elif key and key not in INHERITED:
            element.set(key, value)
    for key, value in element.attrib.items():
        if value.startswith("data:"):
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
