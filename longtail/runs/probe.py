"""What the code computes for a run on a few inputs of its own, so that a finished run outlives edits of the code.

Two probes of one run are compared fact by fact. `exact` facts are equal on every machine: checksums of uint8 pixels,
orders, names and shapes. `close` ones are worked out in float64 from the recipe: schedules, targets, class weights.
`computed` ones come from float32 networks, whose sums differ by processor; `labels` are a teacher's answers, of which
near ties turn. Probes are made on the CPU in float32 by the plain engine, whatever device, precision and engine a run
is trained with, so one made on a GPU node answers to one made anywhere. What a probe cannot see is in docs/probe.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longtail.base.files import atomic_write

CLOSE = 1e-9  # relative to the largest number of a fact
# Of computed facts, by how their names begin; the first that fits. About ten times the largest difference measured
# between instruction sets, of students between thread counts too (docs/probe.md has the record). SAM's ascent enlarges
# roundings, the more the more steps were made; other steps hardly do. Of a queue or batch statistics the change is a
# small difference of larger numbers.
COMPUTED = {"SAM loss 1": 5e-3, "SAM gradient 1": 1e-2, "SAM update 1": 1e-2, "SAM ": 0.1}
COMPUTED |= {"SGD change of": 5e-2, "SGD ": 1e-3}
COMPUTED |= {
    "first ": 1e-5,
    "test logits": 1e-5,
    "input": 5e-5,
    "": 1e-4,
}  # the rest: students, and a teacher's answers
LABELS = 0.999  # share of a teacher's labels that must be equal; of few, one may be a near tie

Numbers = list[float]


@dataclass
class Probe:
    """Facts by name; the name says what it is a fact of, e.g. `lr at epoch 1100`."""

    exact: dict[str, Any] = field(default_factory=dict)  # what JSON can hold
    close: dict[str, Numbers] = field(default_factory=dict)
    computed: dict[str, Numbers] = field(default_factory=dict)
    labels: dict[str, list[int]] = field(default_factory=dict)

    def differences(self, now: Probe) -> list[str]:
        """What another probe of the same run answers differently, a text each; none where the code does the same."""
        found = [_told(name, new, was) for name, was, new in _pairs(self.exact, now.exact) if was != new]
        for name, was, new in _pairs(self.close, now.close) + _pairs(self.computed, now.computed):
            bound = CLOSE if name in self.close else tolerance(name)
            if was is None or new is None or not _equal(was, new, bound):
                found.append(_told(name, new, was))
        for name, was, new in _pairs(self.labels, now.labels):
            if was is None or new is None or len(was) != len(new):
                found.append(_told(name, new and len(new), was and len(was)))
            elif (other := sum(a != b for a, b in zip(was, new, strict=True))) > max(1, (1 - LABELS) * len(was)):
                found.append(f"{name}: {other} of {len(was)} are others")
        return found

    def save(self, path: Path) -> None:
        """JSON, a fact a line."""
        kinds = (
            f' "{kind}": {{\n' + ",\n".join(map(_line, facts.items())) + "\n }" for kind, facts in vars(self).items()
        )
        text = "{\n" + ",\n".join(kinds) + "\n}\n"
        atomic_write(path, lambda temporary: temporary.write_text(text))

    @classmethod
    def load(cls, path: Path) -> Probe | None:
        """None where there is none, or none that can be read."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def tolerance(name: str) -> float:
    """Of a computed fact, relative to the largest of its numbers."""
    return next(value for start, value in COMPUTED.items() if name.startswith(start))


def listed(differences: list[str], most: int = 4) -> str:
    """In one line, the first few of them."""
    rest = f"; and {len(differences) - most} more" if len(differences) > most else ""
    return "; ".join(differences[:most]) + rest


def _line(fact: tuple[str, Any]) -> str:
    return f"  {json.dumps(fact[0])}: {json.dumps(fact[1])}"


def _pairs(was: dict, now: dict):
    """(name, was, now) of every fact of either; None where one lacks it."""
    return [(name, was.get(name), now.get(name)) for name in [*was, *(name for name in now if name not in was)]]


def _equal(was: Numbers, now: Numbers, tolerance: float) -> bool:
    """To the tolerance, relative to the largest number. What is not finite is equal to nothing."""
    if len(was) != len(now):
        return False
    largest = max((abs(value) for value in was), default=0.0)
    return all(abs(a - b) <= tolerance * largest for a, b in zip(was, now, strict=True))


def _long(value: Any) -> bool:
    """A checksum, or a list too long to be read in a line."""
    return (isinstance(value, str) and len(value) > 40) or (isinstance(value, list) and len(value) > 6)


def _told(name: str, now: Any, was: Any) -> str:
    if was is None:
        return f"{name}: new"
    if now is None:
        return f"{name}: gone"
    if _long(now) or _long(was):
        return f"{name} differ"
    return f"{name}: {_short(now)}, was {_short(was)}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, list):
        return _short(value[0]) if len(value) == 1 else f"[{', '.join(map(_short, value))}]"
    return str(value)
