"""Masked pretraining: its steps, its results whatever the way they are computed, and what starts from it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longtail.base.errors import UserError
from longtail.losses.losses import masked_patch_loss
from longtail.models import mae
from longtail.models.mae import normalized_patches, patchify, picked
from longtail.models.transformer import resized_positions
from longtail.runs.execution import Execution
from longtail.runs.parallel import ALONE
from longtail.runs.workspace import Workspace
from longtail.training.experiment import resolve
from longtail.training.pretraining import DECODER, Pretraining, pretrain
from longtail.training.pretraining_config import PretrainingConfig, resolve_pretraining
from longtail.training.pretraining_probe import pretraining_probe
from longtail.training.student import Student, train_student
from longtail.training.student_run import begin, read_pretraining, read_run
from longtail.training.student_step import Meter
from tests.helpers.interruption import Stop, stopping
from tests.helpers.root import params_table
from tests.helpers.small import RECIPE, digits
from tests.helpers.teams import together

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
MODEL = {"image_size": 8, "patch_size": 2, "dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "drop_path": 0.0}
MODEL |= {"drop_path_mode": "linear", "layer_scale": None, "special_positions": True, "positions": "sincos"}
ONE_IMAGE = {"size": 8, "rand_ops": 0, "erase_prob": 0.0, "repeats": 1, "mix_prob": 0.0, "teacher_stride": 1}
ONE_IMAGE |= {"teacher_offset": 0, "round_to": 32, "crop_scale": [0.2, 1.0]}
TRAIN = {"epochs": 3, "lr": 1.0e-3, "min_lr": 0.0, "warmup_epochs": 1, "weight_decay": 0.05, "betas": [0.9, 0.95]}
FINE = {"epochs": 2, "lr": 1.0e-3, "min_lr": 1.0e-6, "warmup_lr": 0.0, "warmup_epochs": 1, "weight_decay": 0.05}
FINE |= {"betas": [0.9, 0.999], "eps": 1.0e-8, "eval_resize": 8, "eval_every": 1, "schedule": "after_warmup"}
TABLE = {
    "studies": {"s": {}},
    "datasets": {"tiny": {}, "other": {}},
    "views": {"one": RECIPE | ONE_IMAGE, "mixed": RECIPE | ONE_IMAGE | {"mix_prob": 1.0}},
    "methods": {"livt": params_table()["methods"]["livt"]},
    "recipes": {
        "mgp": {"model": MODEL, "train": TRAIN | {"eps": 1.0e-8}},
        "bft": {"model": MODEL | {"pool": "mean", "head_std": 2e-5}, "train": FINE | {"layer_decay": 0.5}},
    },
    "pretrainings": {
        "mgp": {
            "study": "s",
            "recipe": "mgp",
            "dataset": "tiny",
            "views": "one",
            "mask_ratio": 0.75,
            "decoder": {"dim": 8, "depth": 1, "heads": 2},
            "seeds": [0, 3],
        }
    },
    "experiments": {
        "bft": {
            "study": "s",
            "method": "livt",
            "recipe": "bft",
            "dataset": "tiny",
            "views": "mixed",
            "cache": "none",
            "teacher": "none",
            "start": "mgp",
            "seeds": [3],
        }
    },
}
SEED = 3


def pretraining(**changes) -> PretrainingConfig:
    entry = TABLE["pretrainings"]["mgp"] | changes
    return resolve_pretraining(TABLE | {"pretrainings": {"mgp": entry}}, "mgp")[0]


def experiment(**changes):
    entry = TABLE["experiments"]["bft"] | changes
    return resolve(TABLE | {"experiments": {"bft": entry}}, "bft")[0]


def workspace(folder: Path, team=ALONE) -> Workspace:
    return Workspace(folder, "mgp", "identity", CPU, quiet=True, team=team)


def trained(folder: Path, config=None, execution=Execution(), team=ALONE) -> Path:  # noqa: B008 (frozen)
    pretrain(config or pretraining(), digits(), SEED, workspace(folder, team), CPU, execution)
    return folder / "result"


@pytest.fixture(scope="module")
def first(tmp_path_factory, one_thread) -> Path:
    """A run's folder with seed3/."""
    folder = tmp_path_factory.mktemp("mgp") / "data" / "mgp"
    result = trained(tmp_path_factory.mktemp("work"))
    folder.mkdir(parents=True)
    result.rename(folder / f"seed{SEED}")
    return folder


def weights(result: Path) -> dict[str, torch.Tensor]:
    return load_file(result / "model.safetensors") | load_file(result / DECODER)


def close(found: dict, expected: dict, atol: float) -> None:
    """All but the biases of keys, whose gradient is zero but for roundings: Adam steps by those in any direction."""
    for name, value in expected.items():
        got = found[name]
        if name.endswith("qkv.bias"):
            got, value = (tensor.view(3, -1)[[0, 2]] for tensor in (got, value))
        torch.testing.assert_close(got, value, rtol=0, atol=atol, msg=name)


def same(one: Path, other: Path) -> None:
    for name in ("model.safetensors", DECODER, "history.csv", "config.yaml", "identity.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_run_leaves_encoder_decoder_and_losses_of_every_epoch(first):
    result = first / f"seed{SEED}"
    rows = list(csv.DictReader((result / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"] and set(rows[0]) == {"epoch", "lr", "loss"}
    assert 0.1 < float(rows[-1]["loss"]) < float(rows[0]["loss"])
    encoder = load_file(result / "model.safetensors")
    assert not any(name.startswith(("decoder", "mask_token", "head")) for name in encoder)
    assert set(weights(result)) == set(Pretraining(pretraining(), digits(), SEED, CPU).model.state_dict())


def test_a_step_is_adamw_on_the_mean_over_its_groups():
    """By hand: loss of all views of two ranks, one micro-batch each; AdamW's first step is lr in each direction."""
    config = pretraining()
    run, data = Pretraining(config, digits(), SEED, CPU), digits()
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    batch = run.views.step(0, 1)
    meter = Meter(CPU, ALONE, False)
    lr = run.update(batch, 0, 1, meter)
    assert len(batch.groups) == 2 and len(batch.x) == 16 and len(data.train_labels) == 46
    whole = -(-46 // 2) // 8  # micro-batches of a loader of one rank
    assert lr == pytest.approx(1e-3 * 1 / whole)  # inside the warm-up, from 0
    again = Pretraining(config, data, SEED, CPU)
    order = torch.from_numpy(again.orders(0, batch.positions.numpy()))
    patches = patchify(batch.x, 2)
    predicted = again.model(patches, order[:, :4], order[:, 4:])
    losses = masked_patch_loss(predicted, normalized_patches(picked(patches, order[:, 4:]))[0])
    (losses[:8].mean() / 2 + losses[8:].mean() / 2).backward()
    assert meter.sums[0].item() / 16 == pytest.approx(losses.mean().item(), rel=1e-6)
    for name, p in again.model.named_parameters():
        if p.grad is not None and p.grad.abs().max() > 1e-6:
            big = p.grad.abs() > 1e-5
            decay = 0.0 if p.ndim <= 1 else 0.05
            expected = before[name] * (1 - lr * decay) - lr * p.grad.sign()
            got = dict(run.model.named_parameters())[name]
            torch.testing.assert_close(got[big], expected[big], rtol=0, atol=2e-3 * lr, msg=name)


@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_run_ends_in_the_same_bytes(first, tmp_path, after):
    """Within the first epoch and in a later one."""
    with pytest.raises(Stop):
        pretrain(pretraining(), digits(), SEED, stopping(after)(tmp_path, "mgp", "identity", CPU, quiet=True), CPU)
    same(first / f"seed{SEED}", trained(tmp_path))


def test_micro_batches_and_half_precision_change_roundings_alone(first, tmp_path):
    whole = weights(first / f"seed{SEED}")
    close(weights(trained(tmp_path / "parts", execution=Execution(micro_batch=8))), whole, 2e-5)
    close(weights(trained(tmp_path / "half", execution=Execution("bf16"))), whole, 1e-2)


def in_a_team(team, folder: str) -> None:
    torch.set_num_threads(1)
    trained(Path(folder), team=team)


def test_two_processes_train_what_one_does(first, tmp_path):
    together(2, tmp_path / "team", in_a_team, str(tmp_path / "run"))
    close(weights(tmp_path / "run/result"), weights(first / f"seed{SEED}"), 2e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("execution", [Execution(), Execution("bf16", "compiled")])
def test_on_a_gpu_it_is_the_same_run(first, tmp_path, execution):
    device, folder = torch.device("cuda"), tmp_path / "gpu"
    work = Workspace(folder, "mgp", "identity", device, quiet=True)
    pretrain(pretraining(), digits(), SEED, work, device, execution)
    close(weights(folder / "result"), weights(first / f"seed{SEED}"), 1e-2)


def test_a_fine_tuning_starts_from_the_encoder(first, tmp_path):
    """Encoder taken, its last norm left out, fc_norm 1 and 0, head of std 2e-5; positions trained from there."""
    config, data = experiment(), digits()
    start = read_pretraining(first, SEED, "mgp", config.pretrained, data)
    student = Student(config, data, SEED, None, CPU, start=start)
    state, encoder = student.model.state_dict(), load_file(first / f"seed{SEED}/model.safetensors")
    assert set(encoder) - set(state) == {"norm.weight", "norm.bias"}
    for name, value in encoder.items():
        assert name.startswith("norm.") or torch.equal(state[name], value), name
    assert torch.equal(state["fc_norm.weight"], torch.ones(16)) and not state["fc_norm.bias"].any()
    assert 1e-5 < state["head.weight"].std() < 3e-5 and not state["head.bias"].any()
    before, meter = student.model.pos_embed.detach().clone(), Meter(CPU, ALONE, False)
    student.train()
    lr = student.update(student.views.step(1, 0), 1, 0, meter)
    rates = {group["lr_scale"]: group["lr"] for group in student.optimizer.param_groups}
    assert rates == {scale: lr * scale for scale in (0.125, 0.25, 0.5, 1.0)} and lr == pytest.approx(1e-3)
    moved = (student.model.pos_embed - before).abs().max().item()
    assert 0.9 * lr * 0.125 < moved < 1.01 * lr * 0.125
    train_student(config, data, SEED, None, workspace(tmp_path), CPU, start=start)
    assert len(list(csv.DictReader((tmp_path / "result/history.csv").read_text().splitlines()))) == 2


def test_positions_are_interpolated_for_another_size(first):
    changes = {"model": {"image_size": 12}, "train": {"eval_resize": 12}}
    table = TABLE | {"views": TABLE["views"] | {"mixed": TABLE["views"]["mixed"] | {"size": 12}}}
    entry = TABLE["experiments"]["bft"] | {"set": changes, "start_size": 8}
    config = resolve(table | {"experiments": {"bft": entry}}, "bft")[0]
    start = read_pretraining(first, SEED, "mgp", config.pretrained, digits())
    model = Student(config, digits(), SEED, None, CPU, start=start).model
    assert torch.equal(model.pos_embed, resized_positions(start.state["pos_embed"], 6, 1))
    damaged = replace(start, state=start.state | {"pos_embed": torch.zeros(1, 16, 16)})
    lacking = replace(start, state={k: v for k, v in start.state.items() if k != "pos_embed"})
    for wrong, message in (
        (damaged, "15 positions are no square grid to interpolate to 6 x 6"),
        (lacking, "pos_embed"),
    ):
        with pytest.raises(UserError, match=message) as error:
            begin(model, wrong, head_only=False)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_ratio": 1.0}, "mask_ratio is a share between 0 and 1, found 1.0"),
        ({"mask_ratio": 0.0}, "mask_ratio is a share between 0 and 1, found 0.0"),
        ({"mask_ratio": 0.99}, "leaves 0 of 16 patches visible"),
        ({"set": {"model": {"patch_size": 3}}}, "image_size 8 is not a multiple of patch_size 3"),
        ({"views": "mixed"}, "sees single images, but views.mixed mixes them; its mix_prob must be 0"),
        ({"set": {"model": {"image_size": 16}}}, "the model takes 16 px, views.one makes 8"),
        ({"set": {"model": {"positions": "learned"}}}, "a masked autoencoder has positions: sincos"),
        ({"decoder": {"dim": 9, "depth": 1, "heads": 2}}, "decoder: dim 9 is not a multiple of heads 2"),
        ({"seeds": []}, "pretrainings.mgp.seeds: give at least one"),
        ({"dataset": "tinny"}, "no entry 'tinny' in datasets; did you mean 'tiny'"),
    ],
)
def test_a_wrong_pretraining_is_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        pretraining(**changes)
    assert "\n" not in str(error.value) and str(error.value).startswith(("pretrainings.mgp", "views."))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "other"}, "was pretrained with dataset tiny, the experiment has other; .* start_dataset: tiny"),
        ({"start_size": 16}, "was pretrained with image_size 8, the experiment has 16; .* start_size: 8"),
        ({"set": {"model": {"patch_size": 4}}}, "was pretrained with patch_size 2, the experiment has 4; they must be"),
        ({"set": {"model": {"depth": 3}}}, "was pretrained with depth 2, the experiment has 3"),
    ],
)
def test_a_pretraining_of_another_kind_is_refused(first, changes, message):
    config = experiment(**changes)
    with pytest.raises(UserError, match=message) as error:
        read_pretraining(first, SEED, "mgp", config.pretrained, digits())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "mpg"}, "start: no entry 'mpg' in experiments or pretrainings; did you mean 'mgp'"),
        ({"set": {"model": {"positions": "learned"}}}, "a model starts that has positions: sincos"),
        ({"start": "none", "start_size": 8}, "belong to a start from a pretraining"),
        ({"set": {"loss": {"loss": "lade"}}}, "loss lade, takes hard labels, but views.mixed mixes images"),
        ({"set": {"train": {"layer_decay": 0.0}}}, "layer_decay is a factor above 0, at most 1"),
        ({"set": {"train": {"warmup_lr": 1e-6}}}, "schedule after_warmup begins at 0; warmup_lr must be 0.0"),
    ],
)
def test_a_wrong_fine_tuning_is_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        experiment(**changes)
    assert "\n" not in str(error.value)


def test_a_missing_or_foreign_run_is_refused(first, tmp_path):
    config, data = experiment(), digits()
    with pytest.raises(UserError, match=r"no such run to start from; train it first \(stages/pretrain.py mgp\)"):
        read_pretraining(tmp_path / "mgp", SEED, "mgp", config.pretrained, data)
    with pytest.raises(UserError, match="is no run of pretraining other, but of mgp"):
        read_pretraining(first, SEED, "other", config.pretrained, data)
    assert "pretraining" in read_run(first / f"seed{SEED}", data).config


def test_its_probe_sees_masks_and_steps():
    plain = pretraining_probe(pretraining(), digits(), SEED)
    assert plain.differences(pretraining_probe(pretraining(), digits(), SEED)) == []
    assert plain.exact["masks of epoch 0"][0] == 4
    other = plain.differences(pretraining_probe(pretraining(mask_ratio=0.5), digits(), SEED))
    assert any(line.startswith("masks of epoch 0") for line in other)
    assert mae.DECODER == ("mask_token", "decoder_")
