"""A matplotlib figure as a small SVG element to stand inside a page, readable on white and on black.

Text stays text and takes the page's font; what is drawn in INK takes the page's text colour. There is no style
attribute or element, so that a page's content policy need not allow any; ids begin with the chart's own name.
"""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

INK = "#000000"  # becomes the text colour of the page
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "longtail",  # ids of markers and clip paths repeat
    "savefig.bbox": None,  # the size is the one asked for, so that panels of a page line up
    "savefig.transparent": True,
}
_INHERITED = {"font-family", "font-style", "font-weight", "font-variant", "font-stretch"}
_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


def to_svg(figure: Figure, name: str, text: str) -> str:
    """An <svg> element: viewBox in points, class "chart", role "img" with `text` as its label.

    name: letters, digits, - and _; begins every id. The same figure gives the same bytes.
    """
    file = io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(file.getvalue())
    _drop(root)
    for element in root.iter():
        _attributes(element)
    _name_ids(root, name)
    size = [round(float(v)) for v in root.get("viewBox").split()[2:]]
    own = {"class": "chart", "role": "img", "aria-label": text, "viewBox": f"0 0 {size[0]} {size[1]}"}
    own |= {"width": str(size[0] * 4 // 3), "height": str(size[1] * 4 // 3)}  # CSS pixels of as many points
    root.attrib = own | {"fill": "currentColor", "stroke-linejoin": "round"}
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode")).strip()


def _drop(element: ElementTree.Element) -> None:
    """Out with metadata and style sheets: the latter would reach the whole page."""
    for child in list(element):
        if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
            element.remove(child)
        else:
            _drop(child)


def _attributes(element: ElementTree.Element) -> None:
    """Style declarations as attributes, numbers with two decimals, ink in the text colour."""
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":  # e.g. 9px 'DejaVu Sans', sans-serif
            element.set("font-size", re.search(r"[\d.]+px", value)[0])
        elif key and key not in _INHERITED:
            element.set(key, value)
    for key, value in element.attrib.items():
        if value == INK:
            element.set(key, "currentColor")
        elif value.startswith("data:"):
            element.set(key, value.replace("\n", ""))
        elif key in ("d", "transform", "x", "y", "width", "height"):
            element.set(key, _short(value))
    if element.get("transform", "").startswith("rotate(0 "):
        del element.attrib["transform"]


def _short(value: str) -> str:
    """Two decimals, no trailing zeros."""
    value = _NUMBER.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), value)
    return re.sub(r"-0(?![\d.])", "0", re.sub(r"\s+", " ", value)).strip()


def _name_ids(root: ElementTree.Element, name: str) -> None:
    """Ids nobody refers to are dropped, the others become name-1, name-2 …"""
    link = f"{{{XLINK}}}href"
    used: dict[str, str] = {}

    def new(old: str) -> str:
        return used.setdefault(old, f"{name}-{len(used) + 1}")

    for element in root.iter():
        for key, value in element.attrib.items():
            if key == link and value.startswith("#"):
                element.set(key, "#" + new(value[1:]))
            else:
                element.set(key, _REFERENCE.sub(lambda m: f"url(#{new(m[1])})", value))
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", used[own])
