"""Facts for the reviewers' pages: what was run, what it took, what it says, what it leaves; all of it read from files.

Times are those of training, from reports/machines; sizes are those that DVC recorded; verdicts are those of
the claim ledger, reports/claims.csv. What was not run is None or empty, never 0.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from longtail.base import csv_file
from longtail.base.errors import UserError
from longtail.cost.upstream import TRAINED, recorded_sizes
from longtail.cost.workload import Workload
from longtail.report import machines
from longtail.report.claims.rules import COUNTED
from longtail.report.claims.rules import told as in_words
from longtail.report.machines import Machines
from longtail.report.results import Results, load
from longtail.report.review.coverage import Coverage, Project
from longtail.report.study import StudyConfig, Table

CLAIM_COLUMNS = (
    "id",
    "paper",
    "where",
    "text",
    "overall",
    "study",
    "miniature",
    "verdict",
    "difference",
    "low",
    "high",
)
CLAIM_COLUMNS += ("unit", "method", "reason", "higher", "lower")


@dataclass(frozen=True)
class Assumptions:
    """For energy and for what was not run; nothing here is measured."""

    cpu_core_watts: float  # drawn by a busy core, its share of the machine included
    gpu: str
    gpu_watts: float
    gpu_tflops: float  # dense bf16 that a large matrix product reaches
    utilisation: tuple[float, float]  # of it in training, from and to
    overhead: float  # of the building: energy drawn over energy used

    def __post_init__(self) -> None:
        low, high = self.utilisation
        if not 0 < low <= high <= 1:
            raise ValueError(f"utilisation: {list(self.utilisation)}; from and to, in (0, 1]")

    def kwh(self, cpu_hours: float, gpu_hours: float) -> float:
        return self.overhead * (cpu_hours * self.cpu_core_watts + gpu_hours * self.gpu_watts) / 1000

    def gpu_hours(self, flop: float) -> tuple[float, float]:
        """At the highest and at the lowest utilisation."""
        low, high = self.utilisation
        return tuple(flop / (self.gpu_tflops * 1e12 * share) / 3600 for share in (high, low))


@dataclass(frozen=True)
class Answer:
    """One answer of a person's to a question of the checklist."""

    answer: str  # Yes, No, NA, Partly
    because: str


@dataclass(frozen=True)
class Judgements:
    """docs/review.yaml: what no file can tell."""

    easy: tuple[str, ...]
    hard: tuple[str, ...]
    authors: str
    checklist: dict[str, Answer]
    reforms: dict[str, str]  # by the number of the item
    assumptions: Assumptions
    learnt: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hours:
    """Of training, by what it ran on; `other`: runs that do not say."""

    cpu: float = 0.0  # core-hours
    gpu: float = 0.0
    other: float = 0.0

    def __add__(self, more: Hours) -> Hours:
        return Hours(self.cpu + more.cpu, self.gpu + more.gpu, self.other + more.other)


def hours(seconds: float, device: str | None) -> Hours:
    """device: as the record of machines says, `cpu x2` for two threads, else the name of one GPU."""
    if not device:
        return Hours(other=seconds / 3600)
    if cpu := re.fullmatch(r"cpu x(\d+)", device):
        return Hours(cpu=seconds * int(cpu[1]) / 3600)
    return Hours(gpu=seconds / 3600)


@dataclass(frozen=True)
class Estimate:
    """What is left to train of a study, counted and not run."""

    runs: int  # entries that are trained, seeds apart
    flop: float
    disk: int  # bytes


@dataclass(frozen=True)
class StudyFacts:
    """One study."""

    name: str
    config: StudyConfig
    results: Results
    machines: Machines
    hours: Hours | None  # None: nothing was run, or nothing of it is recorded
    unrecorded: int  # runs, each seed one, whose time and machine are not recorded
    devices: tuple[str, ...]
    disk: dict[str, int]  # bytes that DVC recorded, by folder: datasets, teachers, caches, students, reports
    left: Estimate | None  # None: everything was run, or it is not known how many images there are
    chosen_on_test: int  # teachers that were run whose weights are of the epoch best on the test set

    @property
    def planned(self) -> int:
        """Teachers and students."""
        return len(self.config.teachers) + len(self.config.experiments)

    @property
    def run(self) -> dict[str, dict]:
        return self.results.teachers | self.results.experiments

    @property
    def seeds(self) -> str:
        """How many seeds a run has: `3`, or `1 to 3`."""
        counts = sorted({len(metrics["seeds"]) for metrics in self.run.values()})
        return "" if not counts else f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    def error_bars(self, table: Table) -> tuple[int, int]:
        """Rows of ours that were run, and those of them with a standard error (two seeds or more)."""
        found = [len(metrics["seeds"]) for row in table.rows if (metrics := self.results.of(row)) is not None]
        return len(found), sum(seeds > 1 for seeds in found)


@dataclass(frozen=True)
class Facts:
    """All that the pages show."""

    studies: tuple[StudyFacts, ...]
    claims: list[dict[str, str]] | None  # rows of the ledger; None: it was not made
    coverage: Coverage
    project: Project
    judgements: Judgements
    licence: str | None  # name of the file
    total: Hours = field(init=False)
    unrecorded: int = field(init=False)  # runs, each seed one

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum((s.hours for s in self.studies if s.hours), Hours()))
        object.__setattr__(self, "unrecorded", sum(s.unrecorded for s in self.studies))

    @property
    def done(self) -> list[StudyFacts]:
        return [study for study in self.studies if study.run]

    def verdicts(self, paper: str | None = None) -> Counter:
        """Of claims as a whole, each once."""
        claims = {row["id"]: row["overall"] for row in self.claims or () if paper in (None, row["paper"])}
        return Counter(claims.values())

    @property
    def papers(self) -> list[str]:
        return list(dict.fromkeys(row["paper"] for row in self.claims or ()))

    def of_study(self, name: str) -> StudyFacts:
        return next(study for study in self.studies if study.name == name)


def gather(table: dict, reports: Path, coverage: Coverage, judgements: Judgements, root: Path) -> Facts:
    """Raises UserError for a damaged file. root: of the repository, for its dvc.lock files and licence."""
    project, workload = Project(table, reports), Workload(table)
    sizes = recorded_sizes(root, table)
    studies = []
    for name, config in project.studies.items():
        results = load(reports / "metrics" / name, name, config)
        record = machines.load(reports, name)
        made = [
            record.of(kind, entry, metrics["config_hash"]).get(seed)
            for kind, found in (("teacher", results.teachers), ("experiment", results.experiments))
            for entry, metrics in found.items()
            for seed in metrics["seeds"]
        ]
        told = [facts for facts in made if facts]
        spent = sum((hours(facts["seconds"], facts.get("device")) for facts in told), Hours()) if told else None
        devices = tuple(sorted({machines.place(facts or {}) for facts in made}))
        left = not_run(name, config, results, table, workload)
        about = (name, config, results, record, spent, len(made) - len(told), devices)
        blocks = table.get("teachers") or {}
        chosen = sum(blocks[entry].get("select") == "best" for entry in results.teachers if entry in blocks)
        studies.append(StudyFacts(*about, sizes.get(name, {}), left, chosen))
    licences = sorted(path.name for path in root.glob("LICEN[CS]E*"))
    return Facts(
        tuple(studies), claims(reports / "claims.csv"), coverage, project, judgements, next(iter(licences), None)
    )


def not_run(name: str, config: StudyConfig, results: Results, table: dict, workload: Workload) -> Estimate | None:
    """Of entries of the study that have no metrics, with the caches and the pretrainings of students among them."""
    lacking = {item.name for item in config.teachers + config.experiments} - {*results.teachers, *results.experiments}
    experiments = table.get("experiments") or {}
    students = [experiments[entry] for entry in lacking if entry in experiments]
    before = {"caches": {s.get("cache") for s in students}, "pretrainings": {s.get("start") for s in students}}
    runs, flop, disk = 0, 0, 0
    try:
        for stage, section in TRAINED.items():
            for entry, block in (table.get(section) or {}).items():
                if block["study"] != name or entry not in before.get(section, lacking) or block.get("released"):
                    continue
                work, seeds = workload.of(stage, entry), len(block.get("seeds") or ())
                runs, flop, disk = runs + (section != "caches"), flop + seeds * work.flop, disk + seeds * work.disk
    except UserError:  # images that nobody counted: a study on a folder of one's own
        return None
    return Estimate(runs, flop, disk) if runs else None


def claims(path: Path) -> list[dict[str, str]] | None:
    """Rows of the ledger, each with its verdict in words (`told`); None where it was not made.

    Raises UserError where it is something else.
    """
    if not path.is_file():
        return None
    rows = csv_file.read(path, CLAIM_COLUMNS, "make it again with stages/claims.py")
    for row in rows:
        if row["verdict"] not in COUNTED or row["overall"] not in COUNTED:
            raise UserError(f"{path}: claim '{row['id']}' has verdict '{row['verdict']}'; one of {', '.join(COUNTED)}")
        row["told"] = in_words(row["verdict"], float(row["difference"]) if row["difference"] else None)
    return rows
