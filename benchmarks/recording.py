"""What the benchmarks share: their command line and how a result is kept with the machine it is from."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

import torch

from longtail.base.errors import UserError
from longtail.base.files import write_text
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


def put_into(page: Path, name: str, text: str) -> None:
    """Replace what stands in a page between the lines <!-- name --> and <!-- end --> after it. Raises UserError where
    it does not have them once."""
    marked, before = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)", re.DOTALL), page.read_text("utf-8")
    if len(marked.findall(before)) != 1:
        raise UserError(f"{page}: needs the lines <!-- {name} --> and <!-- end -->, once")
    write_text(page, marked.sub(lambda _: f"\n{text}\n\n", before))


def write(out: Path, name: str, device: torch.device, record: dict, table: str) -> None:
    """out/<name>_<device>.json and .md."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}_{device.type}.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / f"{name}_{device.type}.md").write_text(table)
