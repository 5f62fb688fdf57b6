"""What the figure of test images draws and tells, from a small table worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from longtail.report.figures.predictions import predictions
from longtail.report.study import Item
from tests.report.figures.test_study_figures import rows

ITEMS = [Item("c", "CE"), Item("d", "DiVE")]
NAMES = np.array(["cat", "a long name of a class", "$dog$"])


@pytest.fixture(autouse=True)
def close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def shown(right_alone: list[bool]) -> dict[str, np.ndarray]:
    """predictions.npz of images of class 0 and 1 in turn; the network that is wrong says class 2."""
    kind, label = np.array(right_alone, bool), np.arange(len(right_alone)) % 2
    answer = np.stack([np.where(kind, 2, label), np.where(kind, label, 2)])
    names = {"label_name": NAMES[label], "answer_name": NAMES[answer]}
    of = {"networks": np.array(["c", "d"]), "query": label + 40, "right_alone": kind, "label": label, "answer": answer}
    return of | names | {"picture": np.full((len(label), 6, 6, 3), 90, np.uint8)}


COUNTS = rows("images right_alone wrong_alone", (1000, 12, 1), (1000, 14, 2))


def test_an_answer_is_bold_where_it_is_right():
    drawn = predictions({"DiVE": shown([True, True, False])}, {"DiVE": COUNTS}, ITEMS)
    assert drawn.rows == [
        ("DiVE", 40, "cat", "CE", "$dog$", 0),
        ("DiVE", 40, "cat", "DiVE", "cat", 1),
        ("DiVE", 41, "a long name of a class", "CE", "$dog$", 0),
        ("DiVE", 41, "a long name of a class", "DiVE", "a long name of a class", 1),
        ("DiVE", 40, "cat", "CE", "cat", 1),
        ("DiVE", 40, "cat", "DiVE", "$dog$", 0),
    ]
    right, wrong = drawn.figure.axes
    assert [ax.get_title("left") for ax in (right, wrong)] == ["DiVE: alone right", "DiVE: alone wrong"]
    assert [len(ax.images) for ax in (right, wrong)] == [2, 1]
    assert [t.get_text() for t in right.get_yticklabels()] == ["class", "CE", "DiVE"]
    told = [(t.get_text(), t.get_weight()) for t in (*right.texts, *wrong.texts)]
    assert told == [
        *(("cat", "normal"), ("$dog$", "normal"), ("cat", "bold")),
        *(("a long name of…", "normal"), ("$dog$", "normal"), ("a long name of…", "bold")),
        *(("cat", "normal"), ("cat", "bold"), ("$dog$", "normal")),
    ]
    assert drawn.note == (
        "DiVE, 1,000 test images: alone right on 12 (the first 2 shown), alone wrong on 1 (all shown). "
        "Mean over 2 seeds: right on 13.0, wrong on 1.5."
    )


def test_a_kind_without_images_says_so():
    counts = rows("images right_alone wrong_alone", (400, 0, 2))
    drawn = predictions({"DiVE": shown([False, False])}, {"DiVE": counts}, [])
    right, wrong = drawn.figure.axes
    assert (
        right.get_title("left") == "DiVE: alone right on no image" and not right.images and not right.get_yticks().size
    )
    assert [t.get_text() for t in wrong.get_yticklabels()] == ["class", "c", "d"]
    assert drawn.note == "DiVE, 400 test images: alone right on none, alone wrong on 2 (all shown)."


def test_nothing_was_run():
    assert predictions({}, {}, ITEMS) is None
