"""DeiT-III and ViT with LDAM in miniature, through the stages as processes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from longtail.analysis.student import load_student
from longtail.base import yaml_file
from longtail.data.long_tail import LongTail
from longtail.models.vit import head_logits, special_tokens
from longtail.views.eval_views import eval_batch
from tests.helpers.stage_processes import SUBSAMPLE, finish, start, tiny_params

DATASET = "data/datasets/tiny.npz"
NAMES = ("tiny-deit_iii", "tiny-vit_ldam")


def add_baselines(params: dict) -> None:
    """Entries of the two methods beside those of tests/helpers/tiny.yaml."""
    params["methods"] |= {"deit_iii": {"threshold": 0.0}, "vit_ldam": {"max_margin": 0.5, "scale": 30.0}}
    params["views"]["tiny-no_mix"] = params["views"]["tiny"] | {"mix_prob": 0.0}
    tiny = params["recipes"]["tiny"]
    params["recipes"]["tiny-deit_iii"] = {
        "model": tiny["model"] | {"drop_path_mode": "constant", "layer_scale": 1e-4, "special_positions": False},
        "train": tiny["train"] | {"optimizer": "lamb", "lr": 0.02},
    }
    vit = params["experiments"]["tiny-vit"]
    params["experiments"]["tiny-deit_iii"] = vit | {"method": "deit_iii", "recipe": "tiny-deit_iii"}
    params["experiments"]["tiny-vit_ldam"] = vit | {"method": "vit_ldam", "views": "tiny-no_mix"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with both students, evaluated and analysed."""
    folder = tmp_path_factory.mktemp("baselines")
    tiny_params(folder, add_baselines)
    finish(folder, *SUBSAMPLE)
    for name in NAMES:
        run = f"data/students/{name}"
        finish(folder, "train_student", name, "--dataset", DATASET, "--out", run)
        arguments = (name, "--run", run, "--dataset", DATASET)
        finish(folder, "evaluate", *arguments, "--kind", "experiment", "--out", f"metrics/{name}.json")
        finish(folder, "analyse", *arguments, "--out", f"analysis/{name}")
    return folder


def predictions(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"data/students/{name}/seed0/predictions.npz") as found:
        return dict(found)


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_is_trained_and_its_saved_weights_gave_its_predictions(made, name):
    folder = made / f"data/students/{name}/seed0"
    history = pd.read_csv(folder / "history.csv")
    assert list(history.columns) == ["epoch", "lr", "loss", "test_top1_cls", "test_top1_avg"]
    assert history["loss"].notna().all() and history["loss"].iloc[-1] < history["loss"].iloc[0]
    data = LongTail.load(made / DATASET)
    student = load_student(folder, data, torch.device("cpu"))
    with torch.no_grad():
        x = eval_batch(data.test_images, 24, 24, "digits")
        logits = head_logits(student.model, special_tokens(student.model, x))
    assert np.allclose(predictions(made, name)["logits_last_cls"], logits["cls"].numpy(), atol=1e-5)


def test_deit_iii_has_its_own_parameters_and_binary_loss(made):
    folder = made / "data/students/tiny-deit_iii/seed0"
    weights = load_file(folder / "model.safetensors")
    assert weights["pos_embed"].shape == (1, 16, 16)
    gammas = [weights[f"blocks.{i}.ls{k}.gamma"] for i in range(2) for k in (1, 2)]
    assert all(not torch.equal(g, torch.full((16,), 1e-4)) for g in gammas)  # they are trained
    first = pd.read_csv(folder / "history.csv")["loss"].iloc[0]
    assert first == pytest.approx(math.log(2), abs=0.1)  # of ten classes each; cross-entropy would be log 10
    assert float(predictions(made, "tiny-deit_iii")["logit_scale"]) == 1.0
    kept = yaml_file.read(folder / "config.yaml")
    assert (kept["train"]["optimizer"], kept["model"]["drop_path_mode"]) == ("lamb", "constant")


def test_ldam_exports_cosines_and_the_scale_that_its_probabilities_need(made):
    """METHODS trap 24: without the 30 the softmax of cosines would be flat."""
    found = predictions(made, "tiny-vit_ldam")
    cosines = found["logits_last_cls"].astype(np.float64)
    assert np.abs(cosines).max() <= 1 + 1e-6 and float(found["logit_scale"]) == 30.0
    weights = load_file(made / "data/students/tiny-vit_ldam/seed0/model.safetensors")
    assert weights["head.weight"].shape == (16, 10) and "head.bias" not in weights
    scaled = 30 * cosines
    logs = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
    nll = -logs[np.arange(len(logs)), found["labels"]].mean()
    metrics = json.loads((made / "metrics/tiny-vit_ldam.json").read_text())
    assert metrics["seeds"]["0"]["last"]["cls"]["nll"] == pytest.approx(nll, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_analyses_read_either_model(made, name):
    ranks = pd.read_csv(made / f"analysis/{name}/feature_rank.csv")
    distances = pd.read_csv(made / f"analysis/{name}/attention_distance.csv")
    assert set(ranks["token"]) == {"cls"}
    assert distances.groupby("images").size().to_dict() == {"test": 2 * 2, "train": 2 * 2}  # heads of two blocks
    assert np.load(made / f"analysis/{name}/rollout.npz")["maps"].shape[1:] == (1, 4, 4)


def test_ldam_on_mixed_views_is_refused_at_the_start(made, tmp_path):
    tiny_params(tmp_path, lambda params: (add_baselines(params), params["views"]["tiny-no_mix"].update(mix_prob=1.0)))
    line = ("train_student", "tiny-vit_ldam", "--dataset", made / DATASET, "--out", tmp_path / "out")
    run = start(tmp_path, *line)
    assert run.wait() == 2
    assert run.err == (
        "error: experiments.tiny-vit_ldam: method vit_ldam takes hard labels, but views.tiny-no_mix mixes images;"
        " its mix_prob must be 0, found 1.0\n"
    )
    assert not (tmp_path / "out").exists()
