"""Several processes that act together, forked from one that has torch loaded; the store they meet at is the test's."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from longtail.base.errors import run_main
from longtail.runs.launch import _environment
from longtail.runs.parallel import joined
from tests.helpers.stage_processes import Run, _server, start

CPU = torch.device("cpu")


@dataclass
class Member:
    """How one process ended."""

    code: int
    value: Any  # what its function returned
    err: str


def meeting() -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def end_of(size: int, folder: Path, function: Callable, *arguments: Any, timeout: float = 120) -> list[Member]:
    """function(team, *arguments) in each of `size` processes, as a stage runs its main(); by rank."""
    folder.mkdir(parents=True, exist_ok=True)
    store = meeting()
    processes = []
    for rank in range(size):
        environment = _environment(rank, size, store.port)
        process = _server.Process(target=_member, args=(environment, folder / f"{rank}", function, arguments))
        process.start()
        processes.append(process)
    members = []
    for rank, process in enumerate(processes):
        process.join(timeout)
        if process.is_alive():
            for other in processes:
                other.kill()
            raise TimeoutError(f"process {rank} of {size} has not ended")
        path = folder / f"{rank}.pickle"
        value = pickle.loads(path.read_bytes()) if path.exists() else None
        members.append(Member(process.exitcode, value, (folder / f"{rank}.err").read_text()))
    return members


def together(size: int, folder: Path, function: Callable, *arguments: Any) -> list[Any]:
    """What function(team, *arguments) returns in each of `size` processes; all must succeed."""
    members = end_of(size, folder, function, *arguments)
    assert [member.code for member in members] == [0] * size, [member.err for member in members]
    return [member.value for member in members]


def _member(environment: dict[str, str], path: Path, function: Callable, arguments: tuple) -> None:
    os.environ.update(environment)
    os.dup2(os.open(path.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    torch.set_num_threads(1)

    def main() -> None:
        path.with_suffix(".pickle").unlink(missing_ok=True)
        with joined(CPU) as (team, _):
            path.with_suffix(".pickle").write_bytes(pickle.dumps(function(team, *arguments)))

    run_main(main)


def start_team(size: int, folder: Path, *command: object, **environment: object) -> tuple[list[Run], dist.TCPStore]:
    """A stage in each of `size` processes, as torchrun starts it, without a wait for imports. Keep the store."""
    store = meeting()
    return [
        start(folder, *command, **_environment(rank, size, store.port) | environment) for rank in range(size)
    ], store
