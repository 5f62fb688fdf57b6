"""Readers of reports/runs/<study>/[teachers/]<entry>/, which stage `evaluate` makes, and of the CSVs of analyses:
pages, figures and statistics use these.

A file that is not there is a run not made: None. Formats: docs/schema/{run,diagnostics}.schema.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from longtail.base import csv_file, typed
from longtail.base.errors import UserError
from longtail.base.files import npz
from longtail.report.diagnosis_records import Diagnostics
from longtail.report.records import Run
from longtail.report.study import Item

SCHEMA = 1
AGAIN = "run stages/evaluate.py again"


def run_record(folder: Path) -> dict[str, Any] | None:
    """run.json: what the run was. Raises UserError where it is damaged or not as longtail/report/records.py says."""
    return _read(Run, folder / "run.json")


def diagnostics(folder: Path) -> dict[str, Any] | None:
    """diagnostics.json: long-tail evaluation at the last epoch. Raises UserError as run_record does."""
    return _read(Diagnostics, folder / "diagnostics.json")


def top1(folder: Path) -> dict[str, np.ndarray] | None:
    """predictions.npz: `labels` and `seed<k>_<last|best|validation>_<cls|dist|avg>`, predicted classes, int64 [M];
    `class_counts` and `groups_author` (0 head, 1 mid, 2 tail), int64 [C]. Raises UserError where it is damaged or lacks
    one of these.
    """
    path = folder / "predictions.npz"
    if not path.is_file():
        return None
    with npz(path, "cut short or damaged", AGAIN) as file:
        arrays = {name: file[name].astype(np.int64) for name in file.files}
    for name in ("labels", "class_counts", "groups_author"):
        if name not in arrays:
            raise UserError(f"{path}: no '{name}' in it; {AGAIN}")
    seeds = [name for name in arrays if re.fullmatch(r"seed\d+_(last|best|validation)_(cls|dist|avg)", name)]
    for name in seeds:
        if arrays[name].shape != arrays["labels"].shape:
            raise UserError(f"{path}: {name} has shape {arrays[name].shape}, labels {arrays['labels'].shape}; {AGAIN}")
    if not seeds:
        raise UserError(f"{path}: no seed's predictions in it; {AGAIN}")
    return arrays


def _read(cls: type, path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    text = path.read_bytes()
    try:
        found = json.loads(text)
        schema = found["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cut short or no such record ({error}); {AGAIN}") from None
    if schema != SCHEMA:
        raise UserError(f"{path}: schema is {schema!r}, expected {SCHEMA}; {AGAIN}")
    try:
        typed.read(cls, text)  # for its check: whole numbers stay as they stand in the file
    except UserError as error:
        raise UserError(f"{path}: not of schema {SCHEMA}: {error}; {AGAIN}") from None
    return found


def series(folder: Path, items: Iterable[Item], name: str, *columns: str) -> dict[str, list[dict[str, str]]]:
    """{label: rows of <folder>/<entry>/<name>, a CSV of an analysis} of the entries that have it. Raises UserError
    where one lacks a column."""
    expected = f"cut short or damaged, expected columns {', '.join(columns)}; make it again"
    paths = {item.label: folder / item.name / name for item in items}
    return {label: csv_file.read(path, columns, expected) for label, path in paths.items() if path.is_file()}


def network(config: Mapping) -> str:
    """The network of a run's resolved configuration, e.g. `ViT of 3 blocks, width 64`; empty where it names none."""
    model = config.get("model") or {}
    if {"depth", "dim"} <= set(model):
        return f"ViT of {model['depth']} blocks, width {model['dim']}"
    arch = config.get("arch") or model.get("arch") or ""
    return str(arch).replace("resnet", "ResNet-").replace("resnext", "ResNeXt-")
