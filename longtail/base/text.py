"""How numbers, units, notes and Markdown are written, on every page the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

DAY = 86_400
TIMES = ((365.25 * DAY, "years"), (30.44 * DAY, "months"), (DAY, "days"), (3600, "h"), (60, "min"), (1, "s"))
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))


def number(value: float) -> str:
    """Three significant digits, whole from 100 on."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def with_unit(value: float, units: Sequence[tuple[float, str]]) -> str:
    """With the largest of TIMES (value in seconds) or SIZES (in bytes) that is not above it: 95 -> 1.58 min."""
    unit, name = next((pair for pair in units if value >= pair[0]), units[-1])
    return f"{number(value / unit)} {name}"


def signed(value: float | None, digits: int) -> str:
    """A difference with its sign, none where it rounds to 0; nothing for None."""
    if value is None:
        return ""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def points(value: float | None) -> str:
    """`signed`, to the hundredth, below 1 to the thousandth where it has one. Of the value to 4 decimals, as files
    have it: a page that computes a number and one that reads it say the same."""
    value = None if value is None else round(value, 4)
    exact = value is None or abs(value) >= 1 or abs(round(value, 2) - value) < 1e-9
    return signed(value, 2 if exact else 3)


def note(line: str) -> None:
    """How a stage says on its standard output what it left out, or what is to be known of what it made."""
    print(f"note: {' '.join(line.split())}")


MARKUP = re.compile(r"[\\`*<>\[\]$~]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)")


def plain(value: object) -> str:
    """A title, a label or another text that is no Markdown, so that every Markdown reader shows it as it is: on one
    line, what would be read as markup as a character reference."""
    named = {"<": "&lt;", ">": "&gt;"}
    return MARKUP.sub(lambda found: named.get(found[0], f"&#{ord(found[0])};"), " ".join(str(value).split("\n")))


def cell(value: object) -> str:
    """What may stand in one cell of a Markdown table."""
    return " ".join(str(value).split("\n")).replace("|", "\\|")


def pipe_table(header: Sequence[str], align: str, rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table. align: l or r for each column. rows: cells, in Markdown, without line breaks."""
    lines = [[cell(c) for c in row] for row in (header, *rows)]
    made = ["| " + " | ".join(line) + " |" for line in lines]
    made.insert(1, "|" + "|".join({"l": ":--", "r": "--:"}[letter] for letter in align) + "|")
    return made
