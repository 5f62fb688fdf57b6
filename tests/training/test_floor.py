import numpy as np
import pytest

from longtail.base.errors import UserError
from longtail.training.teacher_config import ALLOW, Floor, check_floor


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three of four test images right at the last epoch, all four at the best."""
    monkeypatch.delenv(ALLOW, raising=False)
    logits = np.eye(4, dtype=np.float32)
    wrong = logits.copy()
    wrong[3] = 1, 0, 0, 0
    np.savez(tmp_path / "predictions.npz", labels=np.arange(4), logits_last_cls=wrong, logits_best_cls=logits)
    return tmp_path


@pytest.mark.parametrize(
    ("top1", "tolerance", "select", "passes"),
    [
        (76.0, 1.0, "last", True),
        (75.0, 0.0, "last", True),
        (76.1, 1.0, "last", False),
        (100.0, 0.0, "best", True),
        (100.0, 20.0, "last", False),
    ],
)
def test_the_accuracy_is_of_the_weights_in_use(folder, top1, tolerance, select, passes):
    if passes:
        check_floor(folder, Floor(top1, tolerance), select)
        return
    with pytest.raises(UserError, match=rf"75.00 %.*asks for {top1 - tolerance:.2f} %.*{ALLOW}=1") as error:
        check_floor(folder, Floor(top1, tolerance), select)
    assert "\n" not in str(error.value)


def test_no_floor_or_leave_to_go_below(folder, monkeypatch):
    check_floor(folder / "nowhere", None, "last")
    monkeypatch.setenv(ALLOW, "1")
    check_floor(folder, Floor(99.0, 1.0), "last")
    monkeypatch.setenv(ALLOW, "0")
    with pytest.raises(UserError):
        check_floor(folder, Floor(99.0, 1.0), "last")


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04"])
def test_predictions_that_cannot_be_read_are_named(folder, content):
    path = folder / "predictions.npz"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=r"predictions\.npz: missing or unreadable"):
        check_floor(folder, Floor(10.0, 1.0), "last")


@pytest.mark.parametrize(("top1", "tolerance"), [(101.0, 1.0), (50.0, -1.0), (0.5, 1.0)])
def test_a_floor_is_in_percent(top1, tolerance):
    with pytest.raises(ValueError, match="in %"):
        Floor(top1, tolerance)
