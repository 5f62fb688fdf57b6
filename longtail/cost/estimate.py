"""What a target costs on this machine before it is run: time, memory and disk of every stage that it needs.

    python -m longtail.cost digits
    python -m longtail.cost train_student@cifar10_if100-deit_lt-b
    python -m longtail.cost report@cifar10_if100 --device cuda

The target is a study or a stage; what it needs is read from dvc.yaml. Counts come from params.yaml
(cost/workload.py), rates from a measurement of about 20 seconds (cost/speed.py), of one thread on a CPU.
Decoding of image files and stages that only read and write results are not in it. Nothing is trained or written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longtail.base import params
from longtail.base.errors import UserError
from longtail.cost.speed import Rate, Speeds
from longtail.cost.upstream import Stage, needed_by, stages
from longtail.cost.workload import Images, Load, Workload

DAY = 86_400
UNITS = ((365.25 * DAY, "years"), (30.44 * DAY, "months"), (DAY, "days"), (3600, "h"), (60, "min"), (0, "s"))
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (0, "kB"))


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


def shown(value: float, units: Sequence[tuple[float, str]]) -> str:
    """With the largest unit that is not above it, three digits: 95 -> 1.58 min."""
    unit, name = next((u, n) for u, n in units if value >= u)
    scaled = value / (unit or {"s": 1, "kB": 1e3}[name])
    return f"{scaled:.3g} {name}" if scaled < 100 else f"{scaled:,.0f} {name}"


def table(found: Sequence[Estimate], chain: float, slots: int, what: str) -> str:
    """The stages and their totals, as text. slots: processes that run beside one another, each on its `what`."""
    rows = [("stage", "seeds", "time", "memory", "disk", "")]
    for each in found:
        notes = ["done"] if each.finished else []
        notes += [f"scaled by operations from {', '.join(each.scaled_from)}"] if each.scaled_from else []
        sizes = (shown(size, SIZES) if size else "" for size in (each.memory, each.disk))
        rows.append((each.stage.name, str(each.seeds), shown(each.seconds, UNITS), *sizes, "; ".join(notes)))
    left = [each for each in found if not each.finished]
    for name, some in (("in all", found), ("not done yet", left)):
        seconds, disk = (sum(getattr(each, field) for each in some) for field in ("seconds", "disk"))
        memory = max((each.memory for each in some), default=0)
        rows.append((name, "", shown(seconds, UNITS), *(shown(n, SIZES) if n else "" for n in (memory, disk)), ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(len(lines) - 2, "")
    best = max(sum(each.seconds for each in found) / slots, chain)
    lines += [
        "",
        f"time: of one {what} that does nothing else. With {slots} of them at work: {shown(best, UNITS)} or more.",
    ]
    if best > DAY:
        lines.append(
            f"WARNING: this takes more than a day: about {shown(best, UNITS)} with {slots} {what}{'s'[: slots > 1]}."
        )
    lines += ["memory: of one process, with all views of a step at once; --micro-batch of train_student bounds it."]
    return "\n".join(lines) + "\n"


def counted(table_of: dict, root: Path) -> dict[str, Images]:
    """Sizes of the datasets that are there. Raises UserError for a damaged file."""
    found = {}
    for name in table_of.get("datasets") or {}:
        path = root / f"data/datasets/{name}.npz"
        if not path.is_file():
            continue
        try:
            with np.load(path) as file:
                in_files = "train_images" not in file.files
                side = 0 if in_files else file["train_images"].shape[1]
                sizes = len(file["class_counts"]), len(file["train_labels"]), len(file["test_labels"])
        except Exception as error:  # a damaged file makes zipfile and NumPy raise many kinds
            raise UserError(f"{path}: cut short or no dataset file ({error}); make it again with subsample") from None
        found[name] = Images(*sizes, side, in_files)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", metavar="TARGET", help="a study, or a stage such as train_student@digits-vit")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: CUDA if present")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: %(default)s")
    args = parser.parse_args()
    import torch

    from longtail.base.workers import cores
    from longtail.runs.seeds import pick_device

    everything, root = params.load(args.params), args.params.parent
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
    base, speeds = resident(), Speeds(everything, workload, device)
    for load in loads:
        speeds.rate(load)
    found = estimate(needed, workload, speeds.rate, base, root)
    print(table(found, longest_chain(found, known), slots, what), end="")


def resident() -> int:
    """Bytes of memory that this process has now."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmRSS"))
