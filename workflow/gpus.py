"""Which GPUs of this machine a job gets, where no cluster's scheduler says so: slots, held by locks of the system.

A slot is a lock file of a device in the machine's temporary folder; `share` slots on each. A job that ends, however it
ends, gives its slots back.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from longtail.base.errors import UserError

POLL_S = 2.0


def devices() -> list[str]:
    """The GPUs that may be used: those of CUDA_VISIBLE_DEVICES where it is set, else all that nvidia-smi lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [str(i) for i, _ in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU "))]


@contextmanager
def taken(count: int, share: int = 1) -> Iterator[list[str]]:
    """Hold `count` devices, named in CUDA_VISIBLE_DEVICES meanwhile; waits for free ones. Does nothing without GPUs.

    `share`: jobs that may use one device at a time. Raises UserError where the machine has fewer devices than `count`.
    """
    present = devices() if count else []
    if not present:
        yield []
        return
    if count > len(present):
        raise UserError(f"gpus: {count} asked for in workflow/resources.yaml, this machine has {len(present)}")
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    with ExitStack() as held:
        while len(mine := _take(present, count, share, held)) < count:
            held.close()  # all or nothing, so that two jobs cannot wait for each other
            time.sleep(POLL_S)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        try:
            yield mine
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def _take(present: list[str], count: int, share: int, held: ExitStack) -> list[str]:
    """Lock a free slot on each of up to `count` devices; a device in use only when there is no empty one."""
    folder = Path(tempfile.gettempdir()) / f"longtail-gpus-{getpass.getuser()}"
    folder.mkdir(exist_ok=True)
    mine: list[str] = []
    for slot in range(share):
        for device in present:
            if len(mine) == count:
                return mine
            if device in mine:
                continue
            file = open(folder / f"{device}.{slot}", "w")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            held.enter_context(file)
            mine.append(device)
    return mine
