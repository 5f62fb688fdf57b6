"""Runs that differ in a setting or two: panels of figures (`smoothing` and `sweeps` of a study), squares of tables."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from longtail.base.errors import nearest


@dataclass(frozen=True)
class Smoothing:
    """A panel of the figure `head_smoothing`: teachers that differ in `head_smoothing` alone."""

    title: str
    teachers: tuple[tuple[float, str], ...]  # epsilon, as in the entry; the entry

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.teachers)


@dataclass(frozen=True)
class SweepLine:
    """One line of a panel: teachers of a kind. A line of one value is a mark."""

    label: str  # the same label has the same colour in all panels
    teachers: tuple[tuple[float, str], ...]  # value of the setting, as in the entry; the entry

    def __post_init__(self) -> None:
        values = [value for value, _ in self.teachers]
        if not values or values != sorted(set(values)):
            raise ValueError(f"line '{self.label}': values {values} must rise, at least one")


@dataclass(frozen=True)
class Sweep:
    """A panel of the figure `sweep`: accuracy over a setting, a line for each kind of teacher."""

    title: str
    setting: str  # what the axis is called
    lines: tuple[SweepLine, ...]
    log: bool = False  # a logarithmic axis, for values above 0

    def __post_init__(self) -> None:
        labels = [line.label for line in self.lines]
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"'{self.title}': lines {labels}; at least one, each with a label of its own")
        if self.log and (low := min(line.teachers[0][0] for line in self.lines)) <= 0:
            raise ValueError(
                f"'{self.title}': {low:g} has no place on a logarithmic axis; leave out `log` or the value"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for line in self.lines for _, name in line.teachers)


@dataclass(frozen=True)
class Square:
    """What a table's four rows are: two settings at two values each, the first's first value twice and then its second
    twice. The table is shown as a 2 x 2 with differences."""

    down: tuple[str, str]  # how a line of the 2 x 2 is called: values of the first setting
    across: tuple[str, str]  # how a column is called: values of the second

    def __post_init__(self) -> None:
        for name in ("down", "across"):
            first, second = getattr(self, name)
            if first == second or not first.strip() or not second.strip():
                raise ValueError(f"{name}: ['{first}', '{second}'] must be two names, one for each value")


def check_listed(what: str, panels: Collection[Smoothing | Sweep], listed: Collection[str]) -> None:
    """Raises ValueError where a panel names a teacher that the study does not list."""
    for panel in panels:
        for name in panel.names:
            if name not in listed:
                raise ValueError(f"{what} '{panel.title}': '{name}' is not listed in the study{nearest(name, listed)}")
