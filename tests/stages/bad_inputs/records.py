"""Bad json files as iNaturalist and COCO have them."""

from __future__ import annotations

from tests.stages.bad_inputs.lists import LFS, PAGE
from tests.stages.bad_inputs.rows import Row, Spoil, content, encoded, record, text


def more(section: str, **values: object) -> Spoil:
    """A record more."""
    return record(lambda value: value[section].append(values))


def first(section: str, **values: object) -> Spoil:
    """The first record with other values."""
    return record(lambda value: value[section][0].update(values))


def lacking(*path: str) -> Spoil:
    def take(value: dict) -> None:
        del (value if len(path) == 1 else value[path[0]][0])[path[-1]]

    return record(take)


NOT_ITS = "no annotations as iNaturalist writes them"
ROWS = [
    Row("A", "a web page", "inat", content(PAGE), "train.json: a web page was saved in its place"),
    Row("A", "a pointer", "inat", content(LFS), "train.json: a Git LFS pointer, not the file itself: run git lfs pull"),
    Row("A", "cut short", "inat", text(lambda t: t[:-40]), "train.json: cut short or no json"),
    Row("A", "nothing", "inat", content(""), "train.json: cut short or no json"),
    Row("A", "nested", "inat", content("[" * 100_000), "train.json: no such list, nested too deeply"),
    Row("A", "a list", "inat", content("[1, 2]"), NOT_ITS),
    Row("A", "a number", "inat", content("3"), NOT_ITS),
    Row("A", "lists of numbers", "inat", content('{"images": [1], "annotations": [], "categories": []}'), NOT_ITS),
    Row(
        "B",
        "two labels",
        "inat",
        more("annotations", image_id=0, category_id=2),
        "image 0 has 2 annotations (labels 0 and 2); an image",
    ),
    Row(
        "B",
        "two labels of two",
        "inat",
        record(lambda v: v["annotations"].extend({"image_id": i, "category_id": 1} for i in (0, 1))),
        "image 0 has 2 annotations (labels 0 and 1; 2 such); an",
    ),
    Row(
        "B",
        "five labels",
        "inat",
        record(lambda v: v["annotations"].extend({"image_id": 0, "category_id": i} for i in (1, 2, 3, 4))),
        "image 0 has 5 annotations (labels 0, 1, 2, …); an",
    ),
    Row(
        "B",
        "an image id twice",
        "inat",
        more("images", id=3, file_name="train/x.png"),
        "image id 3 stands twice; keep one",
    ),
    Row(
        "B", "a category id twice", "inat", more("categories", id=1, name="fly"), "category id 1 stands twice; keep one"
    ),
    Row("B", "a category's id 1.7", "inat", first("categories", id=1.7), "category id 1.7 is no whole number"),
    Row(
        "B", "a label 1.7", "inat", first("annotations", category_id=1.7), "image 0: category_id 1.7 is no whole number"
    ),
    Row(
        "B",
        "a label that is true",
        "inat",
        first("annotations", category_id=True),
        "image 0: category_id True is no whole",
    ),
    Row(
        "B",
        "a label in quotes",
        "inat",
        first("annotations", category_id="1"),
        "image 0: category_id '1' is no whole number",
    ),
    Row(
        "B",
        "a key twice",
        "inat",
        text(lambda t: t.replace('"id": 0,', '"id": 0, "id": 1,', 1)),
        "key 'id' stands twice in a",
    ),
    Row("C", "no annotation", "inat", record(lambda v: v["annotations"].pop()), "image 6: no annotation, so no label"),
    Row("C", "no annotations", "inat", lacking("annotations"), f"{NOT_ITS} (KeyError('annotations')"),
    Row("C", "no categories", "inat", lacking("categories"), f"{NOT_ITS} (KeyError('categories')"),
    Row("C", "no file name", "inat", lacking("images", "file_name"), f"{NOT_ITS} (KeyError('file_name')"),
    Row("C", "a name that is none", "inat", first("images", file_name=None), "is no path with a label after it"),
    Row(
        "F",
        "no tail in the test",
        "inat",
        text(lambda t: t.replace('"category_id": 2', '"category_id": 1'), "test"),
        "no test image of a tail class",
    ),
    Row(
        "I",
        "half a UTF-16 pair",
        "inat",
        text(lambda t: t.replace("train/ant/0", "train/\\ud83d/0", 1)),
        "has the character '\\ud83d'",
    ),
    Row(
        "I",
        "half a pair in a name",
        "inat",
        text(lambda t: t.replace('"bee"', '"\\ude00"')),
        "category 1: class name '\\ude00'",
    ),
    Row(
        "I",
        "newline in a name",
        "inat",
        first("categories", name="an\nt"),
        "category 0: class name 'an\\nt' has the character '\\n'",
    ),
    Row("I", "Latin-1", "inat", encoded("latin-1", lambda t: t.replace('"bee"', '"b\xe9e"')), "not UTF-8 text (byte"),
    Row(
        "J",
        "a huge label",
        "inat",
        first("annotations", category_id=10**12),
        "label 1000000000000 of 1 image: more classes than",
    ),
    Row(
        "J",
        "beyond 64 bits",
        "inat",
        first("annotations", category_id=10**30),
        "its label is larger than any number of classes",
    ),
    Row(
        "J",
        "beyond Python",
        "inat",
        text(lambda t: t.replace('"category_id": 0', f'"category_id": {5000 * "9"}', 1)),
        "cut short or no json",
    ),
    Row("J", "negative", "inat", first("annotations", category_id=-1), "image 0: label -1 is negative"),
    Row(
        "M", "UTF-16", "inat", encoded("utf-16"), "UTF-16 text (it starts with that byte order mark): save it as UTF-8"
    ),
]
