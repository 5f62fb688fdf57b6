"""The style of figures: the same bytes from the same data, sizes of print, colours that stay apart."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from longtail.report.figures import files
from longtail.report.figures.captions import PIXELS
from longtail.report.figures.files import PNG_LIMIT, save
from longtail.report.figures.night import NIGHT
from longtail.report.figures.style import (
    COLORS,
    COLUMN,
    DASHES,
    MARKED,
    PANEL,
    TEXT,
    Drawing,
    legend_above,
    lined,
    look,
    looks_of,
    new_figure,
)
from tests.helpers.root import ROOT

FILES = ("print/x.pdf", "print/x.png", "x.svg", "x-dark.svg", "x.csv", "y.png", "y.csv", "y.txt")
DRAW = """
import sys
from pathlib import Path
from longtail.report.figures.files import save
from longtail.report.figures.style import Drawing, legend_above, new_figure
small = Path(sys.argv[1])
(small / "print").mkdir(parents=True)
for name in "xy":
    figure, ((ax,),) = new_figure()
    ax.plot([0, 1], [0, 2], label="a ± b")
    if name == "y":
        ax.imshow([[0, 1]], aspect="auto", alpha=0.5)
    legend_above(figure)
    drawing = Drawing(figure, ("x", "y"), [(0, 0.0), (1, 2 / 3)], "Said." * (name == "y"))
    save(drawing, name, "T", small, small / "print")
"""


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """One figure, drawn by two processes that hash text differently, the second started from a notebook whose way to
    draw is not installed."""
    folder = tmp_path_factory.mktemp("plots")
    for stem, backend in (("1", "agg"), ("2", "module://nowhere.inline")):
        told = os.environ | {"PYTHONHASHSEED": stem, "PYTHONPATH": str(ROOT), "MPLBACKEND": backend}
        subprocess.run([sys.executable, "-c", DRAW, folder / stem], check=True, env=told)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_the_same_bytes_from_another_process(drawn, name):
    assert (drawn / "1" / name).read_bytes() == (drawn / "2" / name).read_bytes()


def test_files_carry_text_no_date_and_no_version(drawn):
    found = {path.relative_to(drawn / "1").as_posix() for path in (drawn / "1").rglob("*") if path.is_file()}
    assert found == {*FILES, "print/y.pdf", "print/y.png"}  # of pictures no SVG, which would hold each pixel
    pdf, svg = (drawn / "1/print/x.pdf").read_bytes(), (drawn / "1/x.svg").read_text()
    assert b"CreationDate" not in pdf and b"Matplotlib v" not in pdf and b"/Subtype /TrueType" not in pdf
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert ">a ± b</text>" in svg and "<dc:date>" not in svg and "Matplotlib v" not in svg
    assert 'fill="#ffffff"' in svg and f'fill="{NIGHT}"' in (drawn / "1/x-dark.svg").read_text()
    assert (drawn / "1/x.csv").read_text() == "x,y\n0,0\n1,0.666667\n"
    assert (drawn / "1/y.txt").read_text() == "Said.\n"


def test_a_figure_is_as_wide_as_one_and_a_half_columns(drawn):
    """For print and, at 114 pixels to the inch, on a page: its smallest letters, of 7.5 points, are over 11 pixels."""
    assert COLUMN < PANEL < TEXT and plt.rcParams["xtick.labelsize"] * PIXELS / 72 > 11
    with Image.open(drawn / "1/print/x.png") as png:
        assert png.width == round(PANEL * 300) and round(png.info["dpi"][0]) == 300
    assert f'width="{PANEL * PIXELS:.0f}"' in (drawn / "1/x.svg").read_text()


def test_pictures_are_as_sharp_as_their_limit_allows(monkeypatch):
    """Noise of 4.72 by 2.9 inches; at 90 pixels to the inch about a quarter of the bytes at 200."""
    figure, ((ax,),) = new_figure()
    ax.imshow(np.random.default_rng(0).random((300, 500, 3)), aspect="auto", interpolation="nearest")
    sharp = files.small_png(figure)
    assert len(sharp) <= PNG_LIMIT
    monkeypatch.setattr(files, "PNG_LIMIT", len(sharp) - 1)
    coarser = files.small_png(figure)
    with Image.open(io.BytesIO(sharp)) as a, Image.open(io.BytesIO(coarser)) as b:
        for image in (a, b):
            assert image.mode == "P" and image.width == pytest.approx(PANEL * image.info["dpi"][0], abs=2)
        assert b.info["dpi"][0] < a.info["dpi"][0] and len(coarser) < len(sharp)
    monkeypatch.setattr(files, "PNG_LIMIT", 10)
    with pytest.raises(ValueError, match="show fewer pictures"):
        files.small_png(figure)


def test_a_figure_is_laid_out_once_as_for_a_pdf(tmp_path, monkeypatch):
    """Its axes are where matplotlib by itself puts them in a PDF, in all formats; a second time they stay there."""
    metadata = {"CreationDate": None, "Creator": None, "Producer": None}
    drawn, calls, execute = [], [], ConstrainedLayoutEngine.execute
    for _ in range(2):
        figure, ((ax,),) = new_figure()
        ax.plot([0, 1], [0, 2000], label="a")
        legend_above(figure)
        drawn.append(figure)
    drawn[0].savefig(tmp_path / "plain.pdf", metadata=metadata)
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *of: calls.append(of) or execute(*of))
    for folder in (first := tmp_path / "first", second := tmp_path / "second"):
        folder.mkdir()
        save(Drawing(drawn[1], ("x", "y"), [(0, 0), (1, 2000)]), "a", "T", folder, folder)
        assert len(calls) == 1
    assert (first / "a.pdf").read_bytes() == (second / "a.pdf").read_bytes() == (tmp_path / "plain.pdf").read_bytes()
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in ("a.svg", "a.png"))


def test_a_legend_takes_the_columns_that_fit():
    """Three short labels stand in one line; long ones stand beneath one another; none leaves the figure."""
    rows = {}
    for labels in (("a", "b", "c"), ("a rather long label", "another, also long", "one more of them")):
        figure, ((ax,),) = new_figure(width=COLUMN)
        for label in labels:
            ax.plot([0, 1], label=label)
        legend_above(figure)
        (legend,) = figure.legends
        extent = legend.get_window_extent()
        assert extent.width <= figure.bbox.width
        rows[labels[0]] = extent.height
    assert rows["a rather long label"] > 1.5 * rows["a"]


def test_an_entry_has_one_look():
    found = looks_of(["A", "B"], ["t"])
    assert (found["A"], found["B"]) == (look(0), look(1)) and found["t"]["color"] not in COLORS
    assert len(set(COLORS)) == len(COLORS)


def test_series_differ_without_colour():
    """Of the first four no two share a marker, dashes or a hatch; of the first eight no two a marker or a hatch."""
    looks = [look(i) for i in range(8)]
    for key in ("marker", "hatch", "linestyle"):
        first = [of[key] for of in looks[: 4 if key == "linestyle" else 8]]
        assert len(set(first)) == len(first), key
    assert look(4)["linestyle"] == DASHES[0] and look(4)["marker"] != look(0)["marker"]


def test_a_line_of_many_points_has_few_markers_where_others_have_none():
    """120 points: every 15th is marked, from place 0, 3, 7, 11."""
    marked = [lined(look(i), 120, i)["markevery"] for i in range(4)]
    assert marked == [(0, 15), (3, 15), (7, 15), (11, 15)] and MARKED == 120 / 15
    assert "markevery" not in lined(look(0), 39)


# Machado, Oliveira and Fernandes (2009), severity 1, linear RGB
MACHADO = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # sRGB, D65


def lab(color: str, sight: str) -> np.ndarray:
    """CIE L*a*b* of a colour as it is seen with that sight."""
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(MACHADO[sight]) @ linear, 0, 1)
    ratio = TO_XYZ @ seen / TO_XYZ.sum(1)
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_lab_of_white_and_red():
    """White is (100, 0, 0); sRGB's red is about (53.2, 80.1, 67.2)."""
    assert np.abs(lab("#FFFFFF", "normal") - (100, 0, 0)).max() < 0.1
    assert np.abs(lab("#FF0000", "normal") - (53.24, 80.09, 67.20)).max() < 0.1


def contrast(a: str, b: str) -> float:
    """WCAG's ratio of two colours' luminances, Y of XYZ, each with 0.05 of stray light."""
    lightness = sorted(float(lab(color, "normal")[0]) for color in (a, b))
    dark, bright = (value / 903.3 if value < 8 else ((value + 16) / 116) ** 3 for value in lightness)
    return (bright + 0.05) / (dark + 0.05)


def apart(colors: tuple[str, ...], sight: str) -> tuple[float, tuple[str, str]]:
    """The least difference (CIE76) of two of the colours, and these two."""
    return min(
        (float(np.linalg.norm(lab(a, sight) - lab(b, sight))), (a, b)) for a, b in itertools.combinations(colors, 2)
    )


@pytest.mark.parametrize("sight", MACHADO)
def test_colours_stay_apart(sight):
    """A difference of 10 is told apart at a glance; the first four, of which most figures are made, differ by three
    times that. Okabe and Ito's green and purple, third and fourth before, are 18 apart in deuteranopia."""
    assert apart(COLORS[:4], sight)[0] > 30 and apart(COLORS[:8], sight)[0] > 10, apart(COLORS[:8], sight)
    assert all(
        np.linalg.norm(lab(c, sight) - lab(ground, sight)) > 20 for c in COLORS[:8] for ground in ("#FFFFFF", NIGHT)
    )
    if sight == "deuteranopia":
        assert apart(("#009E73", "#CC79A7"), sight)[0] == pytest.approx(17.88, abs=0.01)


def test_the_first_four_colours_are_readable_on_white_and_on_a_dark_page():
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21, abs=0.1)
    assert all(contrast(color, ground) > 3 for color in COLORS[:4] for ground in ("#FFFFFF", NIGHT))
