"""Where the repository lies, and what its params files say."""

from functools import cache
from pathlib import Path

from longtail.base import params

ROOT = Path(__file__).parents[2]


@cache
def params_table() -> dict:
    """params.yaml of all folders, read once: the modules of tests that ask for it share it, so it is not to be changed.
    A fifth of a second each time, in each process of a test run."""
    return params.load_all(ROOT)
