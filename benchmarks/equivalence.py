"""Whether execution settings change final accuracy: students and teachers of the digits study, trained to the end.

    python benchmarks/equivalence.py [--device cuda] [--data FOLDER] [--reports FOLDER] [--short]

Every variant trains the entries' own seeds, DeiT-LT from the caches under --data and its LDAM-DRW + SAM teacher, which
`dvc repro report@digits` leaves there. Compared at the last epoch, top-1 and tail accuracy of the averaged heads: the
mean over seeds with its standard error, and the difference to fp32, eager, of the same seeds with its 95 % interval
(t over seeds). A variant is within seed noise where that interval holds 0 and the mean difference is no larger than the
standard deviation of fp32 over its seeds. On a CPU fp32, eager, must give the metrics in --reports to the last digit;
exit code 1 where it does not. What tests/training/test_equivalence.py finds step by step this finds in the end.
Writes equivalence.md and .json where recording.py files them. Cost: 5 minutes on two cores (estimate).
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import recording
import torch

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.text import pipe_table
from longtail.base.workers import cores, in_order
from longtail.data.long_tail import LongTail
from longtail.evaluation.predictions import load_predictions, load_test_set, phase_metrics
from longtail.evaluation.statistics import over_seeds, over_shared_seeds
from longtail.report.machines import place
from longtail.runs.execution import Execution
from longtail.runs.seeds import pick_device
from longtail.runs.workspace import ENVIRONMENT, IDENTITY, Workspace
from longtail.training.experiment import resolve
from longtail.training.labels import TeacherLabels, seed_folder
from longtail.training.student import train_student
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_training import train_teacher

ROOT = Path(__file__).parents[1]
STUDENT, TEACHER = "digits-deit_lt", "ldam_drw_sam-digits_if20"
METRICS = ("top1", "tail")
REFERENCE = "fp32"
STUDENTS = {
    REFERENCE: Execution(),
    "bf16": Execution("bf16"),
    "fp16": Execution("fp16"),
    "fp32, compiled": Execution(engine="compiled"),
    "bf16, compiled": Execution("bf16", "compiled"),
}
TEACHERS = {name: STUDENTS[name] for name in (REFERENCE, "bf16", "bf16, compiled")}

Train = Callable[[Execution, int, Workspace], None]


def why_not(execution: Execution, what: str, device: torch.device) -> str | None:
    """Why a variant is left out on this device; None where it is not."""
    if device.type == "cpu" and execution.precision == "fp16":
        return "slow on a CPU; its first 100 steps: tests/training/test_equivalence.py"
    if device.type == "cpu" and execution.engine == "compiled":
        if what == "teachers":
            return "CUDA graphs"
        if execution.precision != "fp32":
            return "on a CPU compiled with fp32 alone, to save time"
        if shutil.which("g++") is None:
            return "no g++"
    return None


def students(data: LongTail, folder: Path, device: torch.device, epochs: int | None) -> tuple[Train, tuple[int, ...]]:
    """How a seed of the student is trained, and its seeds."""
    config, seeds = resolve(params.load_all(ROOT), STUDENT)
    if epochs:
        config = replace(config, train=replace(config.train, epochs=epochs, warmup_epochs=0))

    def train(execution: Execution, seed: int, workspace: Workspace) -> None:
        labels = TeacherLabels.load(seed_folder(folder / "caches" / config.cache, seed))
        train_student(config, data, seed, labels, workspace, device, execution)

    return train, seeds


def teachers(data: LongTail, folder: Path, device: torch.device, epochs: int | None) -> tuple[Train, tuple[int, ...]]:
    """How a seed of the teacher is trained, and its seeds."""
    entry = params.entry(params.load_all(ROOT), "teachers", TEACHER)
    config = params.build(TeacherConfig, entry, f"teachers.{TEACHER}")
    if epochs:
        config = replace(config, epochs=epochs)

    def train(execution: Execution, seed: int, workspace: Workspace) -> None:
        train_teacher(config, data, seed, workspace, device=device, execution=execution)

    return train, config.seeds


def end_of(train: Train, execution: Execution, dataset: Path, device: torch.device, seed: int) -> dict:
    """Train one seed. Returns its metrics at the last epoch, as the stage `evaluate` has them, and what computed it."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), f"seed {seed}", "", device, quiet=True)
        train(execution, seed, workspace)
        facts = json.loads((workspace.result / IDENTITY).read_text())
        seconds = json.loads((workspace.folder / ENVIRONMENT).read_text())["seconds"]
        predictions = load_predictions(workspace.result / "predictions.npz")
        metrics = phase_metrics(predictions, load_test_set(dataset), "last")
    return {"metrics": metrics, "engine": facts.get("engine", "eager"), "seconds": seconds}


def compare(variant: dict[int, dict], reference: dict[int, dict]) -> dict[str, dict]:
    """{metric: mean, stderr, difference, its interval, seed_sd of the reference, within}. Both: {seed: `end_of`}."""
    rows = {}
    for metric in METRICS:
        ours, theirs = ({s: r["metrics"]["avg"][metric] for s, r in of.items()} for of in (variant, reference))
        own, difference = over_seeds([*ours.values()]), over_shared_seeds(ours, theirs)
        spread = statistics.stdev(theirs.values())
        low, high = difference.interval
        rows[metric] = {
            "mean": own.mean,
            "stderr": own.stderr,
            "difference": difference.mean,
            "interval": [low, high],
            "seed_sd": spread,
            "within": low <= 0 <= high and abs(difference.mean) <= spread,
        }
    return rows


def measure(what: str, made: tuple[Train, tuple[int, ...]], dataset: Path, device: torch.device, variants: dict):
    """{variant: {execution, seeds, compared with the reference}, or {left_out: why}}."""
    train, seeds = made
    rows, reference = {}, {}
    for name, execution in variants.items():
        if why := why_not(execution, what, device):
            rows[name] = {"left_out": why}
            continue
        work = partial(end_of, train, execution, dataset, device)
        by_seed = dict(zip(seeds, in_order(work, seeds, cores() if device.type == "cpu" else 1), strict=True))
        reference = reference or by_seed
        engines = {row["engine"] for row in by_seed.values()}
        if engines != {execution.engine}:
            rows[name] = {"left_out": "could not compile here"}
            continue
        rows[name] = {"execution": asdict(execution), "seeds": by_seed, "compared": compare(by_seed, reference)}
        print(f"{what}, {name}: {json.dumps(rows[name]['compared'])}", flush=True)
    return rows


def as_committed(seeds: dict[int, dict], path: Path) -> bool:
    """Does every number at the last epoch equal the one in a metrics file?"""
    committed = json.loads(path.read_text())["seeds"]
    return committed.keys() == {str(seed) for seed in seeds} and all(
        committed[str(seed)]["last"] == row["metrics"] for seed, row in seeds.items()
    )


def table(results: dict[str, dict], committed: dict[str, bool], where: dict, epochs: int | None) -> str:
    what = "Final accuracy" if epochs is None else f"Accuracy after {epochs} epochs"
    lines = [
        f"{what} on {place(where)}, {where['cores']} cores (torch {where['torch']}), seed by seed against fp32,"
        " eager; ± one standard error, [95 % interval]. Within seed noise: the interval holds 0 and the difference is"
        " no larger than the standard deviation of fp32 over its seeds.",
        "",
    ]
    header = ("entry", "variant", "metric", "%", "difference to fp32", "seed s.d.", "within seed noise")
    found = []
    for entry, rows in results.items():
        for name, row in rows.items():
            if "left_out" in row:
                found.append((f"`{entry}`", name, *[""] * 4, f"left out: {row['left_out']}"))
                continue
            for metric, of in row["compared"].items():
                (low, high), difference, verdict = of["interval"], "", ""
                if name != REFERENCE:
                    difference = f"{of['difference']:+.2f} [{low:+.2f}, {high:+.2f}]"
                    verdict = "yes" if of["within"] else "no"
                mean = f"{of['mean']:.2f} ± {of['stderr']:.2f}"
                found.append((f"`{entry}`", name, metric, mean, difference, f"{of['seed_sd']:.2f}", verdict))
    lines += pipe_table(header, "lllrrrl", found)
    for entry, same in committed.items():
        lines += ["", f"`{entry}`, fp32: {'equal to' if same else 'not equal to'} the metrics in git, digit by digit."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = recording.parser(__doc__, "cpu")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="DVC's outs; default: the repository's data/")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="default: the repository's reports/")
    parser.add_argument(
        "--short", action="store_true", help="fp32 and bf16, two epochs, two seeds: to see that it runs"
    )
    args = parser.parse_args()
    device, epochs = pick_device(args.device), 2 if args.short else None
    if device.type == "cpu":
        torch.set_num_threads(1)
    dataset = args.data / "datasets/digits_if20.npz"
    data, results, committed = LongTail.load(dataset), {}, {}
    for what, entry, made, variants in (
        ("students", STUDENT, students, STUDENTS),
        ("teachers", TEACHER, teachers, TEACHERS),
    ):
        chosen = {name: variants[name] for name in (REFERENCE, "bf16")} if args.short else variants
        train, seeds = made(data, args.data, device, epochs)
        seeds = seeds[:2] if args.short else seeds
        results[entry] = measure(what, (train, seeds), dataset, device, chosen)
        if device.type == "cpu" and not args.short:
            path = args.reports / "metrics/digits" / ("teachers" if what == "teachers" else "") / f"{entry}.json"
            if not path.is_file():
                raise UserError(f"{path}: no such file; run `dvc repro report@digits` first, or pass --reports")
            committed[entry] = as_committed(results[entry][REFERENCE]["seeds"], path)
    where = recording.machine(device)
    record = {"environment": where, "epochs": epochs, "as_committed": committed, "entries": results}
    recording.write(args.out, "equivalence", record, table(results, committed, where, epochs))
    sys.exit(not all(committed.values()))


if __name__ == "__main__":
    run_main(main)
