"""Hook of mkdocs: what reads well in the repository becomes links that work on the site.

* `docs/engines.md` or `engines.md` in code type is a link to that page.
* A link out of docs/ works where the repository is at hand; the site has no copy of it and shows text and path instead.
  One that leads to nothing in the repository ends the build.
* The theme's search dialog gets the name that readers of screens need.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

LINK_OUT = re.compile(r"\[([^\]]+)\]\(\.\./([^)\s]+)\)")
PAGE = re.compile(r'(?<!">)<code>(?:docs/)?([\w-]+\.md)</code>')


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text without links out of docs/."""
    repository = Path(config.config_file_path).parent

    def as_text(link: re.Match) -> str:
        text, path = link[1], link[2].partition("#")[0]
        if not (repository / path).exists():
            raise PluginError(f"docs/{page.file.src_uri}: link to ../{path}, which is not there")
        return text if text.strip("`") == path else f"{text} (`{path}`)"

    return LINK_OUT.sub(as_text, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's HTML, names of other pages of the site being links."""

    def as_link(name: re.Match) -> str:
        target = files.get_file_from_path(name[1])
        if target is None or target.page is None or target.page is page:
            return name[0]
        return f'<a href="{get_relative_url(target.url, page.url)}">{name[0]}</a>'

    return PAGE.sub(as_link, html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The finished page, its dialog named."""
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )
