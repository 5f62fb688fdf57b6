"""What a stage loads before it begins: nothing heavy without need, as each entry is a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from longtail.base import yaml_file
from tests.helpers.root import ROOT

HEAVY = {"torch", "torchvision", "timm", "pandas", "scipy", "sklearn", "matplotlib"}
NETWORKS = {"torch"}
NEEDED = {
    "train_teacher": NETWORKS,
    "train_student": NETWORKS,
    "cache_logits": NETWORKS,
    "teacher_entropy": NETWORKS,
    "figures": {"matplotlib"},
    "overview": {"matplotlib"},
    "pretrain": NETWORKS,
    "reconstruct": NETWORKS,
    "analyse": NETWORKS,
}
DAG = yaml_file.read(ROOT / "dvc.yaml")["stages"].values()
STAGES = {Path(stage["do"]["cmd"].split()[1]).stem for stage in DAG}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_loads_what_it_needs(stage):
    code = f"import sys; import {stage}; print(*sys.modules)"
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'stages'}"}
    done = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == NEEDED.get(stage, set())
