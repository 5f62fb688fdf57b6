"""One study's page: HTML that opens from disk, images inside it, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from longtail.report.figures.captions import FIGURES
from longtail.report.pages import web
from longtail.report.study import StudyConfig
from longtail.report.tables.render import entry_id

SHOWN_SCALE = 0.4  # of the PNG's pixels: figures have 300 to the inch, so text is about as large as the page's


@dataclass(frozen=True)
class EntryLine:
    """One line of the grid of entries."""

    name: str
    label: str
    metrics: dict | None  # None = not run
    analysed: bool | None  # None = nothing of it is analysed


@dataclass(frozen=True)
class Figure:
    """A figure with its caption; image is a data: address, None where it was not drawn."""

    name: str
    title: str
    caption: str
    image: str | None
    width: int | None  # in the page's pixels


def noted(folder: Path, name: str) -> str:
    """What a figure's caption says of the numbers drawn, after a space: <name>.txt beside it; nothing where none is."""
    path = folder / f"{name}.txt"
    return f" {path.read_text(encoding='utf-8').strip()}" if path.is_file() else ""


def figure(name: str, png: bytes | None, said: str = "") -> Figure:
    """The figure of that name in longtail/report/figures/captions.py. said: of `noted`."""
    title, caption = FIGURES[name]
    if png is None:
        return Figure(name, title, caption, None, None)
    return Figure(name, title, caption + said, web.data_uri("image/png", png), shown_width(png))


def shown_width(png: bytes) -> int:
    """In the page's pixels, from the PNG's header."""
    return round(int.from_bytes(png[16:20], "big") * SHOWN_SCALE)


def page(
    study: StudyConfig,
    tables: dict[str, str],
    figures: dict[str, bytes | None],
    lines: list[EntryLine],
    said: Mapping[str, str] | None = None,
    name: str = "",
) -> str:
    """The whole page. tables: {name: HTML fragment as stages/tables.py writes it}; figures: {name: PNG or None};
    said: {name: of `noted`}; name: of the study, whose tables lie beside the page in tables/<name>/, none: no links."""
    return web.page(
        "report.html.j2",
        study=study,
        tables={name: Markup(fragment) for name, fragment in tables.items()},
        titles={table.name: short(table.caption) for table in study.tables},
        figures=[figure(name, png, (said or {}).get(name, "")) for name, png in figures.items()],
        lines=lines,
        name=name,
        entry_id=entry_id,
    )


def short(caption: str) -> str:
    """The caption up to its first full stop or colon followed by a space."""
    cut = min((i for i in (caption.find(". "), caption.find(": ")) if i > 0), default=len(caption))
    return caption[:cut].rstrip(".")
