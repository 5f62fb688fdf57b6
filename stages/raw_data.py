"""Are the raw images there? They are put in place by hand; this says where they go: raw.<NAME> of a params file.

    python stages/raw_data.py cifar10 --folder data/raw/cifar10

Ends with code 0 where the folder is there, else with one line that names the data sets which are cut from it. Where
one of them says `download: true`, its archive is fetched. Whether the content is right: stages/doctor.py. An instant.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.options import add_params
from longtail.data.sources import SOURCES, DatasetConfig


def users(datasets: dict, folder: Path) -> dict[str, DatasetConfig]:
    """The data sets that are cut from a folder."""
    blocks = {name: block for name, block in datasets.items() if isinstance(block, dict)}
    used = {name: block for name, block in blocks.items() if Path(str(block.get("raw"))) == folder}
    return {name: params.build(DatasetConfig, block, f"datasets.{name}") for name, block in used.items()}


def missing(folder: Path, names: list[str]) -> str:
    """The line that says what to do."""
    sets = f"data set {names[0]} is" if len(names) == 1 else f"data sets {', '.join(names)} are"
    doctor = f"python stages/doctor.py {names[0]}"
    return f"{folder}: no such folder, and {sets} cut from it; `{doctor}` says what belongs there"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name under `raw` in the params file")
    parser.add_argument("--folder", type=Path, required=True, help="where it says that the raw images go")
    add_params(parser)
    args = parser.parse_args()
    found = users(params.load(args.params).get("datasets") or {}, args.folder)
    if not found:
        raise UserError(f"raw.{args.name}: no data set names {args.folder} as its `raw`")
    for name, config in found.items():
        if config.download:
            SOURCES[config.source](config, name)
    for folder in dict.fromkeys(
        [args.folder, *(Path(config.files.images) for config in found.values() if config.files)]
    ):
        if not folder.is_dir():
            raise UserError(missing(folder, list(found)))


if __name__ == "__main__":
    run_main(main)
