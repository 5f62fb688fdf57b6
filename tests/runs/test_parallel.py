from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from longtail.base import workers
from longtail.base.errors import UserError
from longtail.runs import launch, parallel
from longtail.runs.parallel import ALONE, LOST, Team
from longtail.runs.workspace import STOPPED
from longtail.training import gradients
from longtail.training.gradients import Gradients
from tests.helpers.stage_processes import _server
from tests.helpers.teams import end_of, together

# ---- shares


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_neighbours_of_nearly_equal_size_and_cover_everything(size):
    for count in range(20):
        shares = [Team(rank, size).share(count) for rank in range(size)]
        assert [i for share in shares for i in range(count)[share]] == list(range(count))
        sizes = [share.stop - share.start for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_a_process_alone_is_a_team_of_one():
    tensor = torch.tensor([2.0])
    assert ALONE.leads and ALONE.share(5) == slice(0, 5)
    assert ALONE.sum_(tensor) is tensor and tensor.item() == 2
    assert (ALONE.largest([3, 1]), ALONE.from_first("a"), ALONE.gather("b")) == ([3, 1], "a", ["b"])
    ALONE.copy_first_([tensor])


# ---- what processes exchange


def exchange(team: Team) -> dict:
    """Of everything a process can give, its rank."""
    own = torch.tensor([float(team.rank)], dtype=torch.float64)
    weights = [nn.Parameter(torch.full((2,), team.rank + 5.0))]
    team.copy_first_(weights)
    return {
        "sum": team.sum_(own).item(),
        "largest": team.largest([team.rank, -team.rank]),
        "first": team.from_first({"rank": team.rank}),
        "gathered": team.gather({"part": torch.full((team.rank,), 7.0)}),
        "copied": weights[0].tolist(),
        "backend": team.backend,
        "gradients": shared_gradients(team),
    }


def shared_gradients(team: Team) -> list:
    """Of (w0 + 2 w1) x, in each process with an x of its own and as many passes as its rank: the first has none."""
    gradients.BUCKET_BYTES = 4  # a bucket a parameter
    model = nn.ParameterList([nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(3))])
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    of = Gradients([*model, frozen], team)
    steps = []
    for step in range(2):
        of.clear()
        for number in range(team.rank):
            if number == team.rank - 1:
                of.last_pass()
            ((model[0].sum() + 2 * model[1].sum()) * (10.0**team.rank) * (step + 1)).backward()
        of.finish()
        steps.append([p.grad.tolist() for p in model])
    assert frozen.grad is None and len(of.buckets) == 2
    return steps


def test_what_processes_exchange(tmp_path):
    for rank, seen in enumerate(together(3, tmp_path, exchange)):
        assert seen["sum"] == 3 and seen["largest"] == [2, 0] and seen["backend"] == "gloo"
        assert seen["first"] == {"rank": 0} and seen["copied"] == [5.0, 5.0]
        assert [len(part["part"]) for part in seen["gathered"]] == ([0, 1, 2] if rank == 0 else [])
        # one pass with 10 in process 1, two with 100 in process 2
        assert seen["gradients"] == [[[s * 210.0], [s * 420.0] * 3] for s in (1, 2)]


def test_a_process_alone_keeps_its_gradients_as_they_come():
    p = nn.Parameter(torch.ones(2))
    of = Gradients([p], ALONE)
    of.clear()
    assert p.grad is None and of.buckets == []
    of.last_pass()
    (3 * p).sum().backward()
    of.finish()
    assert p.grad.tolist() == [3, 3]
    of.clear()
    assert p.grad is None


# ---- when one fails


def fail(team: Team, failing: str) -> None:
    parallel._HEAR_S = 1.0
    if failing == "all" or team.rank == 1:
        if failing == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if failing == "unused":
            p, q = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
            of = Gradients([p, q], team)
            of.last_pass()
            p.sum().backward()
            of.finish()
        raise UserError("no such thing")
    team.from_first()
    team.sum_(torch.zeros(1))


@pytest.mark.parametrize(
    ("failing", "codes", "told"),
    [
        ("all", [2, 2, 2], "error: no such thing"),
        ("one", [LOST, 2, LOST], "error: no such thing"),
        ("killed", [LOST, -signal.SIGKILL, LOST], "of 3 lost another one: "),
        ("unused", [LOST, 1, LOST], "ValueError: a trained parameter has no part in the loss; freeze it"),
    ],
)
def test_whatever_ends_one_ends_all_and_is_told_once(failing, codes, told, tmp_path, monkeypatch):
    members = end_of(3, tmp_path, fail, failing)
    assert [member.code for member in members] == codes
    lines = [line for member in members for line in member.err.splitlines() if "Warning" not in line]
    assert told in lines[-1] and (len(lines) == 1 or failing == "unused"), lines
    if failing == "unused":
        assert [bool(member.err) for member in members] == [False, True, False]


# ---- one command, several processes

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
rank, case = int(os.environ["RANK"]), sys.argv[1]
Path(f"{case}{rank}").write_text(" ".join(os.environ[n] for n in ("LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))
if case == "stop":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Path(f"ready{rank}").touch()
    time.sleep(60)
if case == "killed" and rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if case in ("killed", "mistake", "hang") and rank == 0:
    time.sleep(60 if case == "hang" else 0.5)
    sys.exit(75)
sys.exit({"good": 0, "saved": 143}.get(case, 2))
"""


def launched(folder: Path, case: str) -> None:
    os.chdir(folder)
    os.environ["LONGTAIL_NPROC"] = "2"
    os.dup2(os.open("err", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    launch._GRACE_S = 0.5
    launch.launch([str(folder / "script.py"), case])


def test_one_command_runs_several_processes_and_ends_with_their_code(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    processes = {}
    for case in ("good", "mistake", "killed", "hang", "saved", "stop"):
        processes[case] = _server.Process(target=launched, args=(tmp_path, case))
        processes[case].start()
    end = time.monotonic() + 60
    while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(processes["stop"].pid, signal.SIGTERM)
    for process in processes.values():
        process.join(60)
    codes = {case: process.exitcode for case, process in processes.items()}
    assert codes == {"good": 0, "mistake": 2, "killed": 9, "hang": 2, "saved": STOPPED, "stop": STOPPED}
    assert [(tmp_path / f"good{rank}").read_text() for rank in (0, 1)] == ["0 2 2", "1 2 2"]
    told = [line for line in (tmp_path / "err").read_text().splitlines() if "error" in line]
    assert len(told) == 1 and told[0].startswith("error: process 1 of 2 was killed by signal 9 (out of memory?)")


@pytest.mark.parametrize("wanted", ["0", "-1", "two"])
def test_a_number_of_processes_that_is_none_is_refused(wanted, monkeypatch):
    monkeypatch.setenv("LONGTAIL_NPROC", wanted)
    with pytest.raises(UserError, match=f"LONGTAIL_NPROC={wanted}: a whole number from 1 is needed"):
        launch.launch(sys.argv)


def test_one_process_needs_no_launcher(monkeypatch):
    monkeypatch.setenv("LONGTAIL_NPROC", "1")
    launch.launch(sys.argv)
    with parallel.joined(torch.device("cpu")) as (team, device):
        assert team is ALONE and device.type == "cpu"


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)), raising=False)
    assert workers.cores() == 7
    for here, each in ((2, 3), (7, 1), (9, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
        assert workers.cores() == each
