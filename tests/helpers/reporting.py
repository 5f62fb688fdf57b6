"""A small study and made-up metrics files, for the tests of tables, figures and report. No real result is in here."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from longtail.base import params
from longtail.base.files import write_json
from longtail.evaluation.metrics import SCALARS, summarise
from longtail.report.study import StudyConfig
from tests.helpers.root import ROOT

PUBLISHED = ROOT / "data" / "published"

T2 = {"file": "deit_lt_table_2.csv", "dataset": "CIFAR-10-LT", "imbalance": 100}
S3 = {"file": "deit_lt_table_s3.csv", "dataset": "CIFAR-10-LT", "imbalance": 100, "backbone": "DeiT-B"}


def run_stage(name: str, *arguments) -> int:
    """Run stages/<name>.py as a script in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"stages/{name}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "stages" / f"{name}.py"), run_name="__main__")
    return end.value.code or 0


def study_dict() -> dict:
    """What an entry of `studies` looks like: two students, one teacher, a one-column and a four-column table."""
    overall = [
        {"label": "Teacher", "teacher": "t", "printed": {**T2, "method": "L-D-SAM", "backbone": "ResNet-32"}},
        {"label": "ViT", "entry": "s-vit", "printed": {**T2, "method": "ViT", "backbone": "ViT-B"}},
        {"label": "RIDE", "printed": {**T2, "method": "RIDE", "backbone": "ResNet-32"}},
        {
            "label": "LDAM 50",
            "printed": {**T2, "method": "LDAM+DRW", "backbone": "ResNet-32", "imbalance": 50},
        },
        {"label": "Ours alone", "entry": "s-deit_lt", "head": "dist"},
    ]
    experts = [
        {
            "label": f"DeiT-LT {head}",
            "entry": "s-deit_lt",
            "head": head,
            "printed": {**S3, "method": f"DeiT-LT [teacher=PaCo+SAM] expert={name}"},
        }
        for head, name in (("cls", "CLS"), ("avg", "Average"))
    ]
    return {
        "title": "A <small> study",
        "note": "Made up & short.",
        "comparable": True,
        "experiments": [{"name": "s-vit", "label": "ViT"}, {"name": "s-deit_lt", "label": "DeiT-LT"}],
        "teachers": [{"name": "t", "label": "Teacher"}],
        "caches": [{"name": "c", "label": "Teacher"}],
        "tables": [
            {"name": "overall", "caption": "Overall: all classes.", "columns": ["top1"], "rows": overall},
            {
                "name": "experts",
                "caption": "Experts.",
                "columns": ["top1", "head", "mid", "tail"],
                "rows": experts,
            },
        ],
    }


def study(**changes) -> StudyConfig:
    return params.build(StudyConfig, {**study_dict(), **changes}, "studies.s")


GROUPS = {"author": {"head": [0], "mid": [1], "tail": [2]}, "count": {"many": [0], "medium": [1], "few": [2]}}


def metrics_file(entry: str, kind: str, top1: list[float], heads=("avg", "cls"), tail: float | None = 40.0) -> dict:
    """Schema 1 with the given top-1 a seed for the averaged head; other heads are 10 lower, best is 1 higher."""

    def of(head: str, value: float) -> dict:
        base = value - (0 if head == "avg" else 10)
        scalars = dict.fromkeys(SCALARS, base) | {"tail": tail}
        return {**scalars, "per_class": [base] * 3}

    seeds = {
        str(s): {
            phase: {"epoch": 9 - i, **{h: of(h, value + i) for h in heads}} for i, phase in enumerate(("last", "best"))
        }
        for s, value in enumerate(top1)
    }
    summary = {
        phase: {h: {m: summarise([s[phase][h][m] for s in seeds.values()]) for m in SCALARS} for h in heads}
        for phase in ("last", "best")
    }
    return {
        **{
            "schema": 1,
            "entry": entry,
            "kind": kind,
            "study": "s",
            "dataset": "d",
            "config_hash": "0123456789" * 6 + "abcd",
        },
        **{"classes": 3, "class_counts": [3, 2, 1], "groups": GROUPS, "seeds": seeds, "summary": summary},
    }


def write_metrics(folder: Path) -> Path:
    """Metrics of the teacher (one seed) and of s-deit_lt (three); s-vit was not run."""
    write_json(folder / "teachers" / "t.json", metrics_file("t", "teacher", [80.26]))
    found = metrics_file("s-deit_lt", "experiment", [86.0, 88.0, 90.0], ("avg", "cls", "dist"), tail=None)
    write_json(folder / "s-deit_lt.json", found)
    return folder
