"""What a cache of the teacher's labels costs to build, and what it saves the student that reads it.

    python benchmarks/cache.py [--device cuda] [--short]

Two tables, in views a second, of the recipes `digits` (24 px, ResNet-8 at 8 px), `cifar10-mini` (96 px, ResNet-8 at 32)
and, on CUDA, `cifar` with DeiT-Ti (224 px, ResNet-32 at 32):
    build    longtail.training.cache.build_cache with one worker and, on a CPU, with one for every core
    student  training.student.train_student, one epoch: labels from the cache, and from the teacher run beside it
Weights are random, images those of the tests. Contenders run in turn; medians of the blocks after one that is not
counted. Writes cache.md and .json where recording.py files them. Cost: 2 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import recording
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # for the images of the tests

from longtail.base import params  # noqa: E402
from longtail.base.errors import run_main  # noqa: E402
from longtail.base.text import pipe_table  # noqa: E402
from longtail.data.long_tail import LongTail, class_order  # noqa: E402
from longtail.models.resnet import cifar_resnet  # noqa: E402
from longtail.report.machines import place  # noqa: E402
from longtail.runs.seeds import pick_device  # noqa: E402
from longtail.runs.workspace import Workspace  # noqa: E402
from longtail.training.cache import build_cache  # noqa: E402
from longtail.training.experiment import StudentConfig, resolve  # noqa: E402
from longtail.training.labels import TeacherLabels  # noqa: E402
from longtail.training.student import train_student  # noqa: E402
from longtail.views.student_views import Views  # noqa: E402
from tests.helpers.pictures import digits, small  # noqa: E402

EPOCHS = 12  # of a cache that is built: enough to outweigh the start of its workers
CASES = {  # experiment: images, how many, depth of the teacher
    "digits-deit_lt": (digits, 512, 8),
    "cifar10_if100-mini-deit_lt": (small, 256, 8),
    "cifar10_if100-deit_lt-ti": (small, 4096, 32),
}


def data_of(images: np.ndarray) -> LongTail:
    """Ten classes in turn; a test set of ten images, so that evaluation costs next to nothing."""
    names = tuple("0123456789")
    labels, groups = np.sort(np.arange(len(images)) % 10), np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    return LongTail(
        name="benchmark",
        train_images=images,
        train_labels=labels,
        train_index=np.arange(len(images)),
        test_images=images[:10],
        test_labels=np.arange(10),
        class_names=names,
        class_counts=np.bincount(labels),
        cuts=(3, 7),
        author_groups=groups,
        count_groups=groups,
        subset_seed=0,
        class_order=class_order(names),
        digest="",
    )


def contenders(config: StudentConfig, data: LongTail, depth: int, device: torch.device) -> dict[str, dict]:
    """{table: {name: (what runs, its epochs)}}."""
    torch.manual_seed(0)
    teacher = cifar_resnet(depth, 10, "normed").to(device).eval()
    views = Views(config.views, data.train_images, 0, device=device)
    facts = {"cache": "benchmark", "num_classes": 10, "class_order": data.class_order, "class_names": data.class_names}
    config = replace(config, train=replace(config.train, epochs=1, warmup_epochs=0, eval_every=1))

    def build(workers: int) -> TeacherLabels:
        with tempfile.TemporaryDirectory() as folder:
            space = Workspace(Path(folder), "cache", "", device, quiet=True)
            build_cache(teacher, views, data.train_labels, EPOCHS, facts, space, workers=workers)
            return TeacherLabels.load(space.result)

    def train(labels) -> None:
        with tempfile.TemporaryDirectory() as folder:
            train_student(config, data, 0, labels, Workspace(Path(folder), "student", "", device, quiet=True), device)

    cached = build(1)
    workers = sorted({1, os.cpu_count() if device.type == "cpu" else 1})
    return {
        "build": {f"{n} worker{'s' * (n > 1)}": (lambda n=n: build(n), EPOCHS) for n in workers},
        "student": {"cache": (lambda: train(cached), 1), "teacher online": (lambda: train(teacher), 1)},
    }


def measure(runs: dict[str, tuple[Callable[[], object], int]], views: int, blocks: int, device) -> dict[str, float]:
    """{name: views a second}, the median of the blocks after the first."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for block in range(blocks + 1):
        for name in list(runs)[:: 1 if block % 2 else -1]:
            began = time.perf_counter()
            runs[name][0]()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - began)
    return {name: round(runs[name][1] * views / statistics.median(seconds[name][1:]), 1) for name in runs}


def table(results: dict[str, dict], where: dict) -> str:
    lines = [
        f"Views a second on {place(where)}, {where['cores']} cores, load {where['load'][0]} (torch {where['torch']}).",
        "",
    ]
    found = []
    for name, parts in results.items():
        for what, rows in parts.items():
            slowest = list(rows.values())[0 if what == "build" else -1]
            for how, rate in rows.items():
                found.append((f"`{name}`", what, how, f"{rate:,}", f"{rate / slowest:.2f}"))
    lines += pipe_table(("recipe of", "what", "how", "views/s", "ratio"), "lllrr", found)
    return "\n".join(lines) + "\n"


def run(args: argparse.Namespace) -> dict:
    """The record, which is also written. args: device, short, out."""
    device = pick_device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    everything, results = params.load_all(HERE.parent), {}
    names = list(CASES)[: 1 if args.short else 2 if device.type == "cpu" else 3]
    for name in names:
        images, number, depth = CASES[name]
        data, (config, _) = data_of(np.resize(images(256), (number, *images(1).shape[1:]))), resolve(everything, name)
        views = Views(config.views, data.train_images, 0).positions_per_epoch
        results[name] = {
            what: measure(runs, views, 1 if args.short else 5, device)
            for what, runs in contenders(config, data, depth, device).items()
        }
        print(name, json.dumps(results[name]), flush=True)
    where = recording.machine(device)
    record = {"environment": where, "recipes": results}
    recording.write(args.out, "cache", record, table(results, where))
    return record


def main() -> None:
    parser = recording.parser(__doc__, "auto")
    parser.add_argument("--short", action="store_true", help="one block of the digits recipe, to see that it runs")
    run(parser.parse_args())


if __name__ == "__main__":
    run_main(main)
