"""CNNs that learn from the features of others (CBD), and baselines that go on from their weights (METHODS 7)."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.runs.execution import Execution
from longtail.training import teacher_training
from longtail.training.entry_probe import check_sources
from longtail.training.supervised import Order
from longtail.training.teacher import Source, TestSet, build_model, load_sources, load_teacher
from longtail.training.teacher_config import NONE, TeacherConfig
from longtail.training.teacher_probe import teacher_probe
from longtail.training.teacher_tasks import build_task
from longtail.training.teacher_training import epoch_size, learning_rate
from longtail.views.normalize import normalize
from tests.helpers.reporting import run_stage
from tests.training.test_distilled import train
from tests.training.test_teacher import CPU, DIGITS, FILES, Interrupted, Interrupting, renamed
from tests.training.test_teacher import config_of as teacher_of

pytestmark = pytest.mark.usefixtures("one_thread")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

PLAIN = {"loss": "ce", "max_margin": None, "scale": 20.0, "drw_epoch": None, "drw_beta": None, "sam_rho": None}
PLAIN |= {"select": "last", "epochs": 3, "milestones": [], "factors": [], "schedule": "cosine_steps"}
PLAIN |= {"warmup_epochs": 0, "drop_last": True, "normalization": "none", "init": "glorot", "zero_gamma": True}
BALANCED = PLAIN | {"sampler": "balanced_copies"}
FEATURE = {"kind": "feature", "teachers": 1, "alpha": 0.4, "beta": 100.0}
CBD = BALANCED | {"sources": ["a", *NONE[1:]], "distil": FEATURE}
ENS = BALANCED | {"sources": ["a", "b", *NONE[2:]], "distil": FEATURE | {"teachers": 2}, "projection": 128}
KEPT = {"train": "nothing", "classifier": "kept"}
STARTED = PLAIN | {"sources": ["a", *NONE[1:]]}
FINETUNE = STARTED | {"sampler": "class_balanced", "start": {"train": "all", "classifier": "kept"}, "lr": 0.01}
CRT = STARTED | {"sampler": "class_balanced", "start": {"train": "classifier", "classifier": "new"}}
ENSEMBLE = STARTED | {"sources": ["a", "b", *NONE[2:]], "start": KEPT, "epochs": 0}
NCM = STARTED | {"start": KEPT | {"classifier": "class_means"}, "epochs": 0}


def config_of(block: dict, **changes) -> TeacherConfig:
    return teacher_of(**block | changes)


@pytest.fixture(scope="module")
def data() -> LongTail:
    return make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))


@pytest.fixture(scope="module")
def taught(tmp_path_factory, data) -> list[Path]:
    """The folders of two teachers by instance sampling, of one seed each."""
    found = []
    for name, epochs in (("a", 3), ("b", 2)):
        folder = tmp_path_factory.mktemp("taught") / name
        shutil.copytree(train(folder / "run", config_of(PLAIN, epochs=epochs), data), folder / "seed0")
        found.append(folder)
    return found


def task_of(config: TeacherConfig, taught: list[Path], data: LongTail, execution: Execution = Execution()):  # noqa: B008
    torch.manual_seed(0)
    some = taught[: sum(name != "none" for name in config.sources)]
    return build_task(config, data, 0, CPU, execution, load_sources(config, some, data, 0, CPU))


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.square().sum(1, keepdim=True).sqrt()


# ---- the loss


@pytest.mark.parametrize(
    ("block", "distil"),
    [
        (CBD, {}),
        (ENS, {}),
        (CBD, {"beta": None, "tau": 2.0}),
        (CBD, {"tau": 2.0}),
        (CBD | {"loss": "balanced_softmax"}, {}),
    ],
    ids=["cbd", "ens", "classifier", "hybrid", "logit-adjusted"],
)
def test_the_loss_is_the_formula_in_float64(taught, data, block, distil):
    config = config_of(block, distil=block["distil"] | distil)
    task = task_of(config, taught, data)
    task.train()
    labels, images, *answers = task.batch(1, slice(0, 32))
    logits, loss = task.forward(1, labels, images, *answers)
    cosines, h = logits.double(), task.model.features(images).double()
    assert logits.abs().max() <= 1 + 1e-6
    prior = torch.as_tensor(data.class_counts).double().log() if block["loss"] == "balanced_softmax" else 0.0
    expected = 0.6 * F.cross_entropy(20 * cosines + prior, labels)
    networks = [load_teacher(folder / "seed0", data)[0] for folder in taught[: len(task.sources)]]
    if config.distil.beta is not None:
        target = unit(torch.cat([unit(network.features(images).double()) for network in networks], 1))
        expected += 0.4 * 100 * (1 - (unit(h) * target).sum(1)).mean()
    if config.distil.tau is not None:
        answer = (20 * networks[0](images).double() / 2).softmax(1)
        expected += 0.4 * 4 * -(answer * (20 * cosines / 2).log_softmax(1)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=2e-5)
    assert not any(answer.requires_grad for answer in answers)
    loss.backward()
    assert all(w.grad is not None for w in task.weights)
    assert all(w.grad is None for source in task.sources for w in source.network.parameters())


def test_identical_features_leave_the_label_term_alone(taught, data):
    config = config_of(CBD, init="own", zero_gamma=False)
    task = task_of(config, taught, data)
    task.restore({"model": task.sources[0].network.state_dict()})
    task.model.eval()
    labels, images, target = task.batch(0, slice(0, 16))
    logits, loss = task.forward(0, labels, images, target)
    assert loss.item() == pytest.approx(0.6 * F.cross_entropy(20 * logits.double(), labels).item(), abs=2e-4)


def test_the_teachers_answer_in_turn_to_the_very_view_in_eval_mode(taught, data):
    task = task_of(config_of(ENS), taught, data)
    seen = []
    for source in task.sources:
        source.network.conv1.register_forward_hook(lambda _, given, __, of=source: seen.append((of, given[0])))
    task.train()
    before = {name: value.clone() for name, value in task.sources[1].network.state_dict().items()}
    _, images, target = task.batch(2, slice(32, 64))
    assert [of for of, _ in seen] == list(task.sources) and all(x is images for _, x in seen)
    assert target.shape == (32, 128) and not any(source.network.training for source in task.sources)
    assert all(torch.equal(value, before[name]) for name, value in task.sources[1].network.state_dict().items())


def test_bf16_keeps_float32_targets_loss_and_weights(taught, data):
    exact = task_of(config_of(ENS), taught, data)
    task = task_of(config_of(ENS), taught, data, Execution("bf16"))
    labels, images, target = task.batch(0, slice(0, 32))
    logits, loss = task.forward(0, labels, images, target)
    assert logits.dtype == target.dtype == loss.dtype == torch.float32  # a cosine classifier stays in float32
    assert all(w.dtype == torch.float32 for w in task.weights)
    plain = exact.batch(0, slice(0, 32))[2]
    torch.testing.assert_close(target, plain, rtol=0.1, atol=0.02)
    assert not torch.equal(target, plain)


def test_families_share_no_draw(data):
    """Teachers of one student, and it itself, have one seed and are other networks on other views."""
    found = []
    for family in (0, 1, 2):
        config = config_of(PLAIN, family=family, zero_gamma=False)
        teacher = teacher_training.Teacher(config, data, 0, CPU)
        labels, images = teacher.task.batch(0, slice(0, 64))
        found.append((teacher.task.model.conv1.weight.detach(), labels, images, labels.sort().values))
    for first in (0, 1):
        for one, other in zip(found[first], found[first + 1], strict=True):
            assert not torch.equal(one, other)


# ---- sampling and rate


def test_an_epoch_is_n_over_b_steps_of_equally_frequent_classes(data):
    config, images = config_of(BALANCED), len(data.train_labels)
    assert epoch_size(config, images) == (images // 32, images // 32 * 32)
    for sampler in ("balanced_copies", "class_balanced"):
        order = Order(config_of(BALANCED, sampler=sampler), data, 0, CPU)
        shown = [order.of(epoch)[0] for epoch in range(60)]
        assert {len(index) for index in shown} == {images // 32 * 32}
        shares = np.bincount(data.train_labels[np.concatenate(shown)]) / sum(map(len, shown))
        np.testing.assert_allclose(shares, 0.1, atol=0.01)
    plain = np.bincount(data.train_labels[Order(config_of(PLAIN), data, 0, CPU).of(0)[0]])
    assert plain[0] > 10 * plain[9]


def test_a_class_without_images_is_one_line(data):
    kept = data.train_labels != 4
    lacking = replace(data, train_images=data.train_images[kept], train_labels=data.train_labels[kept])
    for sampler in ("class_balanced", "balanced_copies"):
        with pytest.raises(UserError) as error:
            build_task(config_of(BALANCED, sampler=sampler), lacking, 0, CPU)
        assert str(error.value) == (
            f"dataset tiny: class 4 (4) has no training image; sampler {sampler} shows every class equally often: "
            "leave the class out, or write sampler: shuffle"
        )


def test_the_rate_falls_with_every_step(data, tmp_path, monkeypatch):
    """Half a cosine over all steps, from the base at the first to nearly 0 at the last, without warm-up."""
    found, config = [], config_of(PLAIN, lr=0.2)
    plain = teacher_training.sam_step

    def spy(closure, optimizer, *rest):
        found.append(optimizer.param_groups[0]["lr"])
        return plain(closure, optimizer, *rest)

    monkeypatch.setattr(teacher_training, "sam_step", spy)
    train(tmp_path, config, data)
    steps = epoch_size(config, len(data.train_labels))[0]
    total = 3 * steps
    assert found == pytest.approx([0.1 * (1 + math.cos(math.pi * t / total)) for t in range(total)], rel=1e-12)
    assert [learning_rate(config, e) for e in range(3)] == pytest.approx(found[::steps], rel=1e-12)


# ---- training


@pytest.mark.parametrize("block", [CBD, ENS | {"sampler": "class_balanced"}, CRT], ids=["cbd", "ens", "crt"])
def test_an_interrupted_run_ends_in_the_same_bytes(taught, data, tmp_path, block):
    config = config_of(block, epochs=2)
    some = taught[: sum(name != "none" for name in config.sources)]
    whole = train(tmp_path / "whole", config, data, some)
    for stop in (1, 5):
        Interrupting.after = stop
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", config, data, some, Interrupting)
        torch.manual_seed(99)
    parts = train(tmp_path / "parts", config, data, some)
    for name in FILES:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_a_students_features_come_to_point_where_its_teachers_do(taught, data, tmp_path):
    result = train(tmp_path, config_of(ENS, epochs=4), data, taught)
    student, config = load_teacher(result, data)
    shown = next(TestSet(config, data, CPU).batches())
    x = normalize(shown, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    target = unit(torch.cat([unit(load_teacher(f / "seed0", data)[0].features(x)) for f in taught], 1))
    cosine = (unit(student.features(x)) * target).sum(1).mean()
    fresh = (unit(build_model(config, 10).eval().features(x)) * target).sum(1).mean()
    assert cosine > 0.8 > fresh
    facts = json.loads((result / "identity.json").read_text())
    assert len(facts["teacher_digest"].split(",")) == 2
    assert float(np.load(result / "predictions.npz")["logit_scale"]) == 20


def test_fine_tuning_begins_from_the_weights_and_crt_moves_the_classifier_alone(taught, data, tmp_path):
    first = load_file(taught[0] / "seed0" / "model.safetensors")
    task = task_of(config_of(FINETUNE), taught, data)
    assert all(torch.equal(value, first[name]) for name, value in task.model.state_dict().items())
    tuned = load_file(train(tmp_path / "f", config_of(FINETUNE), data, taught[:1]) / "model.safetensors")
    assert not any(torch.equal(tuned[name], first[name]) for name in ("conv1.weight", "fc.weight", "bn1.running_mean"))
    retrained = load_file(train(tmp_path / "c", config_of(CRT), data, taught[:1]) / "model.safetensors")
    moved = {name for name, value in retrained.items() if not torch.equal(value, first[name])}
    assert moved == {"fc.weight"}
    begun = task_of(config_of(CRT), taught, data)
    assert not torch.equal(begun.model.fc.weight, first["fc.weight"]) and begun.weights == [begun.model.fc.weight]
    begun.train()
    assert not begun.model.training


def test_an_ensemble_is_the_mean_of_the_logits(taught, data, tmp_path):
    result = train(tmp_path, config_of(ENSEMBLE), data, taught)
    members = [np.load(folder / "seed0" / "predictions.npz")["logits_last_cls"].astype(np.float64) for folder in taught]
    with np.load(result / "predictions.npz") as saved:
        np.testing.assert_allclose(saved["logits_last_cls"], sum(members) / 2, atol=1e-6)
        np.testing.assert_array_equal(saved["logits_best_cls"], saved["logits_last_cls"])
        assert (saved["last_epoch"], saved["best_epoch"], saved["logit_scale"]) == (0, 0, 20)
        top1 = 100 * (saved["logits_last_cls"].argmax(1) == data.test_labels).mean()
    _, row = (result / "history.csv").read_text().splitlines()
    assert row.split(",")[:4] == ["0", "0", "", ""] and float(row.split(",")[4]) == pytest.approx(top1)
    network, _ = load_teacher(result, data)
    assert len(network.members) == 2


def test_stages_train_nothing_and_evaluate_it(taught, data, tmp_path, monkeypatch):
    """The run is kept when it is asked for again; its metrics are those of the averaged logits."""
    monkeypatch.chdir(tmp_path)
    data.save(Path("tiny.npz"))
    Path("params.yaml").write_text(yaml_file.dump({"teachers": {"e": params.plain(config_of(ENSEMBLE))}}))
    line = ["e", "--params", "params.yaml", "--dataset", "tiny.npz"]
    for _ in range(2):
        made = [*line, "--teacher", *taught, "--out", "data/teachers/e", "--device", "cpu", "--jobs", "1"]
        assert run_stage("train_teacher", *made) == 0
    evaluated = ["--kind", "teacher", "--run", "data/teachers/e", "--out", "e.json", "--details", "details"]
    assert run_stage("evaluate", *line, *evaluated) == 0
    with np.load("data/teachers/e/seed0/predictions.npz") as saved:
        top1 = 100 * (saved["logits_last_cls"].argmax(1) == data.test_labels).mean()
    found = json.loads(Path("e.json").read_text())["seeds"]["0"]
    assert found["last"]["cls"]["top1"] == pytest.approx(top1) and found["last"] == found["best"]
    curves = json.loads(Path("details/run.json").read_text())["seeds"]["0"]["curves"]
    assert curves["train_loss"] == [None] and len(curves["test_top1"]) == 1


def test_the_nearest_class_mean_by_cosine(taught, data, tmp_path):
    """Held against NumPy in float64, from the un-augmented training images."""
    result = train(tmp_path, config_of(NCM), data, taught[:1])
    network = load_teacher(taught[0] / "seed0", data)[0]

    def found(images: np.ndarray) -> np.ndarray:
        v = network.features(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).double().numpy()
        return v / np.linalg.norm(v, axis=1, keepdims=True)

    shown = found(data.train_images)
    means = np.stack([shown[data.train_labels == k].mean(0) for k in range(10)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    saved = np.load(result / "predictions.npz")["logits_last_cls"]
    np.testing.assert_allclose(saved, found(data.test_images) @ means.T, atol=1e-5)


def test_a_new_classifier_asks_for_no_class_order(taught, data):
    """The upper bound: features of a network that was trained on another set of images, in another order."""
    other = renamed(data, name="other", class_names=tuple(f"c{k}" for k in range(10)))
    config = config_of(CRT, start=CRT["start"] | {"dataset": "tiny"})
    assert len(load_sources(config, taught[:1], other, 0, CPU)) == 1
    with pytest.raises(UserError, match="not the same classes"):
        load_sources(config_of(FINETUNE, start=FINETUNE["start"] | {"dataset": "tiny"}), taught[:1], other, 0, CPU)


@pytest.mark.parametrize("block", [ENS, CRT, ENSEMBLE, NCM], ids=["ens", "crt", "ensemble", "ncm"])
def test_a_probe_sees_whom_it_learns_from(taught, data, block):
    config = config_of(block)
    sources = load_sources(config, taught[: sum(name != "none" for name in config.sources)], data, 0, CPU)
    first = teacher_probe(config, data, 0, sources)
    assert first.differences(teacher_probe(config, data, 0, sources)) == []
    torch.manual_seed(3)
    other = build_model(config_of(PLAIN, zero_gamma=False), data.num_classes).eval()
    assert first.differences(teacher_probe(config, data, 0, [Source(other, 20.0, "d"), *sources[1:]]))


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("block", [ENS, CBD | {"distil": FEATURE | {"tau": 2.0}}, CRT, FINETUNE])
def test_graphs_are_the_eager_steps_on_cuda(taught, data, tmp_path, monkeypatch, block, precision):
    """The rate of every step is a number that the graph reads."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    config, weights = config_of(block, epochs=2, zero_gamma=False, batch_size=16), {}
    some = taught[: sum(name != "none" for name in config.sources)]
    for engine in ("eager", "compiled"):
        how = Execution(precision, engine)
        result = train(tmp_path / engine, config, data, some, device=torch.device("cuda"), execution=how)
        assert json.loads((result / "identity.json").read_text())["engine"] == engine
        weights[engine] = load_file(result / "model.safetensors")
    tolerance = {"fp32": 1e-3, "bf16": 2e-2}[precision]
    for key, value in weights["eager"].items():
        torch.testing.assert_close(weights["compiled"][key], value, rtol=tolerance, atol=tolerance, msg=key)


# ---- bad inputs


@pytest.mark.parametrize(
    ("block", "changes", "said"),
    [
        (CBD, {"distil": FEATURE | {"teachers": 4}}, "teachers.t: distil.teachers is 4, sources name 1: a"),
        (ENS, {"distil": FEATURE}, "teachers.t: distil.teachers is 1, sources name 2: a, b"),
        (CBD, {"sources": ["none", "a", *NONE[2:]]}, "name them in the first places, none after them"),
        (ENS, {"sources": ["a", "a", *NONE[2:]]}, "names one twice; give each teacher an entry and a seed of its own"),
        (CBD, {"loss": "none"}, "teachers.t: distil feature has a label term; write loss ce,"),
        (CBD, {"loss": "ldam", "max_margin": 0.5}, "teachers.t: distil feature goes with loss ce, balanced_softmax,"),
        (
            CBD,
            {"distil": FEATURE | {"kind": "features"}},
            "t.distil.kind: expected soft or feature, found 'features'",
        ),
        (CBD, {"distil": FEATURE | {"power": 0.5}}, "teachers.t.distil.power: unknown key"),
        (PLAIN, {"epochs": 0}, "teachers.t: epochs: 0; 0 goes with start.train: nothing"),
        (CRT, {"distil": FEATURE}, "distil and start both say what `sources` are for; write null for one of them"),
        (CRT, {"epochs": 0}, "teachers.t: epochs: 0; 0 goes with start.train: nothing, and nothing else does"),
        (ENSEMBLE, {"epochs": 2}, "teachers.t: epochs: 2; 0 goes with start.train: nothing"),
        (CRT, {"sources": list(NONE)}, "teachers.t: sources and distil go together"),
        (FINETUNE, {"sources": ["a", "b", *NONE[2:]]}, "an ensemble: write train: nothing and classifier: kept"),
        (NCM, {"scale": None}, "a classifier of class_means compares by cosine: give scale (CBD: 20)"),
        (
            NCM,
            {"start": NCM["start"] | {"train": "all"}},
            "start: a classifier of class_means is not trained",
        ),
        (
            NCM,
            {"start": KEPT | {"classifier": "new"}},
            "is not trained answers at random; write train: classifier",
        ),
        (PLAIN, {"scale": 0.0}, "teachers.t: scale: 0.0; above 0, of a cosine classifier (CBD: 20)"),
        (PLAIN, {"projection": 0}, "teachers.t: projection: 0; at least 1"),
        (PLAIN, {"sampler": "balanced"}, "teachers.t.sampler: 'balanced' is not one of"),
        (PLAIN, {"milestones": [1], "factors": [0.1]}, "teachers.t: schedule cosine_steps has no milestones"),
    ],
)
def test_wrong_entries_are_one_line(block, changes, said):
    with pytest.raises(UserError) as error:
        config_of(block, **changes)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("block", "changes", "said"),
    [
        (
            ENS,
            {"projection": None},
            "a 64, b 64, 128 joined, but without projection the entry has 64; write",
        ),
        (ENS, {"projection": 256}, "features of a 64, b 64, 128 joined, but projection is 256; write projection: 128"),
        (
            FINETUNE,
            {"scale": None},
            "has head normed, the entry that starts from it head linear; write the same",
        ),
        (CRT, {"projection": 128}, "has projection None, the entry that starts from it projection 128; write the same"),
        (CRT, {"normalization": "digits"}, "was trained with normalization none, would be shown images by digits"),
    ],
)
def test_teachers_that_do_not_fit_are_one_line(taught, data, block, changes, said):
    config = config_of(block, **changes)
    with pytest.raises(UserError) as error:
        load_sources(config, taught[: sum(name != "none" for name in config.sources)], data, 0, CPU)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_an_entry_that_starts_from_another_dataset_says_so():
    entries = {name: params.plain(config_of(PLAIN)) | {"seeds": [0]} for name in ("a", "b")}
    check = partial(check_sources, {"teachers": entries | {"t": params.plain(config_of(CRT))}}, "t")
    check(config_of(CRT))
    with pytest.raises(UserError, match=r"a is trained on tiny, not on full; if that is meant, say start.dat"):
        check(config_of(CRT, start=CRT["start"] | {"dataset": "full"}))
