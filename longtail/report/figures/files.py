"""What a figure is saved as, with the same bytes from the same data: no dates, no versions.

Small files for git and pages: <name>.svg and <name>-dark.svg, or, where it shows pictures, <name>.png of at most
PNG_LIMIT bytes; the numbers drawn as <name>.csv; what the caption says of them as <name>.txt. For print, which DVC
keeps: <name>.pdf, and <name>.png of 300 pixels to the inch.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from PIL import Image

from longtail.base.files import write_text
from longtail.report.figures.captions import DARK, PIXELS
from longtail.report.figures.night import dark
from longtail.report.figures.style import Drawing, lay_out
from longtail.report.figures.svg import to_file

PNG_LIMIT = 120_000  # bytes
SHARPNESS = (2 * PIXELS, 200, 171, 140, PIXELS, 90, 72)  # pixels to the inch that are tried, the sharpest first


def save(drawing: Drawing, name: str, title: str, small: Path, print_: Path) -> None:
    """Write a figure's files into the folders. Raises ValueError where its pictures are too many for PNG_LIMIT."""
    figure = drawing.figure
    lay_out(figure, FigureCanvasPdf)  # all are the same picture
    bare = {"CreationDate": None, "Creator": None, "Producer": None}
    figure.savefig(print_ / f"{name}.pdf", metadata=bare)
    figure.savefig(print_ / f"{name}.png", metadata={"Software": None})
    if pictured(figure):
        (small / f"{name}.png").write_bytes(small_png(figure))
    else:
        light = to_file(figure, name, title)
        write_text(small / f"{name}.svg", light)
        write_text(small / f"{name}{DARK}.svg", dark(light))
    plt.close(figure)
    with open(small / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(drawing.header)
        writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in drawing.rows)
    if drawing.note:
        write_text(small / f"{name}.txt", drawing.note + "\n")


def pictured(figure: Figure) -> bool:
    """Does it show pictures, of which an SVG would hold each pixel?"""
    return any(ax.images for ax in figure.axes)


def small_png(figure: Figure) -> bytes:
    """A PNG of 256 colours, as sharp as PNG_LIMIT allows; it says how many pixels an inch has. Raises ValueError where
    none is small enough."""
    for dpi in SHARPNESS:
        drawn, made = io.BytesIO(), io.BytesIO()
        figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
        Image.open(drawn).convert("RGB").quantize(256).save(made, "PNG", optimize=True, dpi=(dpi, dpi))
        if made.tell() <= PNG_LIMIT:
            return made.getvalue()
    raise ValueError(f"a figure of {made.tell():,} bytes at {dpi} pixels to the inch; show fewer pictures in it")
