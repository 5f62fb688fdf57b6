"""What makes a student's step fast, and what it must not do: wait for the device, lose a checkpoint, stop at a compiler
that does not work."""

from __future__ import annotations

import json
import threading
from argparse import ArgumentParser

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from longtail.base.errors import UserError
from longtail.models.vit import build_vit, parameter_groups
from longtail.runs import saver
from longtail.runs.execution import Execution, add_options, chosen
from longtail.runs.parallel import ALONE
from longtail.runs.saver import Saver, copied
from longtail.training import engine, student_step
from longtail.training.engine import choose_attention, compile_blocks
from longtail.training.experiment import load_method
from longtail.training.student_step import Meter, Stepper
from longtail.views.student_views import Views
from tests.helpers.interruption import Stop, stopping
from tests.helpers.small import Teacher, digits
from tests.training.test_student import CPU, SEED, config_of, train

HAS_CUDA = torch.cuda.is_available()


@pytest.fixture(scope="module")
def data():
    return digits()


# ---- checkpoints beside training


def test_what_is_saved_is_what_stood_there_when_asked(tmp_path, monkeypatch):
    """However late the file is written."""
    may = threading.Event()
    write = saver.atomic_write
    monkeypatch.setattr(saver, "atomic_write", lambda *args: may.wait() and write(*args))
    weights, rows = torch.zeros(3), [{"loss": 1.0}]
    ours = Saver()
    ours.save({"model": {"w": weights}, "again": weights, "rows": rows, "n": 3}, tmp_path / "c.pt")
    weights += 1
    rows.append({"loss": 2.0})
    assert not (tmp_path / "c.pt").exists()  # training is here already
    may.set()
    ours.wait()
    saved = torch.load(tmp_path / "c.pt", weights_only=True)
    assert saved["model"]["w"].tolist() == [0, 0, 0] and saved["rows"] == [{"loss": 1.0}] and saved["n"] == 3
    assert saved["again"].data_ptr() == saved["model"]["w"].data_ptr()


def test_a_failed_write_is_told_at_the_next_one_and_once(tmp_path):
    ours, full = Saver(), tmp_path / "file"
    full.write_text("")
    ours.save({}, full / "c.pt")  # its folder is a file
    with pytest.raises(OSError, match="file"):
        ours.save({}, tmp_path / "c.pt")
    ours.save({}, tmp_path / "c.pt")
    ours.wait()
    assert (tmp_path / "c.pt").exists()


def test_copies_keep_the_kind_of_what_holds_them():
    value = {"a": (torch.ones(2), [1, "x"]), "b": None}
    copy = copied(value)
    assert copy["a"][0].tolist() == [1, 1] and copy["a"][0] is not value["a"][0]
    assert (type(copy["a"]), copy["a"][1], copy["b"]) == (tuple, [1, "x"], None)


# ---- sums that nobody waits for


class Counting(TorchDispatchMode):
    """Which operations make the host wait for a device that works on its own: those that bring a number back."""

    WAITS = frozenset(
        {
            "aten._local_scalar_dense.default",
            "aten.nonzero.default",
            "aten.is_nonzero.default",
            "aten.equal.default",
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.copies = 0  # to the device, by any way

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.waits += [str(func)] if str(func) in self.WAITS else []
        to = kwargs.get("device")
        if (
            str(func) == "aten._to_copy.default"
            and to is not None
            and to.type == "meta"
            and args[0].device.type == "cpu"
        ):
            self.copies += 1
        return func(*args, **kwargs)


METHODS = ("deit_lt", "vit", "deit_iii")  # cosine heads turn autocast off, which this device does not know


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_step_brings_no_number_back_and_sends_all_by_page_locked_memory(method, epoch, data, monkeypatch):
    """On torch's device without memory, which cannot give a number back: `.item()` fails there. Before and in DRW."""
    meta, uploads = torch.device("meta"), []
    monkeypatch.setattr(
        student_step, "upload", lambda array, device: uploads.append(1) or torch.from_numpy(array).to(device)
    )
    config = config_of(("experiments.e.method", method))
    of = load_method(method).Method
    views = Views(config.views, data.train_images, SEED)
    model = build_vit(config.model, 10, of.distilled, of.head)
    batch = views.step(epoch, 0)
    batch = batch.__class__(**{**vars(batch), "x": batch.x.to(meta)})
    model = model.to(meta).train()
    optimizer = torch.optim.SGD(parameter_groups(model, 0.05), 0.1, foreach=True)
    taught = Labels() if of.needs_teacher else None
    step = Stepper(
        config, model, of(config.loss, data.class_counts, meta), optimizer, taught, data.train_labels, SEED, meta,
        Execution(micro_batch=8), ALONE,
    )  # fmt: skip
    meter = Meter(meta, ALONE, of.distilled)
    with Counting() as seen:
        step(batch, epoch, meter)
        meter.close(epoch, 0.1)
    assert seen.waits == [] and seen.copies == len(uploads) > 0
    with pytest.raises(RuntimeError, match="meta"):
        meter.rows()  # the one that does wait


class Labels(student_step.TeacherLabels):
    def __init__(self) -> None:
        pass

    def at(self, epoch, positions):
        return positions % 10


@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_is_never_waited_for_within_a_step(precision, data):
    device = torch.device("cuda")
    config = config_of(model={"drop_path": 0.5})
    views = Views(config.views, data.train_images, SEED, device=device)
    model = build_vit(config.model, 10, True).to(device).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), 0.1, fused=True)
    method = load_method("deit_lt").Method(config.loss, data.class_counts, device)
    step = Stepper(
        config, model, method, optimizer, Teacher().to(device), data.train_labels, SEED, device,
        Execution(precision), ALONE,
    )  # fmt: skip
    meter = Meter(device, ALONE, True)
    step(views.step(0, 0), 0, meter)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in (1, 2):
            step(views.step(0, number), 0, meter)
        meter.close(0, 0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(meter.rows()[0]["loss"])


def test_rows_are_read_when_asked_for_and_a_loss_that_is_none_names_its_epoch():
    meter = Meter(CPU, ALONE, True)
    for epoch, loss in enumerate([2.0, 1.0, float("nan")]):
        meter.add(torch.tensor([loss, loss]), torch.tensor([3.0, 1.0], dtype=torch.float64), 4, torch.tensor(0.5))
        meter.close(epoch, 0.1)
        if epoch == 1:
            assert meter.rows() == [
                {"epoch": 0, "lr": 0.1, "loss": 2.0, "cls_dist_distance": 0.125},
                {"epoch": 1, "lr": 0.1, "loss": 1.0, "cls_dist_distance": 0.125},
            ]
    with pytest.raises(UserError, match="student diverged: training loss is nan in epoch 2; lower lr"):
        meter.rows()


# ---- half precision


def test_fp16_scales_the_loss_and_a_resumed_run_goes_on_with_the_same_scale(data, tmp_path):
    config = config_of(train={"epochs": 3})
    full, half = (train(tmp_path / p, config, data, Teacher(), execution=Execution(p)) for p in ("fp32", "fp16"))
    a, b = (pd.read_csv(result / "history.csv")["loss"] for result in (full, half))
    assert not a.equals(b) and np.allclose(a, b, rtol=1e-3)
    weights = load_file(half / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float32}
    for _ in range(2):
        with pytest.raises(Stop):
            train(tmp_path / "parts", config, data, Teacher(), stopping(2), execution=Execution("fp16"))
    saved = torch.load(tmp_path / "parts/checkpoint.pt", weights_only=False)["state"]["scaler"]
    assert saved["scale"] == 2.0**16 and saved["_growth_tracker"] == saved["_growth_tracker"] > 0
    parts = train(tmp_path / "parts", config, data, Teacher(), execution=Execution("fp16"))
    assert (parts / "model.safetensors").read_bytes() == (half / "model.safetensors").read_bytes()


def test_an_overflowing_step_is_left_out_and_the_scale_halved(data, monkeypatch):
    config = config_of()
    model = build_vit(config.model, 10, True).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), 0.1, fused=True)
    method = load_method("deit_lt").Method(config.loss, data.class_counts)
    step = Stepper(config, model, method, optimizer, Teacher(), data.train_labels, SEED, CPU, Execution("fp16"), ALONE)
    before, batch = [p.clone() for p in model.parameters()], Views(config.views, data.train_images, SEED).step(0, 0)
    step.scaler._lazy_init_scale_growth_tracker(CPU)
    step.scaler._scale.fill_(2.0**127)  # gradients of float32 overflow
    step(batch, 0, Meter(CPU, ALONE, True))
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert step.scaler.get_scale() == 2.0**126


# ---- the compiler


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

    def forward(self, x):
        return self.blocks(x)


def test_a_compiler_that_fails_leaves_the_network_as_written(monkeypatch):
    def compiled(self, **options):
        def fail(*args):
            raise RuntimeError("no working\nC++ compiler")

        self._compiled_call_impl = fail

    monkeypatch.setattr(nn.Module, "compile", compiled)
    model, x = Broken(), torch.ones(2, 4)
    expected = model(x)
    assert compile_blocks(model, lambda: model(x).sum()) == "RuntimeError: no working C++ compiler"
    assert torch.equal(model(x), expected) and all(p.grad is None for p in model.parameters())
    assert compile_blocks(nn.Linear(2, 2), lambda: None) == "no blocks to compile"


def test_a_run_goes_on_eagerly_and_says_so(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "longtail.training.student.compile_blocks", lambda model, attempt: attempt().backward() or "no compiler"
    )
    config = config_of(train={"epochs": 1}, model={"drop_path": 0.5})
    eager = train(tmp_path / "eager", config, data, Teacher())
    asked = train(tmp_path / "asked", config, data, Teacher(), execution=Execution(engine="compiled"))
    assert "not compiled, goes on eagerly (no compiler)" in (tmp_path / "asked/run.log").read_text()
    kept = [json.loads((result / "identity.json").read_text()) for result in (eager, asked)]
    assert [each["engine"] for each in kept] == ["eager", "eager"]
    assert (kept[1]["precision"], kept[1]["attention"]) == ("fp32", None)


def test_attention_is_left_to_torch_on_a_cpu():
    before = torch.backends.cuda.flash_sdp_enabled()
    assert choose_attention(2, 2, 5, 8, torch.float32, CPU) is None
    assert torch.backends.cuda.flash_sdp_enabled() == before


def test_the_fastest_kernel_that_works_is_taken(monkeypatch):
    """Times are made up: the device is not at hand."""
    allowed, seconds = {}, {"flash": 3.0, "mem_efficient": 2.0, "math": 9.0}
    for name in engine.BACKENDS:
        monkeypatch.setattr(torch.backends.cuda, f"enable_{name}_sdp", lambda on, name=name: allowed.update({name: on}))

    def timed(shape, dtype, device):
        (name,) = [name for name, on in allowed.items() if on]
        if name not in seconds:
            raise RuntimeError("no kernel")
        return seconds[name]

    monkeypatch.setattr(engine, "_attention_seconds", timed)
    monkeypatch.setattr(engine, "_prefer", lambda name: None)
    assert choose_attention(2, 3, 198, 64, torch.bfloat16, torch.device("cuda")) == "mem_efficient"
    assert allowed == {"flash": False, "cudnn": False, "mem_efficient": True, "math": True}


@pytest.mark.parametrize("best", engine.BACKENDS)
def test_the_kernel_taken_comes_before_math(best, monkeypatch):
    """PyTorch's own list has cudnn after math, which would then run in its place."""
    order = torch._C._get_sdp_priority_order()
    monkeypatch.setattr(engine, "_enable", lambda *names: monkeypatch.setattr(engine, "now", names[0], raising=False))
    monkeypatch.setattr(engine, "_attention_seconds", lambda *of: 1.0 if engine.now == best else 2.0)
    try:
        assert choose_attention(2, 3, 198, 64, torch.bfloat16, torch.device("cuda")) == best
        after = torch._C._get_sdp_priority_order()
    finally:
        torch._C._set_sdp_priority_order(order)
    number = {"flash": 1, "cudnn": 3, "mem_efficient": 2, "math": 0}[best]
    assert after[0] == number and sorted(after) == sorted(order)


@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
def test_a_kernel_is_found_on_cuda():
    assert choose_attention(4, 3, 198, 64, torch.bfloat16, torch.device("cuda")) in engine.BACKENDS


def test_engines_of_the_environment_are_checked(monkeypatch):
    parser = ArgumentParser()
    add_options(parser)
    args = parser.parse_args([])
    assert chosen(args, CPU) == Execution("fp32", "eager")
    assert chosen(args, torch.device("cuda"), 8) == Execution("bf16", "compiled", 8)
    monkeypatch.setenv("LONGTAIL_PRECISION", "fp8")
    with pytest.raises(UserError, match="LONGTAIL_PRECISION=fp8: must be one of auto, fp32, bf16, fp16"):
        add_options(ArgumentParser())
