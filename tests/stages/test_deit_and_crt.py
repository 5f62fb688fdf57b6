"""The DeiT and cRT baselines in miniature, through the real stages: RegNetY -> cache -> DeiT, and ViT -> cRT."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from longtail.base import params, yaml_file
from longtail.cost.upstream import filled
from longtail.data.long_tail import LongTail
from longtail.views.student_views import ViewRecipe, Views
from tests.helpers.root import ROOT
from tests.helpers.stage_processes import VIT, finish, start, tiny_params, without

DAG = yaml_file.read(ROOT / "dvc.yaml")["stages"]
VIEWS, TAUGHT_ON = "tiny-mix_always-same_size", "tiny-regnety"


def baselines(params: dict) -> None:
    """tiny.yaml with the four entries, as params.yaml has them."""
    views, experiments = params["views"], params["experiments"]
    views[VIEWS] = views["tiny-mix_always"] | {"teacher_stride": 1, "teacher_offset": 0}
    views[TAUGHT_ON] = views[VIEWS] | {"family": 1}
    views["tiny-even"] = views["tiny"] | {"sampler": "class_balanced", "repeats": 1, "mix_until": 0}
    train = params["recipes"]["tiny"]["train"]
    params["recipes"]["tiny-regnety"] = {"model": {"arch": "regnety_002", "image_size": 24}, "train": train}
    params["recipes"]["tiny-crt"] = {
        "model": params["recipes"]["tiny"]["model"],
        "train": train | {"epochs": 2, "warmup_epochs": 0, "lr": 1.0e-2},
    }
    params["methods"]["crt"] = {"smoothing": 0.0}
    cache = params["caches"]["ldam_drw_sam-tiny"]
    params["caches"]["regnety-tiny"] = cache | {"teacher": "tiny-regnety", "teacher_kind": "students", "views": VIEWS}
    vit, to_the_end = experiments["tiny-vit"], {"loss": {"smoothing_until": 3}}
    experiments["tiny-regnety"] = vit | {"recipe": "tiny-regnety", "views": TAUGHT_ON, "set": to_the_end}
    experiments["tiny-deit"] = vit | {"method": "deit_lt", "views": VIEWS, "cache": "regnety-tiny"}
    experiments["tiny-deit"]["set"] = {"loss": {"smoothing_until": 3, "drw_epoch": None}}
    experiments["tiny-vit_crt"] = vit | {
        "method": "crt",
        "recipe": "tiny-crt",
        "views": "tiny-even",
        "start": "tiny-vit",
    }


def command(stage: str, key: str, params: dict) -> tuple[str, ...]:
    """dvc.yaml's command line for an entry."""
    line = filled(DAG[stage]["do"]["cmd"], key, params[DAG[stage]["foreach"][2:-1]][key], params["place"])
    _, script, *arguments = shlex.split(line)
    return Path(script).stem, *arguments


STEPS = (
    ("train_student", "tiny-regnety"),
    ("cache_logits", "regnety-tiny"),
    ("train_student", "tiny-deit"),
    ("train_student", "tiny-vit_crt"),
    ("evaluate", "tiny-regnety"),
    ("evaluate", "tiny-vit_crt"),
    ("teacher_entropy", "regnety-tiny"),
    ("analyse", "tiny-regnety"),
)


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory) -> Path:
    """The tiny study with the baselines, and what every stage said in said.json."""
    folder = tmp_path_factory.mktemp("baselines")
    shutil.copytree(tiny, folder, True, shutil.ignore_patterns("scratch", "logs"), dirs_exist_ok=True)
    params = tiny_params(folder, baselines)
    said = {f"{stage}@{key}": finish(folder, *command(stage, key, params)).out for stage, key in STEPS}
    (folder / "said.json").write_text(json.dumps(said))
    return folder


def environment(folder: Path, entry: str) -> dict:
    return json.loads((folder / f"data/students/{entry}/seed0/identity.json").read_text())


def test_deit_learns_the_labels_of_a_regnety_of_its_own_size(made):
    meta = json.loads((made / "data/caches/regnety-tiny/seed0/meta.json").read_text())
    assert (meta["teacher"], meta["teacher_select"], meta["teacher_run"]) == ("tiny-regnety", "last", "seed0")
    assert environment(made, "tiny-deit")["teacher_digest"] == meta["teacher_digest"]
    kept = yaml_file.read(made / "data/students/tiny-deit/seed0/config.yaml")
    assert kept["loss"] | {"drw_beta": None} == {
        "alpha": 0.5,
        "smoothing": 0.1,
        "smoothing_until": 3,
        "drw_epoch": None,
        "drw_beta": None,
    }
    metrics = json.loads((made / "reports/metrics/tiny/tiny-regnety.json").read_text())
    assert set(metrics["summary"]["last"]) == {"cls", "avg"}


def test_its_entropy_is_measured_on_its_own_views_and_the_students(made):
    with open(made / "reports/analysis/tiny/teachers/regnety-tiny/entropy_mean.csv", newline="") as file:
        rows = {row["domain"]: row for row in csv.DictReader(file)}
    assert rows["in"]["n"] == rows["out"]["n"] == "128"
    assert rows["in"]["mean_nats"] != rows["out"]["mean_nats"]  # one recipe and seed, but other draws
    assert float(rows["in"]["mean_nats"]) == pytest.approx(float(rows["out"]["mean_nats"]), rel=0.1)  # of one kind


def test_the_regnety_labels_other_views_than_it_was_trained_on(made):
    taught_on = yaml_file.read(made / "data/students/tiny-regnety/seed0/config.yaml")["views"]
    labelled = yaml_file.read(made / "data/caches/regnety-tiny/seed0/config.yaml")["views"]
    assert taught_on == labelled | {"family": 1} and "family" not in labelled
    recipes = (params.build(ViewRecipe, block, "v") for block in (taught_on, labelled))
    data = LongTail.load(made / "data/datasets/tiny.npz")
    sums = [[Views(of, data.train_images, 0).checksum(epoch) for epoch in range(3)] for of in recipes]
    assert sums[1] == json.loads((made / "data/caches/regnety-tiny/seed0/meta.json").read_text())["pixel_checksums"]
    assert set(sums[0]).isdisjoint(sums[1])


def test_the_analysis_of_a_cnn_says_so_and_writes_what_applies(made):
    said = json.loads((made / "said.json").read_text())["analyse@tiny-regnety"]
    assert said.strip() == "tiny-regnety seed 0: a CNN, which has no attention and no tokens to analyse"
    out = made / "reports/analysis/tiny/tiny-regnety"
    assert {p.name: len(p.read_text().splitlines()) for p in out.iterdir()} == {
        "attention_distance.csv": 1,
        "cls_dist_distance.csv": 1,
        "cls_dist_test.csv": 1,
        "curves.csv": 1 + 3,  # of its training, which it has as any other
        "feature_rank.csv": 1,
        "image_spread.csv": 1,
    }


def test_crt_changes_nothing_but_the_head_of_the_run_it_starts_from(made):
    before, after = (
        load_file(made / f"data/students/{e}/seed0/model.safetensors") for e in ("tiny-vit", "tiny-vit_crt")
    )
    assert {k for k in before if not np.array_equal(before[k], after[k])} == {"head.weight", "head.bias"}
    assert json.loads((made / "reports/metrics/tiny/tiny-vit_crt.json").read_text())["summary"]["last"]["cls"]["top1"]


def copy_of(made: Path, folder: Path) -> tuple[Path, dict]:
    shutil.copytree(made, folder, True, shutil.ignore_patterns("scratch", "logs"), dirs_exist_ok=True)
    return folder, tiny_params(folder, baselines)


def test_other_weights_to_start_from_train_it_again_and_missing_ones_are_told(made, tmp_path):
    folder, params = copy_of(made, tmp_path)
    line = command("train_student", "tiny-vit_crt", params)
    assert "seed 0: already there" in finish(folder, *line).out
    path = folder / "data/students/tiny-vit/seed0/model.safetensors"
    weights = load_file(path)
    shutil.rmtree(folder / "data/students/tiny-vit.environment")  # else its file is told to be damaged
    save_file(weights | {"norm.bias": weights["norm.bias"] + 1}, path)
    before = environment(folder, "tiny-vit_crt")
    assert "already there" not in finish(folder, *line).out
    after = environment(folder, "tiny-vit_crt")
    assert before["start_digest"] != after["start_digest"] and before["config_hash"] == after["config_hash"]
    refusals = {
        "no such run to start from; train it first (stages/train_student.py tiny-vit)": line,
        "experiments.tiny-vit_crt starts from a run of tiny-vit; pass --start-from FOLDER": without(
            line, "--start-from"
        ),
    }
    shutil.rmtree(path.parent)
    for expected, wrong in refusals.items():
        run = start(folder, *wrong)
        assert run.wait() == 2 and run.err.count("\n") == 1 and expected in run.err, run.err
    assert environment(folder, "tiny-vit_crt") == after


def test_saying_start_none_trains_nothing_again(made, tmp_path):
    folder, params = copy_of(made, tmp_path)
    del params["experiments"]["tiny-vit"]["start"]
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    assert "tiny-vit seed 0: already there" in finish(folder, *VIT).out
