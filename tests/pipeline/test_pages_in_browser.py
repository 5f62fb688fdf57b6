"""The report's pages as a reader has them: opened from disk in a real browser, light and dark, on a phone, on paper,
without JavaScript, and sorted by keyboard.

Made afresh from made-up results: one page of each kind. Of those in git, which come from the same templates, the index
and the heaviest page of a run go through everything but the dark, and a page of a run of each kind and study is opened.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from PIL import Image, ImageColor

from longtail.base import yaml_file
from longtail.report.figures.night import NIGHT
from longtail.report.figures.svg import PAPER
from tests.helpers import browser, run_files
from tests.helpers.reporting import PUBLISHED, run_stage
from tests.helpers.root import ROOT

FRESH = ["index.html", "s.html", "pages/s/e.html", "pages/s/teachers/t.html"]
INDEX = ROOT / "reports/index.html"
OF_RUNS = sorted((ROOT / "reports/pages").glob("**/*.html"), key=lambda path: (path.stat().st_size, path))
IN_GIT = [path for path in (INDEX, *OF_RUNS[-1:]) if path.is_file()]
MEGABYTES = {"index.html": 4.0}  # of any other page: half a megabyte
ABOUT = yaml_file.read(ROOT / "docs/words.yaml")["papers"].values()
ELSEWHERE = {about[kind] for about in ABOUT for kind in ("arxiv", "code")}
ELSEWHERE |= set(
    re.findall(r"https://[^\s\",}]+", (ROOT / "docs/claims.yaml").read_text(encoding="utf-8"))
)  # others' runs
SORTED = 2, 2  # tables of a page, headings of each; each takes several clicks

NUMBER = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?")
OPEN_ALL = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
TEXT = "[...document.querySelectorAll('header, main')].map((e) => e.textContent).join(' ').replace(/\\s+/g, ' ')"
LINKS = "[...document.querySelectorAll('a[href]')].map((a) => a.getAttribute('href'))"
IDS = "[...document.querySelectorAll('[id]')].map((e) => e.id)"
COVERED = {"item": "Table 2", "shows": "accuracy", "full": [], "miniature": [{"study": "s", "table": "overall"}]}


def claim(name: str, paper: str, higher: str, lower: str, entry: str = "e") -> dict:
    """That one head is better on the tail than another."""
    sides = [{"entry": entry, "head": head, "metric": "tail"} for head in (higher, lower)]
    about = {"id": name, "paper": paper, "where": "Table S.3", "text": f"{higher} is better than {lower}, of {entry}."}
    return {**about, "full": [{"study": "s", "higher": sides[0], "lower": sides[1], "note": ""}]}


CLAIMS = [
    claim("dist-on-tail", "DeiT-LT", "dist", "cls"),
    claim("cls-on-tail", "LiVT", "cls", "dist"),
    {**claim("avg-on-tail", "LiVT", "avg", "cls"), "miniature": [claim("x", "LiVT", "avg", "dist")["full"][0]]},
    claim("never", "CBD", "dist", "cls", entry="n"),
]
GROUND = "getComputedStyle(document.body).backgroundColor"
# of one table, in the order shown: what moves as a whole (row groups, or rows where there is one group), as text, and
# the cell that its row (of a group the one with data-key, else the first) shows below the heading, null where missing
ITEMS = """(table, at) => {
  const heading = table.tHead.rows[table.tHead.rows.length - 1].cells[at].getBoundingClientRect();
  const items = table.tBodies.length > 1 ? [...table.tBodies] : [...table.tBodies[0].rows];
  return items.map((item) => {
    const row = item.matches('tr') ? item : item.querySelector('tr[data-key]') ?? item.rows[0];
    const level = row.getBoundingClientRect();
    const [x, y] = [heading.x + heading.width / 2, level.y + level.height / 2];
    const below = [...item.querySelectorAll('th, td')].find((cell) => {
      const box = cell.getBoundingClientRect();
      return box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
    });
    const shown = below && !below.matches('.missing');
    return [item.textContent, shown ? (below.dataset.value ?? below.textContent).trim() : null];
  });
}"""
IN_ORDER = "(texts) => texts.every((t, i) => !i || texts[i - 1].localeCompare(t, 'en') <= 0)"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    """reports/ of a study with a student and a teacher that were run and a student that was not; of its figures those
    that metrics are enough for."""
    root = tmp_path_factory.mktemp("fresh")
    reports = run_files.write(root)
    (root / "coverage.yaml").write_text(yaml.safe_dump({"items": [COVERED]}))
    (root / "claims.yaml").write_text(yaml.safe_dump({"claims": CLAIMS}))
    given, metrics = ["--params", root / "params.yaml"], ["--metrics", reports / "metrics/s"]
    published, out = ["--published", PUBLISHED], reports / "tables/s"
    assert run_stage("tables", "s", *given, *metrics, *published, "--out", out) == 0
    for_print = ["--print", reports / "figures_print/s"]
    drawn, absent = ["--out", reports / "figures/s", *for_print], ["--analysis", reports / "analysis/s"]
    runs = ["--runs", reports / "runs/s"]
    assert run_stage("figures", "s", *given, *metrics, *runs, *absent, *published, *drawn) == 0
    shown = ["--figures", reports / "figures/s", *for_print, *absent]
    assert run_stage("report", "s", *given, *metrics, *shown, "--tables", out, "--out", reports / "s.html") == 0
    assert run_stage("run_pages", *given, "--reports", reports, "--out", reports / "pages") == 0
    words = ["--words", ROOT / "docs/words.yaml", "--judgements", ROOT / "docs/review.yaml"]
    sources = ["--coverage", root / "coverage.yaml", "--claims", root / "claims.yaml", *published, *words]
    compared = ["--reports", reports, "--out", reports / "compare.html"]
    assert run_stage("compare_page", *given, *compared) == 0 == run_stage("compare_page", *given, *compared, "--check")
    assert run_stage("index", *given, *sources, "--reports", reports, "--out", reports / "index.html") == 0
    (reports / "review").mkdir()
    linked = ("review/cost.md", "results.csv", "runs.csv", "claims.csv", "claims.md")
    linked += ("runs/s/e/predictions.npz", "runs/s/teachers/t/predictions.npz")
    for name in linked:  # from the pages; nothing here makes them
        (reports / name).touch()
    for name in ("LICENSE", "CITATION.cff", "docs", "papers"):  # of the repository, to which the index leads
        (root / name).symlink_to(ROOT / name)
    return reports


chromium = pytest.fixture(scope="module")(browser.up_or_skip)


@pytest.fixture(scope="module", params=[*FRESH, *IN_GIT], ids=lambda p: p if p in FRESH else str(p.relative_to(ROOT)))
def path(request) -> Path:
    return request.getfixturevalue("fresh") / request.param if request.param in FRESH else request.param


@pytest.fixture(scope="module")
def seen(chromium, path) -> Iterator[browser.Seen]:
    """The page, open, with all that folds unfolded."""
    with browser.opened(chromium, path) as seen:
        seen.page.evaluate(OPEN_ALL)
        yield seen


def test_it_is_light_enough(path):
    assert path.stat().st_size < 1e6 * MEGABYTES.get(path.name, 0.5)


def test_it_opens_in_silence_and_asks_for_nothing(seen):
    assert (seen.asked, seen.complaints) == ([], [])
    assert seen.page.title() and seen.page.locator("h1").count() == 1


def test_its_links_arrive(seen, path):
    links_arrive(seen, path)


def links_arrive(seen: browser.Seen, path: Path) -> None:
    """Within the page, and to files beside it, but for those that git leaves to be made; elsewhere, to papers, the
    authors' code and what others report of their runs alone."""
    ids = seen.page.evaluate(IDS)
    assert len(ids) == len(own := set(ids))
    for link in sorted(set(seen.page.evaluate(LINKS))):
        parts = urlsplit(link)
        if parts.scheme:
            assert link in ELSEWHERE
            continue
        target = path.parent / unquote(parts.path) if parts.path else path
        assert target.exists() or ignored(target), link
        if parts.fragment and target.exists():
            assert unquote(parts.fragment) in (own if target == path else ids_of(target)), link


@cache
def ids_of(path: Path) -> frozenset[str]:
    """Of a page that another one leads to, as written: dozens of links lead to one page."""
    return frozenset(re.findall('id="([^"]+)"', path.read_text()))


@cache
def ignored(target: Path) -> bool:
    return subprocess.run(["git", "check-ignore", "-q", target], cwd=ROOT).returncode == 0


def test_it_is_accessible(chromium, path):
    """axe-core, colours included: nothing serious or critical in any kind of row, item or figure."""
    if path in IN_GIT[1:]:
        pytest.skip("a page of a run made afresh goes through axe: a heavy one takes it a quarter of a minute")
    accessible(chromium, path, "light")


@pytest.mark.parametrize("name", FRESH)
def test_so_it_is_in_the_dark(chromium, fresh, name):
    accessible(chromium, fresh / name, "dark")


def accessible(chromium, path: Path, scheme: str) -> None:
    with browser.opened(chromium, path, scheme) as own:
        red, green, blue = map(int, re.findall(r"\d+", own.page.evaluate(GROUND))[:3])
        assert (red + green + blue > 3 * 128) == (scheme == "light")
        own.page.evaluate(OPEN_ALL)
        assert browser.findings(own.page) == []


def test_a_phone_scrolls_it_downwards_only(seen):
    fits_a_phone(seen)


def fits_a_phone(seen: browser.Seen) -> None:
    seen.page.set_viewport_size(browser.PHONE)
    wide = seen.page.evaluate("document.documentElement.scrollWidth")
    seen.page.set_viewport_size(browser.DESKTOP)
    assert wide <= browser.PHONE["width"]


def test_it_prints(seen):
    pdf = seen.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 1


def test_everything_is_there_without_javascript(chromium, seen, path):
    with browser.opened(chromium, path, script=False) as plain:
        assert plain.page.evaluate(TEXT) == seen.page.evaluate(TEXT) != ""
        assert (plain.asked, plain.complaints) == ([], [])


def test_its_tables_sort_by_click_and_by_key(seen):
    tables, headings = SORTED
    for table in seen.page.locator("table.sortable").all()[:tables]:
        cells = enumerate(table.locator("thead tr").last.locator("th, td").all())
        for at, heading in [(at, cell) for at, cell in cells if cell.inner_text().strip()][:headings]:
            sorts(seen.page, table, heading, at)


def sorts(page, table, heading, at: int) -> None:
    """Three times: by click, by Enter, by Space. The order turns each time, what belongs together stays together."""
    before = sorted(item for item, _ in table.evaluate(ITEMS, at))
    turned = []
    for activate in (heading.get_by_role("button").click, "Enter", "Space"):
        heading.get_by_role("button").press(activate) if isinstance(activate, str) else activate()
        turned.append(heading.get_attribute("aria-sort"))
        assert table.locator("[aria-sort]").count() == 1
        items = table.evaluate(ITEMS, at)
        assert sorted(item for item, _ in items) == before
        check_order(page, [text for _, text in items], turned[-1] == "descending")
    assert set(turned) == {"ascending", "descending"} and turned[0] == turned[2]


def check_order(page, texts: list[str | None], descending: bool) -> None:
    """Numbers by value, then words by the alphabet, each in the direction said; the empty last both ways."""
    shown = [text for text in texts if text and text != "–"]
    assert texts[: len(shown)] == shown
    numbers = [match[0] for match in map(NUMBER.match, shown) if match]
    assert [bool(NUMBER.match(text)) for text in shown] == sorted((bool(NUMBER.match(t)) for t in shown), reverse=True)
    values = [float(number.replace("−", "-").replace(",", "")) for number in numbers]
    assert values == sorted(values, reverse=descending)
    words = [text.lower() for text in shown[len(numbers) :]]
    assert page.evaluate(IN_ORDER, words[::-1] if descending else words)


def test_every_heading_of_the_ledger_sorts(chromium, fresh):
    with browser.opened(chromium, fresh / "index.html") as seen:
        seen.page.evaluate(OPEN_ALL)
        table = seen.page.locator("#claim-ledger table").first
        headings = table.locator("thead tr").last.locator("th").all()
        assert len(headings) == 11 and table.locator("tbody tr").count() == 3
        for at, heading in enumerate(headings):
            sorts(seen.page, table, heading, at)


SHOWN = "[...document.querySelectorAll('#claim-ledger tbody[id]')].filter((r) => r.checkVisibility()).map((r) => r.id)"


def test_claims_are_filtered_by_paper_verdict_and_run(chromium, fresh):
    """Two seeds: no verdict. The claim of the entry that was not run is folded away, and unfolds when asked for."""
    with browser.opened(chromium, fresh / "index.html") as seen:
        fields = {name: seen.page.locator(f"form.filter [name={name}]") for name in ("paper", "verdict", "run")}
        said = seen.page.locator("form.filter output")
        assert said.text_content() == "4 of 4 claims" and "claim-never" not in seen.page.evaluate(SHOWN)
        fields["paper"].select_option("LiVT")
        assert seen.page.evaluate(SHOWN) == ["claim-cls-on-tail", "claim-avg-on-tail"]
        assert said.text_content() == "2 of 4 claims"
        fields["run"].select_option("miniature")
        assert seen.page.evaluate(SHOWN) == ["claim-avg-on-tail"]
        fields["run"].select_option("none")
        assert seen.page.evaluate(SHOWN) == [] and said.text_content() == "0 of 4 claims"
        fields["paper"].select_option("")
        assert seen.page.evaluate(SHOWN) == ["claim-never"]
        fields["run"].select_option("s")
        fields["verdict"].select_option("two runs")
        assert len(seen.page.evaluate(SHOWN)) == 3
        fields["verdict"].select_option("not yet run")
        assert seen.page.evaluate(SHOWN) == []


def test_a_permalink_leads_to_its_claim_wherever_it_is_folded(chromium, fresh):
    with browser.opened(chromium, fresh / "index.html") as seen:
        links = seen.page.evaluate("[...document.querySelectorAll('a.anchor')].map((a) => a.getAttribute('href'))")
        assert {"#claims", "#tables", "#entries", "#cite", "#claim-dist-on-tail", "#claim-never"} <= set(links)
        assert not seen.page.locator("#claim-never").is_visible()
        seen.page.evaluate("location.hash = 'claim-never'")
        seen.page.wait_for_function("document.getElementById('claim-never').checkVisibility()")
        top = seen.page.locator("#claim-never").bounding_box()["y"]
        assert 0 <= top < browser.DESKTOP["height"]


def test_claims_are_cards_on_a_phone(chromium, fresh):
    """Claim, verdict and ours, each with its name, without scrolling aside; and axe has nothing to say."""
    with browser.opened(chromium, fresh / "index.html") as seen:
        seen.page.set_viewport_size(browser.PHONE)
        card = seen.page.locator("#claim-dist-on-tail")
        inside = [part.bounding_box() for part in (card, *card.locator("th, td:not(:empty)").all())]
        assert len(inside) > 4 and all(box["x"] >= 0 for box in inside)
        assert all(box["x"] + box["width"] <= browser.PHONE["width"] for box in inside)
        cells = card.locator("td:not(:empty)").all()
        named = [json.loads(cell.evaluate("(c) => getComputedStyle(c, '::before').content")) for cell in cells]
        assert named == ["Full recipe", "Full recipe", "ours, 95 % interval", "seeds"]
        assert "two runs" in cells[1].inner_text() and "points" in cells[2].inner_text()
        counts = seen.page.locator("table.summary tbody tr").first
        assert all(cell.bounding_box()["width"] > 300 for cell in counts.locator("td").all())
        assert not seen.page.locator("table.summary").evaluate(
            "(t) => t.parentNode.scrollWidth > t.parentNode.clientWidth"
        )
        assert browser.findings(seen.page) == []


def test_a_table_on_a_phone_has_printed_and_ours_below_one_another(chromium, fresh):
    """Of each method, without scrolling aside; a group of columns that has nothing for it is not there."""
    with browser.opened(chromium, fresh / "index.html") as seen:
        seen.page.set_viewport_size(browser.PHONE)
        seen.page.evaluate(OPEN_ALL)
        table = seen.page.locator("table.blocks").first
        assert table.evaluate("(t) => t.scrollWidth <= t.clientWidth && t.parentNode.scrollWidth <= t.clientWidth")
        shown = [cell for cell in table.locator("td[data-label]").all() if cell.is_visible()]
        named = [json.loads(cell.evaluate("(c) => getComputedStyle(c, '::before').content")) for cell in shown]
        assert set(named) == {"Ours, last epoch = best on test", "n"}
        places = [cell.bounding_box() for cell in shown]
        assert len({place["x"] for place in places}) == 1
        assert all(low["y"] > high["y"] for high, low in itertools.pairwise(places))
        assert all(cell.inner_text().strip() for cell in shown)


def test_the_first_column_stays_in_sight(chromium, fresh):
    with browser.opened(chromium, fresh / "index.html") as seen:
        seen.page.evaluate(OPEN_ALL)
        seen.page.set_viewport_size({"width": 700, "height": 900})
        region, first = seen.page.locator(".scroll").nth(1), seen.page.locator("#claim-dist-on-tail th")
        before = first.bounding_box()["x"]
        assert region.evaluate("(r) => { r.scrollLeft = 300; return r.scrollLeft; }") > 50
        assert abs(first.bounding_box()["x"] - before) < 2


ROWS = "(id) => [...document.querySelectorAll(`#${id} tbody tr`)].map((r) => [...r.cells].map((c) => c.textContent))"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_two_runs_are_compared(chromium, fresh, scheme):
    """A student and a teacher of which every setting differs but the epochs; another choice, kept in the address."""
    with browser.opened(chromium, fresh / "compare.html", scheme) as seen:
        results = {name: rest for name, *rest in seen.page.evaluate(ROWS, "table-results")}
        assert results["Seeds"] == ["2", "2"] and results["Seconds a seed"] == ["1,800", "1,800"]
        settings = {name: rest for name, *rest in seen.page.evaluate(ROWS, "table-settings")}
        assert settings["loss.alpha"] == ["0.5", "–"] and settings["arch"] == ["–", "resnet8"]
        assert settings["train.epochs"] == ["3", "–"] and "A: A student" in seen.page.inner_text("#table-results")
        lines = seen.page.locator("#drawn polyline")
        assert seen.page.locator("#drawn figure").count() == 3 and lines.count() == 6
        assert lines.nth(0).get_attribute("stroke-dasharray") is None and lines.nth(1).get_attribute("stroke-dasharray")
        assert browser.findings(seen.page) == []
        seen.page.locator("[name=b]").select_option("e")
        assert seen.page.evaluate(ROWS, "table-settings") == [] and seen.page.url.endswith("#s/e/e")
        seen.page.evaluate("document.querySelectorAll('option').forEach((o) => { o.text = 'a long name '.repeat(8); })")
        seen.page.set_viewport_size(browser.PHONE)
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= browser.PHONE["width"]
        seen.page.evaluate("location.hash = 's/t/e'")
        seen.page.wait_for_function("document.querySelector('[name=a]').value === 't'")
        fits_a_phone(seen)
        links_arrive(seen, fresh / "compare.html")
        assert (seen.asked, seen.complaints) == ([], [])


@pytest.mark.parametrize("name", FRESH[:2])
def test_there_are_tables_to_sort(chromium, fresh, name):
    with browser.opened(chromium, fresh / name) as seen:
        assert seen.page.locator("table.sortable").count() >= 1


SOURCE = "image => image.currentSrc"
LETTERS = """() => [...document.querySelectorAll('text')].map(
  (text) => parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b))"""


def test_a_figure_is_enlarged_by_click_and_by_key_and_is_dark_in_the_dark(chromium, fresh):
    """s.html has one image for both grounds, told apart by its pixels; the run's page draws in the page's own ink."""
    grounds = {}
    for scheme in ("light", "dark"):
        with browser.opened(chromium, fresh / "s.html", scheme) as seen:
            image = seen.page.locator("figure.plot img").first
            source, corner = image.evaluate(SOURCE), Image.open(io.BytesIO(image.screenshot())).convert("RGB")
            grounds[scheme] = corner.getpixel((4, 4))
            before, button = image.bounding_box()["width"], seen.page.locator("button.enlarge").first
            for activate in (button.click, lambda button=button: button.press("Enter")):
                activate()
                large = seen.page.locator("dialog[open] img")
                assert large.evaluate(SOURCE) == source and large.bounding_box()["width"] > 1.3 * before
                seen.page.keyboard.press("Escape")
                assert seen.page.locator("dialog[open]").count() == 0
            assert seen.complaints == []
    assert grounds == {"light": ImageColor.getrgb(PAPER), "dark": ImageColor.getrgb(NIGHT)}
    with browser.opened(chromium, fresh / "pages/s/e.html") as seen:
        seen.page.locator("button.enlarge").first.click()
        assert seen.page.locator("dialog[open] svg").count() == 1


def test_letters_of_a_figure_are_large_enough(chromium, fresh):
    """Its smallest letters, of 7.5 points, are at least 11 pixels high where it is shown as wide as it is."""
    for path in (fresh / "figures/s").glob("*.svg"):
        with browser.opened(chromium, path) as seen:
            sizes = seen.page.evaluate(LETTERS)
        assert sizes and min(sizes) >= 11, path


def test_the_other_pages_of_runs(chromium):
    smallest = {path.parent: path for path in OF_RUNS[:-1][::-1]}  # of students and of teachers, of each study
    for path in OF_RUNS[:-1]:
        assert path.stat().st_size < 0.5e6, path
    for path in smallest.values():
        with browser.opened(chromium, path) as seen:
            seen.page.evaluate(OPEN_ALL)
            assert (seen.asked, seen.complaints) == ([], []), path
            links_arrive(seen, path)
            fits_a_phone(seen)


FAULTY = """<!DOCTYPE html><html lang="en"><head><title>t</title></head><body style="background: white"><main><h1>t</h1>
<img src="https://example.org/x.png"><script>console.error("said"); absent();</script>
<ul><li>one</li><li>one</li><li style="color: #bbb">pale</li></ul></main></body></html>"""


def test_faults_are_seen(chromium, tmp_path):
    """What the tests above look for is found where it is."""
    (tmp_path / "faulty.html").write_text(FAULTY)
    with browser.opened(chromium, tmp_path / "faulty.html") as seen:
        assert seen.asked == ["https://example.org/x.png"]
        assert "said" in seen.complaints and any("absent is not defined" in said for said in seen.complaints)
        assert set(browser.findings(seen.page)) == {"image-alt: img", "color-contrast: li:nth-child(2)"}
        with pytest.raises(AssertionError):
            check_order(seen.page, ["10", "9"], descending=False)
        with pytest.raises(AssertionError):
            check_order(seen.page, ["", "1"], descending=True)
        with pytest.raises(AssertionError):
            check_order(seen.page, ["b", "a"], descending=False)
        check_order(seen.page, ["1,000 ± 2", "10", "−3", "b", "a", "–", "", None], descending=True)
