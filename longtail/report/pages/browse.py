"""Results as Markdown, for those who browse the repository where it is hosted: an overview, and a page for each study
that was run, with all its tables and figures; and the README's first figures. Made of files that stand in git."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from longtail.base.errors import UserError, nearest
from longtail.base.text import pipe_table, plain
from longtail.report.figures.captions import FIGURES
from longtail.report.pages import pictures
from longtail.report.pages.study_page import noted, short
from longtail.report.review.coverage import Project
from longtail.report.review.words import Shown
from longtail.report.study import StudyConfig

FOLDER = "studies"  # under reports/
PLACES = {  # what else stands there: path, words
    "index.html": "all of it on one page that opens from disk: claims, tables beside print, figures, runs",
    "claims.md": "every claim of the papers with its verdict",
    "review/reproducibility.md": "what reviewers ask first; checklists and cost stand beside it",
}


def picture(path: Path, base: Path, alt: str, width: str = "") -> str:
    """A figure as it is shown where Markdown is read: the drawing for a dark page where the reader has one. base: the
    folder of the page; width: else the drawing's own, in pixels."""
    drawn = pictures.linked(path, path.parent)
    at = Path(os.path.relpath(path.parent, base)).as_posix()
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{at}/{drawn.dark}">' if drawn.dark else ""
    image = f'<img src="{at}/{drawn.light}" width="{width or drawn.width}" alt="{_quoted(alt)}">'
    return f"<picture>{dark}{image}</picture>"


def _quoted(text: str) -> str:
    for sign, code in {"&": "&amp;", '"': "&quot;", "<": "&lt;", ">": "&gt;"}.items():
        text = text.replace(sign, code)
    return text


def study_page(name: str, study: StudyConfig, reports: Path) -> str | None:
    """The page of one study, at <reports>/studies/<name>.md; None where nothing of it is there."""
    base = reports / FOLDER
    tables = {table: reports / "tables" / name / f"{table.name}.md" for table in study.tables}
    tables = {table: path for table, path in tables.items() if path.is_file()}
    drawn = {figure: pictures.find(reports / "figures" / name, figure) for figure in FIGURES}
    drawn = {figure: path for figure, path in drawn.items() if path}
    if not (reports / "metrics" / name).is_dir() or not (tables or drawn):
        return None
    kind = "full recipe" if study.comparable else "miniature"
    lines = [f"# {plain(study.title)}", "", f"Study `{name}` ({kind}). {plain(study.note)}", ""]
    listed = [f"* [{plain(short(table.caption))}](#table-{table.name})" for table in tables]
    listed += [f"* [{FIGURES[figure][0]}](#figure-{figure})" for figure in drawn]
    lines += [*listed, "", f"[All studies](../README.md) · `make repro STUDY={name}` makes them again.", ""]
    if tables:
        lines += ["## Tables", ""]
    for table, path in tables.items():
        content = path.read_text(encoding="utf-8").strip()
        files = _links({kind: path.with_suffix(f".{kind}") for kind in ("csv", "tex")}, base)
        lines += [f'<a id="table-{table.name}"></a>', "", content, "", files, ""]
    if drawn:
        lines += ["## Figures", ""]
    for figure, path in drawn.items():
        title, caption = FIGURES[figure]
        said = plain(caption + noted(path.parent, figure))
        files = _links({path.suffix[1:]: path, "csv": path.with_suffix(".csv")}, base)
        lines += [
            f'<a id="figure-{figure}"></a>',
            "",
            f"### {title}",
            "",
            picture(path, base, f"{study.title}: {title}"),
        ]
        lines += ["", f"{said} {files}", ""]
    return "\n".join(lines).rstrip() + "\n"


def front(shown: Sequence[Shown], project: Project, base: Path) -> str:
    """The figures that carry the message, side by side, and what each says. Raises UserError where one is not there."""
    drawn, told = [], []
    for each in shown:
        if each.study not in project.studies:
            raise UserError(f"figures: no study '{each.study}'{nearest(each.study, project.studies)}")
        path = pictures.find(folder := project.reports / "figures" / each.study, each.figure)
        if path is None:
            raise UserError(f"figures: no '{each.figure}' in {folder}; run stages/figures.py {each.study}")
        title, study = FIGURES[each.figure][0], project.studies[each.study]
        drawn.append(picture(path, base, f"{study.title}: {title}", f"{98 // len(shown)}%"))
        at = Path(os.path.relpath(project.reports / FOLDER, base)).as_posix()
        side = f"{'Left' if not told else 'Right'}: "
        page = f"[{plain(title)}]({at}/{each.study}.md#figure-{each.figure})"
        told.append(f"{side}{plain(each.says)} {page}.{plain(noted(folder, each.figure))}")
    return "\n".join(drawn) + "\n\n" + "  \n".join(told) + "\n"


def _links(files: Mapping[str, Path], base: Path) -> str:
    found = {kind: Path(os.path.relpath(path, base)).as_posix() for kind, path in files.items() if path.is_file()}
    return f"({', '.join(f'[{kind}]({at})' for kind, at in found.items())})" if found else ""


def overview(project: Project, what: str, made: Mapping[str, str]) -> str:
    """reports/README.md. what: the repository in a sentence; made: {study: its page's text}."""
    rows = []
    for name in made:
        study = project.studies[name]
        tables = sum((project.reports / "tables" / name / f"{table.name}.md").is_file() for table in study.tables)
        figures = sum(pictures.find(project.reports / "figures" / name, figure) is not None for figure in FIGURES)
        kind = "full" if study.comparable else "miniature"
        rows.append((f"[{plain(study.title)}]({FOLDER}/{name}.md)", f"`{name}`", kind, str(tables), str(figures)))
    lines = ["# Results", "", plain(what), ""]
    lines += ["Every table and figure of the studies that were run, each with its caption. A miniature has small data,"]
    lines += ["small models or a reduced schedule: its numbers are not comparable with the paper's.", ""]
    lines += pipe_table(("study", "name", "recipe", "tables", "figures"), "lllrr", rows)
    rest = len(project.studies) - len(made)
    lines += ["", f"Not run: {rest} studies, with their cost in [review/cost.md](review/cost.md).", ""]
    lines += [f"* [`{at}`]({at}): {words}" for at, words in PLACES.items() if (project.reports / at).is_file()]
    lines += ["", "[The project](../README.md), with its commands and what its words mean."]
    return "\n".join(lines) + "\n"
