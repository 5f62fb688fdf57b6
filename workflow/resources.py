"""What a stage's job asks of a machine, from workflow/resources.yaml."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from longtail.errors import UserError, nearest

FILE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Resources:
    gpus: int  # devices
    cpus: int  # cores
    mem_mb: int  # MB
    runtime: int  # minutes


FIELDS = [field.name for field in fields(Resources)]


def load(path: Path = FILE) -> dict[str, dict[str, int]]:
    """{pattern: fields}, in the file's order. UserError on an unknown field or a value that is no whole number."""
    blocks = yaml.safe_load(path.read_text())
    for pattern, block in blocks.items():
        for field, value in block.items():
            if field not in FIELDS:
                raise UserError(f"{path.name}: {pattern}.{field}: no such field{nearest(field, FIELDS)}")
            if type(value) is not int or value < (field != "gpus"):
                least = 0 if field == "gpus" else 1
                raise UserError(f"{path.name}: {pattern}.{field}: {value!r}; a whole number from {least} is needed")
    return blocks


def of(stage: str, blocks: dict[str, dict[str, int]]) -> Resources:
    """What a stage asks for: every block whose pattern matches its name, later ones over earlier ones."""
    asked: dict[str, int] = {}
    for pattern, block in blocks.items():
        if fnmatchcase(stage, pattern):
            asked |= block
    missing = [field for field in FIELDS if field not in asked]
    if missing:
        raise UserError(f"{FILE.name}: {stage}: no {', '.join(missing)}; give them under \"*\"")
    return Resources(**asked)
