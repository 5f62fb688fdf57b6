"""A CNN in a student's place: its one token, its batch statistics, and a cache that it labels."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from timm import create_model
from torch import nn

from longtail.analysis.entropy import entropy_own_views, softmax_entropy
from longtail.analysis.student import load_student
from longtail.base import yaml_file
from longtail.base.errors import UserError
from longtail.base.files import file_digest
from longtail.base.params import build
from longtail.data.long_tail import LongTail, content_digest
from longtail.models.build import CnnConfig, PooledCnn, build_network, network_config
from longtail.models.vit import ModelConfig, build_vit, head_logits, parameter_groups, special_tokens
from longtail.runs.execution import Execution
from longtail.runs.workspace import Workspace
from longtail.training import student_evaluation, student_step
from longtail.training.cache import teacher_labels
from longtail.training.experiment import StudentConfig, resolve
from longtail.training.labeller import labeller_digest, load_labeller
from longtail.training.student import train_student
from longtail.views.eval_views import eval_batch
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views
from tests.helpers.interruption import Stop, stopping
from tests.helpers.small import DATASET, RECIPE, SIZE, digits

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SEED = 3
CNN = CnnConfig("regnety_002", SIZE)
TRAIN = {
    "epochs": 1,
    "lr": 1.0e-3,
    "min_lr": 1.0e-5,
    "warmup_lr": 1.0e-6,
    "warmup_epochs": 0,
    "weight_decay": 0.05,
    "betas": [0.9, 0.999],
    "eps": 1.0e-8,
    "eval_resize": 18,
    "eval_every": 1,
}
PARAMS = {
    "studies": {"s": {}},
    "datasets": {"tiny": DATASET},
    "views": {"v": RECIPE | {"mix_until": 1}, "unmixed": RECIPE | {"mix_prob": 0.0}},
    "caches": {"c": {}},
    "methods": {
        "vit": {"smoothing": 0.1, "smoothing_until": 1},
        "deit_lt": {"alpha": 0.5, "smoothing": 0.1, "smoothing_until": 1, "drw_epoch": None, "drw_beta": 0.9999},
        "vit_ldam": {"max_margin": 0.5, "scale": 30.0},
    },
    "recipes": {"r": {"model": {"arch": "regnety_002", "image_size": SIZE}, "train": TRAIN}},
    "experiments": {
        "regnety": {
            "study": "s",
            "method": "vit",
            "recipe": "r",
            "dataset": "tiny",
            "views": "v",
            "cache": "none",
            "teacher": "none",
            "seeds": [SEED],
        }
    },
}


def config_of(**change) -> StudentConfig:
    return resolve(PARAMS | {"experiments": {"regnety": PARAMS["experiments"]["regnety"] | change}}, "regnety")[0]


@pytest.fixture(scope="module")
def data() -> LongTail:
    return digits()


def train(folder: Path, config: StudentConfig, data: LongTail, **options) -> Path:
    space = Workspace(folder, "e", "f" * 64, CPU, quiet=True)
    train_student(config, data, SEED, None, space, CPU, **options)
    return space.result


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Path:
    return train(tmp_path_factory.mktemp("regnety"), config_of(), data)


def told(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- the network


def test_it_is_timms_network_with_its_classifier_beside_it():
    torch.manual_seed(5)
    ours = build_network(CNN, 10, distilled=False).eval()
    torch.manual_seed(5)
    timms = create_model("regnety_002", num_classes=10).eval()
    names = {f"features.{k}".replace("features.head.fc", "head"): v for k, v in timms.state_dict().items()}
    assert names.keys() == ours.state_dict().keys()
    assert all(torch.equal(value, names[name]) for name, value in ours.state_dict().items())
    x = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens, expected = special_tokens(ours, x), timms(x)
        assert tokens.shape == (3, 1, 368)
        pooled = timms.forward_features(x).mean((2, 3))  # the global average
        assert torch.allclose(tokens[:, 0], pooled, atol=1e-6)
        logits = head_logits(ours, tokens)
        assert list(logits) == ["cls"] and torch.allclose(logits["cls"], expected, atol=1e-6)
        assert torch.allclose(ours(x), expected, atol=1e-6)


def test_the_teacher_of_the_deit_baseline_has_its_published_size():
    """timm's regnety_160, RegNetY-16GF: 83.6 M parameters with 1,000 classes (METHODS 2.7), in tensors without data."""
    with torch.device("meta"):
        of = {classes: PooledCnn(CnnConfig("regnety_160", 224), classes) for classes in (10, 1000)}
    count = {classes: sum(p.numel() for p in network.parameters()) for classes, network in of.items()}
    assert count[1000] == pytest.approx(83.6e6, rel=1e-3) and count[1000] - count[10] == 990 * (3024 + 1)
    probabilities = [m.p for m in of[10].modules() if isinstance(m, nn.Dropout)]
    assert not any(probabilities) and "DropPath" not in {type(m).__name__ for m in of[10].modules()}


def test_weight_decay_spares_norms_and_biases():
    network = build_network(CNN, 10, distilled=False)
    decay, rest = parameter_groups(network, 0.05)
    assert {p.ndim for p in decay["params"]} == {2, 4} and {p.ndim for p in rest["params"]} == {1}
    assert sum(len(group["params"]) for group in (decay, rest)) == len(list(network.parameters()))


def test_a_block_without_arch_is_a_vits():
    vit = {"image_size": 16, "patch_size": 8, "dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0, "drop_path": 0.0}
    assert network_config(vit, "m") == ModelConfig(**vit)
    assert network_config({"arch": "regnety_160", "image_size": 224}, "m") == CnnConfig("regnety_160", 224)
    torch.manual_seed(1)
    a = build_network(ModelConfig(**vit), 10, True).state_dict()
    torch.manual_seed(1)
    b = build_vit(ModelConfig(**vit), 10, True).state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            {"arch": "regnety_16", "image_size": 16},
            "m: arch 'regnety_16' is no RegNet of timm's; did you mean 'regnety_",
        ),
        ({"arch": "vit_base_patch16_224", "image_size": 16}, "m: arch 'vit_base_patch16_224' is no RegNet of timm's"),
        ({"arch": "regnety_002", "image_size": 0}, "m: image_size must be at least 1, found 0"),
        ({"arch": "regnety_002"}, "m.image_size: missing; CnnConfig needs it"),
        ({"arch": "regnety_002", "image_size": 16, "dim": 3}, "m.dim: unknown key"),
        (3, "m: expected a block of keys, found 3"),
    ],
)
def test_a_wrong_block_is_refused(model, expected):
    assert told(lambda: network_config(model, "m")).startswith(expected)


@pytest.mark.parametrize(("method", "change"), [("deit_lt", {"cache": "c"}), ("vit_ldam", {"views": "unmixed"})])
def test_a_method_with_a_dist_token_or_a_head_of_its_own_is_refused(method, change):
    said = told(lambda: config_of(method=method, **change))
    assert said == f"experiments.regnety: method {method} needs a ViT; regnety_002 is a CNN"


# ---- its training


def test_each_mix_group_has_batch_statistics_of_its_own(data, tmp_path, monkeypatch):
    """Whatever --micro-batch says: one forward pass a group of eight, 46 images on two ranks, and the same bytes."""
    seen = []
    special = student_step.special_tokens

    def spy(network, x):
        if network.training:
            seen.append(len(x))
        return special(network, x)

    for module in (student_step, student_evaluation):
        monkeypatch.setattr(module, "special_tokens", spy)
    config = config_of()
    results = [train(tmp_path / str(m), config, data, execution=Execution(micro_batch=m)) for m in (0, 8, 16)]
    views = Views(config.views, data.train_images, SEED)
    groups = [g.stop - g.start for s in range(views.steps_per_epoch) for g in views.groups_of_step(s)]
    assert seen == groups * 3 and len(set(groups)) == 2
    first, *others = [(result / "model.safetensors").read_bytes() for result in results]
    assert others == [first, first]


def test_its_first_loss_is_that_of_the_groups_one_after_the_other(data, tmp_path):
    """Nothing moves but the running averages: the epoch's mean loss, from the logits in float64."""
    still = {"train": {"lr": 0.0, "min_lr": 0.0, "warmup_lr": 0.0}}
    config = config_of(set=still)
    result = train(tmp_path, config, data)
    torch.manual_seed(SEED)
    network = build_network(CNN, 10, distilled=False).train()
    views, y, losses = Views(config.views, data.train_images, SEED), torch.from_numpy(data.train_labels), []
    for step in range(views.steps_per_epoch):
        batch = views.step(0, step)
        for rows in batch.groups:
            with torch.no_grad():
                logits = network(batch.x[rows]).double()
            own, other, lam = y[batch.index[rows]], y[batch.partner[rows]], batch.lam[rows].double()
            logp = logits - logits.exp().sum(1, keepdim=True).log()
            one_hot = lam[:, None] * torch.eye(10)[own] + (1 - lam[:, None]) * torch.eye(10)[other]
            losses += (-((0.9 * one_hot + 0.01) * logp).sum(1)).tolist()
    history = pd.read_csv(result / "history.csv")
    assert history["loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)
    saved = load_file(result / "model.safetensors")
    assert all(
        torch.allclose(value.float(), saved[name].float(), atol=1e-6) for name, value in network.state_dict().items()
    )
    assert saved["features.stem.bn.num_batches_tracked"] == sum(len(views.groups_of_step(s)) for s in range(3))


def test_its_results_are_those_of_any_student(run, data):
    history, predictions = pd.read_csv(run / "history.csv"), np.load(run / "predictions.npz")
    assert list(history.columns) == ["epoch", "lr", "loss", "test_top1_cls", "test_top1_avg"]
    assert {f for f in predictions.files if f.startswith("logits_")} == {"logits_last_cls", "logits_best_cls"}
    found = load_student(run, data, CPU)
    assert not found.attends and found.shape == CNN
    with torch.no_grad():
        logits = found.model(eval_batch(data.test_images, SIZE, 18, "digits"))
    assert np.allclose(predictions["logits_last_cls"], logits.numpy(), atol=1e-5)
    assert yaml_file.read(run / "config.yaml")["model"] == {"arch": "regnety_002", "image_size": SIZE}


def test_an_interrupted_run_ends_in_the_same_bytes(run, data, tmp_path):
    with pytest.raises(Stop):
        space = stopping(2)(tmp_path, "e", "f" * 64, CPU, quiet=True)
        train_student(config_of(), data, SEED, None, space, CPU)
    result = train(tmp_path, config_of(), data)
    for name in ("model.safetensors", "history.csv", "predictions.npz"):
        assert (result / name).read_bytes() == (run / name).read_bytes(), name


# ---- as a teacher


def same_size(**change) -> ViewRecipe:
    return build(ViewRecipe, RECIPE | {"teacher_stride": 1, "teacher_offset": 0} | change, "views.v")


def test_it_labels_the_students_very_view(run, data):
    recipe = same_size()
    labeller = load_labeller("students", run, data, recipe)
    assert (labeller.select, labeller.logit_scale) == ("last", 1.0)
    assert not labeller.network.training and not any(p.requires_grad for p in labeller.network.parameters())
    network = build_network(CNN, 10, distilled=False)
    network.load_state_dict(load_file(run / "model.safetensors"))
    x = Views(recipe, data.train_images, SEED).step(0, 0).x
    with torch.no_grad():
        expected = network.eval()(x).argmax(1)
    assert teacher_labels(labeller.network, x, recipe).tolist() == expected.tolist()
    assert labeller_digest("students", run) == file_digest(run / "model.safetensors")


def test_entropy_in_distribution_is_that_of_its_own_training_views(run, data):
    labeller = load_labeller("students", run, data, same_size())
    views = Views(config_of().views, data.train_images, SEED)  # whose teacher_stride, of 2, is nothing to it
    nats = entropy_own_views(labeller.network, views, CPU)
    assert nats.shape == (views.positions_per_epoch,) and nats.dtype == torch.float64
    with torch.no_grad():
        expected = torch.cat(
            [softmax_entropy(labeller.network(views.step(0, s).x)) for s in range(views.steps_per_epoch)]
        )
    assert torch.equal(nats, expected) and nats.min() > 0 and nats.max() <= math.log(10)


def test_a_run_that_cannot_label_is_refused(run, data, tmp_path):
    said = told(lambda: load_labeller("students", run, data, same_size(teacher_stride=2)))
    assert said == f"{run}: trained at 16 px, would be shown 8 px; the cache's views need another teacher_stride"
    other = replace(data, subset_seed=9)
    other = replace(other, digest=content_digest(other))
    assert "trained on dataset" in told(lambda: load_labeller("students", run, other, same_size()))
    copy = shutil.copytree(run, tmp_path / "seed0")
    config = yaml_file.read(copy / "config.yaml")
    for model, expected in (
        ({"image_size": 16, "dim": 16}, "config.yaml: model: no CNN; of the experiments only those can label a cache"),
        (None, "config.yaml: model: no CNN; of the experiments only those can label a cache"),
        ({"arch": "regnety_004", "image_size": 16}, "model.safetensors: weights do not fit config.yaml"),
    ):
        (copy / "config.yaml").write_text(yaml.safe_dump(config | {"model": model}))
        assert expected in told(lambda: load_labeller("students", copy, data, same_size()))
    (copy / "identity.json").write_text(json.dumps({"class_order": data.class_order}))
    assert "identity.json lacks 'dataset_digest'" in told(lambda: load_labeller("students", copy, data, same_size()))
    (copy / "model.safetensors").unlink()
    assert "no such file; run the stage that makes it first" in told(lambda: labeller_digest("students", copy))
