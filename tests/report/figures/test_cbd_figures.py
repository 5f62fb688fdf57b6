"""What the figures of compared features draw, from small tables worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from longtail.report.figures.cbd_figures import FRAMES, feature_drift, neighbours
from tests.report.figures.test_study_figures import rows


@pytest.fixture(autouse=True)
def close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def shown(of: np.ndarray) -> dict[str, np.ndarray]:
    """neighbours.npz of two queries, of classes 4 and 9, with two neighbours each of these classes under both."""
    arrays = {"group": np.array(["head", "tail"]), "query": np.array([7, 30]), "label": np.array([4, 9])}
    arrays["picture"] = np.full((2, 6, 6, 3), 90, np.uint8)
    for features, labels in (("teacher", np.array([[4, 4], [4, 9]])), ("student", of)):
        near = {"place": labels * 10, "label": labels, "cosine": np.array([[0.9, 0.8], [0.7, 0.6]])}
        arrays |= {f"{features}_{key}": value for key, value in near.items()}
        arrays[f"{features}_picture"] = np.full((2, 2, 6, 6, 3), 30, np.uint8)
    return arrays


SHARES = rows(
    "seed features group k share most",
    *((s, f, g, 2, v + 0.1 * s, m) for s in (0, 1) for f, g, v, m in (
        ("teacher", "all", 0.5, 0.95), ("teacher", "head", 0.7, 1.0), ("teacher", "tail", 0.3, 0.9),
        ("student", "all", 0.6, 0.95), ("student", "head", 0.7, 1.0), ("student", "tail", 0.5, 0.9),
    )),
)  # fmt: skip


def test_every_picture_has_its_frame_and_its_row():
    drawn = neighbours({"A": shown(np.array([[4, 4], [9, 9]])), "B": shown(np.array([[9, 4], [9, 9]]))}, {"A": SHARES})
    assert len(drawn.rows) == 2 * 2 * 2 * 2
    assert drawn.rows[:2] == [("A", "head", 4, 7, "teacher", r, 40, 4, 1, c) for r, c in ((1, 0.9), (2, 0.8))]
    assert drawn.rows[4] == ("A", "tail", 9, 30, "teacher", 1, 40, 4, 0, 0.7)
    wrong = {"A": 1, "B": 2}
    for ax, label in zip(drawn.figure.axes, "AB", strict=True):
        frames = [p.get_edgecolor() for p in ax.patches if isinstance(p, Rectangle)]
        assert len(ax.images) == 2 * (1 + 2 + 2) and len(frames) == 8 and len(set(frames)) == 2
        assert len(ax.texts) == wrong[label] == sum(row[0] == label and not row[8] for row in drawn.rows)
        assert ax.get_title("left") == label
        assert [t.get_text() for t in ax.get_yticklabels()] == ["head\nclass 4", "tail\nclass 9"]
    assert FRAMES[True] != FRAMES[False]


def test_the_note_tells_the_share_of_the_whole_test_set():
    series = {"A": shown(np.array([[4, 4], [9, 9]]))}
    assert neighbours(series, {"A": SHARES}).note == (
        "Share of the test image's class among the nearest, mean over seeds: A, 2 nearest: teacher 55.0 % (head 75.0, "
        "tail 35.0), student 65.0 % (head 75.0, tail 55.0); small classes allow at most tail 90.0."
    )
    assert neighbours(series, {}).note == ""


def test_drift_by_group_of_training_and_test_images():
    drift = rows(
        "seed images group drift",
        *((s, i, g, v + 0.02 * s) for s in (0, 1) for i, g, v in (
            ("train", "all", 0.2), ("train", "head", 0.1), ("train", "tail", 0.3), ("test", "all", 0.4),
            ("test", "head", 0.2), ("test", "tail", 0.6),
        )),
    )  # fmt: skip
    drawn = feature_drift({"A": drift, "B": [row for row in drift if row["seed"] == "0"]})
    found = {row[:3]: row[3:] for row in drawn.rows}
    assert set(found) == {(a, i, g) for a in "AB" for i in ("train", "test") for g in ("head", "tail")}
    assert found["A", "test", "tail"] == (pytest.approx(0.61), pytest.approx(0.01), 2)
    assert found["B", "train", "head"] == (pytest.approx(0.1), None, 1)
    left, right = drawn.figure.axes
    assert (left.get_title(), right.get_title()) == ("Training images", "Test images")
    assert [bar.get_height() for bar in left.patches] == [row[3] for row in drawn.rows if row[1] == "train"]


def test_nothing_was_run():
    assert neighbours({}, {}) is None and feature_drift({}) is None
