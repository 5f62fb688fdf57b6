"""One study's page: plain HTML that opens from disk, images inside it, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape

from longtail.captions import FIGURES
from longtail.render import entry_id
from longtail.study import StudyConfig

SHOWN_SCALE = 0.4  # of the PNG's pixels: figures have 300 to the inch, so text is about as large as the page's
CSS = """
:root { --ink: #1c1f23; --soft: #666c74; --line: #dfe2e6; --wash: #f6f7f8; --link: #0b5cad; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.2rem 1.4rem 4rem; max-width: 70rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
code, td.entry, td.hash { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .86em; }
.note { max-width: 50rem; border-left: 3px solid #e0a100; padding: .3rem 0 .3rem .9rem; color: #3d4248; }
nav ul { columns: 2 20rem; margin: .3rem 0 0; padding-left: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink);
  font-size: .93rem; font-variant-numeric: tabular-nums; }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; vertical-align: bottom; }
th, td { padding: .24rem .6rem; text-align: right; white-space: nowrap; }
th.label, th[scope=row], td.what, th.what, td.entry, th.entry, td.text, th.text { text-align: left; }
th[scope=row] { font-weight: 500; white-space: normal; vertical-align: top; min-width: 11rem; }
tbody + tbody tr:first-child > * { border-top: 1px solid var(--line); }
td.printed { color: #3d4248; background: var(--wash); } td.difference, td.what, td small { color: var(--soft); }
td.missing { color: #a15c00; font-style: italic; }
figure { margin: 0 0 2.2rem; } figcaption { max-width: 50rem; margin-bottom: .55rem; font-weight: 600; }
figure.plot figcaption { font-weight: 400; } figure.plot img { display: block; max-width: 100%; height: auto; }
.notes { color: var(--soft); font-size: .86rem; margin: .45rem 0 0; max-width: 56rem; }
.absent { color: #a15c00; font-style: italic; margin: 0; }
"""


@dataclass(frozen=True)
class EntryLine:
    """One line of the grid of entries."""

    name: str
    label: str
    metrics: dict | None  # None = not run
    analysed: bool | None  # None = nothing of it is analysed


def entries_table(lines: list[EntryLine]) -> str:
    """The grid of a study's entries: state, accuracy, time, config hash."""
    header = (
        "Entry",
        "",
        "Dataset",
        "Seeds",
        "Last",
        "Best",
        "ECE",
        "s / seed",
        "Analysed",
        "Config",
    )
    kinds = ("entry", "text", "text", "", "", "", "", "", "text", "text")
    head = "".join(f'<th class="{k}" scope="col">{h}</th>' for k, h in zip(kinds, header, strict=True))
    rows = []
    for line in lines:
        start = f'<td class="entry">{escape(line.name)}</td><td class="text">{escape(line.label)}</td>'
        rest = _entry_cells(line) if line.metrics else '<td class="missing text" colspan="8">not run</td>'
        rows.append(f'<tr id="{entry_id(escape(line.name))}">{start}{rest}</tr>')
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _entry_cells(line: EntryLine) -> str:
    metrics = line.metrics
    last, best = (metrics["summary"][phase]["avg"] for phase in ("last", "best"))
    seconds = [seed["seconds"] for seed in metrics["seeds"].values()]
    analysed = {None: "–", True: "yes", False: "not run"}[line.analysed]
    cells = [
        ("text", escape(metrics["dataset"])),
        ("", str(last["top1"]["n"])),
        ("", f"{last['top1']['mean']:.2f}"),
        ("", f"{best['top1']['mean']:.2f}"),
        ("", f"{last['ece']['mean']:.2f}"),
        ("", f"{sum(seconds) / len(seconds):,.0f}"),
        ("text", analysed),
        ("hash text", f'<span title="{metrics["config_hash"]}">{metrics["config_hash"][:8]}</span>'),
    ]
    return "".join(f'<td class="{kind}">{text}</td>' for kind, text in cells)


def figure_html(name: str, png: bytes | None) -> str:
    """A figure with its caption, the image inside the page; "not run" where there is none."""
    title, caption = FIGURES[name]
    shown = '<p class="absent">not run</p>'
    if png is not None:
        data = base64.b64encode(png).decode("ascii")
        width = round(int.from_bytes(png[16:20], "big") * SHOWN_SCALE)  # pixels across, from the PNG's header
        shown = f'<img style="width: {width}px" alt="{escape(title)}" src="data:image/png;base64,{data}">'
    return (
        f'<figure class="plot" id="figure-{name}">\n<figcaption><strong>{escape(title)}.</strong> {escape(caption)}'
        f"</figcaption>\n{shown}\n</figure>"
    )


def page(study: StudyConfig, tables: dict[str, str], figures: dict[str, bytes | None], lines: list[EntryLine]) -> str:
    """The whole page. tables: {name: HTML fragment}; figures: {name: PNG, None where not run}."""
    contents = ['<li><a href="#entries">Entries</a></li>']
    contents += [f'<li><a href="#table-{t.name}">Table: {escape(_short(t.caption))}</a></li>' for t in study.tables]
    contents += [
        f'<li><a href="#figure-{n}">Figure: {escape(FIGURES[n][0])}</a>{"" if png else " (not run)"}</li>'
        for n, png in figures.items()
    ]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">',
        f"<title>{escape(study.title)}</title>\n<style>{CSS}</style>\n</head>",
        f"<body>\n<h1>{escape(study.title)}</h1>",
        f'<p class="note">{escape(study.note)}</p>',
        f"<nav>\n<ul>\n{chr(10).join(contents)}\n</ul>\n</nav>",
        f'<h2 id="entries">Entries</h2>\n{entries_table(lines)}',
        '<p class="notes">Averaged head, mean over seeds, in %: top-1 accuracy at the last epoch and the best one on '
        "the test set, ECE at the last. s / seed: training time. Config: first 8 characters of the sha256 of the "
        "resolved settings without the seed.</p>",
        "<h2>Tables</h2>",
        *tables.values(),
        "<h2>Figures</h2>",
        *(figure_html(name, png) for name, png in figures.items()),
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _short(caption: str) -> str:
    """The caption up to its first full stop or colon followed by a space."""
    cut = min((i for i in (caption.find(". "), caption.find(": ")) if i > 0), default=len(caption))
    return caption[:cut].rstrip(".")
