"""Pages read back: tables as text, ids, links, what they would load. For the tests of everything that writes HTML."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "hr", "source"}


class Page(HTMLParser):
    """tables: {aria-label of its region: [[text of each cell of a row]]}; a span counts once, where it begins."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.stack, self.ids, self.links, self.sources, self.meta = [], [], [], [], {}
        self.region, self.cell, self.text = "", None, []
        self.feed(text)
        assert not self.stack, f"never closed: {self.stack}"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.sources += [attrs[k] for k in ("src", "data", "poster", "srcset", "xlink:href") if k in attrs]
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if tag == "a" else []
        if tag == "meta" and "name" in attrs:
            self.meta[attrs["name"]] = attrs["content"]
        if attrs.get("role") == "region":
            self.region = attrs["aria-label"]
            assert self.region not in self.tables, f"two regions are called {self.region!r}"
            self.tables[self.region] = []
        if tag == "tr":
            self.tables[self.region].append([])
        if tag in ("td", "th"):
            self.tables[self.region][-1].append("")
            self.cell = self.tables[self.region][-1]
        if tag == "br" and self.cell is not None:
            self.cell[-1] += " "
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag
        if tag in ("td", "th"):
            self.cell[-1] = " ".join(self.cell[-1].split())
            self.cell = None

    def handle_data(self, data):
        self.text.append(data)
        if self.cell is not None:
            self.cell[-1] += data

    def row(self, table: str, first: str) -> list[str]:
        """The row of a table that begins with that cell."""
        return next(row for row in self.tables[table] if row and row[0] == first)

    def lead_nowhere(self) -> set[str]:
        """Links within the page whose target is not in it."""
        return {link for link in self.links if link.startswith("#") and link[1:] not in self.ids}
