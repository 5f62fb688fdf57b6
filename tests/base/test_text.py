"""Numbers, units and Markdown tables."""

from __future__ import annotations

import html
import re

import markdown
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.base.text import DAY, SIZES, TIMES, note, number, pipe_table, plain, points, signed, with_unit
from tests.helpers.properties import FEW, LINE


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (99.44, "99.4"), (0.01234, "0.0123"), (0, "0")])
def test_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "units", "text"),
    [
        (0, TIMES, "0 s"),
        (59, TIMES, "59 s"),
        (95, TIMES, "1.58 min"),
        (7200, TIMES, "2 h"),
        (3 * DAY, TIMES, "3 days"),
        (61 * DAY, TIMES, "2 months"),
        (731 * DAY, TIMES, "2 years"),
        (400, SIZES, "400 B"),
        (1500, SIZES, "1.5 kB"),
        (2.5e9, SIZES, "2.5 GB"),
        (123e12, SIZES, "123 TB"),
    ],
)
def test_units(value, units, text):
    assert with_unit(value, units) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.66, "+1.7"), (-0.94, "−0.9"), (0.04, "0.0"), (-0.04, "0.0"), (None, ""), (10.0, "+10.0")]
)
def test_to_the_tenth(value, text):
    assert signed(value, 1) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (5.0, "+5.00"), (-12.345, "−12.35"), (0.5, "+0.50"), (-0.0334, "−0.033"), (0, "0.00")],
)
def test_points(value, text):
    assert points(value) == text


@pytest.mark.parametrize("value", [5.61497, 5.6149999, -0.03335, 0.99996, 12.344996])
def test_a_computed_number_reads_as_the_one_in_a_file(value):
    """reports/claims.csv has four decimals; the index computes, the reviewers' pages read."""
    assert points(value) == points(float(f"{value:.4f}"))


def test_a_table_escapes_what_would_end_a_cell():
    assert pipe_table(("a", "b|c"), "lr", [("x", 1), ("p|q", "")]) == [
        "| a | b\\|c |",
        "|:--|--:|",
        "| x | 1 |",
        "| p\\|q |  |",
    ]


@FEW
@given(text=LINE | st.text(st.sampled_from("ab \\`*_<>&;[]()$~|#!{}\"'^"), max_size=10))
def test_markdown_shows_a_plain_text_as_it_is(text):
    """By Python-Markdown, the reader of the site; within a line and within bold letters, as captions stand."""
    for around in ("x {} x", "**x {} x**"):
        page = markdown.markdown(around.format(plain(text)))
        shown = html.unescape(re.sub(r"</?(p|strong)>", "", page))
        assert shown == f"x {text} x", page


def test_a_plain_text_of_our_own_stays_readable():
    for text in ("+ SAM teacher = DeiT-LT", "ldam_drw_sam & R&D (ρ = 100), 5 %", "a – b's “c”"):
        assert plain(text) == text
    assert plain("$5 & $10_") == "&#36;5 & &#36;10&#95;" and plain("a\nb") == "a b"
    assert pipe_table(["a\nb|c"], "l", [])[0] == "| a b\\|c |"


def test_a_note_is_one_line(capsys):
    note("a\nb")
    assert capsys.readouterr().out == "note: a b\n"
