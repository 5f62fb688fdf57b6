"""Where stages stand, by their names alone: `python -m workflow.address report@cifar10_if100` prints what DVC calls it,
papers/deit_lt/dvc.yaml:report@cifar10_if100. A stage of the root's dvc.yaml goes by its name."""

from __future__ import annotations

import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, nearest, run_main
from longtail.cost.upstream import stages


def addresses(root: Path) -> dict[str, str]:
    """{stage: its address for DVC} over all folders."""
    found = {}
    for name, path in params.files(root).items():
        folder = name.removesuffix("params.yaml")
        for stage in stages(path.with_name("dvc.yaml"), params.own(path)):
            found[stage] = f"{folder}dvc.yaml:{stage}" if folder else stage
    return found


def main() -> None:
    known = addresses(Path())
    for name in sys.argv[1:]:
        if name not in known:
            raise UserError(f"no stage '{name}' in any dvc.yaml{nearest(name, known)}")
    print(*(known[name] for name in sys.argv[1:]))


if __name__ == "__main__":
    run_main(main)
