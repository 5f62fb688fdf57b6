"""README's paths are links, and links of the pages that people read first lead to what is in the repository."""

from __future__ import annotations

import re

import pytest

from tests.helpers.root import ROOT

PAGES = ("README.md", "CHANGELOG.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("papers/*/README.md")))
MADE = re.compile(
    r"^<!-- (?!end)\S+ -->$.*?^<!-- end -->$|^```.*?^```$", re.MULTILINE | re.DOTALL
)  # generated, or code


def anchors(text: str) -> set[str]:
    """Of the headings, as hosts of code make them, and those that a page states."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return set(re.findall(r'<a id="([^"]+)">', text)) | {
        re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads
    }


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_what_is_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        place = (ROOT / name).parent / path if path else ROOT / name
        assert place.exists(), target
        assert not anchor or anchor in anchors(place.read_text(encoding="utf-8")), target


def test_paths_in_the_readme_are_links():
    """A path in code type that names a file or folder of the repository, outside of tables that are generated."""
    text = MADE.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    bare = re.findall(r"(?<!\[)`([\w./-]*[/.][\w./-]+)`(?!\])", text)
    assert [path for path in bare if (ROOT / path).exists() and path not in ("reports/", "papers/", ".venv")] == []
