"""reports/index.html from a small, made-up tree of reports: cells, links, escapes, what is missing, what is wrong."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from longtail.base import yaml_file
from longtail.base.files import write_json
from longtail.report.pages import index, pictures
from tests.helpers.pages import Page
from tests.helpers.reporting import PUBLISHED, T2, metrics_file, run_stage, study_dict, write_metrics
from tests.helpers.root import ROOT
from tests.helpers.run_files import machines

LINKS = {  # of the papers and their code, which docs/words.yaml has
    address
    for paper in yaml_file.read(ROOT / "docs/words.yaml")["papers"].values()
    for address in (paper["arxiv"], paper["code"])
    if address
}
EVIL = '<script>alert("1")</script>'
OVERALL = "A <small> study: Overall: all classes."  # the regions of the two tables
MINI = f"Mini {EVIL}: A miniature."
SVG = '<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 341 209" width="540" height="330"></svg>'


def params_dict() -> dict:
    """A comparable study `s` (its ViT never run), and a miniature `m` with an entry of a hostile name."""
    mini = {
        **{"title": f"Mini {EVIL}", "note": "Small.", "comparable": False, "teachers": [], "caches": []},
        "experiments": [{"name": f"m-{EVIL[:8]}", "label": EVIL}],
        "tables": [
            {
                **{"name": "overall", "caption": "A miniature.", "columns": ["top1", "tail"]},
                "rows": [
                    {"label": EVIL, "entry": f"m-{EVIL[:8]}", "printed": {**T2, "method": "ViT", "backbone": "ViT-B"}}
                ],
            }
        ],
    }
    mini["tables"][0]["rows"][0]["printed"]["columns"] = ["top1"]
    experiments = {"s-deit_lt": {"study": "s", "method": "deit_lt", "seeds": [0, 1, 2]}}
    return {"studies": {"m": mini, "s": study_dict()}, "experiments": experiments}


COVERAGE = {
    "items": [
        {
            **{"item": "Table 2", "shows": "overall accuracy"},
            "full": [{"study": "s", "table": "overall"}],
            "miniature": [{"study": "m", "table": "overall"}],
        },
        {"item": "Fig. 4a", "shows": "a distance", "full": [{"study": "s", "figure": "cls_dist_distance"}]},
        {"item": "Table S.1", "shows": "settings", "full": []},
    ]
}
CLAIM = {
    **{"id": "avg-over-cls", "paper": "DeiT-LT", "where": "Table S.3", "text": "The average is better than CLS."},
    "others": [{"source": "https://example.org/issues/1", "text": "Nobody <i>else</i> tried."}],
    "full": [
        {
            "study": "s",
            "higher": {"entry": "s-deit_lt", "head": "avg", "metric": "top1"},
            "lower": {"entry": "s-deit_lt", "head": "cls", "metric": "top1"},
        }
    ],
}
NEVER = {
    **{"id": "vit-worse", "paper": "DeiT-LT", "where": "Table 2", "text": "DeiT-LT is better than a ViT."},
    "full": [
        {
            "study": "s",
            "higher": {"entry": "s-deit_lt", "metric": "top1"},
            "lower": {"entry": "s-vit", "metric": "top1"},
        }
    ],
}


def record(config_hash: str) -> dict:
    """run.json of s-deit_lt: losses 2, 1.5, 1 and accuracy at the last epoch alone; seeds 0 to 2."""
    curves = {"epoch": [0, 1, 2], "loss": [2.0, 1.5, 1.0], "test_top1_avg": [None, 50.0, 60.0]}
    seed = {"curves": curves, "identity": {"processes": 2, "class_order": "f" * 64, "dataset_digest": "d" * 64}}
    about = {"schema": 1, "entry": "s-deit_lt", "kind": "experiment", "study": "s", "dataset": "d"}
    return {**about, "config_hash": config_hash, "config": {"lr": 0.1}, "seeds": {s: seed for s in "012"}}


@pytest.fixture
def tree(tmp_path):
    """The repository's inputs of the page; s-vit was never run, and no figure was drawn."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params_dict(), sort_keys=False))
    (tmp_path / "coverage.yaml").write_text(yaml.safe_dump(COVERAGE))
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": [CLAIM, NEVER]}))
    write_metrics(tmp_path / "reports/metrics/s")
    student = tmp_path / "reports/metrics/s/s-deit_lt.json"
    found = json.loads(student.read_text())
    made = machines(
        ("experiments", "s-deit_lt", found["config_hash"], 3), seconds=11.0, device="NVIDIA H200", torch="2.15"
    )
    made["experiments"]["s-deit_lt"]["seeds"]["0"]["peak_memory_mb"] = 2048
    write_json(tmp_path / "reports/machines/s.json", made)
    mini = metrics_file(f"m-{EVIL[:8]}", "experiment", [40.0, 42.0], tail=None)
    write_json(tmp_path / f"reports/metrics/m/m-{EVIL[:8]}.json", {**mini, "study": "m"})
    write_json(tmp_path / "reports/runs/s/s-deit_lt/run.json", record(found["config_hash"]))
    write_predictions(tmp_path / "reports/runs/s/s-deit_lt/predictions.npz")
    return tmp_path


def write_predictions(path) -> None:
    """Of 100 images of each of three classes the average gets the first 86, 88, 90 right; CLS the same but ten."""
    labels, at = np.repeat([0, 1, 2], 100), np.arange(300) % 100
    answers = {
        f"seed{s}_last_{head}": np.where((at < 86 + 2 * s) & (at >= lost), labels, (labels + 1) % 3).astype(np.uint8)
        for s in range(3)
        for head, lost in (("avg", 0), ("cls", 10))
    }
    np.savez(path, labels=labels.astype(np.uint8), **answers)


def run(tree, *more: str) -> int:
    named = {"params": "params.yaml", "coverage": "coverage.yaml", "claims": "claims.yaml", "reports": "reports"}
    places = [part for key, name in named.items() for part in (f"--{key}", tree / name)]
    places += ["--words", ROOT / "docs/words.yaml", "--judgements", ROOT / "docs/review.yaml"]
    return run_stage("index", *places, "--published", PUBLISHED, "--out", tree / "reports/index.html", *more)


@pytest.fixture
def made(tree) -> Page:
    assert run(tree) == 0
    return Page((tree / "reports/index.html").read_text(encoding="utf-8"))


def test_cells_beside_one_another(made):
    """81.9 is printed of the teacher; ours is 80.26 and 81.26: 1.6 and 0.6 below, the latter within a point."""
    table = made.tables[OVERALL]
    headings = ["Printed", "Ours, last epoch", "Difference", "Ours, best on test", "Difference"]
    assert table[0][1:-1] == headings
    assert table[1] == ["Method", *["All"] * 5, "n", "Entry"]
    teacher = made.row(OVERALL, "Teacher")
    assert teacher == ["Teacher", "81.9", "80.26", "−1.6 ✗", "81.26", "−0.6 ✓", "1", "t"]
    alone = made.row(OVERALL, "Ours alone")
    assert alone[1:4] == ["", "78.00 ± 1.15", ""] and alone[-2:] == ["3", "s-deit_lt"]


def test_what_was_not_run_is_empty_and_said(made):
    assert made.row(OVERALL, "ViT") == ["ViT", "62.6", "", "", "", "", "", "s-vit not run"]
    assert made.row(OVERALL, "RIDE")[1:] == ["–", "", "", "", "", "", "no entry yet"]
    vit = made.row("Claims of which nothing was run", "DeiT-LT is better than a ViT. DeiT-LT, Table 2 #")
    assert vit[1:] == ["", "– not yet run", "1 not runs higher, lower", ""]
    text = " ".join(" ".join(made.text).split())
    assert "make repro STUDY=s" in text and "s-vit ViT" in text
    assert "DeiT-LT on" not in text and "not drawn here" in text


def test_a_miniature_is_called_one_and_compared_with_nothing(made):
    """A group without images has no column, and the table says so."""
    headings = made.tables[MINI][0]
    assert headings[1:-1] == ["Printed", "Ours, last epoch", "Ours, best on test"]
    assert made.row(MINI, EVIL)[1:4] == ["62.6", "41.00 ± 1.00", "42.00 ± 1.00"]
    assert "Left out, as no class of this dataset is in it: Tail." in " ".join(" ".join(made.text).split())
    assert "(miniature)" in "".join(made.text)


def test_the_first_table_counts_what_is_reproduced(made):
    """Table 2 is run in part, Fig. 4a not at all, Table S.1 holds settings.

    Both numbers are there of seven cells. Printed, ours at the last and at the best epoch: teacher 81.9, 80.26, 81.26;
    CLS 78.6 96.5 79.4 where ours is 78 and 79; average 87.3 93.8 83.7 where ours is 88 and 89. The standard error of
    the latter six is 1.15, so they agree within 2.31: at the last epoch CLS overall and mid and the average overall, at
    the best one the teacher too.
    """
    name = "How much of each paper is reproduced"
    assert made.row(name, "DeiT-LT") == [
        *["DeiT-LT", "0", "1", "0", "0", "1", "4 of 7 best on test, 3 at the last epoch"],
        *["1 ✓ holds, 1 – not yet run", "none"],
    ]
    assert made.row(name, "CBD")[:6] == ["CBD", "0", "0", "0", "0", "8"]


def test_a_second_paper_has_its_own_items_and_studies(tree):
    """A Table 2 of LiVT that a study of its own makes is no cell of DeiT-LT's."""
    held = yaml_file.read(tree / "coverage.yaml")
    held["items"][0]["miniature"] = []
    own = {"item": "Table 2", "shows": "a miniature", "full": [], "miniature": [{"study": "m", "table": "overall"}]}
    (tree / "coverage.yaml").write_text(yaml.safe_dump({"items": [*held["items"], {**own, "paper": "LiVT"}]}))
    assert run(tree) == 0
    text = (tree / "reports/index.html").read_text(encoding="utf-8")
    page, name = Page(text), "How much of each paper is reproduced"
    assert page.row(name, "DeiT-LT")[1:7] == ["0", "1", "0", "0", "1", "4 of 7 best on test, 3 at the last epoch"]
    assert page.row(name, "LiVT")[:7] == ["LiVT", "0", "0", "1", "0", "0", "none yet"]
    for paper in ("deit-lt", "livt"):
        assert text.count(f'id="{paper}-item-table-2"') == 1 and f'href="#{paper}-item-table-2"' in text
    assert "LiVT, Table 2: a miniature" in " ".join(page.text) and "LiVT, Table 3" not in text


def test_claims_with_number_interval_and_method(made):
    """CLS is 10 below in every seed, on 10 images of each 100: no spread over seeds; over images s^2 = .09 * 100/99,
    1.96796 (t, 297 degrees of freedom) times the root of .09/99/3 is 3.43 points."""
    row = made.row("Claim ledger", "The average is better than CLS. DeiT-LT, Table S.3 #")
    assert row[1:4] == ["", "✓ holds", "✓ holdstestpaired, over 3 seeds and 300 test images"]
    assert row[4:7] == ["+10.00 points +6.57 to +13.43 88 − 78 s", "3", ""]
    assert row[-1] == "1 of othersNobody <i>else</i> tried. example.org/issues/1"
    assert "Where ours agrees" in made.text and "Where it does not" not in made.text


def test_comparisons_on_the_same_images_stand_below_one_another(tree):
    """Each verdict in one row with its own numbers; the claim beside both. The second asks for the contrary."""
    (pair,) = CLAIM["full"]
    contrary = pair | {"higher": pair["lower"], "lower": pair["higher"]}
    (tree / "claims.yaml").write_text(yaml.safe_dump({"claims": [CLAIM | {"full": [pair, contrary]}, NEVER]}))
    assert run(tree) == 0
    ledger = (tree / "reports/index.html").read_text().partition('<tbody id="claim-avg-over-cls"')[2]
    rows = ledger.partition("</tbody>")[0].split("<tr>")[1:]
    assert len(rows) == 2 and [row.count("+10.00 points") for row in rows] == [1, 0]
    assert [row.count("−10.00 points") for row in rows] == [0, 1]
    verdicts = [re.findall('class="verdict"[^>]*data-value="([^"]*)"', row) for row in rows]
    assert verdicts == [["holds"], ["does not hold"]]
    assert '<th scope="row" rowspan="2"' in rows[0] and "The average is better" not in rows[1]


def test_entries_show_settings_cost_and_curves(made):
    text = " ".join(" ".join(made.text).split())
    assert "Resolved configuration lr: 0.1" in text and "0123456789" * 6 + "abcd" in text
    assert "0.02 GPU-hours" in text  # 3 x 11 s, two GPUs each
    assert "torch 2.15 " in text and "2,048 MB" in text and "f" * 64 not in text
    assert made.row("Seeds of s-deit_lt", "2")[1:7] == ["90.00", "90.00", "90.00", "–", "91.00", "9"]
    runs = made.row("Runs of A <small> study (s)", "DeiT-LT")
    assert runs[1:] == ["student", "–", "–", "3", "88.00", "89.00", "11"]  # of params.yaml that lay out no network
    assert "Configuration as params.yaml has it" in text  # of the teacher, whose record is not there


def test_time_is_of_the_seeds_that_tell_it(tree):
    """Of three seeds two are recorded, with 11 s and two GPUs each; of the miniature none is."""
    place = tree / "reports/machines/s.json"
    told = json.loads(place.read_text())
    del told["experiments"]["s-deit_lt"]["seeds"]["1"]
    write_json(place, told)
    assert run(tree) == 0
    page = Page((tree / "reports/index.html").read_text())
    text = " ".join(" ".join(page.text).split())
    assert page.row("Runs of A <small> study (s)", "DeiT-LT")[-1] == "11"
    assert "0.4 minutes of training, 2 of 3 seeds together; 0.01 GPU-hours" in text
    assert page.row(f"Runs of Mini {EVIL} (m)", EVIL)[-1] == "–" and "not recorded" in text


def test_a_record_of_an_earlier_run_is_not_shown(tree):
    write_json(tree / "reports/runs/s/s-deit_lt/run.json", record("0" * 64))
    assert run(tree) == 0
    assert "lr: 0.1" not in (tree / "reports/index.html").read_text()


def test_a_page_of_a_run_is_linked_where_it_is(tree, made):
    assert not any("pages/" in link for link in made.links)
    page = tree / "reports/pages/s/teachers/t.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    assert run(tree) == 0
    links = Page((tree / "reports/index.html").read_text()).links
    assert [link for link in links if "pages/" in link] == ["pages/s/teachers/t.html"]


def test_an_item_with_tables_and_figures_stands_in_both_parts_under_two_ids(tree):
    coverage = {
        "items": [
            {
                **COVERAGE["items"][0],
                "full": [{"study": "s", "table": "overall"}, {"study": "s", "figure": "cls_dist_distance"}],
            }
        ]
    }
    (tree / "coverage.yaml").write_text(yaml.safe_dump(coverage))
    assert run(tree) == 0
    page = Page((tree / "reports/index.html").read_text(encoding="utf-8"))
    assert [name for name in page.ids if "table-2" in name] == ["deit-lt-item-table-2", "deit-lt-item-table-2-figures"]


def test_links_arrive_and_nothing_is_fetched(made, tree):
    assert len(made.ids) == len(set(made.ids)) and made.lead_nowhere() == set()
    away = {link for link in made.links if not link.startswith("#")}
    downloads = {"results.csv", "runs.csv", "claims.csv", "claims.md", "compare.html", "compare.html#s"}
    beside = {link for link in away if link.startswith("../")}  # of the repository, which the archive holds too
    assert {"../LICENSE", "../CITATION.cff", "../docs/questions.md", "../papers/livt/README.md"} <= beside
    assert all((ROOT / link[3:]).is_file() for link in beside)
    told = {other["source"] for other in CLAIM["others"]}
    assert away - downloads - beside - {"review/cost.md"} == LINKS | told and not made.sources  # nothing to load
    html = (tree / "reports/index.html").read_text()
    rest = re.sub(r'<a href="https:[^"]*">', "", html)
    assert "https:" not in rest and "http:" not in rest and "@import" not in rest and "url(" not in rest


def test_the_first_screen_says_what_was_confirmed_and_what_is_left(tree):
    """Table 2 is there in part, Fig. 4a not at all; one of two claims was judged and holds. 3.6e18 operations at 790
    TFLOP/s take 2.53 h at a utilisation of 50 % and 6.33 h at 20 %; what the miniature has left is in no sum."""
    (tree / "reports/review").mkdir()
    (tree / "reports/review/left.csv").write_text("study,runs,flop,disk\ns,1,3600000000000000000,8\nm,2,1,8\n")
    assert run(tree) == 0
    page = Page((tree / "reports/index.html").read_text())
    text = " ".join(" ".join(page.text).split())
    assert (
        "With the full recipe 0 of 2 tables and figures were made whole, 1 in part; 1 of 2 claims hold, 0 do not."
        in text
    )
    assert "Not run: 1 entries of full recipes, with all their seeds 2.53 to 6.33 hours of one NVIDIA H200" in text
    assert "A <small> study: 1 of 3 entries, 2.53 to 6.33 hours make repro STUDY=s" in text


def test_judgements_and_the_digest_of_the_inputs_stand_on_the_page(made):
    text = " ".join(" ".join(made.text).split())
    judged = yaml_file.read(ROOT / "docs/review.yaml")
    for line in (*judged["easy"], *judged["hard"], *judged["learnt"]):
        assert line in text
    assert made.meta["inputs"] in text


def test_a_permalink_is_of_letters_digits_and_hyphens(tree):
    """Whatever an item is called, so that a link that is pasted into a text or a chat is whole."""
    drawn = {"Figs 4, 5 and 6": "cls_dist_distance", "Fig. (appendix)": "training_loss"}
    named = [{"item": name, "shows": "x", "full": [{"study": "s", "figure": of}]} for name, of in drawn.items()]
    named.append(COVERAGE["items"][0] | {"item": "Table S.3"})
    (tree / "coverage.yaml").write_text(yaml.safe_dump({"items": named}))
    assert run(tree) == 0
    ids = [name for name in Page((tree / "reports/index.html").read_text()).ids if "-item-" in name]
    assert ids == ["deit-lt-item-table-s3", "deit-lt-item-figs-4-5-and-6", "deit-lt-item-fig-appendix"]


def test_headings_have_permalinks(made):
    assert {
        "#papers",
        "#claims",
        "#tables",
        "#figures",
        "#entries",
        "#not-run",
        "#cite",
        "#runs-s",
        "#discussion",
    } <= set(made.links)


def test_names_and_paths_are_escaped(made, tree):
    html = (tree / "reports/index.html").read_text()
    assert html.count("<script") == 1 == html.count("</script>")
    assert EVIL in "".join(made.text) and f"entry-m-{EVIL[:8]}" in made.ids


def test_figures_lie_inside_the_page_or_are_shown_from_their_files(tree, monkeypatch):
    """One drawing for a light page and a dark one, or a file for each, with links to it and to its numbers."""
    drawn = tree / "reports/figures/s/cls_dist_distance.svg"
    drawn.parent.mkdir(parents=True)
    for name in (drawn, drawn.with_stem("cls_dist_distance-dark")):
        name.write_text(SVG)
    for suffix, text in ((".csv", "x"), (".txt", "Data: digits. 3 seeds.")):
        drawn.with_suffix(suffix).write_text(text)
    assert run(tree) == 0
    made = Page((tree / "reports/index.html").read_text())
    assert [s.partition(",")[0] for s in made.sources] == ["data:image/svg+xml;base64"]
    files = {f"figures/s/cls_dist_distance.{kind}" for kind in ("svg", "csv")}
    assert {link for link in made.links if "figures/" in link} == files
    assert (
        "Data: digits. 3 seeds." in " ".join(made.text) and 'width="540"' in (tree / "reports/index.html").read_text()
    )
    monkeypatch.setattr(index, "IMAGES_LIMIT", len(SVG))
    assert run(tree) == 0
    made = Page((tree / "reports/index.html").read_text())
    assert set(made.sources) == {f"figures/s/cls_dist_distance{of}.svg" for of in ("", "-dark")}
    assert "too large for one page" in " ".join(made.text)


def test_the_figure_below_the_papers_is_shown_where_it_was_drawn(tree):
    """What is said of it, its caption and its data; no trace of it where it was not drawn."""
    words, drawn = yaml_file.read(ROOT / "docs/words.yaml"), tree / "reports/figures/s/taught.png"
    words["pictured"] = [{"study": "s", "figure": "taught", "says": "What is shown."}]
    (tree / "words.yaml").write_text(yaml.safe_dump(words))
    assert run(tree, "--words", tree / "words.yaml") == 0
    assert "What is shown." not in (tree / "reports/index.html").read_text()
    drawn.parent.mkdir(parents=True)
    Image.new("P", (20, 20)).save(drawn)
    drawn.with_suffix(".txt").write_text("Data: digits.")
    assert run(tree, "--words", tree / "words.yaml") == 0
    made = Page((tree / "reports/index.html").read_text())
    assert [s.partition(",")[0] for s in made.sources] == ["data:image/png;base64"]
    told = " ".join(" ".join(made.text).split())
    assert "What is shown. A training image of the most frequent" in told and "First seed. Data: digits." in told


@pytest.mark.parametrize(("files", "shown"), [((".svg", ".png"), ".svg"), ((".png",), ".png"), ((), None)])
def test_a_figure_is_shown_as_it_was_drawn(files, shown, tmp_path):
    for suffix in files:
        (tmp_path / f"a{suffix}").write_bytes(b"x")
    found = pictures.find(tmp_path, "a")
    assert found == (shown and tmp_path / f"a{shown}")


def test_a_picture_is_as_wide_as_it_was_drawn(tmp_path):
    """2 inches at 100 pixels to the inch are 228 of the page's, of which an inch has 114."""
    Image.new("P", (200, 50)).save(tmp_path / "a.png", dpi=(100, 100))
    (tmp_path / "b.svg").write_text(SVG)
    assert (pictures.width(tmp_path / "a.png"), pictures.width(tmp_path / "b.svg")) == (228, 540)
    assert pictures.linked(tmp_path / "a.png", tmp_path).dark is None


def test_the_same_inputs_give_the_same_bytes_wherever_they_lie(tree, tmp_path_factory, made):
    other = tmp_path_factory.mktemp("clone") / "deeper"
    shutil.copytree(tree, other)
    (other / "reports/index.html").unlink()
    assert run(other) == 0
    assert (other / "reports/index.html").read_bytes() == (tree / "reports/index.html").read_bytes()


def test_check_tells_when_an_input_has_changed(tree, capsys):
    assert run(tree, "--check") == 1 and not (tree / "reports/index.html").exists()
    assert run(tree) == 0 and run(tree, "--check") == 0
    capsys.readouterr()
    changes = {
        "reports/metrics/s/teachers/t.json": lambda path: path.write_text(path.read_text() + " "),
        "reports/runs/s/s-deit_lt/run.json": lambda path: path.unlink(),
        "claims.yaml": lambda path: path.write_text("claims: []\n"),
        "reports/figures/s/new.svg": lambda path: (path.parent.mkdir(parents=True), path.write_text("x")),
        "reports/analysis/s/new.csv": lambda path: (path.parent.mkdir(parents=True), path.write_text("x")),
    }
    for name, change in changes.items():
        change(tree / name)
        assert run(tree, "--check") == 1, name
        said = capsys.readouterr().err
        assert said == f"{tree / 'reports/index.html'}: out of date; run `make index`\n"
        assert run(tree) == 0
    (tree / "reports/figures_print").mkdir()
    (tree / "reports/figures_print/x.png").write_bytes(b"not in git")
    assert run(tree, "--check") == 0


def test_wrong_files_are_refused_by_name(tree, capsys):
    student = tree / "reports/metrics/s/s-deit_lt.json"
    good = student.read_text()
    student.write_text(json.dumps(json.loads(good) | {"schema": 2}))
    assert run(tree) == 2
    said = capsys.readouterr().err
    assert str(student) in said and "schema is 2, expected 1" in said and said.count("\n") == 1
    student.write_text(good)
    run_record = tree / "reports/runs/s/s-deit_lt/run.json"
    run_record.write_text("{")
    assert run(tree) == 2 and str(run_record) in capsys.readouterr().err
    assert not (tree / "reports/index.html").exists()


def test_nothing_run_at_all(tree):
    shutil.rmtree(tree / "reports")
    assert run(tree) == 0
    made = Page((tree / "reports/index.html").read_text())
    assert made.row("How much of each paper is reproduced", "DeiT-LT")[1:6] == ["0", "0", "0", "0", "2"]
    assert made.lead_nowhere() == set()
    assert "Nothing with a full recipe was run here" in " ".join(made.text)


def test_each_table_has_its_files(tree):
    """Those that were made, beside the page."""
    folder = tree / "reports/tables/s"
    folder.mkdir(parents=True)
    for suffix in ("csv", "tex"):
        (folder / f"overall.{suffix}").touch()
    assert run(tree) == 0
    links = Page((tree / "reports/index.html").read_text(encoding="utf-8")).links
    assert [link for link in links if "tables/" in link] == ["tables/s/overall.csv", "tables/s/overall.tex"]
