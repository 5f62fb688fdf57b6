"""Lists, tables and json files: what is written by the rules is read as it is, whatever else is one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.base.errors import UserError
from longtail.data.list_formats import Listing, name_problem, read_list
from tests.helpers.properties import FEW, LINE, VALUES
from tests.stages.bad_inputs.rows import coco

PATH = LINE.map(lambda text: f"d/{text.strip()}.png").filter(lambda path: ".." not in path.split("/"))
LINES = st.lists(st.tuples(PATH, st.integers(0, 10**6)), min_size=1, max_size=5)
NOISE = st.binary(max_size=60) | st.text(st.sampled_from('a/. \\1-",\n\0{}[]:'), max_size=40).map(str.encode)
KEYS = [("images", "id"), ("images", "file_name"), ("annotations", "image_id"), ("annotations", "category_id")]
KEYS += [("categories", "id"), ("categories", "name")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lists")


def read(path: Path, content: bytes | str, source: str, encoding: str = "utf-8") -> Listing:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return read_list(path, source)


def pairs(listing: Listing) -> list[tuple[str, int]]:
    return list(zip([file.decode() for file in listing.files.tolist()], listing.labels.tolist(), strict=True))


@FEW
@given(lines=LINES, end=st.sampled_from(["\n", "\r\n"]), mark=st.sampled_from(["utf-8", "utf-8-sig"]))
def test_a_text_list_is_read_as_it_is(folder, lines, end, mark):
    """Blanks within a path are part of it, also those that are no ASCII."""
    content = "".join(f"{file} {label}{end}" for file, label in lines)
    assert pairs(read(folder / "l.txt", content, "list", mark)) == lines


@FEW
@given(lines=LINES, name=LINE)
def test_a_table_is_read_as_it_is(folder, lines, name):
    path = folder / "t.csv"
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        rows = [(label, file_, f"{name}{label}") for file_, label in lines]
        csv.writer(file).writerows([("label", "path", "class"), *rows])
    found = read_list(path, "csv")
    assert pairs(found) == lines and found.names == {label: f"{name}{label}" for _, label in lines}


@FEW
@given(files=st.lists(PATH, min_size=1, max_size=5), data=st.data())
def test_a_json_is_read_as_it_is(folder, files, data):
    """Annotations in another order, some of images that are not listed, some twice: counted in notes."""
    lines = [(file, data.draw(st.integers(0, 2))) for file in files]
    content = coco(lines)
    extra = [{"image_id": 900 + i, "category_id": 1} for i in range(data.draw(st.integers(0, 2)))]
    again = data.draw(st.lists(st.sampled_from(content["annotations"]), max_size=2))
    content["annotations"] = data.draw(st.permutations([*content["annotations"], *extra, *again]))
    found = read(folder / "a.json", json.dumps(content), "inat")
    assert pairs(found) == lines and found.names == {0: "ant", 1: "bee", 2: "cat"}
    notes = [f"left out: {len(extra)} annotations of images that it does not list"] * bool(extra)
    notes += [f"taken once: {len(again)} annotations that say an image's label again"] * bool(again)
    assert found.notes == tuple(f"{folder / 'a.json'}: {note}" for note in notes)


@FEW
@given(content=NOISE, source=st.sampled_from(["list", "csv", "inat"]))
def test_any_bytes_are_a_list_or_one_line(folder, content, source):
    try:
        found = read(folder / "x", content, source)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert len(found.files) == len(found.labels) >= 1 and found.labels.min() >= 0


@settings(FEW, max_examples=15)
@given(images=VALUES, annotations=VALUES, categories=VALUES)
def test_any_json_is_a_list_or_one_line(folder, images, annotations, categories):
    content = {"images": images, "annotations": annotations, "categories": categories}
    with pytest.raises(UserError) as error:
        read(folder / "y", json.dumps(content), "inat")
    assert "\n" not in str(error.value)


@FEW
@given(change=VALUES, place=st.sampled_from(KEYS))
def test_any_value_in_a_record_is_read_or_one_line(folder, change, place):
    section, key = place
    content = coco([("d/a.png", 0), ("d/b.png", 1)])
    content[section][0][key] = change
    try:
        found = read(folder / "z", json.dumps(content), "inat")
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert pairs(found)[1] == ("d/b.png", 1)


@FEW
@given(name=st.text(max_size=6))
def test_a_name_is_taken_exactly_where_files_and_figures_can_hold_it(name):
    fine = name.strip() != "" and name.isprintable() is True
    if fine:
        assert name_problem(name) == ""
    if any(ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF for c in name):
        assert name_problem(name) and "\n" not in name_problem(name)


def test_columns_that_play_no_part_are_named(folder):
    found = read(folder / "c.csv", "path,size,label,by\na,1,0,me\n", "csv")
    assert found.notes == (f"{folder / 'c.csv'}: not read: columns by, size",) and found.names == {}
