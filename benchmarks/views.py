"""How fast views are made: both backends against timm's own transform, alternating in one run.

    python benchmarks/views.py [--device cuda] [--short]

The published augmentation at 224 pixels (CIFAR images of 32), 96 (of 32) and 24 (digits of 8), 1,024 views a step:
    timm          timm.data.create_transform on one image after the other, in this process, one thread
    timm, loader  the same in a DataLoader with a worker for every core, batches of 128
    pil, torch    longtail.views.student_views.Views.step, one process and one thread: the same and mixup or CutMix
    pil, workers  Views.steps with as many workers as the loader has, which start anew in every block
Each runs as often as the others, in turn; the table holds medians. CPU time counts this process alone, and is the
figure to read where other programs run. Writes views.md and .json where recording.py files them. Cost: 4 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import plain
import recording
import torch
from torch.utils.data import DataLoader

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # for the images of the tests

from longtail.base import params  # noqa: E402
from longtail.base.errors import run_main  # noqa: E402
from longtail.base.text import pipe_table  # noqa: E402
from longtail.report.machines import place  # noqa: E402
from longtail.runs.seeds import pick_device  # noqa: E402
from longtail.views.pixels import pick_backend  # noqa: E402
from longtail.views.recipe import ViewRecipe  # noqa: E402
from longtail.views.student_views import Views  # noqa: E402
from tests.helpers.pictures import digits, small  # noqa: E402

STEP = 1024
SOURCES = {224: (small, 7), 96: (small, 3), 24: (digits, 3)}  # images, teacher_stride
STEPS = {224: 1, 96: 2, 24: 8}  # of a block; on a GPU eight times as many


def recipe(size: int) -> ViewRecipe:
    """The published one, at another size."""
    entry = params.entry(params.load_all(HERE.parent), "views", "cifar")
    published = params.build(ViewRecipe, entry, "views.cifar")
    return replace(published, size=size, teacher_stride=SOURCES[size][1], teacher_offset=0, round_to=0)


def contenders(size: int, views: int, device: torch.device) -> dict[str, tuple[int, Callable[[int], None]]]:
    """{name: (views of a block, what makes them, given the number of the block)}. views: of a block on a CPU."""
    source, _ = SOURCES[size]
    images = np.resize(source(256), (STEP * 16, *source(1).shape[1:]))
    alone = plain.Samples(images[:views], np.zeros(views), plain.train_transform(recipe(size)))
    loader = DataLoader(alone, 128, num_workers=os.cpu_count(), persistent_workers=True)

    def timm(block: int) -> None:
        for start in range(0, views, 128):
            torch.stack([alone[i][0] for i in range(start, min(start + 128, views))])

    def timm_loader(block: int) -> None:
        for _ in loader:
            pass

    def backend(name: str) -> tuple[int, Callable[[int], None]]:
        on = device if name == "torch" else torch.device("cpu")
        of = Views(recipe(size), images, 0, backend=name, device=on)
        steps = views // STEP * (8 if on.type == "cuda" else 1)

        def run(block: int) -> None:
            for step in range(block * steps, (block + 1) * steps):
                of.step(*divmod(step, of.steps_per_epoch - 1))  # the last one is not full
            if on.type == "cuda":
                torch.cuda.synchronize()

        return steps * STEP, run

    ahead = Views(recipe(size), images, 0, backend="pil")

    def workers(block: int) -> None:
        wanted = lambda step: slice(None) if step < views // STEP else slice(0)  # noqa: E731 - and no work for later ones
        for batch in islice(ahead.steps(block, workers=os.cpu_count(), groups=wanted), views // STEP):
            assert len(batch.x) == STEP

    timms = {"timm": (views, timm), "timm, loader": (views, timm_loader)}
    return timms | {name: backend(name) for name in ("pil", "torch")} | {"pil, workers": (views, workers)}


def measure(size: int, device: torch.device, blocks: int, steps: int) -> dict[str, dict]:
    """{name: views_per_second, cpu_us_per_view}, medians over blocks after one that is not counted."""
    runs = contenders(size, steps * STEP, device)
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for block in range(blocks + 1):
        for name in list(runs)[:: 1 if block % 2 else -1]:
            before = time.perf_counter(), time.process_time()
            runs[name][1](block)
            wall[name].append(time.perf_counter() - before[0])
            cpu[name].append(time.process_time() - before[1])
    return {
        name: {
            "views_per_second": round(runs[name][0] / statistics.median(wall[name][1:])),
            "cpu_us_per_view": round(1e6 * statistics.median(cpu[name][1:]) / runs[name][0], 1),
        }
        for name in runs
    }


def table(results: dict[int, dict], where: dict) -> str:
    lines = [
        f"Views a second on {place(where)}, {where['cores']} cores, load {where['load'][0]}"
        f" (torch {where['torch']}, Pillow {where['pillow']}, timm {where['timm']}). Default: what `auto` picks.",
        "",
    ]
    found = []
    for size, rows in results.items():
        one, all_cores = (rows[name]["views_per_second"] for name in ("timm", "timm, loader"))
        for name, row in rows.items():
            rate = row["views_per_second"]
            ratios = f"{rate / one:.2f}", f"{rate / all_cores:.2f}"
            cpu = "" if name in ("timm, loader", "pil, workers") else row["cpu_us_per_view"]
            chosen = "yes" if name == where["default"][str(size)] else ""
            found.append((size, name, f"{rate:,}", *ratios, cpu, chosen))
    header = ("size", "maker", "views/s", "of timm", "of timm, loader", "CPU µs a view", "default")
    lines += pipe_table(header, "rlrrrrl", found)
    return "\n".join(lines) + "\n"


def run(args: argparse.Namespace) -> dict:
    """The record, which is also written. args: device, short, out."""
    device = pick_device(args.device)
    torch.set_num_threads(1)
    results = {}
    for size in [24] if args.short else SOURCES:
        results[size] = measure(size, device, 1 if args.short else 5, 1 if args.short else STEPS[size])
        print(size, json.dumps(results[size]), flush=True)
    where = recording.machine(device)
    where["default"] = {str(size): pick_backend("auto", device, size) for size in results}
    record = {"environment": where, "sizes": {str(size): rows for size, rows in results.items()}}
    recording.write(args.out, "views", record, table(results, where))
    return record


def main() -> None:
    parser = recording.parser(__doc__, "auto")
    parser.add_argument("--short", action="store_true", help="one block at 24 pixels, to see that it runs")
    run(parser.parse_args())


if __name__ == "__main__":
    run_main(main)
