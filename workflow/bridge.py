"""DVC's pipeline as Snakemake sees it, and finished jobs as DVC sees them. Only the submitting machine asks DVC.

DVC alone judges what is stale. A stale stage is a rule whose output is a record: the stage's entry of dvc.lock as JSON,
which its job writes last. The stage's own outputs are no outputs of the rule, for Snakemake deletes those before a job.
Records lie in a folder of their own for each plan, so none of an earlier run passes for one of this run.

A stage goes by its name alone, which is unique over the dvc.yaml of all folders. Its folder's dvc.lock is written here
and nowhere else: from records that still describe the workspace, under DVC's lock, atomically.
This uses parts of DVC that are not public: the version is pinned in pyproject.toml, test_engines.py covers them.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from longtail.base import environment, lock
from longtail.base.errors import UserError, nearest, tell
from longtail.base.files import atomic_write
from workflow import code, lockfile
from workflow.plan import CUT, RAW, STATE, Plan, from_text, to_text

SETTINGS = {  # --config KEY=VALUE, with defaults
    "study": None,  # bring this study up to date, not everything
    "gpu_share": 1,  # jobs that may share a GPU of this machine
    "gres": None,  # name of a GPU (gpu, gpu:h100) on a cluster that wants --gres rather than --gpus
    "gpu_partition": None,  # partition of a cluster's GPU jobs
}

_told: list[str] = []  # what was said to be left out
_lock: ExitStack | None = None  # the lock of this process, held until it ends


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
        return Plan("", {}, {}, {})
    environment.check()
    lockfile.keep(mend=not dry)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    with _repository(wait=False) as repo:
        stages, records = _pipeline_stages(repo), _records()
        writes = not dry and _take_lock()
        lists = code.look(stages, run=writes)
        finished, stale = _judge(stages, records, lists)
        stale = {stage for stage in stale if stage.name != code.STAGE}
        if writes:
            _write_locks(finished, records, stages)
        needs, lacking = _with_downstream(repo.index.graph, stale), _lacking(repo.index.graph, stale)
        return Plan(name, {stage.name: stage.addressing for stage in stages}, needs, lacking)


def start(plan: Plan) -> None:
    """Before the first job: hand the plan to the jobs. UserError where another controller is at work."""
    if not _take_lock():
        raise UserError(f"another snakemake is at work in this repository ({_lock_holder()}): wait for it, or stop it")
    atomic_write(STATE / "plan.json", lambda path: path.write_text(to_text(asdict(plan))))


def load() -> Plan:
    """The plan as a job reads it. Raises UserError where it is damaged."""
    if (found := from_text((STATE / "plan.json").read_text())) is None:
        raise UserError(f"{STATE / 'plan.json'}: cut short or damaged; start snakemake again")
    return Plan(**found)


def record() -> None:
    """After the last job, whatever came of it: put what finished into dvc.lock."""
    if not _take_lock():
        return
    try:
        with _repository(wait=True) as repo:
            records = _records()
            names = {path.stem for path in records}
            stages = [stage for stage in _pipeline_stages(repo) if stage.name in names]
            finished, _ = _judge(stages, records, {})
            _write_locks(finished, records, stages)
        lockfile.keep()
    except UserError as error:
        print(f"error: {error}; the next snakemake records what finished", file=sys.stderr)


def log_of(stage: str, suffix: str) -> str:
    """Where a stage's job writes: logs/<family>/<entry>.log, and .tsv with its time and memory."""
    family, _, entry = stage.partition("@")
    return f"logs/{family}/{entry or family}{suffix}"


@contextmanager
def told() -> Iterator[None]:
    """End the process with one line and its code on what base/errors.py can explain."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if (code := tell(error)) is None:
            raise
        sys.exit(code)


def asked(plan: Plan, target: str | None) -> list[str]:
    """The goal of a target that Snakemake was asked for; says what a bare `snakemake` leaves out."""
    if reporting():
        return figures(target)
    with told():
        goal = plan.goal(target)
    if target is None and plan.left_out() != _told:
        _told[:] = plan.left_out()  # Snakemake may ask again
        print(*_told, sep="\n", file=sys.stderr)
    return goal


def waits_for(plan: Plan, stage: str) -> list[str]:
    """What the rule of a stage waits for."""
    with told():
        return plan.inputs(stage)


def reporting() -> bool:
    """Was Snakemake called for its HTML report? It has no other way to say so while it reads the Snakefile."""
    return any(argument.partition("=")[0] == "--report" for argument in sys.argv)


def figures(study: str | None = None) -> list[str]:
    """The figures that are there, of one study or of all: their drawings for a light ground."""
    found = [path for kind in ("svg", "png") for path in Path("reports/figures").glob(f"{study or '*'}/*.{kind}")]
    return sorted(str(path) for path in found if not path.stem.endswith("-dark"))


@contextmanager
def _repository(*, wait: bool) -> Iterator:
    """The DVC repository, with DVC's own lock held."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    from workflow import once

    once.install()
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
    """Of all folders. UserError where two have a stage of one name."""
    from dvc.stage import PipelineStage

    stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
    first: dict[str, str] = {}
    for stage in stages:
        if first.setdefault(stage.name, stage.relpath) != stage.relpath:
            raise UserError(f"{stage.name}: stands in {first[stage.name]} and in {stage.relpath}; rename one entry")
    return stages


def _records() -> list[Path]:
    """The newest plan's first."""
    return sorted((STATE / "records").glob("*/*.json"), reverse=True)


def _judge(stages: list, records: list[Path], lists: dict[str, str]) -> tuple[dict[str, dict], set]:
    """(entries of the records that dvc.lock lacks, by stage; stages that are stale all the same).

    An entry counts only if DVC, going by it, finds the stage unchanged: dependencies, parameters, command and outputs
    in the workspace are those of the entry. So nothing old is put over something newer.
    """
    from dvc.stage.loader import StageLoader

    from workflow import once

    found = {}
    for path in records:
        if (entry := from_text(path.read_text(errors="replace"))) is None:
            print(f"{path}: cut short or damaged; DVC judges the stage without it", file=sys.stderr, flush=True)
            continue
        found.setdefault(path.stem, []).append(entry)
    finished, stale = {}, set()
    with once.inputs_hashed(), once.read_locked(stages):
        for stage in stages:
            if not code.changed(stage, lists):
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


def _lacking(graph, stale: set) -> dict[str, dict[str, str]]:
    """{stage that needs raw data which are not here: {data set: folder}}."""
    import networkx as nx

    found: dict[str, dict[str, str]] = {}
    for raw in stale:
        if not raw.name.startswith(RAW) or all(out.exists for out in raw.outs):
            continue
        for cut in graph.predecessors(raw):  # edges lead upstream
            needs = {cut.name.removeprefix(CUT): str(raw.outs[0])}
            for stage in (raw, cut, *nx.ancestors(graph, cut)):
                found.setdefault(stage.name, {}).update(needs)
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def _write_locks(entries: dict[str, dict], records: list[Path], stages: list) -> None:
    """Put each entry into the dvc.lock of its stage's folder, then drop the records; a kill at any moment leaves an old
    file or a new one."""
    from dvc.utils.serialize import dump_yaml, load_yaml

    of_folder: dict[Path, dict[str, dict]] = {}
    for stage in stages:
        if stage.name in entries:
            path = Path(stage.relpath).with_name("dvc.lock")
            of_folder.setdefault(path, {})[stage.name] = entries[stage.name]
    for path, new_entries in of_folder.items():
        lock = load_yaml(str(path)) if path.exists() else {"schema": "2.0"}
        lock.setdefault("stages", {}).update(new_entries)
        atomic_write(path, lambda new, lock=lock: dump_yaml(str(new), lock))
    for record in records:  # those that were read, no other: jobs of a killed controller may still write theirs
        record.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            record.parent.rmdir()


def _take_lock() -> bool:
    """Become the one controller of this repository; a lock of the system's, so gone with the process that holds it."""
    global _lock
    if _lock is None:
        stack = ExitStack()
        try:
            stack.enter_context(lock.alone(STATE / "controller"))
        except lock.Held:
            return False
        _lock = stack
        atexit.register(stack.close)
    return True


def _lock_holder() -> str:
    return lock.holder(STATE / "controller")
