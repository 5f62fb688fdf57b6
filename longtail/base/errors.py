"""A mistake of the user's is told in one line, with exit code 2 and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import NoReturn


class UserError(Exception):
    """What is wrong, where, and what would be right, in one line."""


def nearest(name: str, valid) -> str:
    """`; did you mean 'x'?` for the closest valid name, else the list of what is valid."""
    valid = [str(v) for v in valid]
    close = get_close_matches(str(name), valid, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; valid: {', '.join(valid) or 'nothing'}"


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run a stage's main(): 0 on success, 2 and one line on a UserError."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
