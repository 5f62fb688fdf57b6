"""What an epoch adds up, kept on the device until somebody reads it: a read makes the host wait for the device."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtail.base.errors import UserError
from longtail.runs.parallel import Team


class Meter:
    """Loss, 1 - cosine of CLS and DIST, and number of views, summed over an epoch; and the epochs' rows.

    sums: float64 [3] on the device, of this process alone.
    """

    def __init__(self, device: torch.device, team: Team, distilled: bool) -> None:
        self.team, self.distilled = team, distilled
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._rows: list[dict[str, Any]] = []
        self._unread: list[tuple[int, float, Tensor]] = []

    def restore(self, rows: list[dict[str, Any]], sums: Tensor) -> None:
        """Go on from saved `rows` and `total`; the latter is of all processes, so the first takes it alone."""
        self._rows = rows
        if self.team.leads:
            self.sums.copy_(sums)

    def add(self, losses: Tensor, groups: Tensor, views: int, distance: Tensor | None) -> None:
        """losses: mean of each mix group, [G]; groups: its views, float64 [G]; distance: sum of 1 - cosine."""
        self.sums[0] += losses.detach().double() @ groups
        self.sums[2] += views
        if distance is not None:
            self.sums[1] += distance

    def total(self) -> Tensor:
        """The epoch's sums so far, of all processes."""
        return self.team.sum_(self.sums.clone())

    def close(self, epoch: int, lr: float) -> None:
        """The epoch is over. The host does not wait."""
        self._unread.append((epoch, lr, self.total()))
        self.sums.zero_()

    def rows(self) -> list[dict[str, Any]]:
        """Of all epochs closed so far, read now. Raises UserError where a loss is not finite."""
        for epoch, lr, sums in self._unread:
            loss, distance, count = sums.tolist()
            if not math.isfinite(loss):
                value = float(f"{loss / count:.9g}")
                raise UserError(f"student diverged: training loss is {value} in epoch {epoch}; lower lr")
            row = {"epoch": epoch, "lr": float(f"{lr:.9g}"), "loss": float(f"{loss / count:.9g}")}
            self._rows.append(row | ({"cls_dist_distance": float(f"{distance / count:.9g}")} if self.distilled else {}))
        self._unread = []
        return self._rows


def write_rows(rows: list[dict[str, Any]], path: Path) -> None:
    """As CSV: a column for each key that a row has, in the order in which they come; empty where a row has none."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
