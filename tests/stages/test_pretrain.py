"""LiVT in miniature through the stages as processes: pretraining, its pictures, and what starts from it."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from longtail.base.params import load_all
from tests.helpers.root import ROOT
from tests.helpers.stage_processes import SUBSAMPLE, Run, command, finish, start, tiny_params, until

PRETRAIN, RECONSTRUCT = command("pretrain", "tiny-mgp"), command("reconstruct", "tiny-mgp")
RUN = Path("data/students/tiny-mgp/seed0")
BFT = ("train_student", "tiny-livt", "--dataset", "data/datasets/tiny.npz", "--start-from", "data/students/tiny-mgp")
BFT += ("--out", "data/students/tiny-livt")


def livt(params: dict) -> None:
    """A fine-tuning beside the entries of tests/helpers/tiny.yaml, and a pretraining that lasts a moment."""
    recipe = params["recipes"]["tiny-mgp"]
    recipe["train"]["epochs"] = 40
    params["methods"]["livt"] = load_all(ROOT)["methods"]["livt"]
    model = recipe["model"] | {"drop_path": 0.1, "pool": "mean", "head_std": 2e-5}
    schedule = {"schedule": "after_warmup", "layer_decay": 0.75, "warmup_lr": 0.0}
    params["recipes"]["tiny-livt"] = {"model": model, "train": params["recipes"]["tiny"]["train"] | schedule}
    entry = params["experiments"]["tiny-vit"] | {"method": "livt", "recipe": "tiny-livt", "start": "tiny-mgp"}
    params["experiments"]["tiny-livt"] = entry


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("livt")
    tiny_params(folder, livt)
    for line in (SUBSAMPLE, PRETRAIN, RECONSTRUCT, BFT):
        finish(folder, *line)
    return folder


def test_pretrained_and_fine_tuned(made):
    losses = pd.read_csv(made / RUN / "history.csv")["loss"]
    assert len(losses) == 40 and losses.iloc[-1] < losses.iloc[0] < 1.5
    facts = json.loads((made / "data/students/tiny-livt/seed0/identity.json").read_text())
    first = json.loads((made / RUN / "identity.json").read_text())
    assert len(facts["start_digest"]) == 64 and facts["class_order"] == first["class_order"]
    state = load_file(made / "data/students/tiny-livt/seed0/model.safetensors")
    encoder = load_file(made / RUN / "model.safetensors")
    assert set(state) - set(encoder) == {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
    moved = (state["blocks.1.mlp.fc1.weight"] - encoder["blocks.1.mlp.fc1.weight"]).abs().max()
    assert 0 < moved < 0.1  # few steps from the encoder, not from first weights
    with np.load(made / "data/students/tiny-livt/seed0/predictions.npz") as found:
        assert set(found) >= {"logits_last_cls", "logits_best_cls"}


def test_pictures_keep_what_was_visible(made):
    folder = made / "reports/analysis/tiny/pretrainings/tiny-mgp"
    with np.load(folder / "reconstructions.npz") as found:
        images, masked, whole = (found[name].astype(int) for name in ("images", "masked", "reconstructed"))
    assert images.shape == (8, 24, 24, 3)
    hidden = (masked == 128).all(-1).reshape(8, 4, 6, 4, 6).all((2, 4))
    assert hidden.sum((1, 2)).tolist() == [12] * 8  # of 16 patches, and each image has its own
    assert len({row.tobytes() for row in hidden}) > 1
    seen = ~np.repeat(np.repeat(hidden, 6, 1), 6, 2)
    assert np.abs(images - whole)[seen].max() <= 1 and np.abs(images - masked)[seen].max() <= 1
    assert np.abs(images - whole)[~seen].max() > 1
    curves = pd.read_csv(folder / "curves.csv")
    assert list(curves.columns) == ["seed", "epoch", "loss"] and len(curves) == 40


def stop(run: Run, folder: Path) -> None:
    until(lambda: any(folder.glob("scratch/*/checkpoint.pt")), run)
    run.process.terminate()
    assert run.wait() == 143 and "state saved" in run.out


def test_a_stopped_pretraining_ends_in_the_same_bytes(made, tmp_path):
    tiny_params(tmp_path, livt)
    shutil.copytree(made / "data/datasets", tmp_path / "data/datasets")
    stop(start(tmp_path, *PRETRAIN, LONGTAIL_SAVE_EVERY_S=0), tmp_path)
    assert "resumed after" in finish(tmp_path, *PRETRAIN).out
    for name in ("model.safetensors", "decoder.safetensors", "history.csv", "identity.json", "probe.json"):
        assert (tmp_path / RUN / name).read_bytes() == (made / RUN / name).read_bytes(), name
    assert "already there" in finish(tmp_path, *PRETRAIN).out
    assert signal.SIGTERM == 15


def test_a_team_pretrains_what_one_process_does(made, tmp_path):
    tiny_params(tmp_path, livt)
    shutil.copytree(made / "data/datasets", tmp_path / "data/datasets")
    finish(tmp_path, *PRETRAIN, LONGTAIL_NPROC=2)
    ours, theirs = (pd.read_csv(folder / RUN / "history.csv")["loss"] for folder in (tmp_path, made))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    assert json.loads((tmp_path / RUN / "identity.json").read_text())["processes"] == 2


def says(folder: Path, *line: str, **changes) -> str:
    """The one line on stderr of a stage that is refused."""

    def change(params: dict) -> None:
        livt(params)
        for path, value in changes.items():
            *blocks, key = path.split("__")
            block = params
            for name in blocks:
                block = block[name.replace("_", "-") if name.startswith("tiny_") else name]
            block[key] = value

    tiny_params(folder, change)
    run = start(folder, *line)
    assert run.wait() == 2 and run.err.startswith("error: ") and run.err.count("\n") == 1, run.err
    return run.err


@pytest.mark.parametrize(
    ("line", "changes", "message"),
    [
        (PRETRAIN, {"pretrainings__tiny_mgp__mask_ratio": 1.5}, "mask_ratio is a share between 0 and 1, found 1.5"),
        (PRETRAIN, {"recipes__tiny_mgp__model__patch_size": 5}, "image_size 24 is not a multiple of patch_size 5"),
        (PRETRAIN, {"pretrainings__tiny_mgp__views": "tiny"}, "mixes them; its mix_prob must be 0"),
        ((*PRETRAIN, "--micro-batch", "3"), {}, "--micro-batch 3: must be a multiple of mix_group 8"),
        (BFT, {"experiments__tiny_livt__start_size": 12}, "was pretrained with image_size 24, the experiment has 12"),
        (BFT, {"recipes__tiny_livt__model__patch_size": 4}, "was pretrained with patch_size 6, the experiment has 4"),
        (
            BFT,
            {"experiments__tiny_livt__start_dataset": "other"},
            "was pretrained with dataset tiny, the experiment has",
        ),
        (BFT, {"experiments__tiny_livt__set": {"loss": {"loss": "lade"}}}, "takes hard labels, but views.tiny mixes"),
        (
            BFT,
            {"experiments__tiny_livt__seeds": [4]},
            "seed4: no such run to start from; train it first (stages/pretrain",
        ),
    ],
)
def test_bad_input_is_one_line(made, tmp_path, line, changes, message):
    shutil.copytree(made / "data", tmp_path / "data", symlinks=True)
    assert message in says(tmp_path, *line, **changes)


def refused(folder: Path, run: str) -> str:
    """What stages/reconstruct.py says of a run that it refuses."""
    at = RECONSTRUCT.index("--run") + 1
    stage = start(folder, *RECONSTRUCT[:at], run, *RECONSTRUCT[at + 1 :])
    assert stage.wait() == 2 and stage.err.count("\n") == 1, stage.err
    return stage.err


def test_pictures_of_a_run_without_a_decoder_are_refused(made, tmp_path):
    """A fine-tuned student; a pretraining that lost its decoder; an encoder imported alone."""
    shutil.copytree(made / "data", tmp_path / "data", symlinks=True)
    tiny_params(tmp_path, livt)
    right = "pictures need a run of stages/pretrain.py"
    fine_tuned = "seed0: is a run of experiment tiny-livt, which has no decoder; "
    assert refused(tmp_path, "data/students/tiny-livt") == f"error: data/students/tiny-livt/{fine_tuned}{right}\n"
    (tmp_path / RUN / "decoder.safetensors").unlink()
    shutil.rmtree(tmp_path / "data/students/tiny-mgp.environment")  # which says that there was one
    lost = f"error: {RUN}/decoder.safetensors: no such file; pretrain the entry first (stages/pretrain.py)\n"
    assert refused(tmp_path, "data/students/tiny-mgp") == lost
    path = tmp_path / RUN / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imported": True, "source": "mae.pth"}))
    imported = f"error: {RUN}: was imported from mae.pth, an encoder without its decoder; {right}"
    rest = ", or a checkpoint that holds its decoder (docs/checkpoints.md)\n"
    assert refused(tmp_path, "data/students/tiny-mgp") == imported + rest
    assert not (tmp_path / RECONSTRUCT[-1]).exists()
