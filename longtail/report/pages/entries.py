"""The entries of all studies as the index shows them: settings, seeds, machine, cost and curves of what was run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from longtail.base import csv_file, params, yaml_file
from longtail.base.errors import UserError
from longtail.report import machines
from longtail.report.machines import Machines
from longtail.report.reading import run_record
from longtail.report.results import Results
from longtail.report.study import Item, StudyConfig

WIDTH, HEIGHT = 300, 110  # of the plotting area, in the SVG's units
POINTS = 100  # at most, of a line
ANY_SIZE = 32  # pixels: a CNN has as many parameters at any


@dataclass(frozen=True)
class Curve:
    """One quantity by epoch. lines: {seed: "x,y x,y …"}; y grows downwards, as in SVG."""

    title: str
    lines: dict[str, str]
    low: str
    high: str
    epochs: int  # the last one, counted from 1
    ends: dict[str, str]  # {seed: value at its last point}


def curve(title: str, seeds: Mapping[str, Mapping[str, Sequence[float | None]]], column: str) -> Curve | None:
    """A column of the seeds' histories, epochs without a value left out; None where no seed has two values.

    seeds: {seed: {column: values}}, `epoch` among the columns.
    """
    found = {}
    for seed, history in seeds.items():
        pairs = zip(history["epoch"], history.get(column, ()), strict=False)
        points = [(epoch, value) for epoch, value in pairs if value is not None]
        if len(points) > 1:
            found[seed] = points
    if not found:
        return None
    values = [value for points in found.values() for _, value in points]
    low, high = min(values), max(values)
    last = max(epoch for points in found.values() for epoch, _ in points)
    spread = (high - low) or 1.0

    def place(epoch: float, value: float) -> str:
        return f"{WIDTH * epoch / (last or 1):.0f},{HEIGHT * (high - value) / spread:.0f}"

    return Curve(
        title=title,
        lines={seed: " ".join(place(*point) for point in _thinned(points)) for seed, points in found.items()},
        low=f"{low:.4g}",
        high=f"{high:.4g}",
        epochs=int(last) + 1,
        ends={seed: f"{points[-1][1]:.4g}" for seed, points in found.items()},
    )


def _thinned(points: list) -> list:
    """Every k-th point, and the last."""
    step = -(-len(points) // POINTS)
    kept = points[::step]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


CURVES = (  # title, columns of a student's and of a teacher's history
    ("Training loss", ("loss", "train_loss")),
    ("Test accuracy, averaged head (%)", ("test_top1_avg", "test_top1")),
)
HIDDEN = (
    "class_order",
    "seconds",
    "device",
    "peak_memory_mb",
)  # a long digest that the run's folder keeps; shown apart


@dataclass(frozen=True)
class Seed:
    """One run, in % on the test set with the averaged head."""

    seed: str
    last: dict[str, float | None]  # top1, head, mid, tail
    best: float
    best_epoch: int  # from 1
    seconds: float | None  # None = not recorded, like device
    device: str | None
    facts: dict[str, object]  # of its identity, and of the machine where that is recorded
    validation: float | None = None  # at the epoch chosen on validation images; None = not measured
    validation_epoch: int | None = None  # from 1


@dataclass(frozen=True)
class Size:
    """Of a network, and of the square images that it is trained on; None: cannot be counted from its entry."""

    parameters: int | None = None
    pixels: int | None = None


@dataclass(frozen=True)
class Entry:
    """An experiment or a teacher of a study. seeds is empty where it was not run."""

    name: str
    label: str
    kind: str  # experiment or teacher
    study: str
    config_hash: str = ""
    dataset: str = ""
    seeds: tuple[Seed, ...] = ()
    resolved: bool = False  # config is the resolved one of run.json; else what stands in params.yaml
    config: str = ""  # YAML
    curves: tuple[Curve, ...] = ()
    page: str | None = None  # address of its own page, relative to the index
    gpu_hours: float | None = None  # None = not run on a GPU
    facts: dict[str, str] = field(default_factory=dict)  # of the seeds, once where they are the same
    size: Size = Size()

    def mean(self, phase: str) -> float | None:
        """Top-1 over all images, mean over seeds; phase: last or best."""
        found = [seed.last["top1"] if phase == "last" else seed.best for seed in self.seeds]
        return sum(found) / len(found) if found else None

    @property
    def timed(self) -> tuple[float, ...]:
        """Training time of the seeds of which it is recorded, in seconds of one process each."""
        return tuple(seed.seconds for seed in self.seeds if seed.seconds is not None)

    @property
    def hours(self) -> float:
        """Training time of those seeds together."""
        return sum(self.timed) / 3600


def entries(name: str, study: StudyConfig, results: Results, table: Mapping, reports: Path) -> Iterator[Entry]:
    """The study's experiments, then its teachers, in its order. Raises UserError for a damaged file, by name."""
    machine = machines.load(reports, name)
    for item in study.experiments:
        yield _entry(item, "experiment", name, results.experiments.get(item.name), table, reports, machine)
    for item in study.teachers:
        yield _entry(item, "teacher", name, results.teachers.get(item.name), table, reports, machine)


def _entry(item: Item, kind: str, study: str, metrics: dict | None, table: Mapping, reports: Path, machine: Machines):
    about = (item.name, item.label, kind, study)
    if metrics is None:
        return Entry(*about)
    made = machine.of(kind, item.name, metrics["config_hash"])
    place = f"{study}/{'teachers/' if kind == 'teacher' else ''}{item.name}"
    record = run_record(reports / "runs" / place)
    if record and record["config_hash"] != metrics["config_hash"]:
        record = None  # of an earlier run; `dvc repro` makes it anew
    told = record["seeds"] if record else {}
    histories = {seed: run["curves"] for seed, run in told.items()}
    histories = histories or _analysed(reports / "analysis" / study / item.name / "curves.csv")
    drawn = (curve(title, histories, c) for title, columns in CURVES for c in columns)
    page = f"pages/{place}.html"
    seeds = tuple(
        _seed(number, run, told.get(number), made.get(number, {})) for number, run in metrics["seeds"].items()
    )
    config = record["config"] if record else table.get(f"{kind}s", {}).get(item.name, {})
    return Entry(
        *about,
        config_hash=metrics["config_hash"],
        dataset=metrics["dataset"],
        seeds=seeds,
        resolved=record is not None,
        config=yaml_file.dump(config, allow_unicode=True, width=100).strip(),
        curves=tuple(found for found in drawn if found),
        page=page if (reports / page).is_file() else None,
        gpu_hours=_gpu_hours(seeds),
        facts=_common(seeds),
        size=size(table, kind, item.name, metrics),
    )


def size(table: Mapping, kind: str, name: str, metrics: Mapping) -> Size:
    """By longtail/cost, from params.yaml: the network is laid out without weights. metrics: of the run, which say how
    many classes its dataset has."""
    from longtail.cost.images import SOURCES, Images
    from longtail.cost.workload import Workload

    images = Images(metrics["classes"], sum(metrics["class_counts"]), 0, 0)
    work = Workload(dict(table), {metrics["dataset"]: images})
    try:
        if kind == "experiment":
            pixels = work.student_blocks(name)[1]["image_size"]
            return Size(work.student_shape(name).params, pixels)
        entry = params.entry(dict(table), "teachers", name)
        source = params.entry(dict(table), "datasets", entry["dataset"]).get("source")
        pixels = (entry.get("views") or {}).get("size") or SOURCES.get(source, (None,))[-1]
        return Size(work.teacher_shape(name, pixels or ANY_SIZE).params, pixels)
    except (UserError, KeyError, TypeError):  # no such entry any more, or one that this version cannot read
        return Size()


def _seed(number: str, run: dict, told: dict | None, made: dict) -> Seed:
    """told: of run.json; made: of the record of machines."""
    last, best = run["last"]["avg"], run["best"]
    scores = {metric: last[metric] for metric in ("top1", "head", "mid", "tail")}
    facts = (told["identity"] if told else {}) | made
    shown = {key: value for key, value in facts.items() if value is not None and key not in HIDDEN}
    if made.get("peak_memory_mb") is not None:
        shown["peak memory"] = f"{made['peak_memory_mb']:,.0f} MB"
    device, seconds = made.get("device"), made.get("seconds")
    chosen = run.get("validation")
    validated = (chosen["avg"]["top1"], chosen["epoch"] + 1) if chosen else (None, None)
    return Seed(number, scores, best["avg"]["top1"], best["epoch"] + 1, seconds, device, shown, *validated)


def _gpu_hours(seeds: tuple[Seed, ...]) -> float | None:
    """Hours of GPUs: a seed's time by the processes it had, one GPU each."""
    on_gpu = [seed for seed in seeds if seed.device and not seed.device.startswith("cpu")]
    hours = sum(seed.seconds * int(seed.facts.get("processes", 1)) for seed in on_gpu) / 3600
    return hours if on_gpu else None


def _common(seeds: tuple[Seed, ...]) -> dict[str, str]:
    """Facts that all seeds share, and for others each seed's."""
    keys = dict.fromkeys(key for seed in seeds for key in seed.facts)
    found = {}
    for key in keys:
        values = [str(seed.facts.get(key, "–")) for seed in seeds]
        found[key.replace("_", " ")] = values[0] if len(set(values)) == 1 else " · ".join(values)
    return found


def _analysed(path: Path) -> dict[str, dict[str, list[float | None]]]:
    """curves.csv of stages/analyse.py as histories by seed; nothing where it is not there."""
    if not path.is_file():
        return {}
    found: dict[str, dict[str, list[float | None]]] = {}
    try:
        for row in csv_file.read(path, ("seed",), "run stages/analyse.py again"):
            history = found.setdefault(row.pop("seed"), {})
            for column, text in row.items():
                history.setdefault(column, []).append(float(text) if text else None)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: no table of curves ({error}); run stages/analyse.py again") from None
    return found
