"""Badges of the README as SVG files of this repository: nothing is asked of a badge service."""

from __future__ import annotations

from collections import Counter
from html import escape
from pathlib import Path

from longtail.base import csv_file
from longtail.base.errors import UserError
from longtail.report.claims.rules import COUNTED
from longtail.report.review.shares import Share

LETTER, HEIGHT = 6.0, 20  # pixels; the text is set to the width it is given, whatever the font
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" aria-label="{all}">
<title>{all}</title>
<rect width="{width}" height="{height}" rx="3" fill="#0b5cad"/>
<path d="M3 0h{cut}v{height}H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3z" fill="#44494f"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="6" y="14" textLength="{left}">{label}</text>
<text x="{start}" y="14" textLength="{right}">{message}</text>
</g>
</svg>
"""


def badges(shares: dict[str, Share], claims: Path) -> dict[str, tuple[str, str]]:
    """{name: (label, message)}: of each paper what of its tables and figures was run; of the claims, where their ledger
    (reports/claims.csv) is there."""
    found = {paper.lower().replace("-", "_"): (paper, str(share)) for paper, share in shares.items()}
    if claims.is_file():
        found["claims"] = ("claims, full recipe", verdicts(claims))
    return found


def verdicts(path: Path) -> str:
    """How many claims hold, and so on, by the column `overall` of the ledger: one verdict a claim (column `id`).

    Raises UserError for a ledger without these columns or with another verdict.
    """
    rows = csv_file.read(path, ("id", "overall"), "run stages/claims.py again")
    counts = Counter({row["id"]: row["overall"] for row in rows}.values())
    unknown = sorted(map(str, counts.keys() - COUNTED.keys()))
    if unknown:
        raise UserError(f"{path}: verdict '{unknown[0]}', expected {', '.join(COUNTED)}; run stages/claims.py again")
    told = [f"{counts[verdict]} {text}" for verdict, text in COUNTED.items() if counts[verdict]]
    return ", ".join(told) or "none"


def svg(label: str, message: str) -> str:
    """A badge: label on grey, message on blue."""
    left, right = (round(LETTER * len(text)) for text in (label, message))
    width = left + right + 24
    texts = {"label": escape(label), "message": escape(message), "all": escape(f"{label}: {message}")}
    sizes = {"width": width, "height": HEIGHT, "left": left, "right": right, "start": left + 18, "cut": left + 9}
    return SVG.format(**texts, **sizes)


def markdown(found: dict[str, tuple[str, str]], folder: str) -> str:
    """An image for each, with its text; folder: of the SVG files, from the README."""
    return "\n".join(f"![{label}: {message}]({folder}/{name}.svg)" for name, (label, message) in found.items()) + "\n"
