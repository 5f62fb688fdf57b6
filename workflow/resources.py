"""What a stage's job asks of a machine, from workflow/resources.yaml."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from longtail.base import yaml_file
from longtail.base.errors import UserError, nearest

FILE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Resources:
    gpus: int  # devices
    cpus: int  # cores
    mem_mb: int  # MB
    runtime: int  # minutes

    def request(self, settings: dict) -> dict[str, int | str]:
        """As Snakemake's resources. GPUs as `gpu` (Slurm: --gpus), or as `gres` where the site's name for them is set.

        A job without GPUs names none, not even zero.
        """
        asked: dict[str, int | str] = {"mem_mb": self.mem_mb, "runtime": self.runtime}
        if self.gpus:
            asked |= {"gres": f"{settings['gres']}:{self.gpus}"} if settings["gres"] else {"gpu": self.gpus}
            if settings["gpu_partition"]:
                asked["slurm_partition"] = settings["gpu_partition"]
        return asked


FIELDS = [field.name for field in fields(Resources)]


@cache
def load(path: Path = FILE) -> dict[str, dict[str, int]]:
    """{pattern: fields}, in the file's order. UserError on an unknown field or a value that is no whole number."""
    blocks = yaml_file.read(path) or {}
    for pattern, block in blocks.items():
        if not isinstance(block, dict):
            raise UserError(f"{path.name}: {pattern}: fields are needed ({', '.join(FIELDS)})")
        for field, value in block.items():
            if field not in FIELDS:
                raise UserError(f"{path.name}: {pattern}.{field}: no such field{nearest(field, FIELDS)}")
            if type(value) is not int or value < (field != "gpus"):
                least = 0 if field == "gpus" else 1
                raise UserError(f"{path.name}: {pattern}.{field}: {value!r}; a whole number from {least} is needed")
    return blocks


def of(stage: str, path: Path = FILE) -> Resources:
    """What a stage asks for: every block whose pattern matches its name, later ones over earlier ones."""
    asked: dict[str, int] = {}
    for pattern, block in load(path).items():
        if fnmatchcase(stage, pattern):
            asked |= block
    missing = [field for field in FIELDS if field not in asked]
    if missing:
        raise UserError(f"{path.name}: {stage}: no {', '.join(missing)}; give them under '*'")
    return Resources(**asked)
