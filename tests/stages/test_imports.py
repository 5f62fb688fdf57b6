"""What a stage loads before it begins: nothing heavy without need, as each entry is a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from longtail.base import yaml_file
from tests.helpers.root import ROOT

HEAVY = {"torch", "torchvision", "timm", "pandas", "scipy", "sklearn", "matplotlib"}
NETWORKS = {"analyse", "cache_logits", "pretrain", "reconstruct", "teacher_entropy", "train_student", "train_teacher"}
NETWORKS |= {"compare_features", "virtual_examples"}
NEEDED = {"torch": NETWORKS, "matplotlib": {"figures", "overview"}}
DAG = yaml_file.read(ROOT / "dvc.yaml")["stages"].values()
STAGES = {Path(stage["do"]["cmd"].split()[1]).stem for stage in DAG}
SCRIPTS = {path.stem for path in (ROOT / "stages").glob("*.py")}
BY_HAND = {"import_checkpoint", "export_checkpoint", "probe"}  # with networks


@pytest.mark.parametrize("heavy", [*NEEDED, "nothing"])
def test_a_stage_loads_what_it_needs(heavy):
    """Those that need the same are loaded into one process."""
    stages = NEEDED.get(heavy, STAGES.difference(*NEEDED.values()))
    assert stages and stages <= STAGES
    assert HEAVY & loaded(stages) == {heavy} & NEEDED.keys()


def test_what_computes_with_no_network_loads_no_torch():
    """Pages, checks and tables that no stage of the pipeline makes among them."""
    assert BY_HAND < SCRIPTS and STAGES < SCRIPTS
    assert not HEAVY & loaded(SCRIPTS - NETWORKS - BY_HAND) - {"matplotlib", "scipy"}


def loaded(scripts: set[str]) -> set[str]:
    """All modules of a process that has imported these scripts."""
    code = f"import sys; import {', '.join(sorted(scripts))}; print(*sys.modules)"
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'stages'}"}
    done = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True, check=True)
    return set(done.stdout.split())
