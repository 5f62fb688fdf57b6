"""What a target costs on this machine before it is run: time, memory and disk of every stage that it needs.

    python -m longtail.cost digits
    python -m longtail.cost train_student@cifar10_if100-deit_lt-b
    python -m longtail.cost report@cifar10_if100 --device cuda

The target is a study or a stage; what it needs is read from dvc.yaml. Counts come from its params
(cost/workload.py), rates from a measurement of about 20 seconds (cost/speed.py), of one thread on a CPU.
Decoding of image files and stages that only read and write results are not in it. Nothing is trained or written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from longtail.base import params
from longtail.base.files import npz
from longtail.base.options import add_device, add_params
from longtail.base.text import DAY, SIZES, TIMES, with_unit
from longtail.cost.speed import Rate, Speeds
from longtail.cost.upstream import Stage, needed_by, stages
from longtail.cost.workload import Images, Load, Workload


@dataclass(frozen=True)
class Estimate:
    """One stage, all its seeds, one after the other."""

    stage: Stage
    seconds: float
    memory: int  # bytes of one seed
    disk: int  # bytes of all seeds
    scaled_from: tuple[str, ...]  # what was measured in the place of what it does
    finished: bool

    @property
    def seeds(self) -> int:
        return len(self.stage.seeds) or 1


def estimate(
    needed: Sequence[Stage], workload: Workload, rate: Callable[[Load], Rate], base: int, root: Path
) -> list[Estimate]:
    """The stages that compute, in order. base: bytes of a process that has loaded its libraries."""
    found = []
    for stage in needed:
        work = workload.of(stage.kind, stage.entry)
        if work is None:
            continue
        rates = [(load, rate(load)) for load in work.loads]
        scaled = dict.fromkeys(r.scaled_from for _, r in rates if r.scaled_from)
        seconds = sum(load.count * r.seconds for load, r in rates)
        seeds = len(stage.seeds) or 1
        memory, finished = base + work.memory, stage.finished(root)
        found.append(Estimate(stage, seeds * seconds, memory, seeds * work.disk, tuple(scaled), finished))
    return found


def longest_chain(found: Sequence[Estimate], known: dict[str, Stage]) -> float:
    """Seconds of the stages that wait for one another, seeds beside one another: no number of processors is faster."""
    seconds = {e.stage.name: e.seconds / e.seeds for e in found}
    ends: dict[str, float] = {}
    for each in found:
        before = {stage.name for stage in needed_by(each.stage.name, known)} & set(ends)
        ends[each.stage.name] = seconds[each.stage.name] + max((ends[name] for name in before), default=0.0)
    return max(ends.values(), default=0.0)


def order(needed: Sequence[Stage], workload: Workload) -> list[Load]:
    """What to measure first: of each part the load with the most work, then the next of each."""
    loads: dict[str, list[Load]] = {}
    for stage in needed:
        work = workload.of(stage.kind, stage.entry)
        for load in work.loads if work else ():
            loads.setdefault(load.part, []).append(load)
    ranked = [sorted(of, key=lambda load: (-load.flop, -load.count)) for of in loads.values()]
    return [of[i] for i in range(max(map(len, ranked), default=0)) for of in ranked if i < len(of)]


def table(found: Sequence[Estimate], chain: float, slots: int, what: str) -> str:
    """The stages and their totals, as text. slots: processes that run beside one another, each on its `what`."""
    rows = [("stage", "seeds", "time", "memory", "disk", "")]
    for each in found:
        notes = ["done"] if each.finished else []
        notes += [f"scaled by operations from {', '.join(each.scaled_from)}"] if each.scaled_from else []
        sizes = (with_unit(size, SIZES) if size else "" for size in (each.memory, each.disk))
        rows.append((each.stage.name, str(each.seeds), with_unit(each.seconds, TIMES), *sizes, "; ".join(notes)))
    left = [each for each in found if not each.finished]
    for name, some in (("in all", found), ("not done yet", left)):
        seconds, disk = (sum(getattr(each, field) for each in some) for field in ("seconds", "disk"))
        memory = max((each.memory for each in some), default=0)
        rows.append(
            (name, "", with_unit(seconds, TIMES), *(with_unit(n, SIZES) if n else "" for n in (memory, disk)), "")
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(len(lines) - 2, "")
    best = max(sum(each.seconds for each in found) / slots, chain)
    lines += [
        "",
        f"time: of one {what} that does nothing else. With {slots} of them at work: {with_unit(best, TIMES)} or more.",
    ]
    if best > DAY:
        several = f"{slots} {what}{'s'[: slots > 1]}"
        lines.append(f"WARNING: this takes more than a day: about {with_unit(best, TIMES)} with {several}.")
    lines += ["memory: of one process, with all views of a step at once; --micro-batch of train_student bounds it."]
    return "\n".join(lines) + "\n"


def counted(table_of: dict, root: Path) -> dict[str, Images]:
    """Sizes of the datasets that are there. Raises UserError for a damaged file."""
    found = {}
    for name in table_of.get("datasets") or {}:
        path = root / f"data/datasets/{name}.npz"
        if not path.is_file():
            continue
        with npz(path, "cut short or no dataset file", "make it again with subsample") as file:
            in_files = "train_images" not in file.files
            side = 0 if in_files else file["train_images"].shape[1]
            sizes = len(file["class_counts"]), len(file["train_labels"]), len(file["test_labels"])
            held = len(file["val_labels"]) if "val_labels" in file.files else 0
        found[name] = Images(*sizes, side, in_files, held)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", metavar="TARGET", help="a study, or a stage such as train_student@digits-vit")
    add_device(parser)
    add_params(parser)
    args = parser.parse_args()
    import torch

    from longtail.base.workers import cores
    from longtail.runs.seeds import pick_device

    everything, root = params.load(args.params), args.params.parent if args.params else Path()
    known = stages(root / "dvc.yaml", everything)
    needed = needed_by(args.target, known)
    workload = Workload(everything, counted(everything, root))
    loads = order(needed, workload)
    device = pick_device(args.device)
    cpu = device.type == "cpu"
    slots = cores() if cpu else torch.cuda.device_count()
    what = "CPU core" if cpu else torch.cuda.get_device_name(device)
    torch.set_num_threads(1)
    print(f"measuring on one {what}, about 20 s", file=sys.stderr, flush=True)
    base, speeds = psutil.Process().memory_info().rss, Speeds(everything, workload, device)
    for load in loads:
        speeds.rate(load)
    found = estimate(needed, workload, speeds.rate, base, root)
    print(table(found, longest_chain(found, known), slots, what), end="")
