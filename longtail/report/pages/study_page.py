"""One study's page: HTML that opens from disk, figures inside it, nothing fetched from anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from longtail.report.figures.captions import FIGURES
from longtail.report.pages import web
from longtail.report.pages.pictures import Picture
from longtail.report.study import StudyConfig
from longtail.report.tables.render import entry_id

STOP = re.compile(r"(?<!\bFig)(?<!\bFigs)\. ")


@dataclass(frozen=True)
class EntryLine:
    """One line of the grid of entries."""

    name: str
    label: str
    metrics: dict | None  # None = not run
    analysed: bool | None  # None = nothing of it is analysed


@dataclass(frozen=True)
class Figure:
    """A figure with its caption; picture is None where it was not drawn. links: {what: address} of its files."""

    name: str
    title: str
    caption: str
    picture: Picture | None
    links: Mapping[str, str]


def noted(folder: Path, name: str) -> str:
    """What a figure's caption says of the runs and numbers drawn, after a space: <name>.txt beside it; nothing where
    none is."""
    path = folder / f"{name}.txt"
    return f" {path.read_text(encoding='utf-8').strip()}" if path.is_file() else ""


def figure(name: str, picture: Picture | None, said: str = "", links: Mapping[str, str] | None = None) -> Figure:
    """The figure of that name in longtail/report/figures/captions.py. said: of `noted`."""
    title, caption = FIGURES[name]
    return Figure(name, title, caption + said, picture, links or {})


def page(
    study: StudyConfig, tables: dict[str, str], figures: list[Figure], lines: list[EntryLine], name: str = ""
) -> str:
    """The whole page. tables: {name: HTML fragment as stages/tables.py writes it}; name: of the study, whose tables lie
    beside the page in tables/<name>/, none: no links."""
    return web.page(
        "report.html.j2",
        study=study,
        tables={name: Markup(fragment) for name, fragment in tables.items()},
        titles={table.name: short(table.caption) for table in study.tables},
        figures=figures,
        lines=lines,
        name=name,
        entry_id=entry_id,
    )


def first(caption: str) -> str:
    """The caption's first sentence, without its full stop; that of `Fig. 3` ends none."""
    return STOP.split(caption, maxsplit=1)[0].rstrip(".")


def short(caption: str) -> str:
    """The first sentence up to a colon followed by a space."""
    return first(caption).partition(": ")[0]
