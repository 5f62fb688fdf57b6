"""A figure's files as a page shows them: inside it, for a light and a dark page, or by their addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from longtail.report.figures.captions import DARK, PIXELS
from longtail.report.figures.night import for_both
from longtail.report.pages.web import data_uri

KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
_WIDTH = re.compile(rb'<svg [^>]*?\bwidth="(\d+)"')


@dataclass(frozen=True)
class Picture:
    """A figure as it is shown. light, dark: an address, or the image itself as one; dark is None where the picture is
    shown on white anyway, or is itself for both."""

    light: str
    dark: str | None
    width: int  # in the page's pixels
    files: Mapping[str, str]  # {kind: address} of the drawing and its numbers


def find(folder: Path, name: str) -> Path | None:
    """The drawing of a figure for a light page; None where it was not drawn."""
    return next((path for suffix in KINDS if (path := folder / f"{name}{suffix}").is_file()), None)


def linked(path: Path, base: Path) -> Picture:
    """By addresses, relative to the folder `base`."""
    beside = path.with_stem(path.stem + DARK)
    numbers = path.with_suffix(".csv")
    files = {file.suffix[1:]: file.relative_to(base).as_posix() for file in (path, numbers) if file.is_file()}
    dark = beside.relative_to(base).as_posix() if beside.is_file() else None
    return Picture(path.relative_to(base).as_posix(), dark, width(path), files)


def inside(path: Path, base: Path) -> Picture:
    """As it stands in a page that needs no other file: one image, for a light page and a dark one."""
    made, content = linked(path, base), path.read_bytes()
    if made.dark:
        content = for_both(content.decode("utf-8")).encode("utf-8")
    return replace(made, light=data_uri(KINDS[path.suffix], content), dark=None)


def width(path: Path) -> int:
    """In the page's pixels: that which an SVG states, a PNG's by its pixels to the inch (72 where it states none)."""
    if path.suffix == ".svg":
        found = _WIDTH.search(path.read_bytes())
        return int(found[1]) if found else round(PIXELS * 4)
    with Image.open(path) as image:
        dpi = image.info.get("dpi", (72, 72))[0]
        return round(image.width / dpi * PIXELS)
