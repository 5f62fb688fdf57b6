"""How fast a CNN learns from others: against the same net's training alone and the forward passes of its teachers.

    python benchmarks/distillation.py [--device cuda] [--short]
    python benchmarks/distillation.py --page docs/performance.md    # measures nothing: puts the record into it

An entry of `teachers` with `sources`, on random pixels: a step of the student as training.teacher_training runs it,
views and labels among it; a step of the same net without a teacher, views among it; and the forward passes of its K
teachers over a batch, one network after another. Each in turn, a block of steps at a time; medians. `expected` is what
the last two together would give, so that `of expected` is 1 where distilling costs the teachers' answers and nothing
else. Of several teachers also `at once`: their K answers by torch.vmap over stacked weights, instead of one after
another; `of passes` is 1 where that is as fast. Evaluation and checkpoints are no part of it. Writes
distillation.md and .json where recording.py files them; --page puts that table between the markers of a page. Cost
on two cores: two minutes by estimate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import recording
import torch
from engine import data_of, sized
from torch import Tensor, nn

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.text import pipe_table
from longtail.data.long_tail import LongTail
from longtail.report.machines import place
from longtail.runs.execution import Execution
from longtail.runs.seeds import pick_device
from longtail.training.engine import steps_of
from longtail.training.teacher import Source, build_model
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_training import Teacher, epoch_size

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    entry: str
    images: int  # of an epoch
    steps: int  # of a block
    blocks: int


CPU = (
    Case("dive-digits_if20", 438, 20, 7),
    Case("dive-cifar100_if100", 512, 1, 5),
    Case("cbd_ens-digits_if20", 438, 10, 7),
    Case("cbd_ens-cifar10_if100-mini", 256, 1, 5),
)
SHORT = (Case("dive-digits_if20", 128, 2, 2), Case("cbd_ens-digits_if20", 128, 2, 2))
CUDA = (
    Case("dive-cifar100_if100", 10847, 60, 7),
    Case("cbd_ens-cifar10_if100-mini", 1236, 60, 7),
    Case("cbd_ens-imagenet_lt", 2000, 4, 5),  # two images of each class: a balanced epoch needs them all
)


def measure(table: dict, device: torch.device, short: bool) -> list[dict]:
    """A row for each case and way of running it. table: params.yaml."""
    table, rows = sized(table), []
    executions = [Execution("fp32")]
    if device.type == "cuda":
        executions += [Execution("bf16"), Execution("bf16", "compiled")]
    for case in CUDA if device.type == "cuda" else SHORT if short else CPU:
        config = params.build(TeacherConfig, params.entry(table, "teachers", case.entry), case.entry)
        data = data_of(table, config.dataset, case.images)
        rows += [_row(case, config, data, execution, device) for execution in executions]
    return rows


def _row(case: Case, config: TeacherConfig, data: LongTail, execution: Execution, device: torch.device) -> dict:
    torch.manual_seed(0)
    untaught = replace(config.untaught(), projection=None)  # as its teachers are
    networks = [build_model(untaught, data.num_classes) for name in config.sources if name != "none"]
    networks = [n.to(device, memory_format=torch.channels_last).eval().requires_grad_(False) for n in networks]
    student = Teacher(config, data, 0, device, execution, [Source(network, 1.0, "") for network in networks])
    alone = Teacher(config.untaught(), data, 0, device, execution)
    _, images = alone.task.batch(0, slice(0, config.batch_size))

    @torch.no_grad()
    def answer() -> None:
        with execution.autocast(device):
            for network in networks:
                network.features(images)

    contenders = {
        "student": _steps(student, config, data, execution, device),
        "teacher": _steps(alone, config, data, execution, device),
        "forward": answer,
    }
    if len(networks) > 1:
        contenders["at_once"] = partial(_at_once, _stacked(networks), images, execution, device)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for block in range(case.blocks + 1):  # the first one is not counted
        for name in list(contenders)[:: 1 if block % 2 else -1]:
            took = _timed(contenders[name], case.steps, device)
            if block:
                seconds[name].append(took)
    step, own, forward, *at_once = (statistics.median(seconds[name]) for name in contenders)
    return {
        "entry": case.entry,
        "how": f"{execution.precision}{', compiled' if execution.engine == 'compiled' else ''}",
        "student_images_per_second": round(config.batch_size / step, 2),
        "teacher_images_per_second": round(config.batch_size / own, 2),
        "forward_images_per_second": round(len(images) / forward, 2),
        "expected_images_per_second": round(1 / (own / config.batch_size + forward / len(images)), 2),
        "teachers": len(networks),
        "at_once_images_per_second": round(len(images) / at_once[0], 2) if at_once else None,
        "at_once_of_forward": round(forward / at_once[0], 4) if at_once else None,
        "of_expected": round((own + forward * config.batch_size / len(images)) / step, 4),
        "blocks": case.blocks,
    }


class _Features(nn.Module):
    """A network up to what its classifier reads, as its forward pass."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.features(x)


def _stacked(networks: list[nn.Module]) -> Callable[[Tensor], Tensor]:
    """The features of all networks for one batch, float [K, B, d], by one pass over stacked weights."""
    warnings.filterwarnings("ignore", "There is a performance drop because", UserWarning)  # of the pooling layer
    of = [_Features(network) for network in networks]
    state = torch.func.stack_module_state(of)
    return lambda x: torch.vmap(partial(torch.func.functional_call, of[0]), (0, None))(state, (x,))


@torch.no_grad()
def _at_once(answers: Callable[[Tensor], Tensor], images: Tensor, execution: Execution, device: torch.device) -> None:
    with execution.autocast(device):
        answers(images)


def _steps(
    trained: Teacher, config: TeacherConfig, data: LongTail, execution: Execution, device: torch.device
) -> Callable[[], None]:
    """A function that takes the next step of a full batch, epoch after epoch."""
    run_step, (steps, _) = steps_of(execution, device, lambda line: None), epoch_size(config, len(data.train_labels))
    whole, at = max(1, min(steps, len(data.train_labels) // config.batch_size)), 0
    step, about = trained.step_of(0)
    trained.task.train()

    def take() -> None:
        nonlocal at
        epoch, number = divmod(at, whole)
        rows = slice(number * config.batch_size, (number + 1) * config.batch_size)
        run_step(step, trained.task.batch(epoch, rows), about)
        at += 1

    return take


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


def lines(rows: list[dict]) -> list[str]:
    """The table."""
    header = ("distillation", "teachers", "img/s", "the net alone", "teachers' passes", "expected", "of expected")
    kinds = ("student", "teacher", "forward", "expected")
    made = []
    for row in rows:
        found = (row[f"{kind}_images_per_second"] for kind in kinds)
        rates = (f"{rate:,.0f}" for rate in found)
        named, once = f"`{row['entry']}`: {row['how']}", ("–", "–")
        if row["at_once_of_forward"] is not None:
            once = f"{row['at_once_images_per_second']:,.0f}", f"{row['at_once_of_forward']:.2f}"
        made.append((named, str(row["teachers"]), *rates, f"{row['of_expected']:.2f}", *once))
    return pipe_table((*header, "at once", "of passes"), "lrrrrrrrr", made)


def told(record: dict | None) -> str:
    """What a page says of the record: where it was made, and the table."""
    if record is None:
        return "No record of it is committed yet."
    where = record["environment"]
    made = f"{where['cores']} cores ({place(where)}), torch {where['torch']}, load {where['load'][0]} at the start"
    record_of = recording.link("distillation", where, "record", "../")
    return "\n".join([f"{made}; {record_of}.", "", *lines(record["rows"])])


def run(args: argparse.Namespace) -> list[dict]:
    """Measures and writes the record and the table."""
    device = pick_device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    record = {"environment": recording.machine(device)}
    record["rows"] = measure(params.load_all(HERE.parent), device, args.short)
    recording.write(args.out, "distillation", record, "\n".join(lines(record["rows"])) + "\n")
    return record["rows"]


def main() -> None:
    parser = recording.parser(__doc__, "auto")
    parser.add_argument("--short", action="store_true", help="the smallest case, to see that it runs")
    parser.add_argument("--page", type=Path, help="put the table of a CPU's newest record into it; measure nothing")
    args = parser.parse_args()
    if args.page:
        path = recording.newest("distillation", args.out)
        recording.put_into(args.page, "distillation", told(json.loads(path.read_text()) if path else None))
        return
    print("\n".join(lines(run(args))))


if __name__ == "__main__":
    run_main(main)
