"""Pages of runs: the numbers of the files, what is missing said to be, names escaped, nothing fetched."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from longtail.report.pages.run_page import Run, html, sections, sentence, title
from longtail.report.pages.sections import LONGEST, estimate, shown
from tests.helpers import run_files
from tests.helpers.reporting import run_stage
from tests.helpers.root import ROOT

VOID = {"meta", "br", "img", "link", "hr", "input"}
NASTY = "<script>alert('x')</script> & \"co\""


class Page(HTMLParser):
    """Elements with their attributes; text of table cells by table label."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.rows: list[list[str]] = []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "table":
            self.rows = self.tables.setdefault(dict(attributes)["aria-label"], [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.in_cell:
            self.rows[-1][-1] += data

    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.elements if "id" in a]

    def titles(self) -> list[str]:
        return [a["id"] for tag, a in self.elements if tag == "section"]


def student(**changes) -> Run:
    files = {"diagnosed": run_files.diagnosed(), "record": run_files.recorded(), "metrics": run_files.metrics()}
    record = run_files.machines(("experiments", "e", "a1" * 32, 2), git_commit="c" * 40)
    files["made"] = record["experiments"]["e"]["seeds"]
    return Run(
        **{"entry": "e", "kind": "experiment", "study": "s", "label": "A", "experts": run_files.experts("e"), **files}
        | changes
    )


def teacher() -> Run:
    made = (f("t", "teacher") for f in (run_files.diagnosed, run_files.recorded, run_files.metrics))
    return Run("t", "teacher", "s", "A teacher", *made, None)


@pytest.fixture(scope="module")
def whole() -> str:
    return html(student())


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without their drawings, where these are not the question: they take most of the time."""
    monkeypatch.setattr("longtail.report.pages.sections.to_svg", lambda figure, name, text: Markup("<svg></svg>"))


def row(page: Page, caption: str, first: str) -> list[str]:
    return next(cells for cells in page.tables[caption] if cells[0] == first)


def test_the_page_has_a_section_for_each_question(whole):
    asked = ["groups", "flows", "confusion", "reliability", "shifts", "fusion", "routing", "agreement"]
    assert Page(whole).titles() == [*asked, "curves", "cost", "config"]
    assert "Not run" not in whole


def test_title_and_lead_are_in_words():
    """Method, network and data set by what they are called; what has no words keeps its name."""
    record = run_files.recorded()
    config = {"method": "deit_lt", "cache": "c", "start": "none", "model": {"depth": 3, "dim": 64}}
    run = student(record=record | {"dataset": "d", "config": config}, called={"d": "Digits", "c": "CE teacher"})
    assert title(run) == "A: ViT of 3 blocks, width 64, on Digits"
    assert sentence(run).startswith("A student (method deit_lt), taught by the labels of the CE teacher. 4 classes, ")
    config = {"arch": "resnet32", "loss": "ldam", "sources": ["t", "none"]}
    run = replace(run, kind="teacher", record=record | {"dataset": "e", "config": config})
    assert title(run) == "A: ResNet-32, on e" and sentence(run).startswith("A CNN, loss LDAM, with what comes from t. ")
    assert f"<h1>{title(run)}</h1>" in html(run)


def test_the_numbers_are_those_of_the_files(whole):
    page, diagnosed, metrics = Page(whole), run_files.diagnosed(), run_files.metrics()
    tail = metrics["summary"]["last"]["dist"]["tail"]
    assert row(page, "Last epoch: the result.", "DIST")[5] == f"{tail['mean']:.2f} ± {tail['stderr']:.2f}"
    ece = diagnosed["heads"]["cls"]["reliability"]["tail"]["ece"]
    assert row(page, "Expected calibration error in %, mean over seeds.", "CLS")[4] == estimate(ece)
    routed = diagnosed["routing"]["to_dist"]["mid"]
    listed = "Test images, last epoch, %: all, and means of a group's classes."
    assert row(page, listed, "Share answered by DIST")[3] == estimate(routed)
    share = diagnosed["heads"]["cls"]["flows"]["author"]["tail"]["head"]
    assert row(page, "CLS: group predicted, % of the true group.", "tail")[1] == f"{share:.2f}"
    b50 = diagnosed["heads"]["avg"]["shifts"][-1]["from_uniform"]
    assert row(page, "Average: expected accuracy.", "B50")[5:] == [f"{b50['mean']:.2f}", f"{b50['stderr']:.2f}"]
    counts = diagnosed["heads"]["dist"]["confusion"]["counts"]
    shares = [f"{100 * n / sum(counts[3]):.2f}" for n in counts[3]]
    assert row(page, "DIST: class predicted, % of the true class.", "dog")[1:] == shares
    assert row(page, "Top-1 at the epochs evaluated.", "3")[1:3] == ["50.50", "0.50"]
    assert row(page, "Each seed.", "1")[1:3] == ["1,800.00", "cpu x1"]
    assert "3,600.0 s in all, 1.00 hours" in whole and "c" * 12 in whole


def test_the_average_the_held_out_choice_and_the_bound_stand_apart(whole):
    page, swept = Page(whole), run_files.diagnosed()["fusion"]
    caption = "Accuracy on the test set, last epoch, %."
    assert row(page, caption, "Average (the result)")[1] == "0.50"
    half = swept["accuracy"]["tail"]["mean"][10]
    assert row(page, caption, "Average (the result)")[5].startswith(f"{half:.2f}")
    chosen = row(page, caption, "Chosen on held-out (extra labels)")
    assert chosen[1:3] == ["0.28 ± 0.03", "54.75 ± 0.50"]  # weights .25 and .30; accuracies 54.25 and 55.25
    oracle = row(page, caption, "Best on test (oracle)")
    assert float(oracle[1]) == pytest.approx(swept["oracle_on_test"]["weight"])
    assert oracle[2].startswith(f"{swept['oracle_on_test']['accuracy']:.2f}")
    assert "There are none of ant." in whole and "120 labelled images" in whole


def test_agreement_leaves_out_groups_without_views(whole):
    (table,) = [rows for caption, rows in Page(whole).tables.items() if caption.startswith("Views of epoch 3")]
    assert [cells[0] for cells in table[1:]] == ["unmixed, all", "unmixed, head", "unmixed, mid"]
    assert table[1][1:3] == ["40", "62.50 ± 0.00"]


def test_a_network_with_one_head_has_nothing_to_weigh():
    text = html(teacher())
    assert Page(text).titles() == ["groups", "flows", "confusion", "reliability", "shifts", "curves", "cost", "config"]
    assert "CLS" not in text and "DIST" not in text and "Not run" not in text
    assert "Time and machine are not recorded" in text and "Each seed." not in text
    assert 'href="../../../index.html"' in text and 'href="../../../runs/s/teachers/t/run.json"' in text
    assert "A CNN, loss LDAM. 4 classes, 265 training images, from 200 to 5 a class." in text


@pytest.mark.parametrize(
    "missing, stage",
    [("diagnosed", "evaluate@e"), ("record", "evaluate@e"), ("experts", "experts@e")],
)
def test_what_is_missing_names_the_stage_that_makes_it(missing, stage, undrawn):
    text = html(student(**{missing: None}))
    assert f"Not run: <code>snakemake --cores all {stage}</code>" in text


def test_without_a_metrics_file_there_are_no_tables_of_it_and_no_seeds(undrawn):
    page = Page(html(student(metrics=None)))
    assert "Last epoch: the result." not in page.tables
    bars = page.tables["By class group, last epoch. Bars: mean over seeds, with one standard error; dots: seeds."]
    assert all(cells[5] == "" for cells in bars[1:])


def test_groups_without_test_images_are_dashes_and_never_zero(undrawn):
    diagnosed = run_files.diagnosed()
    for head in diagnosed["heads"].values():
        head["flows"]["author"]["tail"] = None
        head["accuracy"]["tail"] = {"mean": None, "stderr": None, "n": 0}
        head["reliability"]["tail"]["ece"] = {"mean": None, "stderr": None, "n": 0}
    page = Page(html(student(diagnosed=diagnosed)))
    assert row(page, "CLS: group predicted, % of the true group.", "tail") == ["tail", "–", "–", "–"]
    assert row(page, "Expected calibration error in %, mean over seeds.", "CLS")[4] == "–"


def test_no_matrix_of_very_many_classes(undrawn):
    diagnosed = run_files.diagnosed()
    for head in diagnosed["heads"].values():
        head["confusion"]["counts"] = None
    assert "confusion" not in [section.name for section in sections(student(diagnosed=diagnosed))]


def test_an_imported_run_has_no_history(undrawn):
    record = run_files.recorded()
    for seed in record["seeds"].values():
        seed["curves"] = {"epoch": []}
    experts = {**run_files.experts("e"), "agreement": None}
    text = html(student(record=record, experts=experts))
    assert "it has no history" in text and "its teacher and its views are not at hand" in text


def test_names_are_escaped():
    record = run_files.recorded()
    record["config"]["method"] = NASTY
    text = html(student(label=NASTY, entry=NASTY, record=record))
    assert len(re.findall("<script", text)) == 1 and "bee & <b>" not in text
    assert "bee &amp; &lt;b&gt;" in text and "&lt;script&gt;alert(&#39;x&#39;)" in text
    assert "%3Cscript%3E" in text  # in the links


def test_ids_are_unique_and_links_have_their_targets(whole):
    page = Page(whole)
    ids = page.ids()
    assert len(ids) == len(set(ids))
    within = {a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")}
    assert within | set(re.findall(r"url\(#([^)]*)\)", whole)) <= set(ids)


def test_nothing_is_fetched_and_the_page_is_small(whole):
    assert not re.search(r"https?:|@import|src=|url\((?!#)", whole)
    assert len(whole.encode()) < 400_000


def test_the_same_files_give_the_same_bytes(whole):
    assert html(student()) == whole


def test_charts_have_a_text_alternative_and_their_numbers(whole):
    page = Page(whole)
    drawn = [a for tag, a in page.elements if tag == "svg"]
    assert len(drawn) > 10 and all(a["role"] == "img" and a["aria-label"] for a in drawn)
    assert len([1 for tag, _ in page.elements if tag == "details"]) == len(drawn)


def test_long_curves_are_thinned_in_their_table_and_keep_the_last_epoch(undrawn):
    record = run_files.recorded()
    for seed in record["seeds"].values():
        seed["curves"] = {"epoch": list(range(200)), "loss": [float(e) for e in range(200)]}
    (rows,) = [r for c, r in Page(html(student(record=record))).tables.items() if c.startswith("Loss over")]
    assert len(rows) - 1 == 50 <= LONGEST and rows[-1][:2] == ["200", "199.00"] and rows[1][0] == "4"


def test_cells():
    assert [shown(v) for v in (None, 1.0, 12345, "x", 0)] == ["–", "1.00", "12,345", "x", "0"]
    assert estimate({"mean": 1.234, "stderr": None, "n": 1}) == "1.23" and estimate(None) == "–"


def pages(reports, *more) -> int:
    place = ["--reports", reports, "--params", reports.parent / "params.yaml", "--out", reports / "pages"]
    return run_stage("run_pages", *place, *more)


def test_the_stage_writes_a_page_for_each_run_and_none_for_others(tmp_path):
    reports = run_files.write(tmp_path)
    assert pages(reports) == 0
    found = sorted(str(p.relative_to(reports / "pages")) for p in (reports / "pages").rglob("*") if p.is_file())
    assert found == ["s/e.html", "s/teachers/t.html"]
    text = (reports / "pages" / "s" / "e.html").read_text()
    for href in re.findall(r'href="(\.\./[^"]*)"', text):
        assert href.endswith(("index.html", "predictions.npz")) or (reports / "pages" / "s" / href).is_file(), href


def test_the_check_tells_a_page_that_is_out_of_date(tmp_path, capsys, undrawn):
    reports = run_files.write(tmp_path)
    assert pages(reports, "--check") == 2 and "out of date" in capsys.readouterr().err
    assert pages(reports) == 0 and pages(reports, "--check") == 0
    changed = run_files.experts("e")
    changed["fusion"]["heldout"]["limit"] = 99
    (reports / "experts" / "s" / "e.json").write_text(json.dumps(changed))
    assert pages(reports, "--check") == 2 and "e.html: out of date" in capsys.readouterr().err


def test_pages_of_the_same_files_are_left_alone_on_request(tmp_path, capsys, undrawn):
    reports = run_files.write(tmp_path)
    assert pages(reports) == 0
    capsys.readouterr()
    left, made = reports / "pages/s/e.html", reports / "pages/s/teachers/t.html"
    left.write_text(left.read_text() + "<!-- of earlier code -->")
    made.unlink()
    assert pages(reports, "--changed") == 0 and made.is_file() and "earlier code" in left.read_text()
    assert capsys.readouterr().out == f"{made}\n1 of 2 pages are of the same files as before\n"
    assert pages(reports) == 0 and "earlier code" not in left.read_text()


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "cut short"),
        ('{"schema": 2, "entry": "e", "distilled": false}', "another schema"),
        ('{"schema": 1, "entry": "f", "distilled": false}', "not e's"),
        (
            '{"schema": 1, "entry": "e", "distilled": true}',
            "e.json: not of schema 1: study: missing; TwoHeads needs it; run stages/experts.py e",
        ),
    ],
)
def test_a_wrong_experts_file_is_named(tmp_path, capsys, content, said, undrawn):
    reports = run_files.write(tmp_path)
    (reports / "experts" / "s" / "e.json").write_text(content)
    assert pages(reports) == 2
    error = capsys.readouterr().err
    assert "experts/s/e.json" in error and said in error and error.count("\n") == 1


def test_an_unknown_study_is_named(tmp_path, capsys):
    assert pages(run_files.write(tmp_path), "--study", "z") == 2 and "studies.z" in capsys.readouterr().err


def test_neither_torch_nor_pandas_is_imported():
    code = "import sys, longtail.report.pages.run_page; sys.exit(bool({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
