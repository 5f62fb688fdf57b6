"""The one reader of csv tables: UTF-8 with or without a byte order mark, a record on each line, nothing left out.

By itself Python's reader takes an open quotation mark to be closed anywhere below, so that the lines between are one
value, and lets rows be shorter or longer than the header.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from longtail.base.errors import UserError
from longtail.base.what_file import really

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read(path: str | Path, columns: Sequence[str] = (), remedy: str = "") -> list[dict[str, str]]:
    """The rows of a table, {column: value}, all texts; columns: those that it must have. Raises UserError as `numbered`
    does."""
    return [row for _, row in numbered(path, columns, remedy)]


def numbered(
    path: str | Path, columns: Sequence[str] = (), remedy: str = "", optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, {column: value}) of each row; empty lines are passed over. remedy: what a reader of the message should do;
    optional: columns that a message names beside those that are needed.

    Raises UserError where the file is missing, no UTF-8, lacks a column or has one twice, where a row has more or fewer
    values than the header, and where a quotation mark is not closed on its line.
    """
    also = remedy and f"; {remedy}"
    try:
        lines = text_lines(path)
        header = next((values for _, values in _records(lines[:1], path)), [])
        _check_header(header, columns, optional, path)
        for line, values in _records(lines[1:], path, 2):
            if len(values) != len(header):
                raise UserError(
                    f"{path}: line {line}: {len(values)} value{'s' * (len(values) != 1)} for {len(header)} columns"
                    f" ({', '.join(header)})"
                )
            yield line, dict(zip(header, values, strict=True))
    except UserError as error:
        raise UserError(f"{error}{also}") from None


def text_lines(path: str | Path) -> list[str]:
    """The lines of a text file without their ends, which may be \\n, \\r\\n or \\r. Raises UserError where the file is
    missing, no UTF-8, or something else than text."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # a byte order mark is no part of the text
            lines = file.read().split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        cure = really(path) or "if it is Latin-1: iconv -f latin1 -t utf-8"
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); {cure}") from None
    if lines[0].strip() and (found := really(path)):
        raise UserError(f"{path}: {found}")
    return lines[:-1] if lines[-1] == "" else lines


def _records(lines: list[str], path: str | Path, first: int = 1) -> Iterator[tuple[int, list[str]]]:
    """A line at a time: a value that goes on in the next line is an open quotation mark."""
    reader, number = csv.reader(iter(lines), strict=True), first - 1
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}: line {number + 1}: {_told(lines[number + 1 - first], error)}") from None
        if values is None:
            return
        if first - 1 + reader.line_num != number + 1:
            raise UserError(f"{path}: line {number + 1}: {OPEN}")
        number += 1
        if values:
            yield number, values


OPEN = "a quotation mark that is not closed on its line"


def _told(line: str, error: csv.Error) -> str:
    """What is wrong with a line by itself."""
    try:
        list(csv.reader([line], strict=True))
    except csv.Error as alone:
        if "unexpected end of data" in str(alone):
            return OPEN
        if "field larger" in str(alone):
            return f"a value of more than {csv.field_size_limit()} letters"
        return f"{' '.join(str(alone).split())}; write a quotation mark within a value twice"
    return OPEN if "field larger" in str(error) else " ".join(str(error).split())


def _check_header(header: list[str], columns: Sequence[str], optional: Sequence[str], path: str | Path) -> None:
    if twice := [name for name, times in Counter(header).items() if times > 1]:
        raise UserError(f"{path}: column '{twice[0]}' stands twice; keep one")
    if missing := [name for name in columns if name not in header]:
        also = f" or {','.join([*columns, *optional])}" if optional else ""
        told = f"no column '{missing[0]}' in columns {', '.join(header) or 'none'}; expected {','.join(columns)}{also}"
        other = next((s for s in SEPARATORS if len(header) == 1 and s in header[0]), None)
        like = next((f"; '{h}' is not '{missing[0]}'" for h in header if h.strip().lower() == missing[0]), "")
        raise UserError(f"{path}: {told}{f'; separated by {SEPARATORS[other]}, not commas' if other else like}")
