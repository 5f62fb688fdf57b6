from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.base import csv_file
from longtail.base.errors import UserError
from tests.helpers.properties import FEW, LINE


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("csv") / "t.csv"


def told(path: Path, *arguments) -> str:
    with pytest.raises(UserError) as error:
        csv_file.read(path, *arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@FEW
@given(
    header=st.lists(LINE, min_size=1, max_size=4, unique=True),
    rows=st.lists(st.lists(LINE, min_size=4, max_size=4), max_size=4),
    mark=st.sampled_from(["utf-8", "utf-8-sig"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_a_writer_wrote_is_read_back(path, header, rows, mark, end):
    """Python's own writer quotes commas and quotation marks; a first value that is empty stands in quotes."""
    rows = [row[: len(header)] for row in rows]
    with open(path, "w", encoding=mark, newline="") as file:
        csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    assert csv_file.read(path, header) == [dict(zip(header, row, strict=True)) for row in rows]


@FEW
@given(content=st.binary(max_size=80) | st.text(st.sampled_from('a,";\n\r\t\ufeff\0'), max_size=40).map(str.encode))
def test_any_bytes_are_rows_of_the_header_or_one_line(path, content):
    path.write_bytes(content)
    try:
        rows = csv_file.read(path, ("a",))
    except UserError as error:
        assert "\n" not in str(error) and str(error).startswith(str(path))
        return
    lines = [line for line in content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n") if line]
    assert len(rows) == len(lines) - 1 and all(list(row) == list(rows[0]) for row in rows)  # no line is swallowed


def test_lines_are_counted_with_the_empty_ones(path):
    path.write_text("a,b\n\n1,2\n\n\n3,4\n")
    assert list(csv_file.numbered(path)) == [(3, {"a": "1", "b": "2"}), (6, {"a": "3", "b": "4"})]
    path.write_text("a,b\n\n1,2\n3\n")
    assert told(path) == f"{path}: line 4: 1 value for 2 columns (a, b)"


def test_every_message_says_what_to_do(path):
    path.write_text("a,b\n")
    expected = f"{path}: no column 'c' in columns a, b; expected a,c or a,c,d; make it again"
    with pytest.raises(UserError, match=expected):
        list(csv_file.numbered(path, ("a", "c"), "make it again", optional=("d",)))
    assert told(path.with_name("x"), (), "make it") == f"{path.with_name('x')}: no such file; make it"
    path.write_text('a,b\n1,"2\n3,4\n')
    assert told(path, (), "make it") == f"{path}: line 2: {csv_file.OPEN}; make it"
    path.write_text("a\n" + "x" * 140_000 + "\n")
    assert told(path) == f"{path}: line 2: a value of more than 131072 letters"
