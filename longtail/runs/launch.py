"""One command, several processes on this machine: what LONGTAIL_NPROC in the environment asks for.

The processes are those of `torchrun --standalone --nproc-per-node`, with its variables in their environment. torchrun
itself answers a stop signal, and any failure, with code 1 and a report; the engines need the stage's own code: 143
where the state was saved, 2 and one line on a mistake.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import torch.distributed as dist

from longtail.base import environment
from longtail.base.errors import AGAIN
from longtail.base.errors import killed as how
from longtail.runs.parallel import LOST, TOLD
from longtail.runs.workspace import STOP_SIGNALS, STOPPED

_GRACE_S = 20.0  # for the others to end by themselves when one has failed


def launch(command: list[str]) -> None:
    """Run `command`, this script and its arguments, in LONGTAIL_NPROC processes and end with their code. Returns where
    none or one is asked for, and in the processes themselves. Raises UserError where it is no number."""
    wanted = environment.of(environment.PROCESSES)
    if wanted > 1 and not dist.is_torchelastic_launched():
        sys.exit(_run(command, wanted))


def _run(command: list[str], count: int) -> int:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes: list[subprocess.Popen] = []
    asked: list[int] = []

    def pass_on(signum, frame) -> None:
        asked.append(signum)
        for process in processes:
            process.send_signal(signum)

    for signum in STOP_SIGNALS:
        signal.signal(signum, pass_on)
    for rank in range(count):
        environment = _environment(rank, count, store.port)
        processes.append(subprocess.Popen([sys.executable, *command], env=environment))
        if asked:  # it came while the process was being made
            processes[-1].send_signal(asked[-1])
    code = _wait(processes, store, asked)
    return STOPPED if code and asked else code


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    """torchrun's variables; the store is already there, kept by this process."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "longtail"}
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    added = {**own, **meeting, "TORCHELASTIC_USE_AGENT_STORE": "True"}
    return loopback | dict(os.environ) | {key: str(value) for key, value in added.items()}


def _wait(processes: list[subprocess.Popen], store: dist.TCPStore, asked: list[int]) -> int:
    """Until all have ended. Where one fails, the others have a while to notice. Returns the code of the one that failed
    first, rather than of those that lost it."""
    first, deadline = 0, None
    while True:
        codes = [process.poll() for process in processes]
        failed = [rank for rank, code in enumerate(codes) if code not in (None, 0, STOPPED, LOST)]
        late = deadline is not None and time.monotonic() > deadline
        if failed and not first and not late:
            first = codes[failed[0]]
            if first < 0 and not asked and store.add(TOLD, 1) == 1:
                killed = f"process {failed[0]} of {len(processes)} was {how(-first)}"
                print(f"error: {killed}; {AGAIN}", file=sys.stderr)
        if None not in codes:
            return abs(first) or (STOPPED if STOPPED in codes else int(LOST in codes))
        if deadline is None and (failed or LOST in codes):
            deadline = time.monotonic() + _GRACE_S
        if late:
            for process in processes:
                process.kill()
        time.sleep(0.1)
