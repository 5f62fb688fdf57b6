"""The reviewers' pages as Markdown: facts of longtail/report/review/facts.py put into templates/review_*.md.j2."""

from __future__ import annotations

import re
from html import escape

from jinja2 import Environment, PackageLoader, StrictUndefined

from longtail.report.machines import cost
from longtail.report.review.facts import Facts

PAGES = ("reproducibility", "neurips_checklist", "acm_badges", "cost")
UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def pages(facts: Facts) -> dict[str, str]:
    """{file name: text}."""
    environment = Environment(
        loader=PackageLoader("longtail.report", "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown; what could break a table is put right by the filter `cell`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "size": size, "duration": duration, "number": number, "signed": signed}
    values = {"cost": cost, "facts": facts, "words": facts.judgements, "assumed": facts.judgements.assumptions}
    made = {page: environment.get_template(f"review_{page}.md.j2").render(values) for page in PAGES}
    return {f"{page}.md": re.sub(r"\n{3,}", "\n\n", text).strip() + "\n" for page, text in made.items()}


def cell(text: str) -> str:
    """As one cell of a table, whatever stands in it."""
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def size(count: float) -> str:
    unit, name = next(((u, n) for u, n in UNITS if count >= u), (1, "B"))
    return f"{number(count / unit)} {name}"


def duration(hours: float) -> str:
    """Hours as hours, minutes, or days of 24."""
    if hours < 1:
        return f"{number(60 * hours)} min"
    return f"{number(hours)} h" if hours < 100 else f"{number(hours / 24)} days"


def number(value: float) -> str:
    """Three significant digits, whole above 100."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def signed(text: str) -> str:
    """A number of the ledger with its sign, to two decimals, below 1 to three; nothing for none."""
    return f"{float(text):+.{2 if abs(float(text)) >= 1 else 3}f}".replace("-", "−") if text else ""
