"""Classifier re-training: a run that starts from another's end, trains the head alone, and draws the classes evenly."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from longtail.base import rng, yaml_file
from longtail.base.errors import UserError
from longtail.base.params import build
from longtail.data.long_tail import LongTail, class_order, content_digest
from longtail.losses.targets import Targets
from longtail.methods import crt
from longtail.models.vit import ModelConfig, build_vit, head_logits, parameter_groups, special_tokens
from longtail.runs.single_run import identity
from longtail.runs.workspace import Workspace
from longtail.training.experiment import StudentConfig, resolve
from longtail.training.student import train_student
from longtail.training.student_run import begin, read_start, start_digest
from longtail.views.epoch import Layout, class_balanced
from longtail.views.eval_views import eval_batch
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views
from tests.helpers.interruption import Stop, stopping
from tests.helpers.small import DATASET, RECIPE, SIZE, digits

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SEED = 3
MODEL = {"image_size": SIZE, "patch_size": 8, "dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "drop_path": 0.5}
TRAIN = {
    "epochs": 2,
    "lr": 1.0e-2,
    "min_lr": 0.0,
    "warmup_lr": 0.0,
    "warmup_epochs": 0,
    "weight_decay": 0.05,
    "betas": [0.9, 0.999],
    "eps": 1.0e-8,
    "eval_resize": 18,
    "eval_every": 1,
}
FIRST = {
    "study": "s",
    "method": "vit",
    "recipe": "r",
    "dataset": "tiny",
    "views": "v",
    "cache": "none",
    "teacher": "none",
    "seeds": [SEED],
}
SECOND = FIRST | {"method": "crt", "views": "even", "start": "first"}
PARAMS = {
    "studies": {"s": {}},
    "datasets": {"tiny": DATASET},
    "views": {"v": RECIPE, "even": RECIPE | {"sampler": "class_balanced", "repeats": 1, "mix_until": 0}},
    "methods": {"vit": {"smoothing": 0.1, "smoothing_until": 2}, "crt": {"smoothing": 0.0}},
    "recipes": {"r": {"model": MODEL, "train": TRAIN}},
    "experiments": {"first": FIRST, "second": SECOND},
}


def config_of(name: str, **change) -> StudentConfig:
    experiments = PARAMS["experiments"] | {name: PARAMS["experiments"][name] | change}
    return resolve(PARAMS | {"experiments": experiments}, name)[0]


@pytest.fixture(scope="module")
def data() -> LongTail:
    return digits()


def train(folder: Path, config: StudentConfig, data: LongTail, start=None, workspace=Workspace, seed=SEED) -> Path:
    space = workspace(folder, "e", "f" * 64, CPU, quiet=True)
    train_student(config, data, seed, None, space, CPU, start=start)
    return space.result


@pytest.fixture(scope="module")
def first(tmp_path_factory, data) -> Path:
    """The folder of a finished ViT's runs."""
    folder = tmp_path_factory.mktemp("first")
    train(folder, config_of("first"), data).rename(folder / f"seed{SEED}")
    return folder


@pytest.fixture(scope="module")
def second(tmp_path_factory, first, data) -> Path:
    """The result of the re-training that starts from it."""
    return train(tmp_path_factory.mktemp("second"), config_of("second"), data, read_start(first, SEED, "first", data))


def told(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- what is trained


def test_nothing_but_the_head_changes(first, second):
    before, after = (load_file(folder / "model.safetensors") for folder in (first / f"seed{SEED}", second))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}


def test_the_head_begins_anew_and_alone_is_trained(first, data):
    start = read_start(first, SEED, "first", data)
    torch.manual_seed(7)
    model = build_vit(ModelConfig(**MODEL), 10, distilled=False)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    begin(model, start, head_only=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, (fresh if name.startswith("head.") else start.state)[name]), name
    assert not torch.equal(fresh["head.weight"], start.state["head.weight"])
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    decay, rest = parameter_groups(model, 0.05)  # what is frozen is in no group: decay would move it
    assert [p is model.head.weight for p in decay["params"]] == [True] and decay["weight_decay"] == 0.05
    assert [p is model.head.bias for p in rest["params"]] == [True] and rest["weight_decay"] == 0.0


def test_a_run_that_only_starts_from_another_has_its_head_too_and_trains_all(first, data):
    start = read_start(first, SEED, "first", data)
    model = build_vit(ModelConfig(**MODEL), 10, distilled=False)
    begin(model, start, head_only=False)
    assert all(torch.equal(value, start.state[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_one_step_by_hand(first, data, tmp_path):
    """AdamW's first step moves every entry by lr against the sign of its gradient, after decay; the features are those
    of the evaluation mode, without stochastic depth. float64, from the formula of the gradient of cross-entropy."""
    recipe = PARAMS["views"]["even"] | {"accumulate": 9}  # one step an epoch
    everything = PARAMS | {"views": PARAMS["views"] | {"even": recipe}}
    config, _ = resolve(everything, "second")
    config = replace(config, train=replace(config.train, epochs=1))
    result = train(tmp_path, config, data, read_start(first, SEED, "first", data))
    torch.manual_seed(SEED)
    model = build_vit(ModelConfig(**MODEL), 10, distilled=False)
    weight, bias = model.head.weight.detach().double().clone(), model.head.bias.detach().double().clone()
    model.load_state_dict(load_file(first / f"seed{SEED}" / "model.safetensors"))
    model.eval()
    views = Views(config.views, data.train_images, SEED, labels=data.train_labels)
    assert views.steps_per_epoch == 1
    batch, gradient_w, gradient_b, losses = views.step(0, 0), 0.0, 0.0, []
    for rows in batch.groups:
        with torch.no_grad():
            features = special_tokens(model, batch.x[rows])[:, 0].double()
        y = torch.from_numpy(data.train_labels)[batch.index[rows]]
        p = (features @ weight.T + bias).softmax(1)
        losses += (-p[torch.arange(len(y)), y].log()).tolist()
        error = (p - torch.eye(10, dtype=torch.float64)[y]) / len(y)
        gradient_w, gradient_b = gradient_w + error.T @ features, gradient_b + error.sum(0)
    step = 1e-2 * 0.5 * (1 + math.cos(math.pi * 2 / 3))  # read at the last of three micro-batches
    decay = 1 - step * config.train.weight_decay
    state = load_file(result / "model.safetensors")
    scale = 9 * 2  # accumulate times ranks; the sign survives it, eps hardly matters
    expected_w = weight * decay - step * (gradient_w / scale) / ((gradient_w / scale).abs() + 1e-8)
    expected_b = bias - step * (gradient_b / scale) / ((gradient_b / scale).abs() + 1e-8)
    assert torch.allclose(state["head.weight"].double(), expected_w, atol=1e-5)
    assert torch.allclose(state["head.bias"].double(), expected_b, atol=1e-5)
    history = pd.read_csv(result / "history.csv")
    assert history["loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_predictions_and_config_are_those_of_the_run(second, data, first):
    model = build_vit(ModelConfig(**MODEL), 10, distilled=False).eval()
    model.load_state_dict(load_file(second / "model.safetensors"))
    with torch.no_grad():
        logits = head_logits(model, special_tokens(model, eval_batch(data.test_images, SIZE, 18, "digits")))
    saved = np.load(second / "predictions.npz")
    assert np.allclose(saved["logits_last_cls"], logits["cls"].numpy(), atol=1e-6)
    kept = yaml_file.read(second / "config.yaml")
    assert (kept["start"], kept["method"], kept["loss"]) == ("first", "crt", {"smoothing": 0.0})
    assert yaml_file.read(first / f"seed{SEED}" / "config.yaml")["start"] == "none"


@pytest.mark.parametrize("stops", [(1,), (4, 2)])
def test_an_interrupted_run_ends_in_the_same_bytes(first, second, data, tmp_path, stops):
    config, start = config_of("second"), read_start(first, SEED, "first", data)
    for after in stops:
        with pytest.raises(Stop):
            train(tmp_path, config, data, start, stopping(after))
    result = train(tmp_path, config, data, start)
    for name in ("model.safetensors", "history.csv", "predictions.npz"):
        assert (result / name).read_bytes() == (second / name).read_bytes(), name


# ---- its loss


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_cross_entropy_within_each_group(smoothing):
    logits = 2 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    y = [0, 1, 2, 0, 1, 0]
    targets = Targets(torch.tensor(y), torch.tensor(y), torch.ones(6), None, [4, 2])
    losses = []
    for row, label in zip(logits.double().tolist(), y, strict=True):
        total = math.log(sum(math.exp(z) for z in row))
        target = [smoothing / 3 + (1 - smoothing) * (c == label) for c in range(3)]
        losses.append(sum(t * (total - z) for t, z in zip(target, row, strict=True)))
    method = crt.Method(crt.Config(smoothing), [9, 5, 2])
    for epoch in (0, 9):
        loss = method.loss({"cls": logits}, targets, epoch)
        assert loss.dtype == method.loss({"cls": logits.bfloat16()}, targets, epoch).dtype == torch.float32
        assert loss.tolist() == pytest.approx([sum(losses[:4]) / 4, sum(losses[4:]) / 2], rel=1e-5)
    assert (crt.Method.distilled, crt.Method.needs_teacher, crt.Method.head_only) == (False, False, True)


def test_a_wrong_smoothing_is_refused():
    assert "smoothing is from 0 to below 1, found 1.0" in told(lambda: build(crt.Config, {"smoothing": 1.0}, "m"))


# ---- class-balanced sampling


LABELS = np.array([2] * 50 + [0] * 900 + [4] * 50)  # three classes of five, not in order


def test_every_class_is_drawn_equally_often_and_its_images_too():
    """Counts within five standard deviations of a multinomial's, over 40 epochs of 1,000 draws."""
    drawn = np.stack([class_balanced(1, epoch, LABELS) for epoch in range(40)])
    assert drawn.dtype == np.int64 and drawn.shape == (40, 1000)
    by_class = np.bincount(LABELS[drawn].ravel(), minlength=5)
    n = drawn.size
    for label, count in enumerate(by_class):
        share = 1 / 3 if label in (0, 2, 4) else 0
        assert abs(count - n * share) <= 5 * math.sqrt(n * share * (1 - share)), label
    by_image = np.bincount(drawn.ravel(), minlength=1000)
    for label, size in ((0, 900), (2, 50), (4, 50)):
        share = 1 / 3 / size
        counts = by_image[label == LABELS]
        assert np.abs(counts - n * share).max() <= 5 * math.sqrt(n * share)
        assert counts.min() > 0
    assert not np.array_equal(drawn[0], drawn[1])


def test_a_draw_is_a_function_of_seed_epoch_and_its_number():
    """By hand: the class from the first word, the image from the second, both by multiply and shift."""
    drawn = class_balanced(5, 9, LABELS)
    words = rng.draws(5, "class_balanced", 9, np.arange(len(LABELS)), 2).tolist()
    for number in (0, 1, 500, 999):
        label = (0, 2, 4)[words[number][0] * 3 >> 32]
        images = np.flatnonzero(label == LABELS)
        assert drawn[number] == images[words[number][1] * len(images) >> 32]
    assert not np.array_equal(drawn, class_balanced(6, 9, LABELS))
    assert rng.STREAMS["class_balanced"] == 11


def test_the_layout_deals_out_the_balanced_stream():
    of = Layout(images=1000, repeats=1, ranks=2, group=8, accumulate=1, round_to=0)
    order, stream = of.order(5, 9, LABELS), class_balanced(5, 9, LABELS)
    assert order[:8].tolist() == stream[:16:2].tolist() and order[8:16].tolist() == stream[1:16:2].tolist()
    assert len(order) == of.positions and not np.array_equal(order, of.order(5, 9))


def test_views_take_the_stream_that_the_recipe_names(data):
    even = build(ViewRecipe, PARAMS["views"]["even"], "views.even")
    views = Views(even, data.train_images, SEED, labels=data.train_labels)
    seen = np.concatenate([views.step(0, s).index.numpy() for s in range(views.steps_per_epoch)])
    assert seen.tolist() == views.layout.order(SEED, 0, data.train_labels).tolist()
    shuffled = Views(replace(even, sampler="shuffle"), data.train_images, SEED, labels=data.train_labels)
    assert shuffled.order(0).tolist() == views.layout.order(SEED, 0).tolist()
    with pytest.raises(ValueError, match="class-balanced recipe needs the images' labels"):
        Views(even, data.train_images, SEED)


# ---- what it starts from


def test_the_weights_it_starts_from_are_part_of_the_identity(first, tmp_path):
    def of(run: Path) -> str:
        return identity(config_of("second"), SEED, "data", None, start_digest(run, SEED))

    other = tmp_path / "first" / f"seed{SEED}"
    other.mkdir(parents=True)
    weights = (first / f"seed{SEED}" / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights)
    assert of(other.parent) == of(first)
    (other / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert of(other.parent) != of(first)


def test_an_entry_that_says_start_none_is_the_entry_that_says_nothing():
    assert identity(config_of("first", start="none")) == identity(config_of("first"))


def test_a_start_that_does_not_belong_is_refused(first, data, tmp_path):
    def start(data=data, seed=SEED, name="first", folder=first):
        return told(lambda: read_start(folder, seed, name, data))

    missing = f"{first}/seed4: no such run to start from; train it first (stages/train_student.py {first.name})"
    assert start(seed=4) == missing
    assert start(name="third") == f"{first}/seed{SEED}: is a run of first, the experiment starts from third"
    other = replace(data, subset_seed=9)
    other = replace(other, digest=content_digest(other))
    assert start(other) == (
        f"{first}/seed{SEED}: trained on dataset {data.digest[:12]}, but tiny is {other.digest[:12]}; train again"
    )
    names = ("1", "0", *data.class_names[2:])
    swapped = replace(data, class_names=names, class_order=class_order(names))
    assert start(swapped).endswith("its output column for class i is [1, 0, 2, 3, 4, 5, 6, 7, 8, 9][i]")
    folder = tmp_path / f"seed{SEED}"
    folder.mkdir()
    for name in ("config.yaml", "identity.json"):
        (folder / name).write_text((first / f"seed{SEED}" / name).read_text())
    assert start(folder=tmp_path).endswith(
        "model.safetensors: no such file; train the entry first (stages/train_student.py)"
    )
    (folder / "model.safetensors").write_bytes((first / f"seed{SEED}" / "model.safetensors").read_bytes()[:-9])
    assert "model.safetensors: damaged or cut short" in start(folder=tmp_path)
    (aside,) = tmp_path.with_name(f"{tmp_path.name}.damaged").iterdir()
    aside.rename(folder)
    facts = json.loads((folder / "identity.json").read_text())
    del facts["class_order"]
    (folder / "identity.json").write_text(json.dumps(facts))
    assert start(folder=tmp_path).endswith("identity.json lacks 'class_order'; train the entry again")


def test_weights_of_another_shape_are_refused(first, data):
    wider = build_vit(ModelConfig(**MODEL | {"dim": 32}), 10, distilled=False)
    said = told(lambda: begin(wider, read_start(first, SEED, "first", data), head_only=True))
    assert said.startswith(f"{first}/seed{SEED}/model.safetensors: weights do not fit the model of the experiment")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"start": "none"}, "experiments.second: method crt trains the head of a finished run; name it under `start`"),
        ({"start": "frist"}, "experiments.second.start: no entry 'frist' in experiments; did you mean 'first'?"),
        ({"start": "second"}, "experiments.second.start: a run cannot start from itself"),
        ({"start": None}, "experiments.second.start: expected str, found None"),
    ],
)
def test_a_wrong_start_is_refused(change, expected):
    assert told(lambda: config_of("second", **change)).startswith(expected)
