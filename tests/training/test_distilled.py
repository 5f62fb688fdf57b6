"""A CNN that learns from another one's softened answers (DiVE, METHODS 6): its task, training, stage and bad inputs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.runs.execution import Execution
from longtail.runs.workspace import Workspace
from longtail.training.entry_probe import check_sources
from longtail.training.teacher import Source, build_model, load_sources, load_teacher
from longtail.training.teacher_config import NONE, TeacherConfig
from longtail.training.teacher_probe import teacher_probe
from longtail.training.teacher_tasks import build_task
from longtail.training.teacher_training import train_teacher
from longtail.views.normalize import constants, normalize
from tests.helpers.stage_processes import finish, start, tiny_params
from tests.training.test_teacher import CPU, DIGITS, FILES, LARGE, Interrupted, Interrupting, renamed
from tests.training.test_teacher import config_of as teacher_of

pytestmark = pytest.mark.usefixtures("one_thread")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

PLAIN = {"loss": "balanced_softmax", "max_margin": None, "scale": None, "drw_epoch": None, "drw_beta": None}
PLAIN |= {"sam_rho": None, "select": "last", "epochs": 4, "milestones": [3], "factors": [0.1]}
SOFT = {"kind": "soft", "tau": 3.0, "power": 0.5, "alpha": 0.5}
DIVE = PLAIN | {"sources": ["taught", *NONE[1:]], "distil": SOFT}


def config_of(**changes) -> TeacherConfig:
    return teacher_of(**DIVE | changes)


@pytest.fixture(scope="module")
def data() -> LongTail:
    return make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))


def train(folder: Path, config: TeacherConfig, data, taught_by=(), workspace=Workspace, device=CPU, **how) -> Path:
    ws = workspace(folder, "t seed 0", "f" * 64, device, quiet=True)
    train_teacher(config, data, 0, ws, device=device, taught_by=taught_by, **how)
    return ws.result


@pytest.fixture(scope="module")
def taught(tmp_path_factory, data) -> Path:
    """The folder of a teacher with one seed, by balanced softmax."""
    folder = tmp_path_factory.mktemp("taught")
    shutil.copytree(train(folder / "run", teacher_of(**PLAIN), data), folder / "seed0")
    return folder


# ---- the task


def test_the_teacher_answers_to_the_very_view_in_eval_mode(taught, data):
    config = config_of()
    (source,) = load_sources(config, [taught], data, 0, CPU)
    torch.manual_seed(0)
    task = build_task(config, data, 0, CPU, sources=[source])
    task.train()
    labels, images, answer = task.batch(1, slice(0, 32))
    plain, its = build_task(teacher_of(**PLAIN), data, 0, CPU), load_teacher(taught / "seed0", data)[0]
    expected = plain.batch(1, slice(0, 32))
    assert torch.equal(labels, expected[0]) and torch.equal(images, expected[1])
    assert torch.equal(answer, its(images)) and not answer.requires_grad and not source.network.training
    before = {name: value.clone() for name, value in source.network.state_dict().items()}
    task.forward(1, labels, images, answer)[1].backward()
    assert all(torch.equal(value, before[name]) for name, value in source.network.state_dict().items())
    assert all(w.grad is not None for w in task.weights)


def test_the_loss_is_the_formula_on_plain_logits(taught, data):
    config = config_of()
    torch.manual_seed(0)
    task = build_task(config, data, 0, CPU, sources=load_sources(config, [taught], data, 0, CPU))
    labels, images, answer = task.batch(0, slice(0, 32))
    logits, loss = task.forward(0, labels, images, answer)
    z, t = logits.double(), F.softmax(answer.double() / 6, 1)
    kl = (t * (t.log() - F.log_softmax(z / 3, 1))).sum(1).mean()
    label = F.cross_entropy(z + torch.as_tensor(data.class_counts).double().log(), labels)
    assert loss.item() == pytest.approx((0.5 * label + 0.5 * 9 * kl).item(), rel=1e-5)
    alone = build_task(config_of(loss="none"), data, 0, CPU, sources=task.sources)
    alone.restore(task.state())
    assert alone.forward(0, labels, images, answer)[1].item() == pytest.approx((4.5 * kl).item(), rel=1e-4)


def test_cosines_are_scaled_before_they_are_softened(data):
    """LDAM's logits are cosines; its scale stands in its own loss (trap 24)."""
    torch.manual_seed(1)
    network = build_model(teacher_of(), data.num_classes).eval()
    task = build_task(config_of(), data, 0, CPU, sources=[Source(network, 30.0, "d")])
    _, images, answer = task.batch(0, slice(0, 8))
    torch.testing.assert_close(answer, 30 * network(images))
    assert network(images).abs().max() <= 1 + 1e-6


def test_sam_asks_the_teacher_once_a_step(taught, data, tmp_path, monkeypatch):
    asked = []
    config = config_of(sam_rho=0.1, epochs=1, milestones=[], factors=[])
    made = load_sources(config, [taught], data, 0, CPU)
    made[0].network.register_forward_hook(lambda *_: asked.append(1))
    monkeypatch.setattr("longtail.training.teacher_training.load_sources", lambda *_: made)
    train(tmp_path, config, data, [taught])
    assert len(asked) == 7  # steps of an epoch


# ---- training


def test_a_student_is_drawn_to_its_teacher(taught, data, tmp_path):
    """By the teacher's answers alone it comes to answer as the teacher does, and more so than the plain network."""
    result = train(tmp_path / "s", config_of(loss="none", epochs=6), data, [taught])
    shown = normalize(torch.from_numpy(data.test_images).permute(0, 3, 1, 2), *constants("digits"))
    answers = {}
    for name, folder in (("taught", taught / "seed0"), ("student", result)):
        answers[name] = F.softmax(load_teacher(folder, data)[0](shown) / 3, 1)
    untrained = build_model(config_of(), data.num_classes).eval()
    distance = (answers["student"] - answers["taught"]).abs().sum(1).mean()
    assert distance < 0.5 * (F.softmax(untrained(shown) / 3, 1) - answers["taught"]).abs().sum(1).mean()
    facts = json.loads((result / "identity.json").read_text())
    assert facts["teacher_digest"] == load_sources(config_of(), [taught], data, 0, CPU)[0].digest


@pytest.mark.parametrize("changes", [{}, {"sam_rho": 0.1}, {"loss": "none"}])
def test_an_interrupted_run_ends_in_the_same_bytes(taught, data, tmp_path, changes):
    whole = train(tmp_path / "whole", config_of(**changes), data, [taught])
    for stop in (1, 9):
        Interrupting.after = stop
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", config_of(**changes), data, [taught], Interrupting)
        torch.manual_seed(99)
    parts = train(tmp_path / "parts", config_of(**changes), data, [taught])
    for name in FILES:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_bf16_keeps_float32_answers_loss_and_weights(taught, data):
    config = config_of()
    torch.manual_seed(0)
    sources = load_sources(config, [taught], data, 0, CPU)
    task = build_task(config, data, 0, CPU, Execution("bf16"), sources)
    labels, images, answer = task.batch(0, slice(0, 32))
    logits, loss = task.forward(0, labels, images, answer)
    assert logits.dtype == torch.bfloat16 and answer.dtype == loss.dtype == torch.float32
    assert all(w.dtype == torch.float32 for w in task.weights)
    exact = sources[0].network(images)
    torch.testing.assert_close(answer, exact, rtol=0.05, atol=0.05 * exact.abs().max().item())
    assert not torch.equal(answer, exact)


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "changes", [{}, {"sam_rho": 0.1}, {"loss": "none", "distil": SOFT | {"tau": 6.0, "power": 1.0}}]
)
def test_graphs_are_the_eager_steps_on_cuda(taught, data, tmp_path, monkeypatch, changes, precision):
    """Two epochs; the teacher's answer is copied into the graph as the view is."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    weights = {}
    for engine in ("eager", "compiled"):
        folder, how = tmp_path / engine, Execution(precision, engine)
        result = train(
            folder, config_of(**changes, epochs=2), data, [taught], device=torch.device("cuda"), execution=how
        )
        assert json.loads((result / "identity.json").read_text())["engine"] == engine
        weights[engine] = load_file(result / "model.safetensors")
    tolerance = {"fp32": 1e-3, "bf16": 2e-2}[precision]
    for key, value in weights["eager"].items():
        torch.testing.assert_close(weights["compiled"][key], value, rtol=tolerance, atol=tolerance, msg=key)


def test_a_probe_sees_the_teacher_and_the_numbers_of_the_loss(taught, data):
    def probe(config: TeacherConfig, sources) -> list:
        return teacher_probe(config, data, 0, sources)

    config = config_of()
    sources = load_sources(config, [taught], data, 0, CPU)
    first = probe(config, sources)
    assert first.differences(probe(config, sources)) == []
    torch.manual_seed(3)
    other = [replace(sources[0], network=build_model(config, data.num_classes).eval())]
    said = first.differences(probe(config, other))
    assert any(line.startswith("input 1 of epoch 0") for line in said) and any("loss 1 of" in line for line in said)
    for changes in ({"tau": 2.0}, {"alpha": 0.6}, {"power": 1.0}, {"student_tau": 6.0}, {"factor": 36.0}):
        said = first.differences(probe(config_of(distil=SOFT | changes), sources))
        assert said and all(
            "loss" in line or "gradient" in line or "update" in line or "change" in line for line in said
        )


# ---- bad inputs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"distil": None}, "teachers.t: sources and distil go together"),
        ({"sources": list(NONE)}, "teachers.t: sources and distil go together"),
        ({"sources": ["taught"]}, "teachers.t.sources: expected 5 values, found 1"),
        ({"sources": ["a", "b", *NONE[2:]]}, "distil soft has one teacher, in the first place"),
        ({"sources": ["none", "b", *NONE[2:]]}, "distil soft has one teacher, in the first place"),
        ({"loss": "paco"}, "teachers.t: loss paco and the block paco go together"),
        (
            {"loss": "ldam", "max_margin": 0.5, "scale": 30.0},
            "distil soft goes with loss ce, balanced_softmax, focal or",
        ),
        ({"loss": "focal"}, "teachers.t: loss focal needs focal_gamma from 0 on"),
        ({"focal_gamma": 1.0}, "teachers.t: loss focal needs focal_gamma from 0 on"),
        ({"loss": "none", "drw_epoch": 1, "drw_beta": 0.9}, "teachers.t: loss none has no class weights"),
        (
            {"distil": SOFT | {"targets": "mixed", "power_of": "mixed"}},
            "with them loss is none, found balanced_softmax",
        ),
        ({"distil": SOFT | {"tau": -1.0}}, "teachers.t.distil: tau must be above 0, found -1.0"),
        ({"distil": SOFT | {"alpha": 2.0}}, "teachers.t.distil: alpha is from 0 to 1, found 2.0"),
        (
            {"distil": SOFT | {"targets": "mixed"}, "loss": "none"},
            "teachers.t.distil: power 0.5 with mixed targets: say",
        ),
        ({"head_smoothing": 0.2}, "teachers.t: head_smoothing: 0.2; from 0 to below 1, and only with loss ce"),
        ({"warmup_from": 1.5}, "teachers.t: warmup_from: 1.5; a share of lr"),
    ],
)
def test_wrong_entries_are_one_line(changes, said):
    with pytest.raises(UserError) as error:
        config_of(**changes)
    assert said in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="loss none is for an entry with `distil`"):
        teacher_of(**PLAIN | {"loss": "none"})


def spoiled(taught: Path, folder: Path, **changes) -> Path:
    """The teacher with another config.yaml."""
    shutil.copytree(taught / "seed0", folder / "seed0")
    path = folder / "seed0" / "config.yaml"
    path.write_text(yaml_file.dump(yaml_file.read(path) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"normalization": "cifar"}, "trained with normalization cifar, would be shown images by digits; both see one"),
        (LARGE, "seed0: was trained on views of 24 px, would be shown 8 px; both see one view"),
        ({"arch": "resnet14"}, "weights do not fit its config.yaml"),
        (
            {"must_reach": {"top1": 99.9, "tolerance": 0.0}},
            "% on the test set (last epoch), its entry's must_reach asks",
        ),
    ],
)
def test_a_teacher_that_cannot_teach_is_one_line(taught, data, tmp_path, changes, said):
    with pytest.raises(UserError) as error:
        load_sources(config_of(), [spoiled(taught, tmp_path, **changes)], data, 0, CPU)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_teacher_of_other_classes_or_another_dataset_is_one_line(taught, data):
    load = partial(load_sources, config_of(), [taught], seed=0, device="cpu")
    with pytest.raises(UserError, match="trained on dataset 'tiny', asked to label 'other'"):
        load(data=renamed(data, name="other"))
    with pytest.raises(UserError, match="not the same classes"):
        load(data=renamed(data, class_names=("zero", *data.class_names[1:])))
    with pytest.raises(UserError, match="class order"):
        load(data=renamed(data, class_names=("1", "0", *data.class_names[2:])))
    meant = config_of(distil=SOFT | {"teacher_dataset": "tiny"})  # FULL: a teacher of another set of the same classes
    assert len(load_sources(meant, [taught], renamed(data, name="other"), 0, "cpu")) == 1
    with pytest.raises(UserError, match=r"asked to label 'other'; the entry says that it was trained on .third."):
        load_sources(
            config_of(distil=SOFT | {"teacher_dataset": "third"}), [taught], renamed(data, name="other"), 0, CPU
        )


def test_entries_that_name_the_wrong_teacher_are_one_line():
    entries = {"taught": teacher_entry(**PLAIN), "t": teacher_entry(**DIVE)}
    check = partial(check_sources, {"teachers": entries}, "t")
    check(config_of())
    for change, said in (
        ({"sources": ["tought", *NONE[1:]]}, "teachers.tought: no such entry in params.yaml; did you mean 'taught'?"),
        (
            {"distil": SOFT | {"teacher_dataset": "full"}},
            "taught is trained on tiny, not on full; if that is meant, say",
        ),
        ({"seeds": [0, 1, 2]}, None),
        ({"sources": ["t", *NONE[1:]]}, "teachers.t.sources: t would learn from itself, by way of t"),
    ):
        if said is None:
            check(config_of(**change))  # one seed of the teacher serves all
            continue
        with pytest.raises(UserError) as error:
            check(config_of(**change))
        assert said in str(error.value)
    entries["taught"] |= {"seeds": [0, 1]}
    with pytest.raises(UserError, match=r"taught has seeds \[0, 1\], the entry \[2\]"):
        check(config_of(seeds=[2]))
    entries["taught"] |= DIVE | {"sources": ["t", *NONE[1:]]}
    with pytest.raises(UserError, match="t would learn from itself, by way of taught"):
        check(config_of())


def teacher_entry(**changes) -> dict:
    return params.plain(teacher_of(**changes)) | {"seeds": [0]}


# ---- the stage


@pytest.fixture
def project(tmp_path) -> Path:
    def change(table: dict) -> None:
        plain = table["teachers"]["ldam_drw-tiny"]
        plain |= PLAIN | {"study": "tiny", "crop_padding": 1, "epochs": 1, "milestones": [], "factors": []}
        table["teachers"]["dive-tiny"] = plain | {"sources": ["ldam_drw-tiny", *NONE[1:]], "distil": SOFT}

    tiny_params(tmp_path, change)
    finish(tmp_path, "subsample", "tiny", "--out", "data/datasets/tiny.npz")
    return tmp_path


def command(entry: str, *teachers: str, out: str = "") -> tuple:
    of = ("--teacher", *(f"data/teachers/{name}" for name in teachers)) if teachers else ()
    return "train_teacher", entry, "--dataset", "data/datasets/tiny.npz", *of, "--out", f"data/teachers/{out or entry}"


def test_the_stage_trains_a_student_once_and_anew_from_another_teacher(project):
    finish(project, *command("ldam_drw-tiny", *NONE))
    finish(project, *command("dive-tiny", "ldam_drw-tiny", *NONE[1:]))
    folder = project / "data/teachers/dive-tiny/seed0"
    first = (folder / "model.safetensors").read_bytes()
    again = finish(project, *command("dive-tiny", "ldam_drw-tiny", *NONE[1:]))
    assert "already there" in again.out
    finish(project, *command("ldam_drw-tiny", *NONE, out="other"))
    moved = load_file(project / "data/teachers/other/seed0/model.safetensors")
    assert moved.keys() == load_file(folder / "model.safetensors").keys()
    shutil.rmtree(project / "data/teachers/ldam_drw-tiny/seed0")
    table = yaml_file.read(project / "params.yaml")
    table["teachers"]["ldam_drw-tiny"]["lr"] = 0.05
    (project / "params.yaml").write_text(yaml_file.dump(table))
    finish(project, *command("ldam_drw-tiny"))
    anew = finish(project, *command("dive-tiny", "ldam_drw-tiny", *NONE[1:]))
    assert "already there" not in anew.out and (folder / "model.safetensors").read_bytes() != first


def test_the_stage_says_in_one_line_what_it_lacks(project):
    for arguments, said in (
        (("dive-tiny",), "teachers.dive-tiny learns from ldam_drw-tiny; pass --teacher data/teachers/ldam_drw-tiny"),
        (("dive-tiny", "ldam_drw-tiny"), "data/teachers/ldam_drw-tiny: holds no seed, seed 0 is asked for"),
    ):
        run = start(project, *command(*arguments))
        assert run.wait() == 2 and said in run.err and run.err.count("\n") == 1
    table = yaml_file.read(project / "params.yaml")
    table["teachers"]["dive-tiny"]["sources"][0] = "dive-tiny"
    (project / "params.yaml").write_text(yaml_file.dump(table))
    run = start(project, *command("dive-tiny", "dive-tiny"))
    assert run.wait() == 2 and "teachers.dive-tiny.sources: an entry cannot learn from itself" in run.err
