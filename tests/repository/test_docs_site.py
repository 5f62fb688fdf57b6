"""The documentation site: built without a warning, every table a table, opened from disk without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import browser, screenshots
from tests.helpers.root import ROOT

pytest.importorskip("sphinx", reason="Sphinx (extra `dev`) builds the site")

MARKDOWN = sorted((ROOT / "docs").glob("*.md"))
KINDS = ["index", "cluster", "checkpoints"]  # text, tables, code; no page links anywhere else: test_links_between_pages
RULE = re.compile(r"^\|(?: *:?-+:? *\|)+$", re.MULTILINE)  # the line under a table's head


def build(out: Path, docs: Path = ROOT / "docs", *options: str) -> subprocess.CompletedProcess:
    """What `make site` does; of other pages than docs/ under the same docs/conf.py."""
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--conf-dir", ROOT / "docs", *options]
    return subprocess.run([*command, docs, out], capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    done = build(out)
    assert done.returncode == 0, done.stderr
    return out


chromium = pytest.fixture(scope="module")(browser.up_or_skip)


def article(site: Path, name: str) -> str:
    """The text part of a page, code blocks left out."""
    html = (site / f"{name}.html").read_text(encoding="utf-8")
    found = re.search(r"<article.*?</article>", html, re.DOTALL)[0]
    return re.sub(r"<pre.*?</pre>", "", found, flags=re.DOTALL)


def words(html: str) -> str:
    """What is read of it, without the signs of permanent links."""
    return re.sub(r"<[^>]+>", "", re.sub(r'<a class="headerlink".*?</a>', "", html))


def test_every_page_of_docs_is_on_the_site(site):
    assert {path.stem for path in site.glob("*.html")} == {path.stem for path in MARKDOWN} | {"search"}


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.stem)
def test_tables_and_lists_are_rendered(site, path):
    html = article(site, path.stem)
    assert html.count("<table") == len(RULE.findall(path.read_text(encoding="utf-8")))
    raw = [line for line in words(html).splitlines() if re.match(r"(?:[*-] |\|)", line)]
    assert raw == []


def test_the_traps_keep_their_numbers(site):
    """Code and docs name them by number; a list broken by a heading must go on counting."""
    starts = re.findall(r'<ol [^>]*start="(\d+)"', article(site, "METHODS"))
    written = re.findall(r"\*\*\n\n(\d+)\. \*\*", (ROOT / "docs/METHODS.md").read_text(encoding="utf-8"))
    assert [s for s in starts if s in written] == [w for w in written if w != "1"] != []


def test_names_of_pages_are_links(site):
    links = re.findall(r'<a [^>]*href="cluster\.html">.*?</a>', article(site, "engines"))
    assert "docs/cluster.md" in [words(link) for link in links if "<code" in link]


def test_a_link_out_of_docs_becomes_text_or_ends_the_build(tmp_path):
    """A site of its own: what leads to a file of the repository; what leads to nothing, and a page that no list has."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "there.yaml").touch()
    page = docs / "start.md"  # and not index.md, which gets the navigation of our pages
    page.write_text("# S\n\nSee [this file](../there.yaml), [`there.yaml`](../there.yaml#part) and `start.md`.\n")
    done = build(tmp_path / "site", docs, "--define", "root_doc=start")
    assert done.returncode == 0, done.stderr
    text = re.search(r"<p>See.*?</p>", (tmp_path / "site/start.html").read_text())[0]
    assert words(text) == "See this file (there.yaml), there.yaml and start.md." and "<a" not in text
    page.write_text("# S\n\nSee [this](../absent.yaml), [that](absent.md) and [this part](#absent-part).\n")
    (docs / "lost.md").write_text("# L\n")
    done = build(tmp_path / "site", docs, "--define", "root_doc=start")
    assert done.returncode != 0
    assert "docs/start.md: WARNING: link to ../absent.yaml, which is not there" in done.stderr
    assert all(said in done.stderr for said in ("absent.md", "absent-part", "lost.md: WARNING"))


def test_links_between_pages_arrive(site):
    names = [f"{path.stem}.html" for path in MARKDOWN]
    pages = {name: (site / name).read_text(encoding="utf-8") for name in names}
    ids = {name: set(re.findall(r'\bid="([^"]+)"', html)) for name, html in pages.items()}
    for name, html in pages.items():
        for target in re.findall(r'(?:href|src)="([^"]+)"', html):
            if target.startswith("https:") and re.search(rf'<a [^>]*href="{re.escape(target)}"', html):
                continue  # to follow by hand, of a paper or its code; nothing loads it
            assert not re.match(r"[a-z]+:|/", target), f"{name}: {target}"
            path, _, anchor = re.sub(r"\?v=\w+$", "", target).partition("#")  # the theme's files have sums behind them
            assert (site / path).exists(), f"{name}: {target}"
            assert not anchor or anchor in ids[path or name], f"{name}: {target}"


@pytest.mark.parametrize("name", KINDS)
def test_pages_open_from_disk_without_a_network(chromium, site, name):
    with browser.opened(chromium, site / f"{name}.html") as seen:
        assert (seen.asked, seen.complaints) == ([], [])


def test_the_search_answers_from_disk(chromium, site):
    with browser.opened(chromium, site / "index.html") as seen:
        seen.page.fill("input.sidebar-search", "preemption")
        seen.page.keyboard.press("Enter")
        first = seen.page.locator("#search-results li a").first
        first.wait_for(timeout=10_000)
        assert "cluster.html" in first.get_attribute("href")
        assert (seen.asked, seen.complaints) == ([], [])


@pytest.mark.parametrize(("name", "scheme"), [*((name, "light") for name in KINDS), ("index", "dark")])
def test_the_site_is_accessible(chromium, site, name, scheme):
    with browser.opened(chromium, site / f"{name}.html", scheme) as seen:
        ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(19, 20, 22)"}[scheme]
        seen.page.set_viewport_size(browser.PHONE)
        assert seen.page.evaluate("document.documentElement.scrollWidth") == browser.PHONE["width"]
        seen.page.set_viewport_size(browser.DESKTOP)
        assert browser.findings(seen.page) == []


def test_every_picture_of_the_report_page_is_there_small_and_shown():
    """Those that `make screenshots` makes, and no others."""
    pictures = {path.stem: path.stat().st_size for path in (ROOT / "docs/screenshots").iterdir()}
    shown = re.findall(r"!\[[^\]]+\]\(screenshots/([\w-]+)\.png\)", (ROOT / "docs/report.md").read_text("utf-8"))
    assert set(pictures) == set(screenshots.VIEWS) == set(shown) and len(shown) == len(set(shown))
    assert max(pictures.values()) <= screenshots.LARGEST
