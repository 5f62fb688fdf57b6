"""Who keeps a study of his own alone in params.yaml gets every page, ledger and check; they say what they leave out."""

from __future__ import annotations

import shutil

import pytest
import yaml

from tests.helpers.reporting import PUBLISHED, run_stage, study_dict, write_metrics
from tests.helpers.root import ROOT

REPORTS = ["--reports", "reports"]
COVERAGE = ["--coverage", "docs/coverage.yaml"]
CLAIMS = ["--claims", "docs/claims.yaml", "--published", "data/published"]
WORDS = ["--words", "docs/words.yaml", "--judgements", "docs/review.yaml"]
STAGES = {
    "coverage": [*REPORTS, *COVERAGE, "--out", "docs/coverage.md"],
    "review": [*REPORTS, *COVERAGE, "--judgements", "docs/review.yaml", "--out", "reports/review"],
    "run_pages": [*REPORTS, "--out", "reports/pages"],
    "index": [*REPORTS, *COVERAGE, *CLAIMS, *WORDS, "--out", "reports/index.html"],
    "readme": [*REPORTS, *COVERAGE, "--published", "data/published", *WORDS, "--readme", "README.md"],
    "claims": [*REPORTS, *CLAIMS, "--out", "reports"],
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The shipped docs and README over params with one study that is nobody else's; its runs are there. The ledger of
    the repository, with verdicts on studies that params lacks, is there too."""
    (tmp_path / "docs").mkdir()
    for name in ("coverage.yaml", "claims.yaml", "review.yaml", "words.yaml"):
        shutil.copy(ROOT / "docs" / name, tmp_path / "docs")
    for name in ("README.md", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/published").symlink_to(PUBLISHED)
    write_metrics(tmp_path / "reports/metrics/s")
    shutil.copy(ROOT / "reports/claims.csv", tmp_path / "reports")
    entries = {name: {"study": "s", "dataset": "d", "cache": "none", "seeds": [0]} for name in ("s-vit", "s-deit_lt")}
    own = {"studies": {"s": study_dict()}, "experiments": entries}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_page_and_check_works(own, capsys):
    for stage, arguments in STAGES.items():
        assert run_stage(stage, *arguments) == 0, capsys.readouterr().err
        told = capsys.readouterr().out
        assert ("as params has no study" in told) == (stage not in ("claims", "run_pages")), (stage, told)
        assert run_stage(stage, *arguments, "--check") == 0, stage
        capsys.readouterr()
    review = "".join(path.read_text() for path in (own / "reports/review").iterdir())
    assert "report@digits" not in review and "STUDY=digits" not in review and "make status STUDY=s" in review
    index = (own / "reports/index.html").read_text()
    assert "A &lt;small&gt; study" in index and 'id="entry-s-vit"' in index
    assert "| `s` | full | 1 of 1 | 1 of 2 |" in (own / "README.md").read_text()
