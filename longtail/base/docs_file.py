"""A hand-written YAML file of docs/ as a dataclass: the map of the paper's items, the claims, the judgements."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml

from longtail.base import params
from longtail.base.errors import UserError

T = TypeVar("T")


def read(cls: type[T], path: Path) -> T:
    """The file as `cls`. Raises UserError where it is missing, no YAML, or not of its shape."""
    try:
        return params.build(cls, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
