"""The pictures of docs/report.md: the main views of the pages in reports/, taken in Chromium. `make screenshots`.

A study's own page is no file of git; it is made anew, of files that are.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.helpers import browser
from tests.helpers.root import ROOT

INDEX, COMPARE, RUN, STUDY = "index.html", "compare.html", "pages/digits/digits-deit_lt.html", "digits"
PHONE = (browser.PHONE["width"], browser.PHONE["height"])
LARGEST = 200_000  # bytes of a picture


@dataclass(frozen=True)
class View:
    """A page under reports/, or the study of that name; where in it: the id of an element, or for compare.html which
    runs; its size in CSS pixels; {field of the page's form: choice}."""

    page: str
    place: str = ""
    size: tuple[int, int] = (1280, 1100)
    scheme: str = "light"
    chosen: tuple[tuple[str, str], ...] = ()


VIEWS = {
    "index": View(INDEX, size=(1280, 1180)),
    "claims": View(INDEX, "claims", chosen=(("paper", "DeiT-LT"), ("verdict", "holds"))),
    "claims-dark": View(INDEX, "claims", (1280, 900), "dark"),
    "tables": View(INDEX, "deit-lt-item-table-s3"),
    "study-dark": View(STUDY, "figures", (1280, 1250), "dark"),
    "run": View(RUN, size=(1280, 1500)),
    "experts": View(RUN, "fusion", (1280, 900)),
    "compare": View(COMPARE, "digits/digits-deit_lt/digits-vit", (1280, 1460)),
    "deuteranopia": View(INDEX, "deit-lt-item-fig-s5", (1280, 600)),
    "phone": View(INDEX, size=PHONE),
    "phone-cards": View(INDEX, "claim-ledger", PHONE),
    "phone-table": View(INDEX, "deit-lt-item-table-s3", (PHONE[0], 1500)),
}


def study_page(folder: Path) -> Path:
    """The page of STUDY, in that folder."""
    out, reports = folder / f"{STUDY}.html", ROOT / "reports"
    command = [sys.executable, "stages/report.py", STUDY, "--print", reports / "figures_print" / STUDY, "--out", out]
    for name in ("metrics", "tables", "figures", "analysis"):
        command += [f"--{name}", reports / name / STUDY]
    subprocess.run(command, cwd=ROOT, check=True)
    return out


def taken(chromium, view: View, name: str, page: Path) -> bytes:
    """The picture as PNG, in 64 colours. Raises SystemExit where the page lacks the place or the file is too large."""
    width, height = view.size
    seen = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=view.scheme)
    if name == "deuteranopia":
        devtools = seen.context.new_cdp_session(seen)
        devtools.send("Emulation.setEmulatedVisionDeficiency", {"type": name})
    seen.goto(page.as_uri() + (f"#{view.place}" if view.place else ""))
    if view.place and view.page != COMPARE and not seen.locator(f"[id='{view.place}']").count():
        raise SystemExit(f"{view.page}: nothing is called {view.place}")
    for field, choice in view.chosen:
        seen.locator(f"form.filter [name='{field}']").select_option(choice)
    made = io.BytesIO()
    Image.open(io.BytesIO(seen.screenshot())).convert("RGB").quantize(64).save(made, "PNG", optimize=True)
    seen.close()
    if made.tell() > LARGEST:
        raise SystemExit(f"{name}: {made.tell()} bytes; at most {LARGEST} for a picture in git")
    return made.getvalue()


def main() -> None:
    folder = ROOT / "docs/screenshots"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, browser.up() as chromium:
        own = study_page(Path(temporary))
        for name, view in VIEWS.items():
            page = own if view.page == STUDY else ROOT / "reports" / view.page
            (folder / f"{name}.png").write_bytes(taken(chromium, view, name, page))
            print(f"docs/screenshots/{name}.png")


if __name__ == "__main__":
    main()
