"""How fast views are made: both backends against timm's own transform, alternating in one run.

    python benchmarks/views.py [--device cuda] [--short]

The published augmentation at 224 pixels (CIFAR images of 32), 96 (of 32) and 24 (digits of 8), 1,024 views a step:
    timm          timm.data.create_transform on one image after the other, in this process, one thread
    timm, loader  the same in a DataLoader with a worker for every core, batches of 128
    pil, torch    longtail.views.Views.step, one process and one thread: the same and mixup or CutMix
Each runs as often as the others, in turn; the table holds medians. CPU time counts this process alone, and is the
figure to read where other programs run. Writes results/views_<device>.md and .json beside this file. Cost: 4 minutes.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import recording
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))  # for the images of the tests

from pictures import digits, small  # noqa: E402

from longtail import params  # noqa: E402
from longtail.errors import run_main  # noqa: E402
from longtail.pixels import pick_backend  # noqa: E402
from longtail.runs import pick_device  # noqa: E402
from longtail.view_recipe import ViewRecipe  # noqa: E402
from longtail.views import Views  # noqa: E402

STEP = 1024
SOURCES = {224: (small, 7), 96: (small, 3), 24: (digits, 3)}  # images, teacher_stride
STEPS = {224: 1, 96: 2, 24: 8}  # of a block on a CPU


class TimmViews(Dataset):
    """timm's views of images, as its own data sets and DeiT-LT's make them."""

    def __init__(self, images: np.ndarray, size: int, views: int) -> None:
        from timm.data import create_transform

        self.images, self.views = images, views
        self.transform = create_transform(
            size,
            is_training=True,
            color_jitter=0.3,
            auto_augment="rand-m9-mstd0.5-inc1",
            interpolation="bicubic",
            re_prob=0.25,
            re_mode="pixel",
            re_count=1,
        )

    def __len__(self) -> int:
        return self.views

    def __getitem__(self, view: int) -> torch.Tensor:
        return self.transform(Image.fromarray(self.images[view % len(self.images)]))


def recipe(size: int) -> ViewRecipe:
    """The published one, at another size."""
    entry = params.entry(params.load(HERE.parent / "params.yaml"), "views", "cifar")
    published = params.build(ViewRecipe, entry, "views.cifar")
    return replace(published, size=size, teacher_stride=SOURCES[size][1], teacher_offset=0, round_to=0)


def contenders(size: int, views: int, device: torch.device) -> dict[str, Callable[[int], None]]:
    """{name: makes `views` views, given the number of the block}."""
    source, _ = SOURCES[size]
    images = np.resize(source(256), (STEP * 16, *source(1).shape[1:]))
    alone = TimmViews(images, size, views)
    loader = DataLoader(alone, 128, num_workers=os.cpu_count(), persistent_workers=True)

    def timm(block: int) -> None:
        for start in range(0, views, 128):
            torch.stack([alone[i] for i in range(start, min(start + 128, views))])

    def timm_loader(block: int) -> None:
        for _ in loader:
            pass

    def backend(name: str) -> Callable[[int], None]:
        of = Views(recipe(size), images, 0, backend=name, device=device if name == "torch" else "cpu")

        def run(block: int) -> None:
            for step in range(block * views // STEP, (block + 1) * views // STEP):
                of.step(*divmod(step, of.steps_per_epoch - 1))  # the last one is not full
            if device.type == "cuda":
                torch.cuda.synchronize()

        return run

    return {"timm": timm, "timm, loader": timm_loader, "pil": backend("pil"), "torch": backend("torch")}


def measure(size: int, device: torch.device, blocks: int, steps: int) -> dict[str, dict]:
    """{name: views_per_second, cpu_us_per_view}, medians over blocks after one that is not counted."""
    views = steps * STEP
    runs = contenders(size, views, device)
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for block in range(blocks + 1):
        for name in list(runs)[:: 1 if block % 2 else -1]:
            before = time.perf_counter(), time.process_time()
            runs[name](block)
            wall[name].append(time.perf_counter() - before[0])
            cpu[name].append(time.process_time() - before[1])
    return {
        name: {
            "views_per_second": round(views / statistics.median(wall[name][1:])),
            "cpu_us_per_view": round(1e6 * statistics.median(cpu[name][1:]) / views, 1),
        }
        for name in runs
    }


def table(results: dict[int, dict], where: dict) -> str:
    lines = [
        f"Views a second on {where['device']}, {where['cores']} cores, load {where['load'][0]}"
        f" (torch {where['torch']}, Pillow {where['pillow']}, timm {where['timm']}). Default: what `auto` picks.",
        "",
        "| size | maker | views/s | of timm | of timm, loader | CPU µs a view | default |",
        "|--:|:--|--:|--:|--:|--:|:--|",
    ]
    for size, rows in results.items():
        one, all_cores = (rows[name]["views_per_second"] for name in ("timm", "timm, loader"))
        for name, row in rows.items():
            rate = row["views_per_second"]
            ratios = f"{rate / one:.2f} | {rate / all_cores:.2f}"
            cpu = "" if name == "timm, loader" else row["cpu_us_per_view"]
            chosen = "yes" if name == where["default"][str(size)] else ""
            lines.append(f"| {size} | {name} | {rate:,} | {ratios} | {cpu} | {chosen} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = recording.parser(__doc__, "auto")
    parser.add_argument("--short", action="store_true", help="one block at 24 pixels, to see that it runs")
    args = parser.parse_args()
    device = pick_device(args.device)
    torch.set_num_threads(1)
    results = {}
    for size in [24] if args.short else SOURCES:
        steps = 1 if args.short else STEPS[size] * (8 if device.type == "cuda" else 1)
        results[size] = measure(size, device, 1 if args.short else 5, steps)
        print(size, json.dumps(results[size]), flush=True)
    where = recording.machine(device)
    where["default"] = {str(size): pick_backend("auto", device, size) for size in results}
    recording.write(args.out, "views", device, {"environment": where, "sizes": results}, table(results, where))


if __name__ == "__main__":
    run_main(main)
