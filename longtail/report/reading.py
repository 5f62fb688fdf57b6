"""Readers of reports/runs/<study>/[teachers/]<entry>/, which stage `diagnose` makes: pages and statistics use these.

A file that is not there is a run not made: None. Formats: docs/schema/{run,diagnostics}.schema.json.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from longtail.base.errors import UserError

SCHEMA = 1
ABOUT = ("entry", "kind", "study", "dataset", "config_hash")
AGAIN = "run stages/diagnose.py again"


def run_record(folder: Path) -> dict[str, Any] | None:
    """run.json: what the run was. Raises UserError where it is damaged or of another schema."""
    return _read(folder / "run.json", ("config", "seeds"))


def diagnostics(folder: Path) -> dict[str, Any] | None:
    """diagnostics.json: long-tail evaluation at the last epoch. Raises UserError as run_record does."""
    keys = ("class_names", "class_counts", "groups", "heads", "fusion", "routing", "agreement")
    return _read(folder / "diagnostics.json", keys)


def top1(folder: Path) -> dict[str, np.ndarray] | None:
    """predictions.npz: `labels` and `seed<k>_<last|best>_<cls|dist|avg>`, predicted classes, int64 [M]; `class_counts`
    and `groups_author` (0 head, 1 mid, 2 tail), int64 [C]. Raises UserError where it is damaged or lacks one of these.
    """
    path = folder / "predictions.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name].astype(np.int64) for name in file.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path}: cut short or damaged ({error}); {AGAIN}") from None
    for name in ("labels", "class_counts", "groups_author"):
        if name not in arrays:
            raise UserError(f"{path}: no '{name}' in it; {AGAIN}")
    seeds = [name for name in arrays if re.fullmatch(r"seed\d+_(last|best)_(cls|dist|avg)", name)]
    for name in seeds:
        if arrays[name].shape != arrays["labels"].shape:
            raise UserError(f"{path}: {name} has shape {arrays[name].shape}, labels {arrays['labels'].shape}; {AGAIN}")
    if not seeds:
        raise UserError(f"{path}: no seed's predictions in it; {AGAIN}")
    return arrays


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        schema = found["schema"]
        lacking = [key for key in (*ABOUT, *keys) if key not in found]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cut short or no such record ({error}); {AGAIN}") from None
    if schema != SCHEMA:
        raise UserError(f"{path}: schema is {schema!r}, expected {SCHEMA}; {AGAIN}")
    if lacking:
        raise UserError(f"{path}: no '{lacking[0]}' in it; {AGAIN}")
    return found
