"""The report and the figures behind it: whole, self-contained, and honest about what was not run."""

from __future__ import annotations

import base64
import contextlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from longtail.report.pages.study_page import first, short
from tests.helpers.reporting import PUBLISHED, run_stage, study_dict, write_metrics

VOID = {"meta", "img", "br", "link", "hr", "source"}


class Reader(HTMLParser):
    """Checks that tags nest, and collects resources, ids, links and text."""

    def __init__(self) -> None:
        super().__init__()
        self.stack, self.sources, self.ids, self.links, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.sources += [attrs[k] for k in ("src", "data", "poster", "srcset") if k in attrs]
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All stages run on made-up inputs; of the analyses, s-deit_lt has three, the plain ViT and the caches none."""
    root = tmp_path_factory.mktemp("report")
    (root / "params.yaml").write_text(yaml.safe_dump({"studies": {"s": study_dict()}}))
    write_metrics(root / "metrics")
    own = root / "analysis" / "s-deit_lt"
    write_csv(
        own / "cls_dist_distance.csv", "seed,epoch,distance", [(s, e, e / 10 + s) for s in (0, 1) for e in (0, 1)]
    )
    distances = [(s, "test", b, h, 1 + b + h + s) for s in (0, 1) for b in range(3) for h in (0, 1)]
    write_csv(own / "attention_distance.csv", "seed,images,block,head,distance_px", distances)
    curves = [(s, e, 2 - e, "", "", 50 + s if e else "") for s in (0, 1) for e in (0, 1)]
    write_csv(own / "curves.csv", "seed,epoch,loss,test_top1_cls,test_top1_dist,test_top1_avg", curves)
    maps = np.linspace(0, 1, 2 * 2 * 4).reshape(2, 2, 2, 2).astype(np.float32)
    images = np.full((2, 8, 8, 3), 90, np.uint8)
    about = {"images": images, "tokens": np.array(["cls", "dist"]), "labels": np.array([1, 2])}
    np.savez(own / "rollout.npz", maps=maps, average=maps.mean(1), **about)

    def run(stage, out, *inputs):
        command = ["s", "--params", root / "params.yaml", "--out", root / out]
        command += ["--print", root / f"{out}_print"] if stage == "figures" else []
        command += ["--print", root / "figures_print"] if stage == "report" else []
        for name in inputs:
            command += [f"--{name}", PUBLISHED if name == "published" else root / name]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert run_stage(stage, *command) == 0
        return said.getvalue()

    run("tables", "tables", "metrics", "published")
    root.joinpath("said").write_text(run("figures", "figures", "metrics", "analysis", "runs", "published"))
    run("figures", "again", "metrics", "analysis", "runs", "published")
    run("report", "s.html", "metrics", "tables", "figures", "analysis")
    return root


@pytest.fixture(scope="module")
def read(made):
    reader = Reader()
    reader.feed((made / "s.html").read_text(encoding="utf-8"))
    return reader


def test_figures_drawn_and_skipped(made):
    drawn = {"training_loss", "test_accuracy", "groups", "experts", "cls_dist_distance", "attention_distance"}
    kinds = {name: {".svg", "-dark.svg", ".csv", ".txt"} for name in drawn}
    kinds |= {name: {".png", ".csv", ".txt"} for name in ("rollout", "rollout_mean")}
    assert {p.name for p in (made / "figures").iterdir()} == {n + kind for n, found in kinds.items() for kind in found}
    assert {p.name for p in (made / "figures_print").iterdir()} == {
        n + kind for n in kinds for kind in (".pdf", ".png")
    }
    assert "not run: entropy, taught, attention_distance_train, feature_rank" in (made / "said").read_text()


def test_numbers_behind_the_figures(made):
    distance = (made / "figures/cls_dist_distance.csv").read_text().splitlines()
    assert distance == ["label,epoch,mean,stderr,n", "DeiT-LT,1,0.5,0.5,2", "DeiT-LT,2,0.6,0.5,2"]
    bars = (made / "figures/groups.csv").read_text().splitlines()
    assert bars[1] == "Teacher,head,80.26,,1"
    assert "DeiT-LT,head,88,1.1547,3" in bars and not any(line.startswith("DeiT-LT,tail") for line in bars)


def test_the_same_data_give_the_same_bytes(made):
    for folder in ("", "_print"):
        for path in (made / f"figures{folder}").iterdir():
            assert path.read_bytes() == (made / f"again{folder}" / path.name).read_bytes(), path.name


def test_page_is_well_formed_and_links_arrive(made, read):
    assert read.stack == []
    assert len(read.ids) == len(set(read.ids))
    here, files = ({link for link in read.links if link.startswith("#") is inside} for inside in (True, False))
    assert {link.removeprefix("#") for link in here} <= set(read.ids)
    assert {"figures/groups.svg", "figures/groups.csv", "figures_print/groups.pdf"} <= files
    assert {f"tables/s/{table}.{kind}" for table in ("overall", "experts") for kind in ("csv", "md", "tex")} <= files
    files -= {name for name in files if name.startswith("tables/")}
    assert all((made / name).is_file() for name in files)


def test_page_fetches_nothing(made, read):
    html = (made / "s.html").read_text(encoding="utf-8")
    kinds = {"data:image/svg+xml;base64": b"<svg xmlns=", "data:image/png;base64": b"\x89PNG"}
    found = [(kinds[kind], base64.b64decode(image)) for kind, _, image in (s.partition(",") for s in read.sources)]
    assert all(image.startswith(start) for start, image in found)
    dark = re.findall(r'<source media="\(prefers-color-scheme: dark\)" srcset="', html)
    assert len(found) == 6 + 2 and not dark  # six drawings, each for both grounds, and two of pictures
    own = re.findall(r"<script>.*?</script>", html, re.DOTALL)
    assert len(own) == 1 == html.count("<script") and "'sha256-" in html  # the policy's, tests/report/pages/test_web.py
    assert not re.search(r"https?://|//cdn|@import|<link|url\(|\son\w+=", html)


def test_page_says_what_was_run_and_what_was_not(made, read):
    html, text = (made / "s.html").read_text(encoding="utf-8"), " ".join(read.text)
    assert "A &lt;small&gt; study" in html and "Made up &amp; short." in html
    vit = re.search(r'<tr id="entry-s-vit">.*?</tr>', html)[0]
    assert "not run" in vit
    student = re.search(r'<tr id="entry-s-deit_lt">.*?</tr>', html)[0]
    assert "01234567</span>" in student and "<td>88.00" in student.replace(' class=""', "")
    assert "81.9" in text and "62.6" in text
    entropy = re.search(r'<figure class="plot" id="figure-entropy">.*?</figure>', html, re.DOTALL)[0]
    assert "not run" in entropy and "<img" not in entropy


def test_a_missing_table_is_told(made, capsys):
    inputs = ["--metrics", made / "metrics", "--tables", made / "absent", "--figures", made, "--analysis", made]
    inputs += ["--print", made]
    assert run_stage("report", "s", "--params", made / "params.yaml", "--out", made / "x.html", *inputs) == 2
    assert "run stages/tables.py first" in capsys.readouterr().err and not (made / "x.html").exists()


@pytest.mark.parametrize(
    ("caption", "sentence", "title"),
    [
        ("By group: head and tail. Others are quoted.", "By group: head and tail", "By group"),
        ("The runs of LiVT Fig. 2, four losses. One seed.",) + ("The runs of LiVT Fig. 2, four losses",) * 2,
        ("Laid out as Figs 3 and 7.", *("Laid out as Figs 3 and 7",) * 2),
    ],
)
def test_a_captions_first_sentence_and_title(caption, sentence, title):
    assert (first(caption), short(caption)) == (sentence, title)


def test_captions_name_data_and_seeds(made, read):
    """Of what is recorded: three classes of 3, 2 and 1 images; a teacher of one seed and a student of three."""
    data = "Data: d (6 training images, from 3 to 1 a class)."
    assert (made / "figures/groups.txt").read_text() == f"{data} Teacher: 1 seed. DeiT-LT: 3 seeds.\n"
    assert (made / "figures/experts.txt").read_text() == f"{data} 3 seeds.\n"
    assert f"{data} Teacher: 1 seed. DeiT-LT: 3 seeds." in " ".join(read.text)
