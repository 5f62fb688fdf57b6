"""Several experts in training (RIDE-DiVE): tasks, the router's own phase, the stage, and bad inputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from longtail.base import params
from longtail.base.errors import UserError
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.models.experts import Counted
from longtail.runs.execution import Execution
from longtail.training import teacher_training
from longtail.training.engine import Steps
from longtail.training.teacher import load_sources, load_teacher
from longtail.training.teacher_config import NONE, TeacherConfig
from longtail.training.teacher_tasks import build_task
from longtail.views.normalize import constants, normalize
from tests.helpers.recorded_graphs import RecordedGraphs
from tests.helpers.stage_processes import finish, start, tiny_params
from tests.training.test_distilled import PLAIN, SOFT, command, needs_cuda, train
from tests.training.test_teacher import CPU, DIGITS, FILES, Interrupted, Interrupting
from tests.training.test_teacher import config_of as teacher_of

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = PLAIN | {"epochs": 2, "milestones": [], "factors": [], "warmup_epochs": 0, "lr": 0.05}
RIDE = SHORT | {
    "scale": 30.0,
    "nesterov": True,
    "experts": 3,
    "diversity": {"factor": -0.1, "reweight": 0.05, "reweight_epoch": 1},
}
TAUGHT = RIDE | {"experts": 2, "diversity": None, "sources": ["a", *NONE[1:]], "distil": SOFT | {"alpha": 0.75}}
ROUTED = RIDE | {
    "diversity": None,
    "loss": "none",
    "sources": ["a", *NONE[1:]],
    "start": {"train": "router", "classifier": "kept"},
    "router": {"top": 5, "hidden": 16, "pos_weight": 100.0},
    "schedule": "cosine",
    "sampler": "class_balanced",
}


@pytest.fixture(scope="module")
def data():
    return make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))


@pytest.fixture(scope="module")
def taught(tmp_path_factory, data) -> Path:
    """The folder of three experts with one seed."""
    folder = tmp_path_factory.mktemp("taught") / "a"
    shutil.copytree(train(folder / "run", teacher_of(**RIDE), data), folder / "seed0")
    return folder


def task_of(config: TeacherConfig, data, *folders: Path):
    torch.manual_seed(0)
    return build_task(config, data, 0, CPU, sources=load_sources(config, folders, data, 0, CPU))


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_loss_is_that_of_each_expert_and_their_diversity(data, epoch):
    """From epoch 1 on the diversity has a temperature for each class."""
    task = task_of(teacher_of(**RIDE), data)
    labels, images = task.batch(epoch, slice(0, 32))
    task.model.eval()
    logits, loss = task.forward(epoch, labels, images)
    each, n = 30 * task.model.fc.each(task.model.features(images)).detach().double(), torch.as_tensor(data.class_counts)
    torch.testing.assert_close(30 * logits.double(), each.mean(1), rtol=1e-4, atol=1e-4)
    weights = 0.05 * 10 * n.double() / n.sum() + 0.95 if epoch else torch.ones(10, dtype=torch.float64)
    t = weights / weights.max()
    expected, mean = 0.0, F.softmax(each.mean(1) / t, 1)
    for k in range(3):
        kl = (mean * (mean.log() - F.log_softmax(each[:, k] / t, 1))).sum(1).mean()
        expected += F.cross_entropy(each[:, k] + n.double().log(), labels) - 0.1 * t.mean() ** 2 * kl
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_each_expert_of_a_student_is_held_against_the_teachers_mean(taught, data):
    task = task_of(teacher_of(**TAUGHT), data, taught)
    labels, images, answer = task.batch(0, slice(0, 32))
    its = load_teacher(taught / "seed0", data)[0]
    torch.testing.assert_close(answer, 30 * its.fc.each(its.features(images)).mean(1), rtol=1e-5, atol=1e-4)
    task.model.eval()
    _, loss = task.forward(0, labels, images, answer)
    each, n = 30 * task.model.fc.each(task.model.features(images)).detach().double(), torch.as_tensor(data.class_counts)
    expected, t = 0.0, F.softmax(answer.double() / 6, 1)
    for k in range(2):
        kl = (t * (t.log() - F.log_softmax(each[:, k] / 3, 1))).sum(1).mean()
        expected += 0.25 * F.cross_entropy(each[:, k] + n.double().log(), labels) + 0.75 * 9 * kl
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_router_begins_beside_its_source_and_gets_the_only_gradient(taught, data):
    task = task_of(teacher_of(**ROUTED), data, taught)
    task.train()
    assert not any(module.training for module in task.model.modules())
    labels, images = task.batch(0, slice(0, 48))
    logits, loss = task.forward(0, labels, images)
    loss.backward()
    own = {f"fc.{name}" for name in task.model.fc.router()}
    assert {name for name, w in task.model.named_parameters() if w.grad is not None} == own
    assert len(task.weights) == len(own) == 6
    torch.testing.assert_close(logits, task.model(images))


def test_the_router_alone_moves_and_the_answers_are_of_as_many_experts_as_it_says(taught, data, tmp_path):
    first = load_file(taught / "seed0" / "model.safetensors")
    result = train(tmp_path, teacher_of(**ROUTED), data, [taught])
    found = load_file(result / "model.safetensors")
    own = {name for name in found if name not in first}
    assert own and all(name.startswith(("fc.hidden.", "fc.ask.")) for name in own)
    assert all(torch.equal(found[name], value) for name, value in first.items())  # batch statistics too
    network, _ = load_teacher(result, data)
    saved = np.load(result / "predictions.npz")
    shown = normalize(torch.from_numpy(data.test_images).permute(0, 3, 1, 2), *constants("digits"))
    with torch.no_grad():
        answers = Counted(network)(shown).numpy()
    assert saved["experts_last"].tolist() == answers[:, -1].astype(int).tolist()
    assert set(saved["experts_last"]) <= {1, 2, 3} and saved["logits_last_cls"].shape == (len(shown), 10)
    np.testing.assert_allclose(saved["logits_last_cls"], answers[:, :-1], atol=1e-5)
    assert float(saved["logit_scale"]) == 30.0


def test_an_interrupted_router_ends_in_the_same_bytes(taught, data, tmp_path):
    whole = train(tmp_path / "whole", teacher_of(**ROUTED), data, [taught])
    Interrupting.after = 4
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", teacher_of(**ROUTED), data, [taught], Interrupting)
    torch.manual_seed(99)
    parts = train(tmp_path / "parts", teacher_of(**ROUTED), data, [taught])
    for name in FILES:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


# ---- precision, recorded steps, a GPU


@pytest.mark.parametrize("block", [RIDE, TAUGHT, ROUTED], ids=["teacher", "student", "router"])
def test_bf16_keeps_float32_answers_loss_and_weights(taught, data, block):
    config, made = teacher_of(**block), {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        sources = load_sources(config, [taught][: len(block.get("sources", ())) and 1], data, 0, CPU)
        task = build_task(config, data, 0, CPU, Execution(precision), sources)
        made[precision] = task.forward(0, *task.batch(0, slice(0, 32)))
        assert all(w.dtype == torch.float32 for w in task.weights)
    (exact, loss), (near, rounded) = made["fp32"], made["bf16"]
    assert near.dtype == rounded.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=0.05, atol=0.05)  # cosines
    assert rounded.item() == pytest.approx(loss.item(), rel=0.05) and rounded.item() != loss.item()


@pytest.mark.parametrize("block", [TAUGHT, ROUTED], ids=["student", "router"])
def test_replayed_steps_end_in_the_bytes_of_the_plain_loop(taught, data, tmp_path, monkeypatch, block):
    """The teacher of several experts is among those of test_step_graph.py."""
    config, graphs = teacher_of(**block), RecordedGraphs()
    plain = train(tmp_path / "plain", config, data, [taught])
    monkeypatch.setattr(teacher_training, "steps_of", lambda execution, device, say: Steps(graphs, say))
    replayed = train(tmp_path / "replayed", config, data, [taught])
    assert graphs.replays > 0 and json.loads((replayed / "identity.json").read_text())["engine"] != "eager"
    for name in FILES:
        assert (plain / name).read_bytes() == (replayed / name).read_bytes(), name


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("block", [TAUGHT, ROUTED], ids=["student", "router"])
def test_graphs_are_the_eager_steps_on_cuda(taught, data, tmp_path, monkeypatch, block, precision):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    weights, config = {}, teacher_of(**block)
    for engine in ("eager", "compiled"):
        how = {"device": torch.device("cuda"), "execution": Execution(precision, engine)}
        result = train(tmp_path / engine, config, data, [taught], **how)
        assert json.loads((result / "identity.json").read_text())["engine"] == engine
        weights[engine] = load_file(result / "model.safetensors")
    tolerance = {"fp32": 1e-3, "bf16": 2e-2}[precision]
    for key, value in weights["eager"].items():
        torch.testing.assert_close(weights["compiled"][key], value, rtol=tolerance, atol=tolerance, msg=key)


# ---- bad inputs


@pytest.mark.parametrize(
    ("of", "changes", "said"),
    [
        (RIDE, {"experts": 0}, "teachers.t: experts: 0; at least 1, the plain network (RIDE: 2 to 6)"),
        (RIDE, {"experts": 1}, "teachers.t: diversity is among experts that are trained"),
        (
            RIDE,
            {"projection": 64},
            "teachers.t: experts: 3 go with losses on logits; not with loss paco or a projection",
        ),
        (RIDE, {"momentum": 0.0}, "teachers.t: nesterov: true needs a momentum above 0"),
        (ROUTED, {"experts": 1}, "teachers.t: router: it chooses among experts; write experts: 4"),
        (ROUTED, {"router": None}, "teachers.t: router and start.train: router go together"),
        (
            ROUTED,
            {"start": {"train": "classifier", "classifier": "kept"}},
            "teachers.t: loss none is for an entry with",
        ),
        (
            ROUTED,
            {"start": {"train": "classifier", "classifier": "new"}, "router": None, "loss": "ce"},
            "teachers.t: experts: 3 that go on from weights: write start.train: router",
        ),
        (ROUTED, {"start": {"train": "router", "classifier": "new"}}, "a new classifier that is not trained"),
        (ROUTED, {"loss": "ce"}, "teachers.t: start.train: router has a loss of its own; write loss: none, found ce"),
        (ROUTED, {"diversity": RIDE["diversity"]}, "teachers.t: diversity is among experts that are trained"),
        (ROUTED, {"router": ROUTED["router"] | {"top": 0}}, "teachers.t.router: at least 1: top, hidden; found 0, 16"),
        (
            ROUTED,
            {"router": ROUTED["router"] | {"pos_weight": 0.0}},
            "teachers.t.router: pos_weight: 0.0 must be above 0",
        ),
        (
            TAUGHT,
            {"distil": {"kind": "feature", "teachers": 1, "beta": 40.0, "tau": None, "alpha": 0.4}},
            "teachers.t: experts: 2 have no one feature; write distil of kind soft",
        ),
    ],
)
def test_wrong_entries_are_one_line(of, changes, said):
    with pytest.raises(UserError) as error:
        teacher_of(**of | changes)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_sources_that_do_not_fit_are_one_line(taught, data, tmp_path):
    def refused(config: TeacherConfig, folder: Path) -> str:
        with pytest.raises(UserError) as error:
            task_of(config, data, folder)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "has experts 3, the entry that starts from it experts 2" in refused(
        teacher_of(**ROUTED | {"experts": 2}), taught
    )
    many = teacher_of(**ROUTED | {"router": ROUTED["router"] | {"top": 30}})
    assert "router.top: 30 of the logits, of 10 classes; write at most 10" in refused(many, taught)
    folder = tmp_path / "routed"
    shutil.copytree(train(tmp_path / "run", teacher_of(**ROUTED | {"epochs": 1}), data, [taught]), folder / "seed0")
    assert "has a router (train: router); start from the entry" in refused(teacher_of(**ROUTED), folder)


# ---- the stages


def test_teacher_student_and_router_by_the_stages_to_a_number_of_experts(tmp_path):
    def change(table: dict) -> None:
        ride = table["teachers"]["ldam_drw-tiny"] | RIDE | {"study": "tiny", "crop_padding": 1, "epochs": 1}
        routed = ride | {key: ROUTED[key] for key in ("diversity", "loss", "start", "router", "schedule", "sampler")}
        distilled = ride | {key: TAUGHT[key] for key in ("diversity", "distil")}
        table["teachers"] |= {
            "ride-tiny": ride,
            "ride_dive-tiny": distilled | {"sources": ["ride-tiny", *NONE[1:]]},
            "routed-tiny": routed | {"sources": ["ride_dive-tiny", *NONE[1:]]},
            "broken-tiny": routed | {"sources": ["ride_dive-tiny", *NONE[1:]], "experts": 1},
        }

    tiny_params(tmp_path, change)
    finish(tmp_path, "subsample", "tiny", "--out", "data/datasets/tiny.npz")
    for entry, source in (("ride-tiny", None), ("ride_dive-tiny", "ride-tiny"), ("routed-tiny", "ride_dive-tiny")):
        finish(tmp_path, *command(entry, *([source] if source else [])))
    for entry, least in (("ride_dive-tiny", 3), ("routed-tiny", 1)):
        own = ("--run", f"data/teachers/{entry}", "--dataset", "data/datasets/tiny.npz", "--out", f"{entry}.json")
        finish(tmp_path, "evaluate", entry, "--kind", "teacher", *own)
        found = json.loads((tmp_path / f"{entry}.json").read_text())
        seed, summary = found["seeds"]["0"]["last"]["cls"], found["summary"]["last"]["cls"]
        assert least <= seed["experts"] <= 3 and summary["experts"]["mean"] == seed["experts"]
        saved = np.load(tmp_path / f"data/teachers/{entry}/seed0/predictions.npz")
        assert seed["experts"] == pytest.approx(saved["experts_last"].mean(), abs=1e-4)
    run = start(tmp_path, *command("broken-tiny", "ride_dive-tiny"))
    assert run.wait() == 2 and "teachers.broken-tiny: router: it chooses among experts" in run.err
    assert run.err.count("\n") == 1
