"""Every benchmark of speed on the machine at hand, into one table: training, views, labels, and the device's limits.

    python benchmarks/all.py [--device cuda] [--short] [--out DIR]

In turn: limits.py (copying, matrix products, attention), engine.py (students and teachers against the plain path of
plain.py), distillation.py (a CNN that has a teacher), pretraining.py (masked autoencoders), views.py (views, against
timm in a DataLoader) and cache.py (labels). Writes bench.md and .json where recording.py files them, and distillation,
pretraining, views and cache as those four do alone, but on a CPU all with one thread; docs/performance.md says how to
read them.
Cost: half an hour on two cores, a third of it pretraining.py. On an H200 with 16 cores an estimate, not yet measured:
limits 20 s, engine 370 s (its cases stop at their budgets), pretraining 40 s, views 75 s, cache 60 s.
--short: half a minute, to see that it runs; give it a folder.
"""

from __future__ import annotations

import ctypes
import gc
import time
from pathlib import Path

import cache
import distillation
import engine
import limits
import pretraining
import recording
import torch
import views

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.text import pipe_table
from longtail.report.machines import place
from longtail.runs.seeds import pick_device

HERE = Path(__file__).parent
FLOAT32 = 4  # bytes


def tables(record: dict) -> str:
    """The record as Markdown. Columns and tables that a device has nothing for are left out."""
    where = record["environment"]
    lines = [
        f"On {place(where)}, {where['cores']} cores, load {where['load'][0]} at the start (torch {where['torch']},"
        f" Pillow {where['pillow']}, timm {where['timm']}). `docs/performance.md` says what is measured.",
        "",
        *_training(record["training"]),
        "",
        *(distillation.lines(record["distillation"]) if "distillation" in record else ()),
        "",
        *(pretraining.lines(record["pretraining"]) if "pretraining" in record else ()),
        "",
        *_views(record),
        "",
        *_labels(record["cache"]),
        "",
        *_limits(record["limits"]),
    ]
    return "\n".join(lines) + "\n"


def _training(rows: list[dict]) -> list[str]:
    memory = any(row.get("memory_mb") for row in rows)
    header = [
        "training",
        "img/s",
        "of plain",
        "of matmul",
        "epoch / step",
        "img/s, whole epochs",
        "of plain",
        "SAM / SGD",
    ]
    header += [*["MB"] * memory, "blocks"]
    made = []
    for row in rows:
        what = f"`{row['entry']}`: {row['how']}"
        if "why_not" in row:
            made.append([what, f"not run: {row['why_not']}", *[""] * (len(header) - 2)])
            continue
        made.append(
            [
                what,
                _rate(row["images_per_second"]),
                _ratio(row.get("images_per_second_of_plain")),
                f"{row['of_limit']:.1%}",
                _ratio(row["epoch_over_step"]),
                _rate(row["epoch_images_per_second"]),
                _ratio(row.get("epoch_images_per_second_of_plain")),
                _ratio(row.get("sam_over_sgd")),
                *([f"{row['memory_mb'] or 0:,}"] * memory),
                row["blocks"],
            ]
        )
    return pipe_table(header, "l".ljust(len(header), "r"), made)


def _views(record: dict) -> list[str]:
    rows = []
    for size, makers in record["views"]["sizes"].items():
        most = view_limit(record["limits"], int(size))
        for name, row in makers.items():
            rate = row["views_per_second"]
            ratio = _ratio(rate / makers["timm, loader"]["views_per_second"])
            rows.append((f"{size} px: {name}", _rate(rate), ratio, f"{rate / most:.2%}"))
    return pipe_table(("views", "views/s", "of timm in a DataLoader", "of copying"), "lrrr", rows)


def view_limit(found: dict, size: int) -> float:
    """Views a second if each cost no more than to copy its float32 pixels once."""
    return found["copy"] / (2 * 3 * size**2 * FLOAT32)


def _labels(record: dict) -> list[str]:
    rows = []
    for entry, parts in record["recipes"].items():
        for part, rates in parts.items():
            for how, rate in rates.items():
                rows.append((f"`{entry}`, {part}: {how}", _rate(rate), _ratio(rate / min(rates.values()))))
    return pipe_table(("labels", "views/s", "of the slower"), "lrr", rows)


def _limits(found: dict) -> list[str]:
    rows = [("copy, read and written", f"{found['copy'] / 1e9:,.1f} GB/s")]
    images = f"of {found['images']} images"
    for precision, rates in found["matmul"].items():
        for width, rate in rates.items():
            rows.append((f"product {images}, width {width} to 4 x {width}, {precision}", f"{rate / 1e12:,.3f} TFLOP/s"))
    for width, kernels in found["attention"].items():
        for name, seconds in kernels.items():
            what = f"attention {images}, width {width}, both passes: {name}"
            rows.append((what, f"{seconds * 1e3:,.2f} ms"))
    return pipe_table(("limit", "measured"), "lr", rows)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def give_back_memory() -> None:
    """What a part has left goes back to the system. Gigabytes of it, as ViT-B's pretraining leaves, would be copied
    page by page once the next part forks workers, and its rates would be of the copying."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)


def main() -> None:
    parser = recording.parser(__doc__, "auto")
    parser.add_argument("--short", action="store_true", help="the smallest case of each, to see that it runs")
    args = parser.parse_args()
    device, began = pick_device(args.device), time.monotonic()
    if device.type == "cpu":
        torch.set_num_threads(1)
    record: dict = {"environment": recording.machine(device)}
    table = params.load_all(HERE.parent)

    def report(part: str) -> None:
        give_back_memory()
        print(f"{part}: at {time.monotonic() - began:.0f} s", flush=True)
        recording.write(args.out, "bench", record, f"Unfinished: stopped after {part}.\n")

    record["limits"] = limits.measure(device, args.short)
    report("limits")
    record["training"] = engine.measure(table, record["limits"], device, args.short)
    report("training")
    record["distillation"] = distillation.run(args)
    record["pretraining"] = pretraining.run(args)["entries"]
    report("distillation and pretraining")
    record["views"] = views.run(args)
    report("views")
    record["cache"] = cache.run(args)
    record["seconds"] = round(time.monotonic() - began, 1)
    recording.write(args.out, "bench", record, tables(record))
    print(tables(record))


if __name__ == "__main__":
    run_main(main)
