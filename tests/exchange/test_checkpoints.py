"""Foreign checkpoint files: weights are found, nothing is run."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from longtail.base.errors import UserError
from longtail.exchange.checkpoints import Values, read_checkpoint

STATE = {"conv1.weight": torch.arange(6.0).view(2, 3), "bn1.num_batches_tracked": torch.tensor(7)}


def saved(path: Path, value, **options) -> Path:
    torch.save(value, path, **options)
    return path


def same(state) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[name], STATE[name]) for name in STATE)


# --- containers


@pytest.mark.parametrize("key", ["state_dict", "model", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_weights_are_found_and_unwrapped(tmp_path, key, prefix):
    held = {key: {f"{prefix}{name}": value for name, value in STATE.items()}, "optimizer": {"state": {}}}
    found = read_checkpoint(saved(tmp_path / "a.pth.tar", held))
    assert same(found.state) and found.container == key
    assert found.digest == hashlib.sha256((tmp_path / "a.pth.tar").read_bytes()).hexdigest()


@pytest.mark.parametrize("legacy", [True, False])
def test_bare_weights(tmp_path, legacy):
    found = read_checkpoint(saved(tmp_path / "a.pth", STATE, _use_new_zipfile_serialization=not legacy))
    assert same(found.state) and (found.container, found.epoch, found.claim, found.about) == ("bare", -1, None, None)


def test_what_a_file_is_decides_and_not_its_suffix(tmp_path):
    save_file(STATE, tmp_path / "a.pth")
    assert same(read_checkpoint(tmp_path / "a.pth").state)


def test_a_prefix_that_only_some_names_have_stays(tmp_path):
    found = read_checkpoint(saved(tmp_path / "a.pth", {"module.a": torch.zeros(1), "b": torch.zeros(1)}))
    assert set(found.state) == {"module.a", "b"}


def test_ema_weights_are_not_the_reported_ones(tmp_path):
    """METHODS trap 36."""
    held = {"model_ema": {name: value + 1 for name, value in STATE.items()}, "model": STATE}
    assert same(read_checkpoint(saved(tmp_path / "a.pth", held)).state)


def test_half_precision_becomes_float32(tmp_path):
    found = read_checkpoint(saved(tmp_path / "a.pth", {"w": torch.tensor([1.5], dtype=torch.float16)}))
    assert found.state["w"].dtype == torch.float32 and found.state["w"].item() == 1.5


def test_safetensors_with_our_header(tmp_path):
    about = {"dataset": "tiny", "class_order": "0" * 64, "class_names": ["a"]}
    save_file(STATE, tmp_path / "a.safetensors", {"longtail": json.dumps(about)})
    found = read_checkpoint(tmp_path / "a.safetensors")
    assert same(found.state) and found.about == about


# --- what the official training scripts pickle beside the weights


def test_a_checkpoint_of_the_deit_lt_script(tmp_path):
    """Arguments in a Namespace, with a path and an array of classes; NumPy numbers; the epoch counts from 0."""
    args = argparse.Namespace(lr=2.5e-4, output_dir=Path("out/deit"), class_map=np.arange(3), cls_num_list=[5, 4])
    held = {"model": STATE, "args": args, "epoch": 1199, "scaler": {"scale": 65536.0}, "best_acc_avg": 87.5}
    held |= {"head_acc_avg": np.float64(94.5), "tail_acc_avg": np.float32(85.0), "n": np.int64(3), "model_ema": STATE}
    found = read_checkpoint(saved(tmp_path / "best.pth", held))
    assert same(found.state) and (found.epoch, found.claim) == (1199, 87.5)


def test_a_checkpoint_of_the_saddle_script(tmp_path):
    """Its epoch is the number of epochs done; its best accuracy a tensor of one number."""
    state = {f"module.{name}": value for name, value in STATE.items()}
    held = {"epoch": 200, "arch": "resnet32", "state_dict": state, "best_acc1": torch.tensor([81.25]), "optimizer": {}}
    found = read_checkpoint(saved(tmp_path / "ckpt.best.pth.tar", held))
    assert same(found.state) and (found.epoch, found.claim) == (199, 81.25)


def test_numpy_1_and_other_pythons_name_their_types_otherwise(tmp_path):
    """The same pickle with the module names of NumPy 1 and of Python 3.13 (protocol 2, as torch writes it)."""
    path = saved(tmp_path / "a.pth", {"model": STATE, "x": np.float64(2.0), "d": Path("a/b")}, **OLD)
    text = path.read_bytes()
    for new, old in (
        (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"),
        (b"cpathlib\n", b"cpathlib._local\n"),
    ):
        assert new in text
        text = text.replace(new, old)
    path.write_bytes(text)
    assert same(read_checkpoint(path).state)


OLD = {"_use_new_zipfile_serialization": False}  # one plain pickle, without a checksum


def test_arguments_are_held_by_a_stand_in(tmp_path):
    """Not even argparse's own class is made."""
    from longtail.exchange.checkpoints import _read_pickle

    held = _read_pickle(saved(tmp_path / "a.pth", {"args": argparse.Namespace(lr=0.1)}))
    assert type(held["args"]) is Values and held["args"].lr == 0.1


# --- nothing is run


class Malicious:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize(("call", "named"), [(os.system, r"\w+.system"), (os.mkdir, r"\w+.mkdir"), (eval, "eval")])
def test_a_malicious_file_does_not_run(tmp_path, call, named, legacy):
    mark = tmp_path / "mark"
    argument = {os.system: f"mkdir {mark}", os.mkdir: str(mark), eval: f"__import__('os').mkdir('{mark}')"}[call]
    held = {"model": STATE, "args": Malicious(call, argument)}
    path = saved(tmp_path / "a.pth", held, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=f"a.pth: .*{named}") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value) and not mark.exists()
    torch.load(path, weights_only=False)  # the test can fail: opened without care, it does run
    assert mark.exists()


def test_a_whole_model_is_refused_with_what_to_do(tmp_path):
    path = saved(tmp_path / "a.pth", torch.nn.Sequential(torch.nn.Linear(1, 1)))
    with pytest.raises(UserError, match=r"would call torch.nn.*\.Sequential.*torch.save\(model.state_dict\(\), FILE\)"):
        read_checkpoint(path)


def test_plain_pickles_are_no_checkpoints(tmp_path):
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Malicious(os.mkdir, str(tmp_path / "mark")), 2))
    with pytest.raises(UserError, match=r"a.pth"):
        read_checkpoint(tmp_path / "a.pth")
    assert not (tmp_path / "mark").exists()


# --- what else can be wrong


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([1, 2], "holds a list; expected a dict of tensors, or one under state_dict, model or model_ema"),
        ({"epoch": 3}, "'epoch' is a int, not a named tensor; expected a dict of tensors, or one under state_dict"),
        ({"state_dict": {"a": torch.zeros(1), "b": 2}}, "'b' is a int, not a named tensor; in state_dict"),
        ({0: torch.zeros(1)}, "'0' is a Tensor, not a named tensor"),
        ({"model": {}}, "holds no weights, 'model' is empty"),
        ({}, "holds no weights"),
    ],
)
def test_files_without_weights(tmp_path, held, message):
    with pytest.raises(UserError, match=f"a.pth: .*{message}"):
        read_checkpoint(saved(tmp_path / "a.pth", held))


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_files_cut_short(tmp_path, name, keep):
    path = tmp_path / name
    save_file(STATE, path) if name.endswith("safetensors") else torch.save(STATE, path)
    size = path.stat().st_size
    os.truncate(path, int(keep * size) if keep < 1 else keep)
    with pytest.raises(UserError, match=f"{name}: no .*or cut short") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match=r"a.pth: no such file"):
        read_checkpoint(tmp_path / "a.pth")
