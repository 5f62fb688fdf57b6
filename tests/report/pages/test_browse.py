"""The results as Markdown: what stands on them, where their links lead, when they are out of date."""

from __future__ import annotations

import re

import numpy as np
import pytest
import yaml

from longtail.base import csv_file, yaml_file
from longtail.base.errors import UserError
from longtail.report.pages import browse
from longtail.report.review.coverage import Project
from longtail.report.review.words import Shown
from tests.helpers.reporting import run_stage, study_dict
from tests.helpers.root import ROOT

SVG = '<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 341 209" width="540" height="330"></svg>'
LINK = re.compile(r'\]\(([^)]+)\)|(?:src|srcset)="([^"]+)"')
MADE_ELSEWHERE = {"review/cost.md", "../README.md"}


@pytest.fixture
def reports(tmp_path):
    """Of study `s`, which was run, one of two tables, a drawing and a figure of pictures; of `never` nothing."""
    params = {"studies": {"s": study_dict(), "never": {**study_dict(), "comparable": False}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    reports = tmp_path / "reports"
    for name, text in {
        "metrics/s/t.json": "{}",
        "tables/s/overall.md": "**Overall.**\n\n| a |\n|:--|\n| 1 |\n",
        "tables/s/overall.csv": "a\n1\n",
        "figures/s/experts.svg": SVG,
        "figures/s/experts-dark.svg": SVG,
        "figures/s/experts.csv": "x\n",
        "figures/s/experts.txt": "Data: digits_if20. 3 seeds.\n",
        "figures/s/rollout.png": "not looked at",
        "tables/never/overall.md": "of an earlier params.yaml",
        "claims.md": "",
    }.items():
        (reports / name).parent.mkdir(parents=True, exist_ok=True)
        (reports / name).write_text(text)
    from PIL import Image

    Image.new("P", (200, 50)).save(reports / "figures/s/rollout.png", dpi=(100, 100))
    return reports


def stage(reports, *more) -> int:
    given = ["--params", reports.parent / "params.yaml", "--words", ROOT / "docs/words.yaml"]
    return run_stage("browse", "--reports", reports, *given, *more)


def test_every_table_and_figure_with_its_caption_and_links_that_arrive(reports):
    assert stage(reports) == 0
    assert [path.name for path in (reports / "studies").iterdir()] == ["s.md"]
    page, first = reports / "studies/s.md", reports / "README.md"
    text = page.read_text()
    assert "# A &lt;small&gt; study" in text and "Made up & short." in text and "**Overall.**\n\n| a |" in text
    assert "The two experts by class group" in text and "Data: digits_if20. 3 seeds." in text
    dark = '<source media="(prefers-color-scheme: dark)" srcset="../figures/s/experts-dark.svg">'
    assert f'<picture>{dark}<img src="../figures/s/experts.svg" width="540"' in text
    assert '<picture><img src="../figures/s/rollout.png" width="228"' in text  # 2 inches of 114 pixels
    assert "| [A &lt;small&gt; study](studies/s.md) | `s` | full | 1 | 2 |" in first.read_text()
    assert "Not run: 1 studies" in first.read_text()
    for file in (page, first):
        links = ["".join(found) for found in LINK.findall(file.read_text())]
        assert links and all((file.parent / at.partition("#")[0]).exists() for at in links if at not in MADE_ELSEWHERE)
        anchors = {link[1:] for link in links if link.startswith("#")}
        assert anchors <= set(re.findall(r'<a id="([^"]+)">', file.read_text()))


def test_out_of_date_is_told(reports, capsys):
    assert stage(reports, "--check") == 1 and not (reports / "README.md").exists()
    assert stage(reports) == 0 and stage(reports, "--check") == 0
    capsys.readouterr()
    for name, change, stale in (
        ("tables/s/overall.md", "**Other.**\n", "studies"),
        ("figures/s/experts.txt", "4 seeds.\n", "studies"),
        ("studies/gone.md", "of a study that is no more", "studies"),
        ("README.md", "edited", "README.md"),
    ):
        (reports / name).write_text(change)
        assert stage(reports, "--check") == 1
        assert capsys.readouterr().err == f"{reports / stale}: out of date; run `make pages`\n"
        assert stage(reports) == 0
    assert not (reports / "studies/gone.md").exists()
    capsys.readouterr()
    assert stage(reports, "--check") == 0


def test_the_first_figures_stand_side_by_side(reports):
    project = Project(yaml_file.read(reports.parent / "params.yaml"), reports)
    shown = [Shown("s", "experts", "CLS knows the head."), Shown("s", "rollout", "Where it looks.")]
    text = browse.front(shown, project, reports.parent)
    assert text.count('width="49%"') == 2 and 'srcset="reports/figures/s/experts-dark.svg"' in text
    left, right = text.split("\n\n")[1].splitlines()
    assert left.startswith(
        "Left: CLS knows the head. [The two experts by class group (Table S.3)](reports/studies/s.md#"
    )
    assert left.rstrip().endswith("Data: digits_if20. 3 seeds.") and right.startswith("Right: Where it looks.")
    for wrong, message in (
        (Shown("z", "experts", ""), "no study 'z'"),
        (Shown("s", "groups", ""), "run stages/figures.py s"),
    ):
        with pytest.raises(UserError, match=message):
            browse.front([wrong], project, reports.parent)


def test_what_the_readme_says_of_its_figures_is_in_their_numbers():
    """Of the files in git: CLS above DIST on the head and below it on the tail; the heads of DeiT-LT's first block
    attend over shorter distances, on average, than those of ViT's."""
    says = {each["figure"]: each["study"] for each in yaml_file.read(ROOT / "docs/words.yaml")["figures"]}
    assert set(says) == {"experts", "attention_distance"}

    def numbers(figure: str, **wanted: str) -> list[float]:
        rows = csv_file.read(ROOT / f"reports/figures/{says[figure]}/{figure}.csv", ("label",), "")
        value = "mean" if figure == "experts" else "mean_px"
        return [float(row[value]) for row in rows if wanted.items() <= row.items()]

    cls, dist = ([numbers("experts", head=h, group=g)[0] for g in ("head", "tail")] for h in ("cls", "dist"))
    assert cls[0] > dist[0] and cls[1] < dist[1]
    ours, plain = (np.mean(numbers("attention_distance", label=label, block="0")) for label in ("DeiT-LT", "ViT"))
    assert ours < plain
