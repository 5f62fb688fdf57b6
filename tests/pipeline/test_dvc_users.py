"""DVC's own commands on a finished miniature study: metrics, params, plots, experiments, remotes, dag (docs/dvc.md)."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from longtail.base import yaml_file
from longtail.base.params import load_all
from tests.helpers.projects import WHO, call, code, edited, run
from tests.helpers.root import ROOT

SHOWN = yaml_file.read(ROOT / "reports/dvc.yaml")
PLOTS = {name: plot for block in SHOWN["plots"] for name, plot in block.items()}
SCORES = {
    "tiny-vit": "reports/scores/tiny/tiny-vit.json",
    "tiny-deit_lt": "reports/scores/tiny/tiny-deit_lt.json",
    "teachers/ldam_drw_sam-tiny": "reports/scores/tiny/teachers/ldam_drw_sam-tiny.json",
    "teachers/cbd-tiny": "reports/scores/tiny/teachers/cbd-tiny.json",
}
BY_NAME = ("python", "-m", "workflow.study")  # as `make repro` and `make status`
UP_TO_DATE = "Data and pipelines are up to date."
DONE = ("report@tiny", "scores@tiny", "--with-deps")  # the study of the miniature that was run; another was not


def tiny_plots(text: str) -> str:
    """reports/dvc.yaml with the plots and artifacts of the digits study made those of the tiny one of fewer entries."""
    lines = [line for line in text.splitlines(keepends=True) if not re.search("digits-deit_lt-", line)]
    return "".join(lines).replace("digits_if20", "tiny").replace("digits", "tiny")


@pytest.fixture(scope="module")
def repo(made_by_dvc, tmp_path_factory) -> Path:
    """A project whose results, scores included, are committed."""
    folder = tmp_path_factory.mktemp("users") / "repo"
    shutil.copytree(made_by_dvc, folder, symlinks=True, ignore=shutil.ignore_patterns("tmp", "__pycache__"))
    (folder / "reports/dvc.yaml").write_text(tiny_plots((ROOT / "reports/dvc.yaml").read_text()))
    assert "Running stage 'scores@tiny'" in run(folder, *BY_NAME, "repro", "tiny")
    run(folder, "git", "add", "--all")
    run(folder, "git", *WHO, "commit", "--quiet", "--message", "results")
    assert UP_TO_DATE in run(folder, "dvc", "status", *DONE)
    return folder


@pytest.fixture(scope="module")
def changed(repo) -> Iterator[Path]:
    """The same after one edit of params.yaml and `dvc repro`, nothing of it committed; afterwards it is as before."""
    with edited(repo / "params.yaml", another_lr):
        out = run(repo, "dvc", "repro", "scores@tiny")
        ran = re.findall(r"Running stage '(.+)'", out)
        assert ran == ["train_student@tiny-deit_lt", "evaluate@tiny-deit_lt", "scores@tiny"]
        yield repo
    run(repo, "git", "checkout", "--quiet", ".")
    run(repo, "dvc", "checkout", *DONE)


def another_lr(text: str) -> str:
    """params.yaml with one more number, experiments.tiny-deit_lt.set.train.lr."""
    line = "  tiny-deit_lt: &deit_lt {<<: *vit, "
    assert text.count(line) == 1
    return text.replace(line, f"{line}set: {{train: {{lr: 0.03}}}}, ")


def told(repo: Path, *command: str):
    """What a DVC command says in JSON."""
    return json.loads(run(repo, "dvc", *command, "--json"))


def measured(repo: Path, name: str) -> dict[str, dict[str, float]]:
    """{head: {metric: value}} of the only seed, from the metrics file."""
    last = json.loads((repo / f"reports/metrics/tiny/{name}.json").read_text())["seeds"]["0"]["last"]
    wanted = ("top1", "head", "mid", "tail")
    return {head: {m: values[m] for m in wanted} for head, values in last.items() if head != "epoch"}


def history(repo: Path, name: str) -> list[dict[str, str]]:
    with open(repo / f"data/students/{name}/seed0/history.csv", newline="") as file:
        return list(csv.DictReader(file))


def plotted(page: Path) -> dict[str, dict]:
    """{title: Vega-Lite specification} of every plot in a page written by `dvc plots`."""
    specs = [json.loads(found) for found in re.findall(r"var spec = (\{.*\});", page.read_text())]
    return {spec["title"]["text"]: spec for spec in specs}


def series(spec: dict, column: str, rev: str = "workspace", **where: str) -> list:
    """A column of the plotted records of one revision, of those whose file and field end as told."""
    rows = [row for row in spec["data"]["values"] if row["rev"] == rev]
    return [row[column] for row in rows if all(row[key.replace("_", "::")].endswith(v) for key, v in where.items())]


# --- as written in reports/dvc.yaml


def test_plots_and_artifacts_name_what_the_digits_study_makes():
    """Plots of several entries name files, so a renamed entry must be renamed there."""
    study = load_all(ROOT)["studies"]["digits"]
    entries = {item["name"] for item in study["experiments"]}
    outs = {f"../data/students/{name}" for name in entries}
    outs |= {f"../data/teachers/{item['name']}" for item in study["teachers"]}
    files = {f"../data/students/{name}/seed0/history.csv" for name in entries}
    files |= {f"scores/digits/{name}.json" for name in entries}
    named = {path for plot in PLOTS.values() if isinstance(plot["y"], dict) for path in plot["y"]}
    assert named <= files and len(named) >= 6
    assert {artifact["path"] for artifact in SHOWN["artifacts"].values()} <= outs
    for plot in PLOTS.values():
        assert plot["x_label"] and plot["y_label"] and (plot.get("title") or isinstance(plot["y"], str))


# --- one state


def test_make_status_says_what_dvc_says(repo):
    """In one process, of an edit of the code too."""
    assert UP_TO_DATE in run(repo, *BY_NAME, "status", "tiny")
    with edited(repo / "longtail/report/tables/render.py", code):
        said = run(repo, *BY_NAME, "status", "tiny")
    assert {"tables@tiny"} <= set(re.findall(r"^(\S+@\S+):$", said, re.MULTILINE)) <= {"tables@tiny", "report@tiny"}
    assert UP_TO_DATE in run(repo, *BY_NAME, "status", "tiny")


def test_metrics_show_has_a_row_an_entry(repo):
    """Only of what was run: no line about the study that was not."""
    found = told(repo, "metrics", "show")[""]["data"]
    assert {path: row["data"] for path, row in found.items()} == {
        path: measured(repo, name) for name, path in SCORES.items()
    }
    table = run(repo, "dvc", "metrics", "show", "--md").strip().splitlines()
    assert len(table) == 2 + len(SCORES) and "dist.tail" in table[0]


def test_plots_show_draws_curves_and_classes(repo, tmp_path):
    out = run(repo, "dvc", "plots", "show", "--out", str(tmp_path / "plots"))
    assert "failed" not in out
    plots = plotted(tmp_path / "plots" / "index.html")
    titles = {plot["title"].replace("digits", "tiny") for plot in PLOTS.values() if "title" in plot}
    assert set(plots) == titles | set(SCORES.values())

    loss = plots["tiny, seed 0: training loss"]
    for name in ("tiny-vit", "tiny-deit_lt"):
        assert series(loss, "loss", filename=f"{name}/seed0/history.csv") == [r["loss"] for r in history(repo, name)]
    accuracy = plots["tiny, seed 0: accuracy on the test set"]
    found = series(accuracy, "dvc_inferred_y_value", filename_field="tiny-deit_lt/seed0/history.csv::test_top1_dist")
    assert found == [row["test_top1_dist"] for row in history(repo, "tiny-deit_lt")]
    assert "" in found and any("!== ''" in step.get("filter", "") for step in accuracy["transform"])

    metrics = json.loads((repo / "reports/metrics/tiny/tiny-deit_lt.json").read_text())["seeds"]["0"]["last"]
    classes = plots["tiny, last epoch: accuracy by class, from most to fewest training images"]
    for head in ("cls", "dist", "avg"):
        found = series(classes, "dvc_inferred_y_value", filename_field=f"tiny-deit_lt.json::{head}")
        assert found == metrics[head]["per_class"]
    assert series(plots[SCORES["tiny-deit_lt"]], "avg") == metrics["avg"]["per_class"]
    for spec in plots.values():
        assert spec["encoding"]["x"]["title"] and spec["encoding"]["y"]["title"]


def test_plots_show_a_file_that_no_plot_names(repo, tmp_path):
    file = "data/teachers/ldam_drw_sam-tiny/seed0/history.csv"
    run(repo, "dvc", "plots", "show", file, "-x", "epoch", "-y", "train_loss", "--out", str(tmp_path))
    with open(repo / file, newline="") as text:
        expected = [row["train_loss"] for row in csv.DictReader(text)]
    (spec,) = plotted(tmp_path / "index.html").values()
    assert series(spec, "train_loss") == expected


def test_dag_shows_what_an_entry_is_made_from(repo):
    chain = ["subsample@tiny", "train_teacher@ldam_drw_sam-tiny", "cache_logits@ldam_drw_sam-tiny"]
    chain.append("train_student@tiny-deit_lt")
    drawn = run(repo, "dvc", "dag", chain[-1])
    assert set(re.findall(r"\| (\S+@\S+) \|", drawn)) == set(chain)
    mermaid = run(repo, "dvc", "dag", "--mermaid", "report@tiny")
    names = dict(re.findall(r'(node\d+)\["(.+)"\]', mermaid))
    edges = {(names[a], names[b]) for a, b in re.findall(r"(node\d+)-->(node\d+)", mermaid)}
    assert len(names) == 25 and set(pairwise(chain)) <= edges


# --- other places


@pytest.fixture
def s3(monkeypatch) -> Iterator[str]:
    """The address of an S3-compatible server with an empty bucket `longtail`."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(f"AWS_{name.upper()}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    try:
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="longtail")
        yield address
    finally:
        server.stop()


CREDENTIALS = {"access_key_id": "someone", "secret_access_key": "secret"}


def moved(repo: Path, clone: Path, *remote: tuple[str, ...]) -> None:
    """Push, clone elsewhere, pull: everything is there, and nothing runs."""
    for command in remote:
        run(repo, "dvc", *command)
    run(repo, "dvc", "push", *DONE)
    run(repo.parent, "git", "clone", "--quiet", str(repo), str(clone))
    for command in remote:
        run(clone, "dvc", *command)
    run(clone, "dvc", "pull", *DONE)
    assert UP_TO_DATE in run(clone, "dvc", "status", *DONE)
    out = run(clone, "dvc", "repro", "report@tiny", "scores@tiny")
    assert UP_TO_DATE in out and "Running stage" not in out
    for name in ("data/students/tiny-deit_lt/seed0/model.safetensors", "reports/tiny.html"):
        assert (clone / name).read_bytes() == (repo / name).read_bytes()


def test_the_default_remote_is_a_folder_beside_the_repository(repo, tmp_path_factory):
    """../dvc-store, so a clone in the same place finds it."""
    moved(repo, repo.parent / "clone")
    assert (repo.parent / "dvc-store" / "files" / "md5").is_dir()


def test_an_s3_remote(repo, s3, tmp_path, monkeypatch):
    """Set up as in docs/dvc.md, with address and credentials in config.local, which git does not see."""
    for name in CREDENTIALS:
        monkeypatch.delenv(f"AWS_{name.upper()}")
    remote = [("remote", "add", "--local", "--default", "s3", "s3://longtail/store")]
    for key, value in {"endpointurl": s3, **CREDENTIALS}.items():
        remote.append(("remote", "modify", "--local", "s3", key, value))
    try:
        moved(repo, tmp_path / "clone", *remote)
        assert run(repo, "git", "status", "--porcelain") == ""
        assert "secret" in (repo / ".dvc/config.local").read_text()
    finally:
        (repo / ".dvc/config.local").unlink(missing_ok=True)


# --- two states, last: the fixture leaves the workspace changed until the module ends


def test_params_diff_names_the_edit(changed):
    found = told(changed, "params", "diff")
    assert found == {"params.yaml": {"experiments.tiny-deit_lt.set.train.lr": {"old": None, "new": 0.03}}}


def test_metrics_diff_tells_old_from_new(changed):
    old = json.loads(run(changed, "git", "show", f"HEAD:{SCORES['tiny-deit_lt']}"))
    new = measured(changed, "tiny-deit_lt")
    expected = {
        f"{head}.{metric}": {"old": old[head][metric], "new": value, "diff": pytest.approx(value - old[head][metric])}
        for head, values in new.items()
        for metric, value in values.items()
        if value != old[head][metric]
    }
    assert expected, "another learning rate must show in some metric"
    found = told(changed, "metrics", "diff")
    assert found == {SCORES["tiny-deit_lt"]: expected}


def test_plots_diff_draws_both(changed, tmp_path):
    """The old curve comes out of DVC's cache."""
    assert "failed" not in run(changed, "dvc", "plots", "diff", "HEAD", "--out", str(tmp_path))
    spec = plotted(tmp_path / "index.html")["tiny, seed 0: training loss"]
    new = series(spec, "loss", "workspace", filename="tiny-deit_lt/seed0/history.csv")
    old = series(spec, "loss", "HEAD", filename="tiny-deit_lt/seed0/history.csv")
    assert new == [row["loss"] for row in history(changed, "tiny-deit_lt")]
    assert len(old) == len(new) and old != new
    assert spec["encoding"]["strokeDash"]["field"] == "rev"


def test_exp_run_in_a_folder_of_its_own(changed):
    """An experiment with -S gives what the edit by hand gave, and leaves the files here alone."""
    by_hand = told(changed, "metrics", "show")[""]["data"]
    run(changed, "git", "stash", "--quiet")
    run(changed, "dvc", "checkout", *DONE)
    setting = "+experiments.tiny-deit_lt.set={train:{lr:0.03}}"
    command = ("exp", "run", "--temp", "--name", "faster", "--set-param", setting, "scores@tiny")
    run(changed, "dvc", *command)
    assert run(changed, "git", "status", "--porcelain") == ""
    assert UP_TO_DATE in run(changed, "dvc", "status", "--with-deps", "scores@tiny")
    found = told(changed, "exp", "diff", "HEAD", "faster")
    assert found["params"] == {"params.yaml": {"experiments.tiny-deit_lt.set.train.lr": {"old": None, "new": 0.03}}}
    assert set(found["metrics"]) == {SCORES["tiny-deit_lt"]}
    assert "faster" in run(changed, "dvc", "exp", "show", "--only-changed", "--csv")
    told_of = call(changed, "dvc", "exp", "apply", "faster").stdout  # complains of the study that was never run
    assert not re.findall(r"^(?:data|reports)/.*\btiny-(?:vit|deit_lt)", told_of, re.MULTILINE)
    assert told(changed, "metrics", "show")[""]["data"] == by_hand
    assert UP_TO_DATE in run(changed, "dvc", "status", "--with-deps", "scores@tiny")
