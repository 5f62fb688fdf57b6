"""The style of figures: the same bytes from the same data, sizes of print, colours that stay apart."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from longtail.report.figures.style import COLORS, COLUMN, TEXT, Drawing, colors_of, legend_above, new_figure, save
from tests.helpers.root import ROOT

SUFFIXES = ("pdf", "svg", "png", "csv")
DRAW = """
import sys
from pathlib import Path
from longtail.report.figures.style import Drawing, legend_above, new_figure, save
figure, ((ax,),) = new_figure()
ax.plot([0, 1], [0, 2], label="a ± b")
for alpha in (1, 0.5):
    ax.imshow([[0, 1]], aspect="auto", alpha=alpha)
legend_above(figure)
save(Drawing(figure, ("x", "y"), [(0, 0.0), (1, 2 / 3)]), Path(sys.argv[1]))
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


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_bytes_from_another_process(drawn, suffix):
    assert (drawn / f"1.{suffix}").read_bytes() == (drawn / f"2.{suffix}").read_bytes()


def test_files_carry_text_no_date_and_no_version(drawn):
    pdf, svg = (drawn / "1.pdf").read_bytes(), (drawn / "1.svg").read_text()
    assert b"CreationDate" not in pdf and b"Matplotlib v" not in pdf and b"/Subtype /TrueType" not in pdf
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert ">a ± b</text>" in svg and "<dc:date>" not in svg and "Matplotlib v" not in svg
    assert svg.count("<image ") == 2  # put together in one, the upper one would be blended twice
    assert (drawn / "1.csv").read_text() == "x,y\n0,0\n1,0.666667\n"


def test_a_figure_is_as_wide_as_a_column(drawn):
    with Image.open(drawn / "1.png") as png:
        assert png.width == round(COLUMN * 300) and round(png.info["dpi"][0]) == 300


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
    for stem in ("first", "second"):
        save(Drawing(drawn[1], ("x", "y"), [(0, 0), (1, 2000)]), tmp_path / stem)
        assert len(calls) == 1
        for suffix, of in {"pdf": "plain", "svg": "first", "png": "first"}.items():
            assert (tmp_path / f"{stem}.{suffix}").read_bytes() == (tmp_path / f"{of}.{suffix}").read_bytes()


def test_a_legend_takes_the_columns_that_fit():
    """Three short labels stand in one line; long ones stand beneath one another; none leaves the figure."""
    rows = {}
    for labels in (("a", "b", "c"), ("a rather long label", "another, also long", "one more of them")):
        figure, ((ax,),) = new_figure()
        for label in labels:
            ax.plot([0, 1], label=label)
        legend_above(figure)
        (legend,) = figure.legends
        extent = legend.get_window_extent()
        assert extent.width <= figure.bbox.width
        rows[labels[0]] = extent.height
    assert rows["a rather long label"] > 1.5 * rows["a"]


def test_an_entry_has_one_colour():
    found = colors_of(["A", "B"], ["t"])
    assert (found["A"], found["B"]) == COLORS[:2] and found["t"] not in COLORS
    assert len(set(COLORS)) == len(COLORS) and COLUMN < TEXT


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


@pytest.mark.parametrize("sight", MACHADO)
def test_the_first_eight_colours_stay_apart(sight):
    """A difference (CIE76) of 10 is told apart at a glance."""
    far = {(a, b): np.linalg.norm(lab(a, sight) - lab(b, sight)) for a, b in itertools.combinations(COLORS[:8], 2)}
    assert min(far.values()) > 10, min(far, key=far.get)
    assert all(np.linalg.norm(lab(c, sight) - lab("#FFFFFF", sight)) > 30 for c in COLORS[:8])
