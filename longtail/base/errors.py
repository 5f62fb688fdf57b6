"""What ends a stage is told in one line: a mistake of the user's with exit code 2, what the machine refuses with 1,
Ctrl-C with 130. What is left is a fault of the code, whose traceback is wanted."""

from __future__ import annotations

import csv
import errno
import sys
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from typing import NoReturn

MISTAKE, REFUSED, INTERRUPTED = 2, 1, 130  # exit codes
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_SAID = ("No space left on device", "os error 28", "Disk quota exceeded")  # by libraries that wrap the error
_MEMORY_SAID = ("DefaultCPUAllocator", "can't allocate memory", "out of memory", "Cannot allocate memory")
AGAIN = "start again, it goes on from the last state"


class UserError(Exception):
    """What is wrong, where, and what would be right, in one line."""


def nearest(name: str, valid) -> str:
    """`; did you mean 'x'?` for the closest valid name, else the list of what is valid."""
    valid = [str(v) for v in valid]
    close = get_close_matches(str(name), valid, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; valid: {', '.join(valid) or 'nothing'}"


def killed(signum: int) -> str:
    """How a child ended that a signal ended: `killed by signal 9 (out of memory?)`."""
    return f"killed by signal {signum}" + (" (out of memory?)" if signum == 9 else "")


def explained(error: BaseException) -> tuple[str, int] | None:
    """What ended a stage, in one line, and its exit code; None where only a traceback says it."""
    said = " ".join(str(error).split())
    if isinstance(error, UserError):
        return said, MISTAKE
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; nothing half-made stays", INTERRUPTED
    if (isinstance(error, OSError) and error.errno in FULL) or any(text in said for text in _FULL_SAID):
        where = getattr(error, "filename", None)
        return f"{where or 'a file'}: the disk is full ({said}); make room and {AGAIN}", REFUSED
    if isinstance(error, MemoryError) or any(text in said for text in _MEMORY_SAID):
        return f"out of memory: {said or 'the machine has no more'}", REFUSED
    if isinstance(error, OSError) and error.errno is not None:
        # [Errno 13] Permission denied: 'path'
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or said} (error {errno.errorcode.get(error.errno, error.errno)})", REFUSED
    if isinstance(error, csv.Error) or type(error).__module__.partition(".")[0] == "yaml":
        return f"a file is not read: {said} ({_place(error)})", MISTAKE
    return None


def _place(error: BaseException) -> str:
    """The last of our own lines that an exception went through."""
    found, at = "", error.__traceback__
    while at is not None:
        path = at.tb_frame.f_code.co_filename
        if "longtail" in path or "stages" in path or not found:
            found = f"{path.rpartition('/')[2]}, line {at.tb_lineno}"
        at = at.tb_next
    return found


def tell(error: BaseException) -> int | None:
    """Say on stderr what ended a stage and give the exit code; None, and nothing said, where a traceback must."""
    if (found := explained(error)) is None:
        return None
    with suppress(OSError):  # stderr may lie on the full disk
        print(f"error: {found[0]}", file=sys.stderr, flush=True)
    return found[1]


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run a stage's main() in an environment that was checked: 0 on success, else one line and the code of its kind."""
    from longtail.base import environment, leftovers, source  # which raise this module's UserError

    try:
        environment.check()
        leftovers.sweep()
        source.before_stage(main.__code__.co_filename)
        main()
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if (code := tell(error)) is None:
            raise
        sys.exit(code)
    sys.exit(0)
