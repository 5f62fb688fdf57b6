"""CBD's own entries on images that stay in their files, through the stages: a standard teacher and its student, a few
steps each, on ImageNet-LT and iNaturalist 2018 and 2017 in miniature."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from longtail.base import params
from longtail.base.files import file_digest
from tests.helpers.disk_datasets import MAKERS
from tests.helpers.root import ROOT
from tests.helpers.stage_processes import finish, tiny_params

NONE = "data/teachers/none"


def small(name: str, **changes) -> dict:
    """The entry as it stands, but for the size: a thin network, one epoch, small batches and views."""
    entry = params.load_all(ROOT)["teachers"][name]
    size = {"arch": "resnet8", "epochs": 1, "batch_size": 8, "eval_every": 1, "eval_resize": 32, "must_reach": None}
    return entry | size | {"views": entry["views"] | {"size": 28}, "study": "tiny"} | changes


@pytest.mark.parametrize(("data", "of"), [("imagenet", "imagenet_lt"), ("inat", "inat18"), ("inat17", "inat17")])
def test_a_teacher_and_its_student_are_trained_and_evaluated_on_files(data, of, tmp_path):
    def change(table: dict) -> None:
        table["datasets"][data] = MAKERS[data](tmp_path)
        table["teachers"]["instance"] = small(f"instance-{of}", dataset=data)
        sources = ["instance", "none", "none", "none", "none"]
        table["teachers"]["cbd"] = small(f"cbd-{of}", dataset=data, sources=sources)
        shown = {"study": "tiny", "dataset": data, "sources": sources, "groups": "count", "neighbours": 2, "queries": 1}
        table["compare_features"] = {"cbd": shown}

    tiny_params(tmp_path, change)
    dataset = f"data/datasets/{data}.npz"
    finish(tmp_path, "subsample", data, "--out", dataset)
    for name, teacher in (("instance", NONE), ("cbd", "data/teachers/instance")):
        out = f"data/teachers/{name}"
        finish(tmp_path, "train_teacher", name, "--dataset", dataset, "--teacher", teacher, *[NONE] * 4, "--out", out)
        with open(tmp_path / out / "seed0/history.csv") as file:
            (row,) = csv.DictReader(file)
        assert np.isfinite(float(row["train_loss"])) and float(row["train_loss"]) > 0
        given = ("--run", out, "--dataset", dataset, "--kind", "teacher")
        finish(tmp_path, "evaluate", name, *given, "--out", f"{name}.json")
        measured = json.loads((tmp_path / f"{name}.json").read_text())
        classes, tested = {"imagenet": (4, 8), "inat": (12, 12), "inat17": (3, 8)}[data]
        assert len(measured["seeds"]["0"]["last"]["avg"]["per_class"]) == classes == measured["classes"]
        with np.load(tmp_path / out / "seed0/predictions.npz") as file:
            assert file["logits_last_cls"].shape == (tested, classes)
            assert np.abs(file["logits_last_cls"]).max() <= 1 + 1e-4 and file["logit_scale"] == 20  # cosines
    given = ("--run", "data/teachers/cbd", "--teacher", "data/teachers/instance", *[NONE] * 4)
    finish(tmp_path, "compare_features", "cbd", "--dataset", dataset, *given, "--out", "compared")
    with np.load(tmp_path / "compared/neighbours.npz") as file:
        assert file["picture"].shape == (len(file["label"]), 64, 64, 3) and file["teacher_place"].shape[1] == 2
    identity = json.loads((tmp_path / "data/teachers/cbd/seed0/identity.json").read_text())
    assert identity["teacher_digest"] == file_digest(tmp_path / "data/teachers/instance/seed0/model.safetensors")
