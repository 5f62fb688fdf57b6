"""A student trained through the stages on images that stay in their files: ImageNet-LT in miniature."""

from __future__ import annotations

import csv
import json
import os
import signal

import numpy as np
import pandas as pd
import pytest

from tests.helpers.disk_datasets import imagenet_lt
from tests.helpers.stage_processes import VIT, finish, start, tiny_params, until

DATASET = "data/datasets/imagenet.npz"
PACK = "data/packed/imagenet"
STUDENT = tuple(DATASET if "data/datasets" in argument else argument for argument in VIT[:-1])


def study(folder, block: dict, **files) -> None:
    """params.yaml with tiny-vit on that dataset, and the dataset file."""

    def change(params: dict) -> None:
        params["datasets"]["imagenet"] = block | {"files": block["files"] | files}
        params["experiments"]["tiny-vit"]["dataset"] = "imagenet"

    tiny_params(folder, change)
    finish(folder, "subsample", "imagenet", "--out", DATASET)


def train(folder, out: str) -> dict[str, bytes]:
    finish(folder, *STUDENT, out, cores=2)
    names = ("model.safetensors", "predictions.npz", "history.csv")
    return {name: (folder / out / "seed0" / name).read_bytes() for name in names}


def test_a_student_is_trained_evaluated_and_analysed_on_files_and_on_a_pack_of_them(tmp_path):
    block = imagenet_lt(tmp_path)
    study(tmp_path, block)
    files = train(tmp_path, "files")
    history = pd.read_csv(tmp_path / "files/seed0/history.csv")
    assert len(history) == 3 and np.isfinite(history["loss"]).all()
    with np.load(tmp_path / "files/seed0/predictions.npz") as file:
        assert file["logits_last_cls"].shape == (8, 4) and np.bincount(file["labels"]).tolist() == [2] * 4
    given = ("--run", "files", "--dataset", DATASET)
    finish(tmp_path, "evaluate", "tiny-vit", *given, "--kind", "experiment", "--out", "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text())
    finish(tmp_path, "analyse", "tiny-vit", *given, "--out", "analysis")
    with open(tmp_path / "analysis/feature_rank.csv") as rows:
        assert len(list(csv.DictReader(rows))) > 0
    finish(tmp_path, "pack", "imagenet", "--dataset", DATASET, "--out", PACK)
    study(tmp_path, block, pack=PACK)
    (tmp_path / block["files"]["images"]).rename(tmp_path / "gone")  # the pack is enough
    assert train(tmp_path, "pack") == files


def test_a_stop_signal_to_the_training_process_and_its_workers_saves_the_state(tmp_path):
    """As a scheduler sends it; what is started again ends in the same bytes."""
    study(tmp_path, imagenet_lt(tmp_path))
    whole = train(tmp_path, "whole")
    run = start(tmp_path, *STUDENT, "stopped", cores=2, LONGTAIL_SAVE_EVERY_S=0)
    until(lambda: list((tmp_path / "scratch").glob("*/checkpoint.pt")), run)
    os.killpg(run.process.pid, signal.SIGTERM)
    assert run.wait() == 143 and "asked to stop: state saved" in run.out
    with pytest.raises(ProcessLookupError):  # nobody is left
        os.killpg(run.process.pid, 0)
    assert not (tmp_path / "stopped/seed0").exists()
    assert train(tmp_path, "stopped") == whole
