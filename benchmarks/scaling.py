"""How data-parallel training scales over the processes of this machine, and what the sums of gradients cost.

    python benchmarks/scaling.py [--device cuda] [--processes N] [--precision bf16] [--engine eager]
    python benchmarks/scaling.py --device cpu --page docs/scaling.md    # measures nothing, see below

Students of params.yaml train on noise of their dataset's size through longtail/training/student.py, started by
longtail/runs/launch.py as a stage is (scaling_member.py). All teams stay in memory and take blocks of steps in turn:
    1 process, of one thread and of N; N processes of one thread, on CUDA of one GPU, by gloo or NCCL; the same with a
    step N times as large (weak scaling); N seeds side by side; N processes that sum gradients after the backward
    pass, or never, which shows what the overlap hides and what is left; and the sums alone.
Medians of the blocks after one that is not counted. Writes scaling.md and .json where recording.py files them;
--page puts the tables of that file between the markers of a page. Cost: 4 minutes on two cores. Never run on CUDA.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import recording
import torch
import torch.distributed as dist
from scaling_member import Job, Turn, command, config_of, step_views

from longtail.base.errors import UserError, run_main
from longtail.base.text import pipe_table
from longtail.base.workers import cores
from longtail.report.machines import place
from longtail.runs.execution import Execution, add_options, chosen
from longtail.runs.seeds import pick_device

LOOK_S = 0.02  # between looks whether a block is done
AFTER, NEVER, ALONE = "sums after the backward pass", "no sums", "sums alone"


@dataclass(frozen=True)
class Case:
    """A student, and how many steps make a block."""

    entry: str
    steps: int
    side: int = 32  # px of an image
    size: int = 0  # px of a view; 0 = the entry's
    group: int = 0  # views of a mix group; 0 = the entry's
    whole: bool = True  # all contenders; else one process, N, and those about sums


SHORT = {"digits": Case("digits-deit_lt", 1, 8, whole=False)}
CPU = {
    "mini": Case("cifar10_if100-mini-deit_lt", 12),
    "ViT-Ti, 96 px": Case("cifar10_if100-deit_lt-ti", 4, size=96, group=16),
    "ViT-S, 96 px": Case("cifar10_if100-deit_lt-s", 2, size=96, group=16, whole=False),
}
CUDA = {"ViT-Ti": Case("cifar10_if100-deit_lt-ti", 10), "ViT-B": Case("cifar10_if100-deit_lt-b", 10)}


@dataclass(frozen=True)
class Contender:
    """teams: names of those that go at once, each of so many processes; steps: of a block, 0 = sums alone."""

    teams: tuple[str, ...]
    steps: int
    processes: int = 1
    threads: int = 1  # of a process
    sums: str = "during"
    larger: int = 1  # how many times the others' optimizer step

    @property
    def cores(self) -> int:
        return len(self.teams) * self.processes * self.threads


def contenders(case: Case, count: int, device: torch.device) -> dict[str, Contender]:
    """By what the tables call them. On CUDA a process has a GPU, and threads are of no interest."""
    alone, team = Contender(("0",), case.steps), Contender(("team",), case.steps, count)
    found = {"1 process": alone}
    if case.whole and device.type == "cpu":
        found[f"1 process, {count} threads"] = replace(alone, threads=count)
    if case.whole:
        found |= {
            f"{size} processes": replace(team, teams=(f"team of {size}",), processes=size)
            for size in (2**power for power in range(1, 12))
            if size < count
        }
    found[f"{count} processes"] = team
    if case.whole:
        more = replace(team, teams=("larger",), larger=count, steps=-(-case.steps // count))
        found[f"{count} processes, step {count} times as large"] = more
        found[f"{count} seeds side by side"] = replace(alone, teams=tuple(map(str, range(count))))
    found[AFTER] = replace(team, sums="after")
    found[NEVER] = replace(team, sums="never")
    found[ALONE] = replace(team, steps=0)
    return found


@contextmanager
def teams(found: dict[str, Contender], job: Job, accumulate: int) -> Iterator[dict[str, subprocess.Popen]]:
    """All teams at work, by name. On CUDA a process that is a team alone has a GPU of its own."""
    running = {}
    try:
        for of in found.values():
            for name in of.teams:
                own = {"LONGTAIL_NPROC": str(of.processes)}
                if job.device == "cuda" and of.processes == 1:
                    own["CUDA_VISIBLE_DEVICES"] = name
                environment = {"OMP_WAIT_POLICY": "PASSIVE"} | dict(os.environ) | own
                if name not in running:
                    started = command(replace(job, team=name, accumulate=accumulate * of.larger))
                    running[name] = subprocess.Popen(started, env=environment)
        yield running
        for process in running.values():
            process.wait(60)
    finally:
        for process in running.values():
            process.terminate()


def measure(case: Case, count: int, blocks: int, device: torch.device, execution: Execution) -> dict:
    """Start all teams, let the contenders take blocks in turn, and reckon up."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    found = contenders(case, count, device)
    job = Job(
        entry=case.entry,
        side=case.side,
        size=case.size,
        group=case.group,
        accumulate=0,
        device=device.type,
        precision=execution.precision,
        engine=execution.engine,
        port=store.port,
        team="",
    )
    views = config_of(job).views
    accumulate = max(views.accumulate, -(-count // views.virtual_world))  # at least a group for each process
    step = step_views(config_of(replace(job, accumulate=accumulate)))
    heard: dict[str, list[list[dict]]] = {name: [] for name in found}
    with teams(found, job, accumulate) as running:
        sizes = {name: of.processes for of in found.values() for name in of.teams}
        turns = dict.fromkeys(running, 0)

        def answers(names) -> list[dict]:
            keys = [f"{name}.{rank}/{turns[name]}" for name in names for rank in range(sizes[name])]
            while not store.check(keys):
                if any(process.poll() for process in running.values()):
                    raise UserError("a process of the benchmark has failed, see above")
                time.sleep(LOOK_S)
            turns.update({name: turns[name] + 1 for name in names})
            return [json.loads(store.get(key)) for key in keys]

        def tell(names, turn: Turn) -> None:
            for name in names:
                store.set(f"{name}/{turns[name]}", json.dumps(asdict(turn)))

        answers(running)
        for block in range(blocks + 1):
            for name in list(found)[:: -1 if block % 2 else 1]:
                of = found[name]
                tell(of.teams, Turn(of.steps, of.threads if device.type == "cpu" else 0, of.sums))
                heard[name].append(answers(of.teams))
        tell(running, Turn(0, 0, "", last=True))
    rows = {name: _row(found[name], step, said[1:]) for name, said in heard.items()}
    for name in rows.keys() - {ALONE}:
        rate = rows[name]["images_per_second"] / rows["1 process"]["images_per_second"]
        rows[name]["efficiency"] = round(rate / found[name].cores, 3)
    return {"entry": case.entry, "views_of_a_step": step, "contenders": rows}


def _row(of: Contender, step: int, blocks: list[list[dict]]) -> dict:
    """A contender's numbers from what its processes said of each block."""
    seconds = statistics.median(max(said["seconds"] for said in block) for block in blocks)
    if not of.steps:
        return {"ms": round(1e3 * seconds, 2), "buckets": blocks[0][0]["buckets"]}
    images = len(of.teams) * of.steps * of.larger * step
    cpu = statistics.median(sum(said["cpu"] for said in block) for block in blocks)
    ahead = statistics.median(statistics.mean(said["ahead"] for said in block) for block in blocks)
    waited = [statistics.mean(said["waited"] / said["seconds"] for said in block) for block in blocks]
    return {
        "processes": len(of.teams) * of.processes,
        "threads": of.threads,
        "images_per_second": round(images / seconds, 1),
        "ms_of_a_step": round(1e3 * seconds / of.steps, 1),
        "cpu_ms_of_an_image": round(1e3 * cpu / images, 3),
        "ms_ahead": round(1e3 * ahead / of.steps, 1),
        "waiting": round(statistics.median(waited), 4),
    }


def tables(record: dict) -> str:
    """Two tables in Markdown: rates, and sums of gradients."""
    where, count, cuda = record["environment"], record["processes"], record["device"] == "cuda"
    about = [
        f"{where['cores']} cores ({place(where)}), torch {where['torch']}, {record['precision']}, {record['engine']}"
        f", load {where['load'][0]} at the end.",
        "",
    ]
    rates, sums = [], []
    for name, case in record["cases"].items():
        rows = case["contenders"]
        for how, row in rows.items():
            if how in (AFTER, NEVER, ALONE):
                continue
            waiting = "" if cuda or "processes" not in how else f"{row['waiting']:.1%}"
            numbers = f"{row['images_per_second']:,.1f}", f"{row['efficiency']:.2f}", f"{row['cpu_ms_of_an_image']:.2f}"
            rates.append((name, case["views_of_a_step"], how, *numbers, waiting))
        size, ms = sum(rows[ALONE]["buckets"]), rows[ALONE]["ms"]
        sent = 2 * (count - 1) / count * size / 1e6 / ms  # GB/s
        team = rows[f"{count} processes"]
        cells = [
            f"{size / 1e6:.1f}",
            f"{len(rows[ALONE]['buckets'])}",
            f"{ms:.1f}",
            f"{sent:.2f}",
            f"{team['ms_ahead']:.0f}",
        ]
        cells += [f"{row['ms_of_a_step']:.0f}" for row in (team, rows[AFTER], rows[NEVER])]
        cells += [f"{row['cpu_ms_of_an_image']:.2f}" for row in (team, rows[NEVER])]
        sums.append((name, *cells))
    of_rates = ("student", "views a step", "how", "images/s", "efficiency", "CPU-ms an image", "waiting for sums")
    of_sums = (
        *("student", "MB", "buckets", "ms of the sums alone", "GB/s"),
        *("ms from the first sum to the end of the backward pass", "ms of a step"),
        *("with sums after the backward pass", "without sums", "CPU-ms an image", "without sums"),
    )
    lines = [*about, *pipe_table(of_rates, "lrlrrrr", rates), "", *pipe_table(of_sums, "l" + "r" * 10, sums)]
    return "\n".join(lines) + "\n"


def put_into(page: Path, record: dict) -> None:
    """Replace what stands between the markers of a page by the tables. Raises UserError where it has none."""
    recording.put_into(page, "measured", shown(record))


def shown(record: dict) -> str:
    """What a page of docs/ says of the record."""
    about, _, rest = tables(record).rstrip("\n").partition("\n")
    return f"{about} Of {recording.link('scaling', record['environment'], 'this record', '../')}.\n{rest}"


def main() -> None:
    parser = recording.parser(__doc__, "auto")
    add_options(parser)
    parser.add_argument("--processes", type=int, default=0, help="default: one for each core, on CUDA for each GPU")
    parser.add_argument("--blocks", type=int, default=5, help="that count; default: %(default)s")
    parser.add_argument("--short", action="store_true", help="digits alone, a step a block, to see that it runs")
    parser.add_argument("--page", type=Path, help="put the tables of the newest record into it; measure nothing")
    args = parser.parse_args()
    device = pick_device(args.device)
    if args.page:
        path = recording.newest("scaling", args.out, card=device.type == "cuda")
        if path is None:
            raise UserError(f"{args.out}: no record of scaling on {device.type}; measure it first")
        put_into(args.page, json.loads(path.read_text()))
        return
    most = cores() if device.type == "cpu" else torch.cuda.device_count()
    count = args.processes or most
    if not 2 <= count <= most:
        raise UserError(f"{count} processes: from 2 to {most}, the cores or GPUs here, are possible")
    cases = SHORT if args.short else CPU if device.type == "cpu" else CUDA
    execution = chosen(args, device)
    record = {"device": device.type, "processes": count, "blocks": args.blocks, **asdict(execution), "cases": {}}
    for name, case in cases.items():
        record["cases"][name] = measure(case, count, args.blocks, device, execution)
        print(name, json.dumps(record["cases"][name]), flush=True)
    record["environment"] = recording.machine(device)
    recording.write(args.out, "scaling", record, tables(record))


if __name__ == "__main__":
    run_main(main)
