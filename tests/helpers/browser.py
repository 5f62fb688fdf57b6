"""A real Chromium for tests: pages from disk, seen as a reader sees them, with everything they ask for and complain of.

    with browser.up() as chromium, browser.opened(chromium, Path("reports/index.html")) as seen:
        assert seen.complaints == [] and seen.asked == []

The machine's own Chromium, driven by Playwright, which downloads none. No request leaves the machine: what is neither
a file nor inside the page is noted and refused.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCAL = ("file:", "data:", "about:", "blob:")
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}

# leaves one of those rows, items and folds that differ in nothing but text and links: axe looks at the colours of each
# element, which takes a minute where a page has thousands of cells
ONE_OF_A_KIND = """() => {
  const seen = new Set();
  for (const element of document.querySelectorAll('tr, li, dd, details, figure')) {
    const tags = element.outerHTML.replace(/>[^<]*/g, '>').replace(/ (?!class=|style=|fill=)[a-z-]+="[^"]*"/g, '');
    const kind = `${element.parentElement.closest('[class]')?.className} ${tags}`;
    if (seen.has(kind)) {
      if (element.previousElementSibling?.tagName === 'DT') element.previousElementSibling.remove();
      element.remove();
    }
    seen.add(kind);
  }
}"""


class Unavailable(Exception):
    """There is no Chromium here, or nothing to drive it with."""


@contextmanager
def up() -> Iterator:
    """A running headless Chromium (playwright.sync_api.Browser)."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as absent:
        raise Unavailable("playwright is not installed") from absent
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        raise Unavailable(f"none of {', '.join(NAMES)} on PATH")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=binary, args=[*FLAGS, *root])
        try:
            yield chromium
        finally:
            chromium.close()


def up_or_skip() -> Iterator:
    """For a fixture of module scope: Playwright keeps an event loop running, which no other test file should meet."""
    try:
        with up() as chromium:
            yield chromium
    except Unavailable as reason:
        (pytest.fail if os.environ.get("LONGTAIL_NEED_CHROMIUM") else pytest.skip)(f"no browser to test with: {reason}")


@dataclass
class Seen:
    """An open page (playwright.sync_api.Page), with what it asked of a network and what it complained of."""

    page: object
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def opened(chromium, path: Path, scheme: str = "light", script: bool = True) -> Iterator[Seen]:
    """The page at path, in a window of its own with nothing remembered; script=False: with JavaScript off."""
    context = chromium.new_context(
        viewport=DESKTOP, color_scheme=scheme, java_script_enabled=script, reduced_motion="reduce"
    )
    seen = Seen(context.new_page())

    def judge(route) -> None:
        if route.request.url.startswith(LOCAL):
            route.continue_()
        else:
            seen.asked.append(route.request.url)
            route.abort()

    context.route("**/*", judge)
    seen.page.on("console", lambda said: said.type in ("error", "warning") and seen.complaints.append(said.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("requestfailed", lambda request: seen.complaints.append(f"not loaded: {request.url}"))
    try:
        seen.page.goto(path.absolute().as_uri())
        yield seen
    finally:
        context.close()


def findings(page) -> list[str]:
    """What axe-core finds serious or critical, as 'rule: first places', on a page of which it leaves one row, item and
    figure of each kind."""
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate(ONE_OF_A_KIND)
    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    return [
        f"{rule['id']}: " + "; ".join(str(node["target"][0]) for node in rule["nodes"][:5])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
