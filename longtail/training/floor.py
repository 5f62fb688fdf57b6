"""The accuracy that a teacher must reach before anything learns from it.

A weak teacher makes every student weak, and nothing downstream would say so: it is said where a teacher is put to use.
The teacher's own result is kept. LONGTAIL_ALLOW_WEAK_TEACHER=1 in the environment lets it teach all the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from longtail.base.errors import UserError
from longtail.base.files import npz

ALLOW = "LONGTAIL_ALLOW_WEAK_TEACHER"


@dataclass(frozen=True)
class Floor:
    """Accuracy on the test set in %, at the epoch whose weights are used."""

    top1: float  # the printed one
    tolerance: float  # how far below it is still that result

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= self.top1 <= 100:
            raise ValueError(f"top1 {self.top1}, tolerance {self.tolerance}: 0 <= tolerance <= top1 <= 100 (in %)")


def check_floor(folder: Path, floor: Floor | None, select: str) -> None:
    """Raises UserError where the test logits of a teacher's result folder are below its floor.

    select: `last` or `best`, which of the two saved sets of logits belongs to the weights in use.
    """
    if floor is None or os.environ.get(ALLOW) == "1":
        return
    path = folder / "predictions.npz"
    with npz(path, "missing or unreadable", "train the teacher again") as saved:
        reached = 100 * float((saved[f"logits_{select}_cls"].argmax(1) == saved["labels"]).mean())
    if reached < floor.top1 - floor.tolerance:
        raise UserError(
            f"{folder}: teacher has {reached:.2f} % on the test set ({select} epoch), its entry's must_reach asks for "
            f"{floor.top1 - floor.tolerance:.2f} %; train a better one, or set {ALLOW}=1 to use it as it is"
        )
