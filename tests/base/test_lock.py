"""One process at a time, who it is, and what a file system without locks is told apart as."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import time

import pytest

from longtail.base import lock
from longtail.base.errors import UserError

fork = multiprocessing.get_context("fork")


def hold(path, seconds: float) -> None:
    with lock.alone(path):
        path.with_name("held").touch()
        time.sleep(seconds)


@pytest.fixture
def held(tmp_path):
    """A lock that another process holds for as long as the test runs, or two seconds."""
    path = tmp_path / "lock"
    process = fork.Process(target=hold, args=(path, 2.0))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    yield path, process
    process.kill()
    process.join()


def test_the_holder_is_named(held):
    path, process = held
    with pytest.raises(lock.Held, match=f"process {process.pid} on "), lock.alone(path):
        pass


def test_a_wait_says_for_whom_and_ends_with_the_holders_death(held, capsys):
    path, process = held
    process.kill()
    process.join()
    with lock.alone(path, "at work"):
        assert lock.holder(path).startswith(f"process {os.getpid()} on ")
    assert [p.name for p in path.parent.iterdir()] == ["held"]  # neither lock nor name


def test_waiting(held, capsys):
    path, process = held
    with lock.alone(path, "at work"):
        assert not process.is_alive() or process.join(5) is None
    assert capsys.readouterr().out.startswith(f"at work (process {process.pid} on ")


def without(monkeypatch, number: int) -> None:
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_file_system_that_gives_no_locks_is_told_as_that(tmp_path, monkeypatch):
    without(monkeypatch, errno.ENOLCK)
    with pytest.raises(UserError, match="this file system gives no locks"), lock.alone(tmp_path / "lock", "at work"):
        pass


def test_without_flock_a_lock_is_one_by_existence(tmp_path, monkeypatch):
    without(monkeypatch, errno.ENOSYS)
    with pytest.warns(UserWarning, match="flock not supported"), lock.alone(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
    assert list(tmp_path.iterdir()) == []
