"""What the benchmarks share: their command line and how a result is kept with the machine it is from."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch

from longtail.base.options import add_device
from longtail.runs.workspace import environment

RESULTS = Path(__file__).parent / "results"


def parser(description: str, device: str) -> argparse.ArgumentParser:
    """--device and --out. device: the default; `auto` is CUDA where there is one."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_device(made, device)
    made.add_argument("--out", type=Path, default=RESULTS, help="folder; default: results/ beside this file")
    return made


def machine(device: torch.device) -> dict:
    """longtail's environment, with the cores and the load that times depend on."""
    return environment(device) | {"cores": os.cpu_count(), "load": [round(load, 1) for load in os.getloadavg()]}


def write(out: Path, name: str, device: torch.device, record: dict, table: str) -> None:
    """out/<name>_<device>.json and .md."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}_{device.type}.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / f"{name}_{device.type}.md").write_text(table)
