"""Printed and ours side by side: exact text, empty cells visible, doubts marked, in four formats."""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import json

import pytest
import yaml

from longtail.base.errors import UserError
from longtail.report.results import load
from longtail.report.tables.grid import layout, records, to_csv
from longtail.report.tables.render import tex, to_html, to_latex, to_markdown
from longtail.report.tables.side_by_side import side_by_side
from tests.helpers.reporting import PUBLISHED, T2, run_stage, study, study_dict, write_metrics


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return load(write_metrics(tmp_path_factory.mktemp("metrics")), "s", study())


@pytest.fixture(scope="module")
def tables(results):
    """{name: (records, grid)}"""
    made = {}
    for table in study().tables:
        cells = records(table, results, PUBLISHED)
        made[table.name] = cells, layout(table, cells, study())
    return made


def lines(grid) -> list[str]:
    return [line for line in to_markdown(grid).splitlines() if line.startswith("| ")]


def test_one_column_table(tables):
    """Teacher: 80.26 - 81.9 = -1.6 last, 81.26 - 81.9 = -.6 best; one seed has no standard error."""
    text = lines(tables["overall"][1])
    assert text[0] == "|  | Printed | Ours, last epoch | Difference | Ours, best on test | Difference | Seeds | Entry |"
    assert text[1] == "| Teacher | 81.9 | 80.26 | −1.6 | 81.26 | −0.6 | 1 | `t`<!-- 01234567 --> |"


def test_not_run_dash_doubt_and_ours_alone(tables):
    text = lines(tables["overall"][1])
    assert text[2] == "| ViT | 62.6 | *not run* |  | *not run* |  |  | `s-vit` |"
    assert text[3] == "| RIDE | – | *not run* |  | *not run* |  |  |  |"
    assert text[4] == "| LDAM 50 | 79.3<sup>a</sup> | *not run* |  | *not run* |  |  |  |"
    assert text[5] == "| Ours alone |  | 78.00 ± 1.15 |  | 79.00 ± 1.15 |  | 3 | `s-deit_lt`<!-- 01234567 --> |"
    assert "<sup>a</sup> DOUBTFUL: identical to the CB-Focal cell" in to_markdown(tables["overall"][1])


def test_table_of_several_columns_keeps_the_papers_shape(tables):
    """CLS: 78.00 - 78.6 = -.6; stderr = 2/sqrt(3) = 1.15. The tail of this made-up run is an empty group."""
    text = lines(tables["experts"][1])
    assert text[0] == "|  |  | All | Head | Mid | Tail | Seeds | Entry |"
    assert text[1] == "| DeiT-LT cls | printed | 78.6 ± 0.15 | 96.5 ± 0.06 | 79.4 ± 0.39 | 59.7 ± 0.20 |  |  |"
    assert text[2].startswith("|  | ours, last epoch | 78.00 ± 1.15 (−0.6) | 78.00 ± 1.15 (−18.5) |")
    assert text[2].endswith("| – | 3 | `s-deit_lt`<!-- 01234567 --> |")
    assert text[3].startswith("|  | ours, best on test | 79.00 ± 1.15 (+0.4) |")
    assert text[4].startswith("| DeiT-LT avg | printed | 87.3 ± 0.10 |")


def test_differences_are_left_out_where_not_comparable(results):
    other = study(comparable=False)
    for table in other.tables:
        cells = records(table, results, PUBLISHED)
        grid = layout(table, cells, other)
        assert "Difference" not in grid.header
        text = to_markdown(grid)
        assert "−" not in text and "(+" not in text and "compare the pattern" in text
        assert all(row["last_minus_printed"] == "" for row in csv.DictReader(io.StringIO(to_csv(cells, False))))


def test_csv_is_tidy_and_exact(tables):
    rows = list(csv.DictReader(io.StringIO(to_csv(tables["experts"][0], True))))
    assert len(rows) == 2 * 4
    first = rows[0]
    assert (first["printed"], first["printed_stderr"], first["column"], first["head"]) == (
        "78.6",
        "0.15",
        "top1",
        "cls",
    )
    assert (first["last_mean"], first["last_stderr"], first["last_n"]) == ("78.0", "1.1547", "3")
    assert first["last_minus_printed"] == "-0.6000" and len(first["config_hash"]) == 64
    overall = {r["label"]: r for r in csv.DictReader(io.StringIO(to_csv(tables["overall"][0], True)))}
    assert overall["ViT"]["last_mean"] == "" and overall["ViT"]["printed"] == "62.6"
    assert overall["RIDE"]["printed"] == "" and "dash in paper" in overall["RIDE"]["printed_note"]


def test_latex(tables):
    text = to_latex(tables["overall"][1], "s-overall")
    assert r"ViT & 62.6 & \emph{not run} &  & \emph{not run} &  &  \\" in text
    assert r"LDAM 50 & 79.3$^{a}$ &" in text and "$-$1.6" in text and r"\label{tab:s-overall}" in text
    body = text.split("\\midrule")[1].split("\\bottomrule")[0].strip().splitlines()
    assert {line.count(" & ") for line in body} == {6}
    entries = (
        r"Entries, from above: \texttt{t}, \texttt{s-\allowbreak{}vit}, \texttt{s-\allowbreak{}deit\_\allowbreak{}lt}."
    )
    assert "\n% s-deit_lt: configuration 01234567\n" in text
    assert entries in text and "{tabular}{lrrrrrr}" in text
    assert r"& \shortstack[r]{Ours, last\\epoch} & Difference &" in text
    assert tex("50 % & a_b ± {x} <“y”>") == r"50 \% \& a\_b $\pm$ \{x\} $<$``y''$>$"


def test_latex_of_several_columns_has_the_label_above_its_lines(tables):
    text = to_latex(tables["experts"][1], "s-experts")
    assert r"\multicolumn{6}{l}{DeiT-LT cls} \\" in text and "{tabular}{lrrrrr}" in text
    assert r"\quad printed & 78.6 $\pm$ 0.15 & 96.5 $\pm$ 0.06 & 79.4 $\pm$ 0.39 & 59.7 $\pm$ 0.20 &  \\" in text
    assert text.count(r"\addlinespace") == 1 and text.count("{s-\\allowbreak{}deit") == 1


def test_latex_of_a_row_of_one_line(results):
    rows = [{"label": "ViT", "entry": "s-vit"}]
    copied = {"file": "deit_lt_table_3.csv", "backbone": "ResNet-50", "dataset": "ImageNet-LT", "imbalance": 256}
    columns = {"columns": ["top1", "tail"], "copied": {**copied, "methods": ["MiSLAS"]}}
    made = study(tables=[{"name": "x", "caption": "X.", "rows": rows, **columns}])
    text = to_latex(layout(made.tables[0], records(made.tables[0], results, PUBLISHED), made), "x")
    assert "MiSLAS, printed & 52.7 & 34.3 &  \\\\\nViT, ours & \\emph{not run}" in text


def test_html_escapes_and_links(tables):
    text = to_html(tables["experts"][1])
    assert 'rowspan="3">DeiT-LT cls</th>' in text
    assert '<a href="#entry-s-deit_lt" title="configuration 01234567">s-deit_lt</a></td>' in text
    assert '<td class="missing">not run</td>' in to_html(tables["overall"][1])
    assert "79.3<sup>a</sup>" in to_html(tables["overall"][1])


def test_a_head_that_is_not_there_is_told(results):
    values = copy.deepcopy(study_dict())
    values["tables"][0]["rows"][0]["head"] = "dist"
    with pytest.raises(UserError, match="t has no head 'dist'"):
        records(study(tables=values["tables"]).tables[0], results, PUBLISHED)


def test_metrics_files_of_something_else_are_refused(tmp_path):
    folder = write_metrics(tmp_path)
    (folder / "s-vit.json").write_text((folder / "s-deit_lt.json").read_text())
    with pytest.raises(UserError, match="entry is 's-deit_lt', expected 's-vit'"):
        load(folder, "s", study())
    (folder / "s-vit.json").write_text((folder / "s-deit_lt.json").read_text()[:500])
    with pytest.raises(UserError, match="cut short"):
        load(folder, "s", study())


def test_no_metrics_folder_means_nothing_was_run(tmp_path):
    found = load(tmp_path / "absent", "s", study())
    assert (found.experiments, found.teachers) == ({}, {})


def test_stage_replaces_its_folder(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"studies": {"s": study_dict()}}))
    out = tmp_path / "tables" / "s"
    out.mkdir(parents=True)
    (out / "old.md").write_text("of an earlier run")
    inputs = ["--metrics", write_metrics(tmp_path / "metrics"), "--published", PUBLISHED]
    assert run_stage("tables", "s", "--params", tmp_path / "params.yaml", "--out", out, *inputs) == 0
    names = {f"{t}.{suffix}" for t in ("overall", "experts") for suffix in ("csv", "md", "tex", "html")}
    assert {p.name for p in out.iterdir()} == names


# --- copied rows, mixed group rules, teachers on views


def one_table(results, **changes) -> list[str]:
    """Markdown lines of a table with those keys over the made-up results."""
    made = study(tables=[{"name": "x", "caption": "X.", "rows": [], **changes}])
    cells = records(made.tables[0], results, PUBLISHED)
    return to_markdown(layout(made.tables[0], cells, made)).splitlines()


COPIED = {"file": "deit_lt_table_2.csv", "backbone": "ResNet-32", "dataset": "CIFAR-10-LT", "imbalance": 100}


def test_rows_copied_from_others_come_first_and_are_not_called_unrun(results):
    row = {"label": "ViT", "entry": "s-vit", "printed": {**T2, "method": "ViT", "backbone": "ViT-B"}}
    copied = {**COPIED, "methods": ["MiSLAS", "RIDE"]}
    text = one_table(results, columns=["top1"], rows=[row], copied=copied)
    assert text[4] == "| MiSLAS | 82.1 |  |  |  |  |  |  |"
    assert text[5] == "| RIDE | – |  |  |  |  |  |  |"
    assert text[6].startswith("| ViT | 62.6 | *not run* |")
    text = one_table(results, columns=["top1", "tail"], rows=[{**row, "printed": None}], copied=None)
    assert text[4] == "| ViT | ours | *not run* | *not run* |  | `s-vit` |"
    with pytest.raises(UserError, match="no row with method 'MISLAS'; did you mean 'MiSLAS'"):
        one_table(results, columns=["top1"], rows=[row], copied={**COPIED, "methods": ["MISLAS"]})


def test_a_table_says_which_groups_it_has_wherever_it_is_read(tables, results):
    """By rank where no row says otherwise; a table of overall accuracies alone says nothing of groups."""
    grid = tables["experts"][1]
    for text in (to_markdown(grid), to_latex(grid, "x"), to_html(grid)):
        assert "Head, mid and tail are classes by rank in the training set" in text
    assert "by rank" not in to_markdown(tables["overall"][1])
    rows = [{"label": "counted", "entry": "s-deit_lt", "groups": "count"}]
    text = "\n".join(one_table(results, columns=["top1", "tail"], rows=rows))
    assert "Our head, mid and tail are classes with more than 100" in text and "Head, mid and tail are" not in text


def test_a_row_can_be_grouped_by_counts(results):
    """METHODS 1.2: rows of one printed table were made with different rules."""
    other = copy.deepcopy(results)
    other.experiments["s-deit_lt"]["summary"]["last"]["avg"]["few"] = {"mean": 12.0, "stderr": None, "n": 3}
    other.experiments["s-deit_lt"]["summary"]["last"]["avg"]["tail"] = {"mean": 34.0, "stderr": None, "n": 3}
    rows = [{"label": rule, "entry": "s-deit_lt", "groups": rule} for rule in ("author", "count")]
    text = one_table(other, columns=["top1", "tail"], rows=rows)
    assert "| 34.00 |" in text[4] and "| 12.00 |" in text[6]
    assert any("fewer than 20 training images in: “count”; else by rank in" in line for line in text)
    made = study(tables=[{"name": "x", "caption": "X.", "columns": ["tail"], "rows": rows}]).tables[0]
    assert [cell.column for cell in records(made, other, PUBLISHED)] == ["tail", "few"]


def test_teacher_on_views_stands_beside_its_student(results):
    """DeiT-LT Table 1: 56.6 on the mixed views, 79.4 of the student. A cache may be there before its student."""
    t1 = {**T2, "file": "deit_lt_table_1.csv", "method": "distill from ResNet-32 strong mix", "backbone": "DeiT-B"}
    row = {"label": "Mixed", "cache": "c", "printed": {**t1, "teacher_backbone": "ResNet-32"}}
    share = {"summary": {"teacher_top1_on_views": {"mean": 57.5, "stderr": None, "n": 1}}}
    columns = ["teacher_top1_on_views", "top1"]
    alone = dataclasses.replace(results, caches={"c": share})
    text = one_table(alone, columns=columns, rows=[{**row, "entry": "s-vit"}])
    assert text[2] == "|  |  | Teacher on views | All | Seeds | Entry |"
    assert text[4:6] == [
        "| Mixed | printed | 56.6 | 79.4 |  |  |",
        "|  | ours | 57.50 (+0.9) | *not run* |  | `s-vit` |",
    ]
    text = one_table(results, columns=columns, rows=[{**row, "entry": "s-deit_lt"}])
    assert text[5] == "|  | ours, last epoch | *not run* | 88.00 ± 1.15 (+8.6) | 3 | `s-deit_lt`<!-- 01234567 --> |"


def folded(results, change=lambda metrics: None, **table) -> str:
    """A table of s-deit_lt whose last epoch is its best one."""
    metrics = copy.deepcopy(results.experiments["s-deit_lt"])
    metrics["summary"]["best"] = copy.deepcopy(metrics["summary"]["last"])
    change(metrics)
    same = dataclasses.replace(results, experiments={"s-deit_lt": metrics})
    made = study(tables=[{"name": "x", "caption": "X.", "rows": [{"label": "A", "entry": "s-deit_lt"}], **table}])
    return to_markdown(layout(made.tables[0], records(made.tables[0], same, PUBLISHED), made))


def test_last_and_best_are_one_line_where_they_are_the_same(results):
    both = "| A | ours, last epoch = best on test | 88.00 ± 1.15 | 88.00 ± 1.15 | 3 |"
    assert both in folded(results, columns=["top1", "mid"])

    def other(metrics):
        metrics["summary"]["best"]["avg"]["mid"]["mean"] += 1

    text = folded(results, other, columns=["top1", "mid"])
    assert "= best" not in text and "|  | ours, best on test | 88.00 ± 1.15 | 89.00 ± 1.15 |" in text


def test_a_group_without_classes_has_no_column_unless_it_is_printed(results):
    """The tail of this run is empty."""
    text = folded(results, columns=["top1", "tail"])
    assert "Tail |" not in text and "Left out, as no class of this dataset is in it: Tail." in text
    printed = {**T2, "file": "deit_lt_table_s3.csv", "backbone": "DeiT-B", "columns": ["tail"]}
    printed["method"] = "DeiT-LT [teacher=PaCo+SAM] expert=Average"
    rows = [{"label": "A", "entry": "s-deit_lt", "printed": printed}]
    text = folded(results, columns=["top1", "tail"], rows=rows)
    assert "Tail |" in text and "Left out" not in text and "85.7 ± 0.33" in text


def test_a_third_epoch_stands_beside_the_two_where_a_run_has_one(tmp_path):
    """The teacher's entry was validated, the student's was not; without any the tables are as they were."""
    folder = write_metrics(tmp_path)
    path = folder / "teachers" / "t.json"
    found = json.loads(path.read_text())
    for of in (*found["seeds"].values(), found["summary"]):
        of["validation"] = copy.deepcopy(of["last"])
    found["summary"]["validation"]["avg"]["top1"]["mean"] = 80.9
    path.write_text(json.dumps(found))
    results = load(folder, "s", study())
    table = next(table for table in study().tables if table.name == "overall")
    cells = records(table, results, PUBLISHED)
    text = lines(layout(table, cells, study()))
    assert text[0].endswith(
        "| Ours, best on test | Difference | Ours, chosen on validation | Difference | Seeds | Entry |"
    )
    assert text[1].endswith("| 81.26 | −0.6 | 80.90 | −1.0 | 1 | `t`<!-- 01234567 --> |")
    assert text[2].endswith("| *not run* |  | *not run* |  |  | `s-vit` |")
    assert text[5].endswith("| 79.00 ± 1.15 |  | *not measured* |  | 3 | `s-deit_lt`<!-- 01234567 --> |")
    rows = list(csv.DictReader(io.StringIO(to_csv(cells, True))))
    assert rows[0]["validation_mean"] == "80.9" and rows[4]["validation_mean"] == ""
    shown = side_by_side(table, cells, study())
    assert [line.groups["validation"][0].text for line in shown.lines][:5:4] == ["80.90", "not measured"]
    assert "not measured" in to_html(layout(table, cells, study()))


def test_a_sweep_that_chooses_on_the_test_set_says_so(results):
    told = "Exploratory: the best of these rows would be chosen by the test accuracies shown."
    for exploratory in (True, False):
        table = dataclasses.replace(study().tables[0], exploratory=exploratory)
        text = to_markdown(layout(table, records(table, results, PUBLISHED), study()))
        assert (told in text) == exploratory
