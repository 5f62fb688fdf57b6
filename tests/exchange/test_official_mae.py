"""Masked autoencoders and what was fine-tuned from them, by the names and shapes of the published files."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longtail.base import yaml_file
from longtail.base.errors import UserError
from longtail.exchange.checkpoints import read_checkpoint
from longtail.exchange.imported import Like, import_pretraining, import_run
from longtail.exchange.official import fit, recognise
from longtail.models.mae import MaskedAutoencoder, split_state
from longtail.models.vit import build_vit, head_logits, special_tokens
from longtail.runs.workspace import Workspace
from longtail.training.experiment import resolve
from longtail.training.pretraining_config import resolve_pretraining
from longtail.training.student_run import begin, read_pretraining
from tests.helpers.official_layouts import filled, livt, mae, mae_decoder, on_meta, parameters
from tests.helpers.reporting import run_stage
from tests.helpers.root import ROOT, params_table
from tests.helpers.small import digits

PARAMS = params_table()
CPU = torch.device("cpu")
SMALL = {"depth": 1, "patches": 16, "patch": 2}  # 8 px


# --- the sizes that were published


@pytest.mark.parametrize(
    ("entry", "patches", "number"),
    [("imagenet_lt-livt-b", 196, 86_567_656), ("imagenet_lt-livt-b-384-released", 576, 86_859_496)],
)
def test_fine_tuned_files_are_our_pooling_student(entry, patches, number):
    """86,567,656 trained numbers at 224 px and 86,859,496 at 384, as the logs say."""
    shapes, config = livt(1000, patches=patches), resolve(PARAMS, entry)[0].model
    assert parameters(shapes) == number
    with torch.device("meta"):
        model = build_vit(config, 1000, False)
    found = recognise(on_meta(shapes), "file")
    assert (found.kind, found.what) == ("student", "ViT, width 768, depth 12, mean of the patches, 1000 classes")
    assert {k: v.shape for k, v in found.state.items()} == {k: v.shape for k, v in model.state_dict().items()}


@pytest.mark.parametrize(("entry", "patches"), [("imagenet-mgp-b", 196), ("inat18-mgp-b", 64)])
@pytest.mark.parametrize("whole", [True, False])
def test_pretrained_files_are_our_autoencoder(entry, patches, whole):
    """LiVT's files hold the decoder too; of the original ones those for fine-tuning do not."""
    config, _ = resolve_pretraining(PARAMS, entry)
    shapes = mae(patches=patches) | (mae_decoder(patches=patches) if whole else {})
    found = recognise(on_meta(shapes), "file")
    decoder = "with a decoder" if whole else "without a decoder"
    assert (found.kind, found.what) == ("pretraining", f"ViT, width 768, depth 12, without a head, {decoder}")
    with torch.device("meta"):
        model = MaskedAutoencoder(config.model, config.decoder)
    wanted = model.state_dict() if whole else split_state(model.state_dict())[0]
    assert {k: v.shape for k, v in found.state.items()} == {k: v.shape for k, v in wanted.items()}


def test_what_does_not_fit_is_named():
    config = small()
    model = MaskedAutoencoder(config.model, config.decoder)
    state = filled(mae(16, **SMALL) | mae_decoder(16, 8, **SMALL))
    for change, message in (
        ({"pos_embed": torch.zeros(1, 65, 16)}, r"of another shape: pos_embed \[1, 65, 16\], needed \[1, 17, 16\]"),
        ({"dist_token": torch.zeros(1, 1, 16)}, "unexpected: dist_token"),
    ):
        with pytest.raises(UserError, match=f"file: .*does not fit; {message}"):
            fit(recognise(state | change, "file"), model, "file")
    del state["decoder_norm.bias"]  # a decoder is whole or not there
    with pytest.raises(UserError, match=r"does not fit; missing: decoder_norm\.bias$"):
        fit(recognise(state, "file"), model, "file")


# --- in small, as runs


def small():
    """digits-mgp, narrower."""
    config, _ = resolve_pretraining(PARAMS, "digits-mgp")
    shape = replace(config.model, dim=16, depth=1, heads=2)
    return replace(config, model=shape, decoder=replace(config.decoder, dim=8, depth=1, heads=2))


def imported(folder: Path, state: dict, config) -> Workspace:
    """As the authors' scripts save it."""
    held = {"model": state, "optimizer": {"state": {}}, "epoch": 799, "scaler": {}, "args": Namespace(cls_num=[3, 1])}
    torch.save(held, folder / "file.pth")
    workspace = Workspace(folder / "work", "import", "f" * 64, CPU, quiet=True)
    import_pretraining(Like("pretrainings.x", config), digits(), read_checkpoint(folder / "file.pth"), 0, workspace)
    return workspace


@pytest.mark.parametrize("whole", [True, False])
def test_a_student_starts_from_a_pretraining_that_was_taken_over(tmp_path, whole):
    config, data = small(), digits()
    state = filled(mae(16, **SMALL) | (mae_decoder(16, 8, **SMALL) if whole else {}))
    result = imported(tmp_path, state, config).result
    facts = json.loads((result / "identity.json").read_text())
    assert (facts["imported"], facts["source_decoder"], facts["source"]) == (True, whole, "file.pth")
    assert (result / "decoder.safetensors").is_file() is whole
    if whole:
        assert load_file(result / "decoder.safetensors").keys() == mae_decoder(16, 8, **SMALL).keys()
    result.rename(tmp_path / "seed0")
    student = resolve(PARAMS, "digits-livt")[0]
    shape = replace(student.model, dim=16, depth=1, heads=2)
    wanted = replace(student.pretrained, dataset=config.dataset, dim=16, depth=1, heads=2)
    assert yaml_file.read(tmp_path / "seed0/config.yaml")["pretraining"] == "digits-mgp"
    network = build_vit(shape, 10, False)
    begin(network, read_pretraining(tmp_path, 0, "digits-mgp", wanted, data), head_only=False)
    for name, value in network.state_dict().items():
        if name in state:
            assert torch.equal(value, state[name]), name
    assert not network.fc_norm.bias.any() and not network.head.bias.any()  # fresh, and norm was not put into fc_norm


def test_a_pretraining_with_broken_numbers_and_one_of_another_kind_are_refused(tmp_path):
    state = filled(mae(16, **SMALL))
    with pytest.raises(UserError, match=r"file\.pth: ViT, .* is a student; pretrainings\.x is a pretraining"):
        imported(tmp_path, filled(livt(10, 16, **SMALL)), small())
    state["blocks.0.mlp.fc1.bias"][3] = torch.nan
    with pytest.raises(UserError, match=r"has numbers that are not finite in blocks\.0\.mlp\.fc1\.bias"):
        imported(tmp_path, state, small())


def test_inaturalist_files_number_classes_as_text(tmp_path):
    """METHODS trap 7: ImageFolder sorts the folders 0, 1, 10, 11, 2, ...; the file's output 2 is class 10."""
    order = np.array([0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3])  # the output that stands for each class
    config, data = resolve(PARAMS, "digits-livt")[0], digits()
    config = replace(config, model=replace(config.model, dim=16, depth=1, heads=2))
    state = filled(livt(12, 16, **SMALL)) | {"head.bias": torch.zeros(12)}
    colours = np.random.default_rng(0).integers(0, 256, (240, 1, 1, 3)).repeat(8, 1).repeat(8, 2)
    data = replace(
        data,
        test_images=colours.astype(np.uint8),
        class_counts=np.arange(12, 0, -1),
        class_names=tuple(str(number) for number in range(12)),
    )
    model = build_vit(config.model, 12, False).eval()
    fit(recognise(state, "file"), model, "file")
    like = Like("experiments.x", config)
    with torch.no_grad():
        outputs = like.logits(model, data, CPU)["cls"].argmax(1).numpy()
    assert len(set(outputs.tolist()) - {0, 1}) > 1  # the order moves all others
    data = replace(data, test_labels=np.argsort(order)[outputs])  # what a file that is always right was trained on
    torch.save({"model": state}, tmp_path / "file.pth")
    checkpoint = read_checkpoint(tmp_path / "file.pth")

    def run(given) -> Workspace:
        workspace = Workspace(tmp_path / "work", "import", "f" * 64, CPU, quiet=True)
        import_run(like, data, checkpoint, given, 0, workspace, CPU)
        return workspace

    with pytest.raises(UserError, match="pass --class-map numbers_as_text"):
        run(None)
    result = run(order).result
    assert json.loads((result / "identity.json").read_text())["top1"] == 100.0
    taken = build_vit(config.model, 12, False).eval()
    taken.load_state_dict(load_file(result / "model.safetensors"))
    with torch.no_grad():
        tokens = special_tokens(model, torch.zeros(1, 3, 8, 8))
        before, after = head_logits(model, tokens)["cls"], head_logits(taken, tokens)["cls"]
    assert torch.equal(after, before[:, order])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            ("train_student", "imagenet_lt-livt-b-released"),
            "error: experiments.imagenet_lt-livt-b-released is a released checkpoint and is not trained here; take it",
        ),
        (
            ("import_checkpoint", "x.pth", "--kind", "pretraining", "--like", "imagenet-mgp-b", "--class-map", "as_is"),
            "error: --class-map as_is: pretrainings.imagenet-mgp-b is a pretraining, which has no classes; leave it",
        ),
    ],
)
def test_what_cannot_be_is_a_line(line, message, tmp_path, capsys):
    where = ("--dataset", tmp_path / "x.npz", "--out", tmp_path / "out", "--params", ROOT / "papers/livt/params.yaml")
    assert run_stage(*line, *where) == 2
    assert capsys.readouterr().err.startswith(message)
