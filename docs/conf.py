"""The documentation site: docs/ as pages that open from disk, ask no network and search by themselves. `make site`.

What reads well in the repository becomes links that work on the site:

* `docs/engines.md` or `engines.md` in code type is a link to that page.
* A link out of docs/ works where the repository is at hand; the site has no copy of it and shows text and path instead.
  One that leads to nothing in the repository ends the build, as every other warning does.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

project = html_title = "longtail"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3  # named as a code host names them
smartquotes = False  # `--option` and quotes as written
highlight_language = "text"

html_theme = "furo"
html_static_path = html_css_files = ["site.css"]
html_copy_source = html_show_copyright = html_use_index = False
html_show_search_summary = False  # would fetch each page, which a browser refuses a page from disk

# the navigation, section by section; a page that is missing here ends the build
SECTIONS = {
    "": {"Questions that users ask": "questions"},
    "What is reproduced": {
        "The report": "report",
        "When a claim holds": "verdicts",
        "Last verified": "verified",
        "Coverage": "coverage",
        "Deviations": "deviations",
        "Methods, facts and sources": "METHODS",
    },
    "Running it": {
        "Datasets": "datasets",
        "Checkpoints in and out": "checkpoints",
        "Results through DVC": "dvc",
        "Two engines": "engines",
        "On a cluster": "cluster",
        "What the large recipes cost": "scaling",
        "Speed, and how it is measured": "performance",
    },
    "Inside": {"Contracts": "contracts", "Probes, why results outlive edits": "probe"},
}

LINK_OUT = re.compile(r"\[([^\]]+)\]\(\.\./([^)\s]+)\)")
SCROLLS = re.compile(r'<pre|<div(?= class="table-wrapper)')
PAGE = re.compile(r"(?<!\[)`(?:docs/)?([\w-]+)\.md`")


def for_the_site(app: Sphinx, page: str, source: list[str]) -> None:
    """Rewrites the Markdown of a page, source[0]; the first page gets the navigation."""

    def as_text(link: re.Match) -> str:
        text, path = link[1], link[2].partition("#")[0]
        if not (app.srcdir.parent / path).exists():
            getLogger(__name__).warning("link to ../%s, which is not there", path, location=page)
        return text if text.strip("`") == path else f"{text} (`{path}`)"

    def as_link(name: re.Match) -> str:
        return f"[{name[0]}]({name[1]}.md)" if name[1] in app.env.found_docs - {page} else name[0]

    source[0] = PAGE.sub(as_link, LINK_OUT.sub(as_text, source[0]))
    if page == "index":
        for caption, pages in SECTIONS.items():
            entries = "\n".join(f"{title} <{name}>" for title, name in pages.items())
            head = f":caption: {caption}\n:hidden:" if caption else ":hidden:"
            source[0] += f"\n```{{toctree}}\n{head}\n\n{entries}\n```\n"


def for_every_reader(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Mends the theme's HTML for keys and readers of screens: headings get a level, what scrolls can be reached."""
    tree = "furo_navigation_tree"
    context[tree] = context[tree].replace('role="heading"', 'role="heading" aria-level="2"')
    context["body"] = SCROLLS.sub(r'\g<0> tabindex="0"', context.get("body", ""))


def setup(app: Sphinx) -> None:
    app.connect("source-read", for_the_site)
    app.connect("html-page-context", for_every_reader, priority=900)  # after the theme's own
