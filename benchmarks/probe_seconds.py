"""How long the probe of a full recipe takes: what a stage spends where the code has changed, or before it trains.

    python benchmarks/probe_seconds.py --out benchmarks/results/probe_seconds_cpu.md

Whole probes on made images and made labels, with all cores, of the full-size networks. About three minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from longtail.base import params  # noqa: E402
from longtail.base.text import pipe_table  # noqa: E402
from longtail.data.config import DatasetConfig  # noqa: E402
from longtail.data.made_data import made_data  # noqa: E402
from longtail.runs.workspace import processor  # noqa: E402
from longtail.training.experiment import resolve  # noqa: E402
from longtail.training.student_probe import student_probe  # noqa: E402
from longtail.training.teacher_config import TeacherConfig  # noqa: E402
from longtail.training.teacher_probe import teacher_probe  # noqa: E402
from tests.helpers.small_entries import made_labels  # noqa: E402

STUDENTS = ("cifar10_if100-deit_lt-ti", "cifar10_if100-deit_lt-b", "imagenet_lt-deit_lt-b", "cifar10_if100-regnety")
TEACHERS = ("ldam_drw_sam-cifar10_if100", "paco_sam-cifar10_if100", "ldam_drw_sam-imagenet_lt", "paco_sam-imagenet_lt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    out, table, rows = parser.parse_args().out, params.load_all(ROOT), []
    for name in STUDENTS:
        config, seeds = resolve(table, name)
        data = dataset(table, config.dataset)
        labels = made_labels(config, data)
        began = time.perf_counter()
        student_probe(config, data, seeds[0], labels)
        rows.append((f"`{name}`", f"{time.perf_counter() - began:.0f}"))
        print(*rows[-1], flush=True)
    for name in TEACHERS:
        config = params.build(TeacherConfig, table["teachers"][name], f"teachers.{name}")
        data = dataset(table, config.dataset)
        began = time.perf_counter()
        teacher_probe(config, data, config.seeds[0])
        rows.append((f"`{name}`", f"{time.perf_counter() - began:.0f}"))
        print(*rows[-1], flush=True)
    where = f"{processor()}, {os.cpu_count()} cores, PyTorch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    text = "\n".join(pipe_table(("entry", "seconds"), "lr", rows))
    out.write_text(f"# Seconds of a whole probe\n\n`python benchmarks/probe_seconds.py`, {where}.\n\n{text}\n")


def dataset(table: dict, name: str):
    return made_data(name, params.build(DatasetConfig, table["datasets"][name], f"datasets.{name}"))


if __name__ == "__main__":
    main()
