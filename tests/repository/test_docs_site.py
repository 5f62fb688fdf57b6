"""The documentation site: built without a warning, every table a table, opened from disk without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import browser, screenshots
from tests.helpers.root import ROOT

pytest.importorskip("material", reason="mkdocs-material (extra `dev`) builds the site")

MARKDOWN = sorted((ROOT / "docs").glob("*.md"))
KINDS = ["index", "cluster", "checkpoints"]  # text, tables, code; no page links anywhere else: test_links_between_pages
RULE = re.compile(r"^\|(?: *:?-+:? *\|)+$", re.MULTILINE)  # the line under a table's head


def build(out: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", config, "--site-dir", out]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


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


def test_every_page_of_docs_is_on_the_site(site):
    assert {path.stem for path in site.glob("*.html")} == {path.stem for path in MARKDOWN} | {"404"}


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.stem)
def test_tables_and_lists_are_rendered(site, path):
    html = article(site, path.stem)
    assert html.count("<table") == len(RULE.findall(path.read_text(encoding="utf-8")))
    raw = [line for line in re.sub(r"<[^>]+>", "", html).splitlines() if re.match(r"(?:[*-] |\|)", line)]
    assert raw == []


def test_the_traps_keep_their_numbers(site):
    """Code and docs name them by number; a list broken by a heading must go on counting."""
    starts = re.findall(r'<ol start="(\d+)">', article(site, "METHODS"))
    written = re.findall(r"\*\*\n\n(\d+)\. \*\*", (ROOT / "docs/METHODS.md").read_text(encoding="utf-8"))
    assert [s for s in starts if s in written] == [w for w in written if w != "1"] != []


def test_names_of_pages_are_links(site):
    assert '<a href="cluster.html"><code>docs/cluster.md</code></a>' in article(site, "engines")


def test_a_link_out_of_docs_becomes_text_or_ends_the_build(tmp_path):
    """A site of its own under the same hook: what leads to a file of the repository, and what leads to nothing."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "there.yaml").touch()
    hook = ROOT / "docs/site_hook.py"
    config = f"site_name: s\ntheme: {{name: material, font: false}}\nuse_directory_urls: false\nhooks: ['{hook}']\n"
    (tmp_path / "mkdocs.yml").write_text(config)
    page = tmp_path / "docs/index.md"
    page.write_text("See [this file](../there.yaml), [`there.yaml`](../there.yaml#part) and `index.md`.\n")
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "site/index.html").read_text()
    assert "See this file (<code>there.yaml</code>), <code>there.yaml</code> and <code>index.md</code>." in text
    page.write_text("See [this](../absent.yaml).\n")
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode != 0 and "docs/index.md: link to ../absent.yaml, which is not there" in done.stderr


def test_links_between_pages_arrive(site):
    names = [f"{path.stem}.html" for path in MARKDOWN]  # 404.html is for servers
    pages = {name: (site / name).read_text(encoding="utf-8") for name in names}
    ids = {name: set(re.findall(r'\bid="([^"]+)"', html)) for name, html in pages.items()}
    for name, html in pages.items():
        for target in re.findall(r'(?:href|src)="([^"]+)"', html):
            if f'<a href="{target}"' in html and target.startswith("https:"):
                continue  # to follow by hand, of a paper or its code; nothing loads it
            assert not re.match(r"[a-z]+:|/", target), f"{name}: {target}"
            path, _, anchor = target.partition("#")
            assert (site / path).exists() or path == ".", f"{name}: {target}"
            assert not anchor or anchor in ids[path or name] | {"__top"}, f"{name}: {target}"


@pytest.mark.parametrize("name", KINDS)
def test_pages_open_from_disk_without_a_network(chromium, site, name):
    with browser.opened(chromium, site / f"{name}.html") as seen:
        assert (seen.asked, seen.complaints) == ([], [])


def test_the_search_answers_from_disk(chromium, site):
    with browser.opened(chromium, site / "index.html") as seen:
        seen.page.click("input.md-search__input")
        seen.page.keyboard.type("preemption")
        first = seen.page.locator(".md-search-result__link").first
        first.wait_for(timeout=10_000)
        assert "cluster.html" in first.get_attribute("href")
        assert (seen.asked, seen.complaints) == ([], [])


@pytest.mark.parametrize(("name", "scheme"), [*((name, "light") for name in KINDS), ("index", "dark")])
def test_the_site_is_accessible(chromium, site, name, scheme):
    with browser.opened(chromium, site / f"{name}.html", scheme) as seen:
        assert (
            seen.page.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
        )
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
