"""The reviewers' pages as Markdown: facts of longtail/report/review/facts.py put into templates/review_*.md.j2; and
what is left to run as a table, which the first screens read."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from longtail.base import text
from longtail.report.machines import cost
from longtail.report.review.facts import Facts

PAGES = ("reproducibility", "neurips_checklist", "reforms", "acm_badges", "cost")
LEFT, LEFT_COLUMNS = "left.csv", ("study", "runs", "flop", "disk")  # trainings, operations and bytes, seeds included


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
    environment.filters |= {
        "cell": lambda value: text.cell(text.plain(" ".join(value.split()))),  # whatever stands in it
        "size": lambda count: text.with_unit(count, text.SIZES),
        "duration": lambda hours: text.with_unit(3600 * hours, text.TIMES),
        "number": text.number,
        "signed": lambda of_ledger: text.points(float(of_ledger) if of_ledger else None),
    }
    values = {"cost": cost, "facts": facts, "words": facts.judgements, "assumed": facts.judgements.assumptions}
    made = {page: environment.get_template(f"review_{page}.md.j2").render(values) for page in PAGES}
    texts = {f"{page}.md": re.sub(r"\n{3,}", "\n\n", words).strip() + "\n" for page, words in made.items()}
    return texts | {LEFT: left(facts)}


def left(facts: Facts) -> str:
    """CSV of what is left to run, a line a study."""
    rows = [(s.name, s.left.runs, f"{s.left.flop:.0f}", s.left.disk) for s in facts.studies if s.left]
    return "\n".join(",".join(map(str, row)) for row in [LEFT_COLUMNS, *rows]) + "\n"
