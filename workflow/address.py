"""Where stages stand, by their names alone: `python -m workflow.address report@cifar10_if100` prints what DVC calls it,
papers/deit_lt/dvc.yaml:report@cifar10_if100. A stage of the root's dvc.yaml goes by its name."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, nearest, run_main
from longtail.cost.upstream import Stage, needed_by, stages

CODE = "workflow/dvc.yaml"  # what scripts are made of: every stage needs it


def pipelines(root: Path) -> dict[str, dict[str, Stage]]:
    """{dvc.yaml from the root: its stages by name} of all folders."""
    return {
        name.replace("params.yaml", "dvc.yaml"): stages(path.with_name("dvc.yaml"), params.own(path))
        for name, path in params.files(root).items()
    }


def addresses(root: Path) -> dict[str, str]:
    """{stage: its address for DVC} over all folders."""
    return {stage: _address(file, stage) for file, known in pipelines(root).items() for stage in known}


def needed(names: Iterable[str], of: dict[str, dict[str, Stage]]) -> tuple[list[str], list[str]]:
    """(addresses of the stages of these names, the dvc.yaml files in which they stand and all that they need), both for
    DVC. of: as `pipelines` gives them. Raises UserError for a stage that is in none."""
    known = {name: stage for found in of.values() for name, stage in found.items()}
    file_of = {name: file for file, found in of.items() for name in found}
    for name in names:
        if name not in known:
            raise UserError(f"no stage '{name}' in any dvc.yaml{nearest(name, known)}")
    files = {file_of[stage.name] for name in names for stage in needed_by(name, known)}
    return [_address(file_of[name], name) for name in names], [CODE, *(file for file in of if file in files)]


def _address(file: str, stage: str) -> str:
    return f"{file}:{stage}" if "/" in file else stage


def main() -> None:
    print(*needed(sys.argv[1:], pipelines(Path()))[0])


if __name__ == "__main__":
    run_main(main)
