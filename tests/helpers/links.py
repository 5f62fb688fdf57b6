"""Where the links of pages lead: every href, src and srcset of the HTML and Markdown files under a folder, anchors too.

Read with regular expressions: a parser of HTML takes ten times as long over the megabytes of drawings inside pages.
"""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote

FRAME = "index.html"  # whose anchors a part of a page, an HTML file without <html>, may lead to
NO_PAGE = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->", re.DOTALL)
TAG = re.compile(r"""<[a-zA-Z](?:[^<>"']|"[^"]*"|'[^']*')*>""")
LINK = re.compile(r"""\s(?:xlink:href|href|src|poster|srcset|data)=(["'])(.*?)\1""", re.DOTALL)
ID = re.compile(r"""\sid=(["'])(.*?)\1""")
DRAWN = re.compile(r'="url\(#([^)]*)\)')  # what a part of a drawing is clipped or marked with
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
MARKDOWN = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
ELSEWHERE = ("https:", "data:")


@cache
def read(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """(links, anchors) of an HTML or Markdown file; of HTML, the text of scripts is no part of it."""
    text, links, anchors = path.read_text(encoding="utf-8"), set(), set()
    if path.suffix == ".md":
        anchors |= headings(text)
        text = CODE.sub("", text)
        links |= set(MARKDOWN.findall(text))
    for tag in TAG.findall(NO_PAGE.sub("", text)):
        links |= {unescape(link) for _, link in LINK.findall(tag)}
        links |= {f"#{unescape(name)}" for name in DRAWN.findall(tag)}
        anchors |= {unescape(name) for _, name in ID.findall(tag)}
    return frozenset(links), frozenset(anchors)


def headings(text: str) -> set[str]:
    """Their anchors, as hosts of code make them: the second of a name ends in -1."""
    found: dict[str, int] = {}
    made = set()
    for head in HEADING.findall(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", unescape(head))
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        made.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return made


def broken(folder: Path) -> list[str]:
    """`page: link` of every link that is neither https nor leads to a file, and a place in it, under the folder."""
    folder = folder.resolve()
    pages = sorted(path for path in folder.rglob("*") if path.suffix in (".html", ".md"))
    return [f"{page.relative_to(folder)}: {link}" for page in pages for link in sorted(_broken(page, folder))]


def framed(page: Path) -> Path:
    """The page itself; of a part of a page (a table as HTML) the next FRAME above it, if there is one."""
    if page.suffix == ".md" or "<html" in page.read_text(encoding="utf-8"):
        return page
    return next((above / FRAME for above in page.parents if (above / FRAME).is_file()), page)


def _broken(page: Path, folder: Path) -> set[str]:
    found = set()
    for link in read(page)[0]:
        if link.startswith(ELSEWHERE):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else framed(page)
        there = target.is_relative_to(folder) and target.exists()
        if there and anchor and target.suffix in (".html", ".md"):
            there = anchor in read(target)[1]
        if not there:
            found.add(link)
    return found
