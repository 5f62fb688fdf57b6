"""How fast a CNN learns from another one: against its teacher's own training and one forward pass of that teacher.

    python benchmarks/distillation.py [--device cuda] [--short]

An entry of `teachers` with `sources`, on random pixels: a step of the student as training.teacher_training runs it,
views and labels among it; a step of the same net without a teacher, views among it; and one forward pass of the teacher
over a batch. Each in turn, a block of steps at a time; medians. `expected` is what the last two together would give, so
that `of expected` is 1 where distilling costs the teacher's answer and nothing else. Evaluation and checkpoints are no
part of it. Writes results/distillation_<device>.md and .json beside this file. Cost on two cores: a minute by estimate.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import recording
import torch
from engine import data_of, sized

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.text import pipe_table
from longtail.data.long_tail import LongTail
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


CPU = (Case("dive-digits_if20", 438, 20, 7), Case("dive-cifar100_if100", 512, 1, 5))
SHORT = (Case("dive-digits_if20", 128, 2, 2),)
CUDA = (Case("dive-cifar100_if100", 10847, 60, 7),)


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
    network = build_model(config, data.num_classes).to(device, memory_format=torch.channels_last)
    source = Source(network.eval().requires_grad_(False), 1.0, "")
    student = Teacher(config, data, 0, device, execution, [source])
    alone = Teacher(config.untaught(), data, 0, device, execution)
    _, images = alone.task.batch(0, slice(0, config.batch_size))

    @torch.no_grad()
    def answer() -> None:
        with execution.autocast(device):
            network(images)

    contenders = {
        "student": _steps(student, config, data, execution, device),
        "teacher": _steps(alone, config, data, execution, device),
        "forward": answer,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for block in range(case.blocks + 1):  # the first one is not counted
        for name in list(contenders)[:: 1 if block % 2 else -1]:
            took = _timed(contenders[name], case.steps, device)
            if block:
                seconds[name].append(took)
    step, own, forward = (statistics.median(seconds[name]) for name in contenders)
    return {
        "entry": case.entry,
        "how": f"{execution.precision}{', compiled' if execution.engine == 'compiled' else ''}",
        "student_images_per_second": round(config.batch_size / step, 2),
        "teacher_images_per_second": round(config.batch_size / own, 2),
        "forward_images_per_second": round(len(images) / forward, 2),
        "expected_images_per_second": round(1 / (own / config.batch_size + forward / len(images)), 2),
        "of_expected": round((own + forward * config.batch_size / len(images)) / step, 4),
        "blocks": case.blocks,
    }


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
    header = ("distillation", "img/s", "teacher's training", "its forward pass", "expected", "of expected")
    kinds = ("student", "teacher", "forward", "expected")
    made = []
    for row in rows:
        rates = (f"{row[f'{kind}_images_per_second']:,.0f}" for kind in kinds)
        made.append((f"`{row['entry']}`: {row['how']}", *rates, f"{row['of_expected']:.2f}"))
    return pipe_table(header, "lrrrrr", made)


def run(args: argparse.Namespace) -> list[dict]:
    """Measures and writes the record and the table."""
    device = pick_device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    record = {"environment": recording.machine(device)}
    record["rows"] = measure(params.load_all(HERE.parent), device, args.short)
    recording.write(args.out, "distillation", device, record, "\n".join(lines(record["rows"])) + "\n")
    return record["rows"]


def main() -> None:
    parser = recording.parser(__doc__, "auto")
    parser.add_argument("--short", action="store_true", help="the smallest case, to see that it runs")
    print("\n".join(lines(run(parser.parse_args()))))


if __name__ == "__main__":
    run_main(main)
