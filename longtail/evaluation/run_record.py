"""What a run was, from its seeds' folders: configuration, identity and curves. The content of run.json."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.base import intact, params, yaml_file
from longtail.base.errors import UserError

SCHEMA = 1
NEEDED = ("identity", "dataset_digest")
IDENTITY = (  # facts of identity.json, the same for any other run of the same; what it does not tell is left out
    *("identity", "backend", "processes", "precision", "engine", "attention"),
    *("class_order", "dataset_digest", "teacher_digest", "start_digest"),
    *("imported", "source", "source_sha256", "source_layout", "source_weights", "source_top1"),
)
INCOMPLETE = "the run is not complete, train it again"
DIGITS = 6  # significant, of the curves


@dataclass(frozen=True)
class SeedRun:
    """One seed's folder without its logits and weights."""

    config: dict[str, Any]  # config.yaml, fully resolved, without the seed
    facts: dict[str, Any]  # identity.json
    curves: dict[str, list[float | int | None]]  # columns of history.csv; None where an epoch has no value

    @property
    def config_hash(self) -> str:
        """As in the metrics file: sha256 of the configuration without the seed."""
        return params.digest(self.config)


def read_seed(folder: Path) -> SeedRun:
    """<run>/seed<k>. Raises UserError where a file is missing or damaged."""
    intact.check(folder, "identity.json", "config.yaml", "history.csv")
    try:
        facts = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
        config = yaml_file.mapping(folder / "config.yaml", INCOMPLETE)
        with open(folder / "history.csv", newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file, strict=True)
        lacking = [key for key in NEEDED if key not in facts]
        if lacking:
            raise KeyError(lacking[0])
        curves = {name: [_number(row[i]) for row in rows] for i, name in enumerate(names)}
        return SeedRun({k: v for k, v in config.items() if k != "seed"}, facts, curves)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; {INCOMPLETE}") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(
            f"{folder}: identity.json, config.yaml or history.csv is damaged or lacks {error}; train it again"
        ) from None


def _number(text: str) -> float | int | None:
    """A cell of history.csv; None where it is empty or no finite number (a loss that diverged)."""
    if not text:
        return None
    if text.isdecimal():
        return int(text)
    value = float(text)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def same_config(runs: dict[int, SeedRun], where: Path) -> str:
    """The hash that all seeds share. Raises UserError where two seeds were trained with different configurations."""
    first = next(iter(runs))
    for seed, run in runs.items():
        if run.config_hash != runs[first].config_hash:
            raise UserError(
                f"{where}: seed {first} has config {runs[first].config_hash[:8]} and seed {seed} "
                f"{run.config_hash[:8]}; train the entry again, all seeds alike"
            )
    return runs[first].config_hash


def record(about: dict[str, Any], runs: dict[int, SeedRun]) -> dict[str, Any]:
    """The content of run.json (docs/schema/run.schema.json). about: entry, kind, study, dataset, config_hash."""
    return {
        "schema": SCHEMA,
        **about,
        "config": next(iter(runs.values())).config,
        "seeds": {
            str(seed): {
                "identity": {key: run.facts[key] for key in IDENTITY if key in run.facts},
                "curves": run.curves,
            }
            for seed, run in runs.items()
        },
    }
