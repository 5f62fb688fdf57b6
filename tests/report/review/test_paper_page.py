"""The generated overview over the papers: accuracy of each row beside what its network has cost."""

from __future__ import annotations

import shutil

from longtail.base import params
from longtail.report.review.coverage import Project
from longtail.report.review.paper_page import overview
from tests.helpers.reporting import PUBLISHED, run_stage
from tests.helpers.root import ROOT, params_table

EVERYTHING = params_table()
OWN = params.own(ROOT / "papers/common/params.yaml")


def rows(text: str) -> dict[str, list[str]]:
    """{label of the first study's line: its cells}."""
    lines = text.split("### ")[1].splitlines()
    return {cells[1]: cells[2:-1] for line in lines if (cells := [c.strip() for c in line.split("|")])[1:]}


def test_each_row_has_its_accuracy_and_its_cost(tmp_path):
    text = overview(OWN, EVERYTHING, Project(EVERYTHING, tmp_path), PUBLISHED)
    assert text.count("### ") == len(OWN["studies"]) and text.endswith("|\n")
    found = rows(text)
    assert found["ViT"][:6] == ["not run"] * 4 + ["159 k", "46,080"]
    assert found["LiVT"][4:6] == ["159 k", "46,080"] and found["DeiT-LT, DiVE teacher"][4:6] == ["160 k", "46,080"]
    assert found["ViT"][6:] == ["771 GFLOP"] * 2 and found["LiVT"][6] == found["LiVT"][7]
    assert found["ResNet-8, LDAM-DRW + SAM"][5] == "43,800" and found["ResNet-8, CBD-ENS, K = 4"][5] == "20,800"


def test_the_stage_writes_and_checks_a_folder_that_compares(tmp_path, monkeypatch, capsys):
    """Which parts it has its README says; a missing marker is told."""
    folder = tmp_path / "papers/common"
    folder.mkdir(parents=True)
    docs = ("docs/review.yaml", "docs/coverage.yaml", "docs/claims.yaml")
    for file in ("params.yaml", "dvc.yaml", *docs, "papers/common/params.yaml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    for paper in ("deit_lt", "dive", "cbd", "livt"):
        (tmp_path / "papers" / paper).mkdir()
        shutil.copy(ROOT / f"papers/{paper}/params.yaml", tmp_path / f"papers/{paper}/params.yaml")
    monkeypatch.chdir(tmp_path)
    line = ["paper", "papers/common", "--name", "Across the papers", "--reports", "reports"]
    line += ["--published", PUBLISHED, "--review", docs[0], "--coverage", docs[1], "--claims", docs[2]]
    readme = folder / "README.md"
    readme.write_text("# Across the papers\n\n<!-- overview -->\n<!-- end -->\n")
    assert run_stage(*line) == 2 and "0 markers <!-- entries -->" in capsys.readouterr().err
    readme.write_text(readme.read_text() + "\n<!-- entries -->\n<!-- end -->\n<!-- ran -->\n<!-- end -->\n")
    assert run_stage(*line, "--check") == 1 and run_stage(*line) == 0 and run_stage(*line, "--check") == 0
    text = readme.read_text()
    assert "papers/common/dvc.yaml:evaluate@common-digits-livt" in text and "| ViT |" in text
    assert "| Every method on the same long tail, in miniature | miniature | 0 of 10 | – | – | – |" in text
