"""What the benchmarks share: their command line, and where a result is filed: by the machine that it is from.

    results/<processor or card>_torch-<version>/<part>.json and .md

The folder follows from the record's own environment (`folder`), so machines stand side by side and none overwrites
another's record. What reads a part takes the `newest` one of a CPU, unless it asks for a card. `filing.py` lists all.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from pathlib import Path

import torch

from longtail.base.errors import UserError
from longtail.base.files import write_text
from longtail.base.options import add_device
from longtail.runs.workspace import environment

RESULTS = Path(__file__).parent / "results"
IN_REPOSITORY = "benchmarks/results"  # as pages name that folder


def parser(description: str, device: str) -> argparse.ArgumentParser:
    """--device and --out. device: the default; `auto` is CUDA where there is one."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_device(made, device)
    add_out(made)
    return made


def add_out(made: argparse.ArgumentParser) -> None:
    told = "folder of all machines, each with a folder of its own in it; default: results/ beside this file"
    made.add_argument("--out", type=Path, default=RESULTS, help=told)


def machine(device: torch.device) -> dict:
    """longtail's environment, with the cores and the load that times depend on, and the day (UTC)."""
    load = [round(load, 1) for load in os.getloadavg()]
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return environment(device) | {"cores": os.cpu_count(), "load": load, "date": day}


def on_cpu(environment: dict) -> bool:
    """Was it measured on a CPU? `device` is then `cpu x<threads>`, else the card's name."""
    return re.fullmatch(r"cpu x\d+", environment["device"]) is not None


def folder(environment: dict) -> str:
    """The folder of a record's machine, from what the record says: `amd-epyc-family-25-model-1_torch-2.15.0`. Of a GPU
    the card, else the processor; `cpu` where a record, made before they told it, does not name one. Of torch the
    release, without its build (`+cu132`). Raises UserError where device or torch is not told."""
    if not environment.get("device") or not environment.get("torch"):
        raise UserError("a record that tells no device or no torch cannot be filed by its machine; measure it again")
    name = (environment.get("processor") or "cpu") if on_cpu(environment) else environment["device"]
    plain = re.sub(r"\((r|tm|c)\)", "", name.lower())
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return f"{slug}_torch-{environment['torch'].partition('+')[0]}"


def newest(part: str, results: Path = RESULTS, card: bool = False) -> Path | None:
    """The JSON of that part that pages and tests read: of a CPU, or with `card` of a GPU, the one with the latest
    `date`; records without date are older than all that have one; then one that names its processor is preferred, then
    the last by the folder's name. None where there is none."""

    found = []
    for path in results.glob(f"*/{part}.json"):
        about = json.loads(path.read_text(encoding="utf-8"))["environment"]
        if on_cpu(about) != card:
            found.append((about.get("date") or "", "processor" in about, path.parent.name, path))
    return max(found)[-1] if found else None


def link(part: str, environment: dict, text: str, up: str = "") -> str:
    """A Markdown link to the table of that record in this repository. up: from the page's folder to the root."""
    return f"[{text}]({up}{IN_REPOSITORY}/{folder(environment)}/{part}.md)"


def put_into(page: Path, name: str, text: str) -> None:
    """Replace what stands in a page between the lines <!-- name --> and <!-- end --> after it. Raises UserError where
    it does not have them once."""
    marked, before = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)", re.DOTALL), page.read_text("utf-8")
    if len(marked.findall(before)) != 1:
        raise UserError(f"{page}: needs the lines <!-- {name} --> and <!-- end -->, once")
    write_text(page, marked.sub(lambda _: f"\n{text}\n\n", before))


def write(out: Path, part: str, record: dict, table: str) -> Path:
    """<part>.json and .md in the folder of the record's machine under out; the JSON's path."""
    path = out / folder(record["environment"]) / f"{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1) + "\n")
    write_text(path.with_suffix(".md"), table)
    return path
