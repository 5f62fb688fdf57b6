"""DVC's pipeline as Snakemake sees it, and finished jobs as DVC sees them. Only the submitting machine asks DVC.

DVC alone judges what is stale. A stale stage is a rule whose output is a record: the stage's entry of dvc.lock as JSON,
which its job writes last. The stage's own outputs are no outputs of the rule, for Snakemake deletes those before a job.
Records lie in a folder of their own for each plan, so none of an earlier run passes for one of this run.

dvc.lock is written here and nowhere else: from records that still describe the workspace, under DVC's lock, atomically.
This uses parts of DVC that are not public: the version is pinned in pyproject.toml, test_engines.py covers them.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from longtail.base.errors import UserError, nearest
from longtail.base.files import atomic_write

STATE = Path(".snakemake/dvc")  # under the repository, which all machines that run jobs must see
PIPELINE = "dvc.yaml"
REPORT = "report@"  # the stage that ends a study; the rest of its name is the study's

SETTINGS = {  # --config KEY=VALUE, with defaults
    "study": None,  # bring this study up to date, not everything
    "gpu_share": 1,  # jobs that may share a GPU of this machine
    "gres": None,  # name of a GPU (gpu, gpu:h100) on a cluster that wants --gres rather than --gpus
    "gpu_partition": None,  # partition of a cluster's GPU jobs
}

_lock = None  # the open lock file of this process, held until it ends


@dataclass(frozen=True)
class Plan:
    """What there is to run: `stale` maps a stage to the stale stages it directly needs, upstream first."""

    name: str
    stages: list[str]
    stale: dict[str, list[str]]

    @property
    def studies(self) -> list[str]:
        return [stage.removeprefix(REPORT) for stage in self.stages if stage.startswith(REPORT)]

    @property
    def fresh(self) -> list[str]:
        """Stages that are up to date."""
        return [stage for stage in self.stages if stage not in self.stale]

    def record(self, stage: str) -> str:
        """Path of the record that the job of a stage writes."""
        return str(STATE / "records" / self.name / f"{stage}.json")

    def records(self, stages: Iterable[str]) -> list[str]:
        """The records of those stages that are stale."""
        return [self.record(stage) for stage in stages if stage in self.stale]

    def goal(self, target: str | None) -> list[str]:
        """Files to ask for to bring a study or a stage up to date; None: everything.

        UserError where there is no such study.
        """
        if target in self.fresh:
            stages = []
        elif target is None:
            stages = self.stages
        elif target in self.studies:
            stages = [f"{REPORT}{target}"]
        else:
            raise UserError(f"study: no study '{target}' in params.yaml{nearest(target, self.studies)}")
        return self.records(stages) or [PIPELINE]  # a file that is there: nothing to be done


def settings(config: dict) -> dict:
    """Snakemake's config with defaults. UserError on an unknown key or a value of the wrong kind."""
    for key in config:
        if key not in SETTINGS:
            raise UserError(f"--config {key}: no such setting{nearest(key, SETTINGS)}")
    share = config.get("gpu_share", 1)
    if type(share) is not int or share < 1:
        raise UserError(f"--config gpu_share: {share!r}; a whole number from 1 is needed")
    return SETTINGS | config


def plan(*, dry: bool) -> Plan:
    """Record what finished, and ask DVC what is stale. A dry run writes nothing, nor does a second controller."""
    if reporting():
        return Plan("", [], {})
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    with _repository(wait=False) as repo:
        stages, records = _pipeline_stages(repo), _records()
        finished, stale = _judge(stages, records)
        if not dry and _take_lock():
            _write_lock(finished, records)
        needs = _with_downstream(repo.index.graph, stale)
        return Plan(name, [stage.name for stage in stages], needs)


def start(plan: Plan) -> None:
    """Before the first job: hand the plan to the jobs. UserError where another controller is at work."""
    if not _take_lock():
        raise UserError(f"another snakemake is at work in this repository ({_lock_holder()}): wait for it, or stop it")
    text = json.dumps(asdict(plan))
    atomic_write(STATE / "plan.json", lambda path: path.write_text(text))


def load() -> Plan:
    """The plan as a job reads it."""
    return Plan(**json.loads((STATE / "plan.json").read_text()))


def record() -> None:
    """After the last job, whatever came of it: put what finished into dvc.lock."""
    if not _take_lock():
        return
    try:
        with _repository(wait=True) as repo:
            records = _records()
            names = {path.stem for path in records}
            finished, _ = _judge([stage for stage in _pipeline_stages(repo) if stage.name in names], records)
            _write_lock(finished, records)
    except UserError as error:
        print(f"error: {error}; the next snakemake records what finished", file=sys.stderr)


def log_of(stage: str, suffix: str) -> str:
    """Where a stage's job writes: logs/<family>/<entry>.log, and .tsv with its time and memory."""
    family, _, entry = stage.partition("@")
    return f"logs/{family}/{entry or family}{suffix}"


@contextmanager
def told() -> Iterator[None]:
    """End the process with one line and code 2 on a mistake of the user's."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def reporting() -> bool:
    """Was Snakemake called for its HTML report? It has no other way to say so while it reads the Snakefile."""
    return any(argument.partition("=")[0] == "--report" for argument in sys.argv)


def figures(study: str | None = None) -> list[str]:
    """The figures that are there, of one study or of all."""
    return sorted(str(path) for path in Path("reports/figures").glob(f"{study or '*'}/*.png"))


@contextmanager
def _repository(*, wait: bool) -> Iterator:
    """The DVC repository, with DVC's own lock held."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    try:
        with Repo(".", _wait_for_lock=wait) as repo, lock_repo(repo):
            yield repo
    except LockError as error:
        raise UserError(f"dvc is at work in this repository, wait for it to end: {one_line(error)}") from error
    except DvcException as error:
        raise UserError(f"dvc: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """What an exception of DVC's says, without its line breaks."""
    return " ".join(str(error).split())


def _pipeline_stages(repo) -> list:
    from dvc.stage import PipelineStage

    return [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]


def _records() -> list[Path]:
    """The newest plan's first."""
    return sorted((STATE / "records").glob("*/*.json"), reverse=True)


def _judge(stages: list, records: list[Path]) -> tuple[dict[str, dict], set]:
    """(entries of the records that dvc.lock lacks, by stage; stages that are stale all the same).

    An entry counts only if DVC, going by it, finds the stage unchanged: dependencies, parameters, command and outputs
    in the workspace are those of the entry. So nothing old is put over something newer.
    """
    from dvc.stage.loader import StageLoader

    found = {}
    for path in records:
        found.setdefault(path.stem, []).append(json.loads(path.read_text()))
    finished, stale = {}, set()
    for stage in stages:
        if not stage.changed():
            continue
        stale.add(stage)
        for entry in filter(None, found.get(stage.name, [])):
            StageLoader.fill_from_lock(stage, entry)
            stage.cmd_changed = stage.cmd != entry["cmd"]
            if not stage.changed():
                finished[stage.name] = entry
                stale.remove(stage)
                break
    return finished, stale


def _with_downstream(graph, stale: set) -> dict[str, list[str]]:
    """{stage: the stale stages it directly needs}, for the stale stages and all that follows from them."""
    import networkx as nx
    from dvc.repo.reproduce import get_active_graph

    active = get_active_graph(graph)  # edges lead upstream; none from a frozen stage
    stale = stale.union(*(nx.ancestors(active, stage) for stage in stale))
    needs = {stage.name: [up.name for up in active.successors(stage) if up in stale] for stage in stale}
    return {name: sorted(needs[name]) for name in sorted(needs)}


def _write_lock(entries: dict[str, dict], records: list[Path]) -> None:
    """Put entries into dvc.lock, then drop the records; a kill at any moment leaves the old file or the new one."""
    from dvc.utils.serialize import dump_yaml, load_yaml

    if entries:
        path = Path("dvc.lock")
        lock = load_yaml(str(path)) if path.exists() else {"schema": "2.0"}
        lock.setdefault("stages", {}).update(entries)
        atomic_write(path, lambda new: dump_yaml(str(new), lock))
    for record in records:  # those that were read, no other: jobs of a killed controller may still write theirs
        record.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            record.parent.rmdir()


def _take_lock() -> bool:
    """Become the one controller of this repository; a lock of the system's, so gone with the process that holds it."""
    global _lock
    if _lock is None:
        STATE.mkdir(parents=True, exist_ok=True)
        file = open(STATE / "controller", "a+")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%H:%M')}")
        file.flush()
        _lock = file
    return True


def _lock_holder() -> str:
    return (STATE / "controller").read_text() or "unknown"
