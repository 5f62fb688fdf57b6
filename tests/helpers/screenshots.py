"""The pictures of docs/report.md: the main views of the pages in reports/, taken in Chromium. `make screenshots`."""

from __future__ import annotations

import io

from PIL import Image

from tests.helpers import browser
from tests.helpers.root import ROOT

RUN = "pages/digits/digits-deit_lt.html"
VIEWS = {  # {picture: (page under reports/, place in it, width, height, light or dark)}
    "index": ("index.html", "", 1280, 1180, "light"),
    "claims-dark": ("index.html", "#claims", 1280, 900, "dark"),
    "tables": ("index.html", "#deit-lt-item-table-s3", 1280, 1100, "light"),
    "run": (RUN, "", 1280, 1500, "light"),
    "experts": (RUN, "#fusion", 1280, 900, "light"),
    "deuteranopia": ("index.html", "#deit-lt-item-fig-s5", 1280, 560, "light"),
    "phone": ("index.html", "", 390, 844, "light"),
}


def main() -> None:
    folder = ROOT / "docs/screenshots"
    folder.mkdir(exist_ok=True)
    with browser.up() as chromium:
        for name, (page, place, width, height, scheme) in VIEWS.items():
            seen = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            if name == "deuteranopia":
                devtools = seen.context.new_cdp_session(seen)
                devtools.send("Emulation.setEmulatedVisionDeficiency", {"type": name})
            seen.goto((ROOT / "reports" / page).as_uri() + place)
            if place and not seen.locator(place).count():
                raise SystemExit(f"reports/{page}: nothing is called {place}")
            picture = Image.open(io.BytesIO(seen.screenshot())).convert("RGB").quantize(64)
            picture.save(folder / f"{name}.png", optimize=True)
            print(f"docs/screenshots/{name}.png")
            seen.close()


if __name__ == "__main__":
    main()
