"""A hand-written YAML file of docs/ as a dataclass: the map of the paper's items, the claims, the judgements."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from longtail.base import params, yaml_file

T = TypeVar("T")


def read(cls: type[T], path: Path) -> T:
    """The file as `cls`. Raises UserError where it is missing, no YAML, or not of its shape."""
    return params.build(cls, yaml_file.read(path), str(path))
