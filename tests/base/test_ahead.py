"""Worker processes fill the buffers in order, end with whoever asked for them, and tell what went wrong."""

from __future__ import annotations

import json
import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from longtail.base.errors import UserError
from longtail.base.workers import in_order, made_ahead, set_threads
from tests.helpers.stage_processes import _server

FORK = get_context("fork")


def number(item: int, buffer: np.ndarray) -> None:
    buffer[:] = item


def told_pids(folder: Path):
    """A fill that leaves the id of its process in the folder."""

    def fill(item: int, buffer: np.ndarray) -> None:
        (folder / str(os.getpid())).touch()
        buffer[:] = item

    return fill


def alive(folder: Path) -> list[int]:
    """Those of the processes in the folder that run."""
    running = []
    for path in folder.iterdir():
        status = Path(f"/proc/{path.name}/stat")
        if status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
            running.append(int(path.name))
    return running


def wait(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("items", "workers", "depth"), [(0, 2, 2), (1, 3, 2), (7, 1, 1), (23, 3, 2), (8, 9, 5)])
def test_buffers_come_in_order(items, workers, depth):
    made = [buffer.copy() for buffer in made_ahead(number, range(items), (2, 3), workers, depth)]
    assert [b.shape for b in made] == [(2, 3)] * items
    np.testing.assert_array_equal([b[0, 0] for b in made], np.arange(items))
    assert all((b == b[0, 0]).all() for b in made)


def test_a_buffer_is_left_alone_until_the_next_one_is_asked_for():
    made = made_ahead(number, range(40), (4,), 2, 2)
    for item in range(40):
        buffer = next(made)
        if item % 13 == 0:
            time.sleep(0.05)  # the workers go on as far as they may
        assert (buffer == item).all()


def test_no_worker_is_further_ahead_than_its_buffers():
    done = FORK.Value("i", 0)

    def fill(item: int, buffer: np.ndarray) -> None:
        with done.get_lock():
            done.value += 1

    made = made_ahead(fill, range(100), (1,), 2, 3)
    next(made)
    wait(lambda: done.value >= 6)
    time.sleep(0.1)
    assert done.value == 6  # the first buffer is still in use
    next(made)
    wait(lambda: done.value == 7)
    made.close()


def test_the_workers_end_with_the_iterator(tmp_path):
    made = made_ahead(told_pids(tmp_path), range(100), (1,), 3, 2)
    for _ in range(6):
        next(made)
    assert len(alive(tmp_path)) == 3
    made.close()
    assert alive(tmp_path) == []


def test_an_error_is_raised_here_after_what_came_before(tmp_path):
    def fill(item: int, buffer: np.ndarray) -> None:
        told_pids(tmp_path)(item, buffer)
        if item == 3:
            raise UserError("images/3.jpg: cut short")

    made = made_ahead(fill, range(9), (1,), 2, 2)
    assert [int(next(made)[0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match=r"^images/3\.jpg: cut short$"):
        next(made)
    assert alive(tmp_path) == []


def test_a_worker_that_is_killed_is_told_in_a_line():
    def fill(item: int, buffer: np.ndarray) -> None:
        if item == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match="a worker process was killed"):
        list(made_ahead(fill, range(9), (1,), 2, 2))


def test_a_stop_signal_to_all_processes_stops_no_worker(tmp_path):
    """As from a scheduler: the process that trains saves its state and ends; until then it needs its views."""

    def run() -> None:
        os.setsid()
        asked = []
        signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
        made = made_ahead(told_pids(tmp_path), range(50), (1,), 2, 2)
        next(made), next(made)
        os.killpg(0, signal.SIGTERM)
        assert asked and [int(b[0]) for b in made] == list(range(2, 50))
        os._exit(7)

    process = FORK.Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == 7


@pytest.mark.parametrize("end", ["error", "kill"])
def test_no_worker_outlives_its_parent_nor_holds_it_up(tmp_path, end, monkeypatch):
    """An error that nobody catches keeps the iterator alive in its traceback while the interpreter ends."""
    monkeypatch.setattr("longtail.base.workers._LOOK_S", 0.1)

    def run() -> None:
        global kept
        kept = made_ahead(told_pids(tmp_path), range(50), (1,), 2, 2)
        next(kept), next(kept)
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        import atexit

        atexit._run_exitfuncs()  # what the interpreter does, and multiprocessing's children do not
        os._exit(7)

    process = FORK.Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == (7 if end == "error" else -signal.SIGKILL)
    wait(lambda: alive(tmp_path) == [])


def forked_from(folder: Path) -> None:
    """Counts this process's threads at each fork, where PyTorch has worked with three."""
    import torch

    counts = []
    os.register_at_fork(after_in_parent=lambda: counts.append(len(os.listdir("/proc/self/task"))))
    set_threads(3)
    before = torch.ones(1000, 1000).exp().sum()
    several = len(os.listdir("/proc/self/task"))
    answers = list(in_order(lambda item: (item, torch.get_num_threads()), range(5), 2))
    buffers = [int(buffer[0]) for buffer in made_ahead(number, range(5), (1,), 2, 2)]
    after = torch.ones(1000, 1000).exp().sum()
    facts = [several, counts, answers, buffers, torch.get_num_threads(), bool(before == after)]
    (folder / "facts.json").write_text(json.dumps(facts))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_no_process_is_forked_beside_threads_of_pytorch(tmp_path):
    """A thread may hold a lock at that moment, which nobody would ever release in the child."""
    process = _server.Process(target=forked_from, args=(tmp_path,))
    process.start()
    process.join(240)
    several, counts, *rest = json.loads((tmp_path / "facts.json").read_text())
    assert several >= 3 and counts == [1] * 4
    assert rest == [[[item, 1] for item in range(5)], list(range(5)), 3, True]
