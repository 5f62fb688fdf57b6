"""What the environment tells the stages: every LONGTAIL_* variable, read here and nowhere else.

`check` looks at all of them, so a stage calls it before anything else (base/errors.py): a value that nobody can use is
told at once, by the variable's name, and not after hours. An empty value is none.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longtail.base.errors import UserError, nearest

PRECISIONS, ENGINES = ("fp32", "bf16", "fp16"), ("eager", "compiled")
SCRATCH, SAVE_EVERY_S, RETRAIN = "LONGTAIL_SCRATCH", "LONGTAIL_SAVE_EVERY_S", "LONGTAIL_RETRAIN"
ALLOW_WEAK_TEACHER, PROCESSES = "LONGTAIL_ALLOW_WEAK_TEACHER", "LONGTAIL_NPROC"
PRECISION, ENGINE, MICRO_BATCH = "LONGTAIL_PRECISION", "LONGTAIL_ENGINE", "LONGTAIL_MICRO_BATCH"
OF_TESTS = ("LONGTAIL_NEED_CHROMIUM", "LONGTAIL_NEED_SLURM")  # read by the tests alone


def check() -> None:
    """Raises UserError for a LONGTAIL_* variable that nothing reads or whose value cannot be used, and for a scratch
    folder that cannot be written."""
    for name in sorted(os.environ):
        if name.startswith("LONGTAIL_") and name not in (*READ, *OF_TESTS):
            raise UserError(f"{name}: no such variable{nearest(name, READ)}")
    for name in READ:
        of(name)
    _writable(scratch())


def of(name: str) -> Any:
    """The value of one variable, or its default. Raises UserError as `check`."""
    default, read = READ[name]
    text = os.environ.get(name, "").strip()
    return read(name, text) if text else default


def scratch() -> Path:
    """The folder of half-made things: LONGTAIL_SCRATCH, or scratch in the working directory."""
    return of(SCRATCH)


def _writable(folder: Path) -> None:
    """Raises UserError where nothing can be written there; leaves no file, and makes no folder that nobody named."""
    given = os.environ.get(SCRATCH, "").strip()
    told = f"{SCRATCH}={given}" if given else f"the scratch folder (set {SCRATCH} to another one)"
    try:
        if given:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.exists():
            return
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{told}: {folder.absolute()} cannot be written ({error.strerror})") from None


def _folder(name: str, text: str) -> Path:
    path = Path(text)
    if text.startswith("~"):
        try:
            path = path.expanduser()
        except RuntimeError:
            raise UserError(f"{name}={text}: there is no such home folder; give the whole path") from None
    return path


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UserError(f"{name}={text}: seconds are needed, a number from 0, e.g. 120")
    return value


def _switch(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise UserError(f"{name}={text}: 1 (yes) or 0 (no) is needed")
    return text == "1"


def _whole(least: int, what: str) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise UserError(f"{name}={text}: a whole number from {least} is needed, {what}")
        return int(text)

    return read


def _word(known: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if text not in known:
            raise UserError(f"{name}={text}: must be one of {', '.join(known)}")
        return text

    return read


READ: dict[str, tuple[Any, Callable[[str, str], Any]]] = {  # variable: what it is by default, how its text is read
    SCRATCH: (Path("scratch"), _folder),
    SAVE_EVERY_S: (120.0, _seconds),  # between checkpoints; a signal saves at once
    RETRAIN: (False, _switch),  # train finished runs anew whatever their probes say
    ALLOW_WEAK_TEACHER: (False, _switch),  # let a teacher below its floor teach
    PROCESSES: (1, _whole(1, "processes on this machine")),
    PRECISION: ("auto", _word(("auto", *PRECISIONS))),
    ENGINE: ("auto", _word(("auto", *ENGINES))),
    MICRO_BATCH: (0, _whole(0, "views a forward pass, 0 for all of a step")),
}
