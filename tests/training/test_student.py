from __future__ import annotations

import copy
import json
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.base.params import digest, plain
from longtail.data.sources import DatasetConfig
from longtail.losses.targets import Targets
from longtail.models.vit import build_vit, head_logits, parameter_groups, special_tokens
from longtail.runs.execution import Execution
from longtail.runs.workspace import Workspace
from longtail.training import student_evaluation
from longtail.training.cache import build_cache, teacher_labels
from longtail.training.experiment import StudentConfig, load_method, resolve
from longtail.training.labels import TeacherLabels
from longtail.training.optimizer import cosine_lr
from longtail.training.student import train_student
from longtail.training.student_evaluation import Evaluator
from longtail.training.student_step import chunks, write_rows
from longtail.training.teacher_config import TeacherConfig
from longtail.views.eval_views import EvalViews, eval_batch
from longtail.views.student_views import Views
from tests.helpers.interruption import Stop, stopping
from tests.helpers.pictures import Listed
from tests.helpers.root import ROOT
from tests.helpers.small import DATASET, RECIPE, SIZE, Teacher, digits

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SEED = 3
PARAMS = {
    "studies": {"s": {}},
    "datasets": {"tiny": DATASET},
    "views": {"v": RECIPE | {"mix_until": 2}},
    "teachers": {"t": {}},
    "caches": {"c": {}},
    "methods": {
        "deit_lt": {"alpha": 0.5, "smoothing": 0.1, "smoothing_until": 2, "drw_epoch": 2, "drw_beta": 0.9999},
        "vit": {"smoothing": 0.1, "smoothing_until": 2},
        "deit_iii": {"threshold": 0.0},
        "vit_ldam": {"max_margin": 0.5, "scale": 30.0},
    },
    "recipes": {
        "r": {
            "model": {
                "image_size": SIZE,
                "patch_size": 8,
                "dim": 16,
                "depth": 2,
                "heads": 2,
                "mlp_ratio": 2.0,
                "drop_path": 0.0,
                "drop_path_mode": "linear",
                "layer_scale": None,
                "special_positions": True,
            },
            "train": {
                "epochs": 3,
                "lr": 1.0e-3,
                "min_lr": 1.0e-5,
                "warmup_lr": 1.0e-6,
                "warmup_epochs": 1,
                "weight_decay": 0.05,
                "betas": [0.9, 0.999],
                "eps": 1.0e-8,
                "eval_resize": 18,
                "eval_every": 2,
                "optimizer": "adamw",
            },
        }
    },
    "experiments": {
        "e": {
            "study": "s",
            "method": "deit_lt",
            "recipe": "r",
            "dataset": "tiny",
            "views": "v",
            "cache": "c",
            "teacher": "none",
            "seeds": [3, 4],
        }
    },
}


def changed(*changes: tuple[str, object]) -> dict:
    """PARAMS with values at dotted paths replaced."""
    everything = copy.deepcopy(PARAMS)
    for path, value in changes:
        *parents, last = path.split(".")
        block = everything
        for parent in parents:
            block = block[parent]
        block[last] = value
    return everything


def config_of(*changes: tuple[str, object], **overrides) -> StudentConfig:
    return resolve(changed(*changes, ("experiments.e.set", overrides)), "e")[0]


@pytest.fixture(scope="module")
def data():
    return digits()


def train(folder: Path, config: StudentConfig, data, labels, workspace=Workspace, seed=SEED, **options) -> Path:
    space = workspace(folder, "e", "f" * 64, CPU, quiet=True)
    train_student(config, data, seed, labels, space, CPU, **options)
    return space.result


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data) -> Path:
    """Three epochs of DeiT-LT with stochastic depth and an online teacher."""
    return train(tmp_path_factory.mktemp("run"), config_of(model={"drop_path": 0.5}), data, Teacher())


def same_result(a: Path, b: Path) -> None:
    for name in ("model.safetensors", "history.csv", "predictions.npz"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


# ---- resolving an experiment


def test_an_experiment_is_resolved_with_its_overrides():
    overrides = {"loss": {"drw_epoch": None, "alpha": 1}, "train": {"epochs": 5}, "model": {"depth": 1}}
    config, seeds = resolve(changed(("experiments.e.set", overrides)), "e")
    assert seeds == (3, 4) and (config.experiment, config.study, config.method) == ("e", "s", "deit_lt")
    assert (config.dataset, config.cache, config.teacher) == ("tiny", "c", "none")
    assert plain(config.loss) == PARAMS["methods"]["deit_lt"] | {"drw_epoch": None, "alpha": 1.0}
    assert plain(config.train) == PARAMS["recipes"]["r"]["train"] | {"epochs": 5}
    assert plain(config.model) == PARAMS["recipes"]["r"]["model"] | {"depth": 1}
    assert plain(config.views) == PARAMS["views"]["v"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([("experiments.e.method", "deit_it")], "experiments.e.method: no entry 'deit_it' in methods; did you mean"),
        (
            [("methods.deit_rt", {}), ("experiments.e.method", "deit_rt")],
            "method 'deit_rt': no file longtail/methods/deit_rt.py; did you mean 'deit_lt'?",
        ),
        ([("experiments.e.cache", "d")], "experiments.e.cache: no entry 'd' in caches; valid: c"),
        ([("experiments.e.teacher", "tt")], "experiments.e.teacher: no entry 'tt' in teachers; did you mean 't'?"),
        ([("experiments.e.dataset", "tny")], "experiments.e.dataset: no entry 'tny' in datasets; did you mean 'tiny'?"),
        ([("experiments.e.recipe", "x")], "experiments.e.recipe: no entry 'x' in recipes; valid: r"),
        ([("experiments.e.sedes", [0])], "experiments.e.sedes: unknown key; did you mean 'seeds'?"),
        ([("experiments.e.seeds", [0, "1"])], "experiments.e.seeds[1]: expected int"),
        ([("recipes.r.optim", {})], "recipes.r.optim: unknown block; a recipe has model and train"),
        ([("recipes.r.loss", {"alpha": 0.1})], "recipes.r.loss: unknown block; a recipe has model and train"),
        ([("recipes.r", {"model": PARAMS["recipes"]["r"]["model"]})], "recipes.r.train): expected a block of keys"),
        ([("experiments.e.set", {"loss": {"alfa": 1.0}})], "experiments.e.set.loss.alfa: unknown key; did you mean"),
        ([("experiments.e.set", {"lr": 0.1})], "experiments.e.set.lr: unknown key; valid: loss, model, train"),
        ([("experiments.e.set", {"train": {"lr": "1e-3"}})], "recipes.r.train).lr: expected float, found '1e-3'"),
        ([("methods.deit_lt.alpha", "x")], "experiments.e (methods.deit_lt).alpha: expected float, found 'x'"),
        ([("recipes.r.train.eval_every", 0)], "recipes.r.train): at least 1: epochs, eval_every"),
        ([("recipes.r.train.eval_resize", 15)], "experiments.e: eval_resize 15 is below the model's 16 px"),
        ([("recipes.r.model.image_size", 24)], "experiments.e: the model takes 24 px, views.v makes 16"),
        ([("recipes.r.train.optimizer", "lam")], "optimizer: 'lam' is not one of adamw, lamb; did you mean 'lamb'?"),
        (
            [("experiments.e.set", {"model": {"special_positions": False}})],
            "experiments.e: method deit_lt has a DIST token; it needs model.special_positions true",
        ),
        (
            [("experiments.e.method", "vit_ldam"), ("views.v.mix_prob", 0.5)],
            "method vit_ldam takes hard labels, but views.v mixes images; its mix_prob must be 0, found 0.5",
        ),
        ([("experiments.e.cache", "none")], "experiments.e: method deit_lt needs a teacher; name a cache, or"),
        (
            [("experiments.e.set", {"loss": {"dist_labels": "own"}})],
            "experiments.e: dist_labels own learns from no teacher; write none for cache and teacher",
        ),
        ([("views.v.mix_group", 7)], "views.v: mix_group must be even"),
    ],
)
def test_a_wrong_experiment_is_refused_in_one_line(changes, expected):
    with pytest.raises(UserError) as error:
        resolve(changed(*changes), "e")
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_experiment_is_told_the_nearest():
    with pytest.raises(UserError, match=r"experiments\.f: no such entry in params\.yaml; valid: e"):
        resolve(PARAMS, "f")


def test_a_teacher_online_and_a_method_without_one_need_no_cache():
    assert resolve(changed(("experiments.e.cache", "none"), ("experiments.e.teacher", "t")), "e")[0].teacher == "t"
    plain_vit, _ = resolve(changed(("experiments.e.cache", "none"), ("experiments.e.method", "vit")), "e")
    assert plain_vit.loss == load_method("vit").Config(smoothing=0.1, smoothing_until=2)
    own = {"loss": {"dist_labels": "own"}}
    assert resolve(changed(("experiments.e.cache", "none"), ("experiments.e.set", own)), "e")[0].teacher == "none"


# ---- the published recipe


@pytest.mark.parametrize(
    ("dataset", "images", "group", "views", "micro_batches", "steps", "lrs"),
    [
        ("cifar10_if100", 12406, 128, 12288, 48, 12, (2.5e-4, 1.3e-4, 1.40889e-5)),
        ("cifar10_if50", 13996, 256, 13824, 27, 7, (5e-4, 2.55e-4, 1.83482e-5)),
        ("cifar100_if100", 10847, 128, 10752, 42, 11, (2.5e-4, 1.3e-4, 1.40889e-5)),
        ("cifar100_if50", 12608, 128, 12544, 49, 13, (2.5e-4, 1.3e-4, 1.40889e-5)),
    ],
)
def test_the_published_recipe_stands_in_params_yaml(dataset, images, group, views, micro_batches, steps, lrs):
    """METHODS 3.5, 3.7 and 11, for each of the sizes; CIFAR-10 at 50 was run with 256 images a GPU, hence twice the
    rate. The rates of epochs 5, 600 and 1100 by hand: 1e-5 + (top − 1e-5)(1 + cos(πe/1200))/2."""
    everything = params.load_all(ROOT)
    source = params.build(DatasetConfig, everything["datasets"][dataset], dataset)
    factor = float(dataset.rpartition("_if")[2])
    assert (source.imbalance_factor, source.n_max, source.subset_seed) == (factor, None, 0)
    for size, dim, heads in (("ti", 192, 3), ("s", 384, 6), ("b", 768, 12)):
        config, _ = resolve(everything, f"{dataset}-deit_lt-{size}")
        assert (config.model.dim, config.model.depth, config.model.heads) == (dim, 12, heads)
        assert (config.model.image_size, config.model.patch_size, config.model.drop_path) == (224, 16, 0.1)
        of = Views(config.views, np.zeros((images, 1, 1, 3), np.uint8), 0)
        assert (of.positions_per_epoch, of.layout.micro_batches, of.steps_per_epoch) == (views, micro_batches, steps)
        assert (config.views.mix_group, config.views.virtual_world, config.views.accumulate) == (group, 2, 4)
        train = config.train
        assert (train.epochs, train.weight_decay, train.betas, train.eps) == (1200, 0.05, (0.9, 0.999), 1e-8)
        assert (train.eval_resize, config.views.mix_until) == (256, 1100)
        assert plain(config.loss) == {
            "alpha": 0.5,
            "smoothing": 0.1,
            "smoothing_until": 1100,
            "drw_epoch": 1100,
            "drw_beta": 0.9999,
        }
        schedule = (train.lr, train.epochs, train.warmup_epochs, train.warmup_lr, train.min_lr)
        lr = {epoch: cosine_lr(epoch + of.lr_fraction(0), *schedule) for epoch in (0, 5, 600, 1100)}
        assert lr[0] == 1e-6 and [lr[epoch] for epoch in (5, 600, 1100)] == pytest.approx(lrs, rel=1e-4)
        cache = everything["caches"][config.cache]
        assert (cache["dataset"], cache["epochs"]) == (dataset, 1200)
        assert cache["views"] == everything["experiments"][f"{dataset}-deit_lt-{size}"]["views"]
        assert params.build(TeacherConfig, everything["teachers"][cache["teacher"]], "t").dataset == dataset


def test_every_experiment_of_params_yaml_resolves_and_fits_its_cache():
    everything = params.load_all(ROOT)
    for name, block in everything["experiments"].items():
        config, seeds = resolve(everything, name)
        assert seeds and config.study in everything["studies"]
        if config.cache != "none":
            cache = everything["caches"][config.cache]
            assert (cache["views"], cache["dataset"]) == (block["views"], block["dataset"]), name
            assert cache["epochs"] >= config.train.epochs and set(seeds) <= set(cache["seeds"]), name


# ---- one optimizer step after the other


class Spy(torch.optim.AdamW):
    """Keeps lr and gradients of every step."""

    seen: list

    def step(self, closure=None):
        gradients = [p.grad.clone() for group in self.param_groups for p in group["params"]]
        Spy.seen.append(({group["lr"] for group in self.param_groups}, gradients))
        return super().step(closure)


@pytest.fixture
def spied(monkeypatch):
    Spy.seen = []
    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    return Spy.seen


# nothing moves: the gradients are those of the first weights
STILL = {"lr": 0.0, "min_lr": 0.0, "warmup_lr": 0.0, "warmup_epochs": 0}


@pytest.mark.parametrize(("accumulate", "fractions"), [(1, [0, 1 / 3, 2 / 3]), (2, [0, 2 / 3])])
def test_the_learning_rate_is_read_at_the_fraction_of_the_epoch_of_each_step(
    spied, data, tmp_path, accumulate, fractions
):
    """Three micro-batches of each rank; the last window is read at its last one (METHODS 3.5)."""
    config = config_of(("views.v.accumulate", accumulate))
    result = train(tmp_path, config, data, Teacher())
    expected = []
    for t in (epoch + fraction for epoch in range(3) for fraction in fractions):
        cosine = 1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + np.cos(np.pi * t / 3))  # counts from epoch 0
        expected.append(1e-6 + t * (1e-3 - 1e-6) if t < 1 else cosine)  # one epoch of warm-up from 1e-6
    assert [lr for lrs, _ in spied for lr in lrs] == pytest.approx(expected, rel=1e-12)
    history = pd.read_csv(result / "history.csv")
    assert history["lr"].tolist() == pytest.approx(expected[len(fractions) - 1 :: len(fractions)], rel=1e-8)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("epoch_of_drw", [0, 1])
def test_gradients_are_those_of_the_groups_losses_over_accumulate_times_ranks(
    spied, data, tmp_path, accumulate, epoch_of_drw
):
    """Also in the last step, which has fewer groups and so a smaller gradient (METHODS 3.5)."""
    recipe = ("views.v", PARAMS["views"]["v"] | {"accumulate": accumulate})
    loss = {"drw_epoch": epoch_of_drw, "smoothing_until": epoch_of_drw}
    config = config_of(recipe, train=STILL | {"epochs": 1}, loss=loss)
    train(tmp_path, config, data, Teacher())
    views = Views(config.views, data.train_images, SEED)
    assert [len(views.groups_of_step(s)) for s in range(views.steps_per_epoch)] == {1: [2, 2, 2], 2: [4, 2]}[accumulate]
    torch.manual_seed(SEED)
    model = build_vit(config.model, 10, distilled=True)
    method = load_method("deit_lt").Method(config.loss, data.class_counts)
    order = [p for group in parameter_groups(model, 0.0) for p in group["params"]]
    y = torch.from_numpy(data.train_labels)
    for step, (_, gradients) in enumerate(spied):
        model.zero_grad()
        batch = views.step(0, step)
        for rows in batch.groups:  # a group at a time, each with its own backward pass
            x = batch.x[rows]
            own, other = y[batch.index[rows]], y[batch.partner[rows]]
            answer = teacher_labels(Teacher(), x, config.views)
            targets = Targets(own, other, batch.lam[rows], answer, [len(x)])
            logits = head_logits(model, special_tokens(model, x))
            (method.loss(logits, targets, 0).sum() / (accumulate * 2)).backward()
        for parameter, gradient in zip(order, gradients, strict=True):
            assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-7)
        assert max(float(g.abs().max()) for g in gradients) > 1e-3


@pytest.mark.parametrize("micro_batch", [8, 16])
def test_smaller_forward_passes_give_the_same_gradients_and_history(spied, data, tmp_path, micro_batch):
    """With stochastic depth too, which is drawn for the view and not for the pass."""
    recipe = ("views.v", PARAMS["views"]["v"] | {"accumulate": 3})  # one step of six groups, the last two smaller
    config = config_of(recipe, train=STILL | {"epochs": 1, "eval_every": 1}, model={"drop_path": 0.5})
    whole = train(tmp_path / "whole", config, data, Teacher())
    parts = train(tmp_path / "parts", config, data, Teacher(), execution=Execution(micro_batch=micro_batch))
    (_, first), (_, second) = spied
    for a, b in zip(first, second, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-7)
    a, b = (pd.read_csv(result / "history.csv") for result in (whole, parts))
    pd.testing.assert_frame_equal(a, b, rtol=1e-6)


def test_chunks_are_whole_groups_of_at_most_so_many_views():
    groups = [slice(0, 8), slice(8, 16), slice(16, 22), slice(22, 28)]
    assert chunks(groups, 0) == [groups]
    assert chunks(groups, 8) == [[g] for g in groups]
    assert chunks(groups, 16) == [groups[:2], groups[2:]]
    assert chunks(groups, 24) == [groups[:3], groups[3:]]


def test_history_holds_the_mean_loss_and_token_distance_of_the_epochs_views(data, tmp_path):
    config = config_of(train=STILL | {"epochs": 2})
    history = pd.read_csv(train(tmp_path, config, data, Teacher()) / "history.csv")
    views = Views(config.views, data.train_images, SEED)
    torch.manual_seed(SEED)
    model = build_vit(config.model, 10, distilled=True)
    method = load_method("deit_lt").Method(config.loss, data.class_counts)
    y = torch.from_numpy(data.train_labels)
    for epoch in (0, 1):
        losses, distances = [], []
        for step in range(views.steps_per_epoch):
            batch = views.step(epoch, step)
            answer = teacher_labels(Teacher(), batch.x, config.views)
            with torch.no_grad():
                tokens = special_tokens(model, batch.x)
                logits = head_logits(model, tokens)
            for i in range(len(batch.x)):
                row = slice(i, i + 1)
                targets = Targets(y[batch.index[row]], y[batch.partner[row]], batch.lam[row], answer[row], [1])
                losses.append(float(method.loss({head: z[row] for head, z in logits.items()}, targets, epoch)))
                cls, dist = tokens[i].double()
                distances.append(float(1 - cls @ dist / (cls.norm() * dist.norm())))
        assert len(losses) == views.positions_per_epoch == 44
        assert history["loss"][epoch] == pytest.approx(np.mean(losses), rel=1e-5)
        assert history["cls_dist_distance"][epoch] == pytest.approx(np.mean(distances), rel=1e-5)


def test_rows_with_gaps_are_the_bytes_that_pandas_writes(tmp_path):
    """Numbers as short as they can be, a key that comes late, values of NumPy, an epoch without evaluation."""
    rows = [{"epoch": e, "lr": float(f"{2.5e-4 / 3**e:.9g}"), "loss": float(f"{7 / (e + 1):.9g}")} for e in range(40)]
    for row in rows[3::5]:
        row |= {"test_top1_cls": 100 * row["epoch"] / 41, "test_top1_avg": np.float64(1e-7) * row["epoch"]}
    write_rows(rows, tmp_path / "history.csv")
    pd.DataFrame(rows).to_csv(tmp_path / "pandas.csv", index=False)
    assert (tmp_path / "history.csv").read_bytes() == (tmp_path / "pandas.csv").read_bytes()


# ---- whole runs


def test_history_and_evaluations(trained, data):
    history = pd.read_csv(trained / "history.csv")
    heads = ["test_top1_cls", "test_top1_dist", "test_top1_avg"]
    columns = ["epoch", "lr", "loss", "cls_dist_distance", *heads, "test_cls_dist_distance"]
    assert list(history.columns) == columns  # no clock
    assert history["epoch"].tolist() == [0, 1, 2]
    evaluated = history[heads].notna().all(axis=1).tolist()
    assert evaluated == [False, True, True]  # every second epoch, and the last
    predictions = np.load(trained / "predictions.npz")
    for head in ("cls", "dist"):
        top1 = 100 * (predictions[f"logits_last_{head}"].argmax(1) == data.test_labels).mean()
        assert history[f"test_top1_{head}"].iloc[-1] == pytest.approx(top1, abs=1e-4)
    average = (predictions["logits_last_cls"] + predictions["logits_last_dist"]) / 2
    top1 = 100 * (average.argmax(1) == data.test_labels).mean()
    assert history["test_top1_avg"].iloc[-1] == pytest.approx(top1, abs=1e-4)
    assert int(predictions["best_epoch"]) == int(history["test_top1_avg"].idxmax())  # the first of equals


def test_the_first_of_equally_good_epochs_is_the_best(data, tmp_path):
    config = config_of(train=STILL | {"eval_every": 1})
    predictions = np.load(train(tmp_path, config, data, Teacher()) / "predictions.npz")
    assert (int(predictions["best_epoch"]), int(predictions["last_epoch"])) == (0, 2)


def test_predictions_are_those_of_the_saved_weights(trained, data):
    predictions = np.load(trained / "predictions.npz")
    assert sorted(predictions.files) == sorted(
        ["labels", "best_epoch", "last_epoch", "class_order", "logit_scale"]
        + [f"logits_{phase}_{head}" for phase in ("last", "best") for head in ("cls", "dist")]
    )
    assert predictions["labels"].tolist() == data.test_labels.tolist() and predictions["labels"].dtype == np.int64
    assert (int(predictions["last_epoch"]), float(predictions["logit_scale"])) == (2, 1.0)
    assert str(predictions["class_order"]) == data.class_order
    model = build_vit(config_of(model={"drop_path": 0.5}).model, 10, distilled=True).eval()
    model.load_state_dict(load_file(trained / "model.safetensors"))
    with torch.no_grad():  # resized to 18, the central 16 seen
        logits = head_logits(model, special_tokens(model, eval_batch(data.test_images, SIZE, 18, "digits")))
    for head, z in logits.items():
        saved = predictions[f"logits_last_{head}"]
        assert saved.dtype == np.float32 and np.allclose(saved, z.numpy(), atol=1e-6)
    if int(predictions["best_epoch"]) == 2:
        assert np.array_equal(predictions["logits_best_cls"], predictions["logits_last_cls"])


def test_the_config_is_kept_fully_resolved(trained, data):
    config = config_of(model={"drop_path": 0.5})
    kept = yaml_file.read(trained / "config.yaml")
    assert kept == {**plain(config), "seed": SEED}
    assert kept["loss"]["drw_beta"] == 0.9999 and kept["model"]["drop_path"] == 0.5 and kept["views"]["size"] == SIZE
    facts = json.loads((trained / "identity.json").read_text())
    assert facts["config_hash"] == digest(kept) and facts["identity"] == "f" * 64
    assert (facts["seed"], facts["dataset"], facts["dataset_digest"]) == (SEED, "tiny", data.digest)
    assert facts["class_order"] == data.class_order and facts["class_names"] == list(data.class_names)
    made = json.loads((trained.parent / "environment.json").read_text())
    assert made["seconds"] > 0 and made["timm"] and not {"seconds", "timm"} & facts.keys()


def test_extra_facts_are_kept(data, tmp_path):
    config = config_of(("experiments.e.method", "vit"), train={"epochs": 1})
    result = train(tmp_path, config, data, None, facts={"teacher_digest": "d"})
    assert json.loads((result / "identity.json").read_text())["teacher_digest"] == "d"


def test_a_cache_gives_the_same_student_as_the_teacher_at_hand(trained, data, tmp_path):
    config = config_of(model={"drop_path": 0.5})
    space = Workspace(tmp_path / "cache", "c", "c" * 64, CPU, quiet=True)
    facts = {
        "seed": SEED,
        "dataset": data.name,
        "dataset_digest": data.digest,
        "num_classes": 10,
        "class_order": data.class_order,
        "class_names": list(data.class_names),
    }
    views = Views(config.views, data.train_images, SEED)
    build_cache(Teacher(), views, data.train_labels, 3, facts, space)
    labels = TeacherLabels.load(space.result)
    labels.check(views, data, SEED, 3, "cache")
    same_result(train(tmp_path / "run", config, data, labels), trained)
    other = replace(labels, table=(labels.table + 1) % 10)
    weights = load_file(train(tmp_path / "other", config, data, other) / "model.safetensors")
    assert not torch.equal(weights["head_dist.bias"], load_file(trained / "model.safetensors")["head_dist.bias"])


@pytest.mark.parametrize("stops", [(1,), (3,), (5, 3), (9,)])
def test_an_interrupted_run_ends_in_the_same_bytes(trained, data, tmp_path, stops):
    """Within an epoch, between epochs and after the last; with stochastic depth."""
    config = config_of(model={"drop_path": 0.5})
    for after in stops:
        with pytest.raises(Stop):
            train(tmp_path, config, data, Teacher(), stopping(after))
        assert list((tmp_path / "result").iterdir()) == []
    same_result(train(tmp_path, config, data, Teacher()), trained)


DEIT_III = {"drop_path": 0.5, "drop_path_mode": "constant", "layer_scale": 1.0e-4, "special_positions": False}


def test_a_run_of_deit_iii_is_resumed_with_the_state_of_lamb(data, tmp_path):
    """Its moments and its count of steps; without the count the first steps after the stop would be larger."""
    train_block = {"optimizer": "lamb", "lr": 0.01, "eval_resize": SIZE}
    config = config_of(("experiments.e.method", "deit_iii"), model=DEIT_III, train=train_block)
    whole = train(tmp_path / "whole", config, data, None)
    for _ in range(4):
        with pytest.raises(Stop):
            train(tmp_path / "parts", config, data, None, stopping(1))
    same_result(train(tmp_path / "parts", config, data, None), whole)
    adam = config_of(("experiments.e.method", "deit_iii"), model=DEIT_III, train=train_block | {"optimizer": "adamw"})
    a, b = (load_file(run / "model.safetensors") for run in (whole, train(tmp_path / "adam", adam, data, None)))
    assert not torch.allclose(a["blocks.0.attn.qkv.weight"], b["blocks.0.attn.qkv.weight"], atol=1e-3)


def test_the_seed_and_stochastic_depth_make_a_difference(trained, data, tmp_path):
    before = (trained / "model.safetensors").read_bytes()
    config = config_of(model={"drop_path": 0.5})
    assert (train(tmp_path / "a", config, data, Teacher(), seed=4) / "model.safetensors").read_bytes() != before
    assert (train(tmp_path / "b", config_of(), data, Teacher()) / "model.safetensors").read_bytes() != before


def test_plain_vit_has_one_head_and_no_teacher(data, tmp_path):
    config = config_of(("experiments.e.method", "vit"), train={"eval_every": 3})
    result = train(tmp_path, config, data, None)
    history, predictions = pd.read_csv(result / "history.csv"), np.load(result / "predictions.npz")
    assert list(history.columns) == ["epoch", "lr", "loss", "test_top1_cls", "test_top1_avg"]
    assert history["test_top1_cls"].equals(history["test_top1_avg"])
    assert {f for f in predictions.files if f.startswith("logits_")} == {"logits_last_cls", "logits_best_cls"}
    assert not any("dist" in name for name in load_file(result / "model.safetensors"))


def test_bf16_is_the_precision_of_the_pass_and_of_nothing_that_is_kept(data, tmp_path):
    config = config_of(train={"epochs": 1})
    full, half = (train(tmp_path / p, config, data, Teacher(), execution=Execution(p)) for p in ("fp32", "bf16"))
    weights = load_file(half / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float32}
    a, b = (np.load(result / "predictions.npz")["logits_last_cls"] for result in (full, half))
    assert b.dtype == np.float32 and not np.array_equal(a, b) and np.allclose(a, b, atol=0.05)


def test_a_diverging_run_stops_with_one_line(data, tmp_path):
    config = config_of(train={"lr": 1e30, "warmup_epochs": 0})
    with pytest.raises(UserError, match=r"student diverged: training loss is .* in epoch \d; lower lr"):
        train(tmp_path, config, data, Teacher())
    assert list((tmp_path / "result").iterdir()) == []


def test_the_average_head_is_the_mean_of_raw_logits():
    """METHODS trap 43: a confident head outvotes the other, which averaged probabilities would not let it."""
    views = EvalViews(np.zeros((2, SIZE, SIZE, 3), np.uint8), SIZE, SIZE)
    evaluate = Evaluator(views, np.array([0, 1]), "digits", CPU)
    logits = {"cls": torch.tensor([[9.0, 0.0, 0.0], [1.0, 2.0, 0.0]]), "dist": torch.tensor([[0.0, 4.0, 0.0]] * 2)}

    class Heads(torch.nn.Module):
        num_prefix_tokens = 2

        def forward_features(self, x):
            return torch.zeros(len(x), 3, 4)

        def head(self, token):
            return logits["cls"]

        def head_dist(self, token):
            return logits["dist"]

    model = Heads().train()
    out = evaluate(model)
    assert not model.training and list(out) == ["cls", "dist", "avg"]
    assert out["avg"].tolist() == [[4.5, 2.0, 0.0], [0.5, 3.0, 0.0]]
    assert [evaluate.top1(out[head]) for head in out] == [100.0, 50.0, 100.0]
    probabilities = (logits["cls"].softmax(1) + logits["dist"].softmax(1)) / 2
    assert not torch.allclose(out["avg"].softmax(1), probabilities, atol=0.1)


def test_heads_are_evaluated_in_float32_whatever_the_precision(data):
    """Of the pass only what makes the tokens is in bf16, whose steps at 10 are .06: 10.01 is no tie with 10."""

    class Tokens(torch.nn.Module):
        num_prefix_tokens = 2

        def __init__(self):
            super().__init__()
            self.mix, self.head, self.head_dist = (torch.nn.Linear(4, n, bias=False) for n in (4, 2, 2))
            with torch.no_grad():
                self.mix.weight.copy_(torch.eye(4))
                self.head.weight[:] = self.head_dist.weight[:] = torch.tensor([[10.0, 0, 0, 0], [10.01, 0, 0, 0]])

        def forward_features(self, x):
            return self.mix(torch.tensor([1.0, 0, 0, 0]).expand(len(x), 3, 4))  # as a block's, in the pass's precision

    views = EvalViews(np.zeros((3, SIZE, SIZE, 3), np.uint8), SIZE, SIZE)
    for precision in ("fp32", "bf16"):
        model = Tokens()
        with Execution(precision).autocast(CPU):
            assert (
                model.forward_features(torch.zeros(1)).dtype
                == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
            )
            if precision == "bf16":  # what the heads would say there
                assert model.head(model.forward_features(torch.zeros(1))[:, 0]).argmax(1).item() == 0
        evaluate = Evaluator(views, np.array([1, 1, 1]), "digits", CPU, Execution(precision))
        logits = evaluate(model)
        assert {z.dtype for z in logits.values()} == {torch.float32} and list(logits) == ["cls", "dist", "avg"]
        assert all(torch.allclose(z, torch.tensor([10.0, 10.01]), atol=1e-5) for z in logits.values())
        assert [evaluate.top1(z) for z in logits.values()] == [100.0] * 3


def test_a_test_set_larger_than_a_batch_is_evaluated_whole(monkeypatch, data):
    model = build_vit(config_of().model, 10, distilled=True)
    views = EvalViews(data.test_images, SIZE, 18)
    evaluate = Evaluator(views, data.test_labels, "digits", CPU)
    whole = evaluate(model)
    monkeypatch.setattr(student_evaluation, "EVAL_BATCH", 7)  # 7, 7 and 6
    for head, logits in evaluate(model).items():
        assert logits.shape == (20, 10) and torch.allclose(logits, whole[head], atol=1e-6)


# ---- images that are decoded one by one


def test_views_made_by_worker_processes_give_the_same_run_also_when_it_is_stopped(data, tmp_path, trained, monkeypatch):
    decoded, config = replace(data, train_images=Listed(list(data.train_images))), config_of(model={"drop_path": 0.5})
    monkeypatch.setattr(Views, "workers", 2)
    monkeypatch.setattr("longtail.views.student_views._UNIT", 3)
    for _ in range(2):  # within the first epoch
        with pytest.raises(Stop):
            train(tmp_path, config, decoded, Teacher(), workspace=stopping(1))
    assert active_children() == []
    same_result(train(tmp_path, config, decoded, Teacher()), trained)
    assert active_children() == []
