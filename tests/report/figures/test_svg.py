"""A figure as SVG inside a page: in the page's colours, its ids its own, and the points where they were drawn."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest

from longtail.report.figures.night import dark
from longtail.report.figures.style import COLORS, INK, new_figure
from longtail.report.figures.svg import to_file, to_svg


@pytest.fixture
def figure():
    made, ((ax,),) = new_figure()
    ax.plot([0, 1, 2], [10, 30, 20], color="#0072B2", marker="o", label="a line", gid="the-line")
    ax.plot([0, 2], [15, 15], color=INK)
    ax.imshow(np.eye(3), extent=(0, 2, 10, 30), aspect="auto", alpha=0.3)
    ax.set(xlabel="<b>µ & so</b>")
    made.legend()
    yield made
    plt.close(made)


def ids(text: str) -> list[str]:
    return re.findall(r'\bid="([^"]*)"', text)


def test_it_is_one_element_that_says_what_it_shows(figure):
    text = to_svg(figure, "one", 'Bars "of" <groups>')
    root = ElementTree.fromstring(text)
    assert root.tag == "svg" and root.get("role") == "img" and root.get("aria-label") == 'Bars "of" <groups>'
    assert any(e.text == "<b>µ & so</b>" for e in root.iter("text"))
    width, height = (float(v) for v in root.get("viewBox").split()[2:])
    assert (width, height) == pytest.approx(72 * figure.get_size_inches(), abs=0.01)
    assert float(root.get("width")) / float(root.get("height")) == pytest.approx(width / height, rel=0.01)


def test_nothing_in_it_reaches_the_page_or_the_network(figure):
    text = to_svg(figure, "one", "x")
    assert not re.search(r"https?:|<style|style=|xmlns|<metadata|font-family|<\?xml|<!", text)
    assert all(href.startswith(("#", "data:image/png;base64,")) for href in re.findall(r'href="([^"]*)"', text))


def test_ink_takes_the_pages_colour_and_other_colours_stay(figure):
    text = to_svg(figure, "one", "x")
    assert INK not in text and 'stroke="currentColor"' in text and 'stroke="#0072b2"' in text.lower()
    assert ElementTree.fromstring(text).get("fill") == "currentColor"  # text, which has no colour of its own


def test_ids_are_the_charts_own_and_every_reference_has_its_target(figure):
    text = to_svg(figure, "one", "x")
    assert ids(text) and len(ids(text)) == len(set(ids(text))) and all(re.fullmatch(r"one-\d+", i) for i in ids(text))
    assert set(re.findall(r'href="#([^"]*)"', text) + re.findall(r"url\(#([^)]*)\)", text)) == set(ids(text))
    assert not set(ids(text)) & set(ids(to_svg(figure, "two", "x")))


def test_the_same_figure_gives_the_same_bytes(figure):
    assert to_svg(figure, "one", "x") == to_svg(figure, "one", "x")


def test_points_stay_where_they_were_drawn():
    figure, ((ax,),) = new_figure()
    ax.plot([0, 1, 2], [10, 30, 20], color="#123456")
    root = ElementTree.fromstring(to_svg(figure, "one", "x"))
    (path,) = [e.get("d") for e in root.iter("path") if e.get("stroke") == "#123456"]
    found = np.array(re.findall(r"-?[\d.]+", path), float).reshape(-1, 2)
    pixels = ax.transData.transform([(0, 10), (1, 30), (2, 20)]) * 72 / figure.dpi
    assert found == pytest.approx(np.column_stack([pixels[:, 0], 72 * figure.get_figheight() - pixels[:, 1]]), abs=0.02)
    plt.close(figure)


def test_a_file_says_what_it_shows_on_its_own_ground(figure):
    """Its size is in pixels: letters of 7 points are 11 pixels high."""
    text = to_file(figure, "one", "Bars <of> groups")
    root = ElementTree.fromstring(text)
    names = [element.tag.rpartition("}")[2] for element in root]
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and names[:2] == ["title", "rect"]
    assert root[0].text == "Bars <of> groups" and root[1].get("fill") == "#ffffff"
    width = float(root.get("width"))
    assert 7 * width / float(root.get("viewBox").split()[2]) == pytest.approx(11, abs=0.1)
    assert "currentColor" not in text and root.get("font-family").startswith("DejaVu Sans")
    assert not re.search(r"https?:(?!//www.w3.org/2000/svg)|<style|style=|<metadata|<!", text)


def test_the_first_colours_are_in_the_dark_file_as_in_the_light_one(figure):
    light = to_file(figure, "one", "x")
    assert COLORS[0].lower() in dark(light) and "#ffffff" not in dark(light) and INK not in dark(light)
    assert ids(dark(light)) == ids(light)
