"""How long the probe of a full recipe takes: what a stage spends where the code has changed, or before it trains.

    python benchmarks/probe_seconds.py

Whole probes on made images and made labels, with all cores, of the full-size networks. Writes probe_seconds.md and
.json where recording.py files them. About three minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import recording
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from longtail.base import params  # noqa: E402
from longtail.base.text import pipe_table  # noqa: E402
from longtail.data.config import DatasetConfig  # noqa: E402
from longtail.data.made_data import made_data  # noqa: E402
from longtail.report.machines import place  # noqa: E402
from longtail.training.experiment import resolve  # noqa: E402
from longtail.training.student_probe import student_probe  # noqa: E402
from longtail.training.teacher_config import TeacherConfig  # noqa: E402
from longtail.training.teacher_probe import teacher_probe  # noqa: E402
from tests.helpers.small_entries import made_labels  # noqa: E402

STUDENTS = ("cifar10_if100-deit_lt-ti", "cifar10_if100-deit_lt-b", "imagenet_lt-deit_lt-b", "cifar10_if100-regnety")
TEACHERS = ("ldam_drw_sam-cifar10_if100", "paco_sam-cifar10_if100", "ldam_drw_sam-imagenet_lt", "paco_sam-imagenet_lt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recording.add_out(parser)
    out, table, seconds = parser.parse_args().out, params.load_all(ROOT), {}
    for name in STUDENTS:
        config, seeds = resolve(table, name)
        data = dataset(table, config.dataset)
        labels = made_labels(config, data)
        began = time.perf_counter()
        student_probe(config, data, seeds[0], labels)
        seconds[name] = round(time.perf_counter() - began)
        print(name, seconds[name], flush=True)
    for name in TEACHERS:
        config = params.build(TeacherConfig, table["teachers"][name], f"teachers.{name}")
        data = dataset(table, config.dataset)
        began = time.perf_counter()
        teacher_probe(config, data, config.seeds[0])
        seconds[name] = round(time.perf_counter() - began)
        print(name, seconds[name], flush=True)
    where = recording.machine(torch.device("cpu"))
    rows = [(f"`{name}`", spent) for name, spent in seconds.items()]
    about = f"{place(where)}, {where['cores']} cores, torch {where['torch']}, load {where['load'][0]}"
    lines = ["# Seconds of a whole probe", "", f"`python benchmarks/probe_seconds.py`, {about}.", ""]
    text = "\n".join([*lines, *pipe_table(("entry", "seconds"), "lr", rows)]) + "\n"
    recording.write(out, "probe_seconds", {"environment": where, "seconds": seconds}, text)


def dataset(table: dict, name: str):
    return made_data(name, params.build(DatasetConfig, table["datasets"][name], f"datasets.{name}"))


if __name__ == "__main__":
    main()
