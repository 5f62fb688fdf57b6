"""Several seeds of a small CNN in one process: as one batched model, against one after another and against processes.

    python benchmarks/many_seeds.py [--device cuda] [--short]

A step of S seeds: forward pass, cross-entropy, backward pass and SGD with momentum, on random pixels that lie ready.
`in turn`: each seed's step after the other. `batched`: their weights stacked (torch.func.stack_module_state), one pass
by torch.vmap, whose convolutions become grouped ones. `streams`, on CUDA: each seed on a stream of its own.
`processes`, on a CPU: as many processes as cores, with one thread each, which is what `longtail` does; the other two
have all cores. Weights and buffers of `batched` and `in turn` are compared after the same steps in float64.
Each contender in turn, a block of steps at a time; medians. Writes many_seeds.md and .json where recording.py files
them. Cost on two cores: a minute.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import recording
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.text import pipe_table
from longtail.runs.seeds import pick_device
from longtail.training.teacher import build_model
from longtail.training.teacher_config import TeacherConfig

HERE = Path(__file__).parent
CLASSES = 10
WORTH = 1.5  # what one batched model must gain before `longtail` trains seeds that way


@dataclass(frozen=True)
class Case:
    entry: str
    pixels: int
    seeds: int
    steps: int  # of a block
    blocks: int


CPU = (Case("dive-digits_if20", 8, 4, 20, 7), Case("cbd-cifar10_if100-mini", 32, 4, 1, 5))
SHORT = (Case("dive-digits_if20", 8, 2, 1, 2),)
CUDA = (Case("dive-digits_if20", 8, 6, 60, 7), Case("dive-cifar100_if100", 32, 6, 30, 7))


class Seeds:
    """S networks of an entry, each of its own weights, with a batch of their own: images [S, B, 3, H, W], labels."""

    def __init__(self, case: Case, config: TeacherConfig, device: torch.device, dtype: torch.dtype) -> None:
        self.batch = config.batch_size
        self.networks: list[nn.Module] = []
        for seed in range(case.seeds):
            torch.manual_seed(seed)
            network = build_model(config, CLASSES).to(device, dtype, memory_format=torch.channels_last)
            self.networks.append(network.train())
        self.images = torch.randn(case.seeds, self.batch, 3, case.pixels, case.pixels, dtype=dtype).to(device)
        self.labels = torch.randint(CLASSES, (case.seeds, self.batch)).to(device)
        self._sgd = partial(torch.optim.SGD, lr=config.lr, momentum=0.9, weight_decay=config.weight_decay)

    def in_turn(self, streams: bool = False) -> Callable[[], None]:
        """A function that takes a step of each seed."""
        optimizers = [self._sgd(network.parameters()) for network in self.networks]
        images = [x.contiguous(memory_format=torch.channels_last) for x in self.images]
        on = [torch.cuda.Stream() if streams else None for _ in self.networks]

        def step() -> None:
            for stream in filter(None, on):
                stream.wait_stream(torch.cuda.current_stream())
            for seed, stream in enumerate(on):
                network, optimizer, x, y = self.networks[seed], optimizers[seed], images[seed], self.labels[seed]
                with torch.cuda.stream(stream):  # None changes nothing
                    optimizer.zero_grad()
                    F.cross_entropy(network(x), y).backward()
                    optimizer.step()
            for stream in filter(None, on):
                torch.cuda.current_stream().wait_stream(stream)

        return step

    def batched(self) -> tuple[Callable[[], None], dict[str, Tensor]]:
        """A function that takes a step of all seeds at once, and their stacked weights and buffers, [S, ...]."""
        warnings.filterwarnings("ignore", "There is a performance drop because", UserWarning)  # of the pooling layer
        weights, buffers = torch.func.stack_module_state(self.networks)
        weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        optimizer = self._sgd(weights.values())
        forward = torch.vmap(lambda w, b, x: torch.func.functional_call(self.networks[0], (w, b), (x,)))

        def step() -> None:
            optimizer.zero_grad()
            logits = forward(weights, buffers, self.images).flatten(0, 1)
            (F.cross_entropy(logits, self.labels.flatten(), reduction="sum") / self.batch).backward()
            optimizer.step()

        return step, weights | buffers


def difference(case: Case, config: TeacherConfig, device: torch.device, steps: int = 5) -> float:
    """The largest difference of any weight or buffer between both ways after the same steps in float64, relative to
    the largest of that tensor."""
    ways = []
    for _ in range(2):
        torch.manual_seed(0)
        ways.append(Seeds(case, config, device, torch.float64))
        torch.manual_seed(1)
        ways[-1].images, ways[-1].labels = torch.rand_like(ways[-1].images), ways[0].labels
    single, (batched, state) = ways[0].in_turn(), ways[1].batched()
    for _ in range(steps):
        single()
        batched()
    most = 0.0
    for name, tensor in state.items():
        own = torch.stack([network.state_dict()[name] for network in ways[0].networks]).double()
        most = max(most, float((own - tensor.detach().double()).abs().max() / own.abs().max().clamp_min(1.0)))
    return most


def measure(table: dict, device: torch.device, short: bool) -> list[dict]:
    """A row for each case. table: of all params files."""
    rows = []
    for case in CUDA if device.type == "cuda" else SHORT if short else CPU:
        config = params.build(TeacherConfig, params.entry(table, "teachers", case.entry), case.entry).untaught()
        seeds = Seeds(case, config, device, torch.float32)
        contenders = {"in turn": seeds.in_turn(), "batched": seeds.batched()[0]}
        if device.type == "cuda":
            contenders["streams"] = seeds.in_turn(streams=True)
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for block in range(case.blocks + 1):  # the first one is not counted
            for name in list(contenders)[:: 1 if block % 2 else -1]:
                took = _timed(contenders[name], case.steps, device)
                if block:
                    seconds[name].append(took)
        found = {name: statistics.median(times) for name, times in seconds.items()}
        if device.type == "cpu":
            found["processes"] = _processes(case, config)
        rows.append(
            {
                "entry": case.entry,
                "arch": config.arch,
                "seeds": case.seeds,
                "seconds": {name: round(value, 5) for name, value in found.items()},
                "of_best_other": round(min(v for n, v in found.items() if n != "batched") / found["batched"], 4),
                "difference": difference(case, config, device),
            }
        )
    return rows


def _timed(work: Callable[[], None], times: int, device: torch.device) -> float:
    """Seconds of one of several calls."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / times


def _processes(case: Case, config: TeacherConfig) -> float:
    """Seconds of a step of all seeds, shared among as many processes as cores, one thread each."""
    cores = min(os.cpu_count() or 1, case.seeds)
    context = multiprocessing.get_context("spawn")
    shares = [case.seeds // cores + (place < case.seeds % cores) for place in range(cores)]
    ready, results = context.Barrier(cores), context.Queue()
    of = [context.Process(target=_worker, args=(case, config, share, ready, results)) for share in shares]
    for process in of:
        process.start()
    times = [results.get(timeout=300) for _ in of]
    for process in of:
        process.join()
    return max(times)


def _worker(case: Case, config: TeacherConfig, share: int, ready, results) -> None:
    torch.set_num_threads(1)
    mine = Case(case.entry, case.pixels, share, case.steps, case.blocks)
    step, device = Seeds(mine, config, torch.device("cpu"), torch.float32).in_turn(), torch.device("cpu")
    _timed(step, case.steps, device)
    ready.wait(timeout=300)
    results.put(statistics.median(_timed(step, case.steps, device) for _ in range(case.blocks)))


def lines(rows: list[dict]) -> list[str]:
    """The table: milliseconds of a step of all seeds."""
    names = list(rows[0]["seconds"])
    made = [
        (
            f"`{row['entry']}` ({row['arch']})",
            row["seeds"],
            *(f"{1000 * row['seconds'][name]:.1f}" for name in names),
            f"{row['of_best_other']:.2f}",
            f"{row['difference']:.0e}",
        )
        for row in rows
    ]
    header = ("entry", "seeds", *(f"{name}, ms" for name in names), "batched, of the best other", "difference")
    return pipe_table(header, "lr" + "r" * len(names) + "rr", made)


def main() -> None:
    parser = recording.parser(__doc__, "auto")
    parser.add_argument("--short", action="store_true", help="the smallest case, to see that it runs")
    args = parser.parse_args()
    device = pick_device(args.device)
    record = {"environment": recording.machine(device)}
    record["rows"] = measure(params.load_all(HERE.parent), device, args.short)
    table = [
        *lines(record["rows"]),
        "",
        f"`longtail` would train seeds as one batched model where that is {WORTH} times as fast as the best other way.",
    ]
    recording.write(args.out, "many_seeds", record, "\n".join(table) + "\n")
    print("\n".join(table))


if __name__ == "__main__":
    run_main(main)
