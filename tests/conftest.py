"""One thread a process in tests: results and times then do not depend on what else the machine does."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# files that take the longest, in that order
LONG = ("test_slurm.py", "test_probes.py", "test_equivalence.py", "test_engines.py", "test_pages_in_browser.py")
LONG += ("test_dvc_users.py", "test_dag.py", "test_resume.py", "test_team_stage.py", "test_full_recipes.py")
LONG += ("test_committed.py", "test_papers.py", "test_pipeline.py", "test_kills.py", "test_benchmarks.py")
LONG += ("test_step_graph.py", "test_pretrain.py", "test_run_pages.py", "test_shared_batch.py", "test_teacher.py")


def pytest_collection_modifyitems(items: list) -> None:
    """Long files first: of several processes none then ends with one of them while the others have nothing to do. By
    itself pytest-xdist begins with the files of the most tests. The second and third need no `made_by_dvc`: while one
    process makes that for the first file, the others would only wait."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def _alone_again():
    """What a test forks must not inherit that an earlier one, by a stage within this process, asked PyTorch for more
    threads: the child would wait for threads that it does not have."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="module")
def one_thread():
    """For files that compare runs byte by byte: the number of threads is part of what makes the bytes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def warm() -> Iterator[Path]:
    """The folder of a `python` that has torch loaded, for engines, and of a loaded `dvc`, which helpers/projects.py's
    `run` takes from now on (tests/helpers/warm_python.py)."""
    from tests.helpers import projects
    from tests.helpers.warm_python import warm_python

    with warm_python() as folder:
        projects.WARM.append(folder)
        yield folder
        projects.WARM.clear()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A folder with params.yaml = tiny.yaml and its dataset, teacher, cache and students, made by the stages on one
    core each. Work on copies."""
    from tests.helpers.stage_processes import CACHE, STUDENT, SUBSAMPLE, TEACHER, VIT, finish, tiny_params

    def make(folder: Path) -> None:
        folder.mkdir()
        tiny_params(folder)
        for stage in (SUBSAMPLE, TEACHER, CACHE, STUDENT, VIT):
            finish(folder, *stage)

    return made_once(tmp_path_factory, "tiny", make)


@pytest.fixture(scope="session")
def made_by_dvc(tmp_path_factory, warm) -> Path:
    """A git repository of the source with the tiny params, in which `dvc repro report@tiny` ran. Work on copies."""
    from tests.helpers.projects import run, tiny_project

    def make(folder: Path) -> None:
        tiny_project(folder)
        out = run(folder, "dvc", "repro", "report@tiny")
        assert out.count("Running stage") == 25

    return made_once(tmp_path_factory, "made", make)


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that all processes of a test run share: the first that needs it makes it, the others wait. One whose
    making fails makes the others try for themselves."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make(folder := tmp_path_factory.mktemp(name) / name)
        return folder
    shared = tmp_path_factory.getbasetemp().parent  # of this run
    folder, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder
