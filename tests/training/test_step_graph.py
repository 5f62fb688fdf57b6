"""Steps by graph against the plain loop. On a CPU a recording stands in for the graph, and bytes must be equal."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from longtail.base import params
from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.runs.execution import Execution
from longtail.runs.workspace import Workspace
from longtail.training import teacher_training
from longtail.training.engine import WARM_UP, CudaGraphs, Steps
from longtail.training.teacher_training import train_teacher
from tests.helpers.recorded_graphs import RecordedGraphs
from tests.training.test_teacher import (
    CPU,
    DIGITS,
    FILES,
    PACO_TEACHER,
    Interrupted,
    Interrupting,
    config_of,
    history_of,
    train,
)

pytestmark = pytest.mark.usefixtures("one_thread")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

SAM = {"sam_rho": [[2, 0.05], [None, 0.1]], "milestones": [3], "factors": [0.1]}
TEACHERS = {  # each with four sets of lr, rho and class weights; 7 steps an epoch, the last of 8 images (PaCo: 6 of 32)
    "ldam_drw_sam": SAM | {"drw_epoch": 3},
    "sgd": SAM | {"sam_rho": None, "drw_epoch": 4},
    "balanced_softmax": SAM | {"loss": "balanced_softmax", "max_margin": None, "scale": None, "drw_epoch": 3},
    "paco_sam": PACO_TEACHER | SAM,
}
TEACHERS["ride"] = TEACHERS["balanced_softmax"] | {
    **{"sam_rho": None, "scale": 30.0, "nesterov": True, "drw_epoch": None, "drw_beta": None, "experts": 2},
    "diversity": {"factor": -0.1, "reweight": 0.05, "reweight_epoch": 4},
}


@pytest.fixture(scope="module")
def data() -> LongTail:
    return make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))


@pytest.fixture
def recorded(monkeypatch) -> RecordedGraphs:
    """Every run of the test takes its steps by these graphs."""
    graphs = RecordedGraphs()
    monkeypatch.setattr(teacher_training, "steps_of", lambda execution, device, say: Steps(graphs, say))
    return graphs


class Remembering(Workspace):
    """Keeps what a checkpoint after the last step would hold."""

    def tick(self, state):
        self.last = state
        super().tick(state)


def run(folder, config, data, workspace=Remembering, device=CPU, **how) -> Workspace:
    ws = workspace(folder, "t", "f" * 64, device, quiet=True)
    train_teacher(config, data, 0, ws, device=device, **how)
    return ws


def facts_of(ws: Workspace) -> dict:
    return json.loads((ws.result / "identity.json").read_text())


def momentum_of(ws: Remembering) -> list[torch.Tensor]:
    return [state["momentum_buffer"] for state in ws.last()["optimizer"]["state"].values()]


@pytest.mark.parametrize(("name", "precision"), [*((name, "fp32") for name in TEACHERS), ("ldam_drw_sam", "bf16")])
def test_replayed_steps_end_in_the_bytes_of_the_plain_loop(data, tmp_path, monkeypatch, name, precision):
    config, how = config_of(epochs=5, **TEACHERS[name]), {"execution": Execution(precision)}
    plain, graphs = run(tmp_path / "plain", config, data, **how), RecordedGraphs()
    monkeypatch.setattr(teacher_training, "steps_of", lambda execution, device, say: Steps(graphs, say))
    replayed = run(tmp_path / "replayed", config, data, **how)
    for file in FILES:  # weights, batch statistics, history, logits
        assert (plain.result / file).read_bytes() == (replayed.result / file).read_bytes(), file
    for ours, theirs in zip(momentum_of(replayed), momentum_of(plain), strict=True):
        assert torch.equal(ours, theirs)
    steps = 5 * (6 if config.drop_last else 7)
    assert graphs.eager + graphs.replays == steps and graphs.eager == (WARM_UP if config.drop_last else 2 * WARM_UP)
    assert graphs.forgets == 4


def test_an_interrupted_run_of_replayed_steps_ends_in_the_same_bytes(data, tmp_path, recorded):
    config = config_of(epochs=5, **TEACHERS["ldam_drw_sam"])
    whole = train(tmp_path / "whole", config, data)
    for stop in (1, 5, 9, 10):  # within the warm-up, in replayed steps, at an epoch's end
        Interrupting.after = stop
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", config, data, workspace=Interrupting)
    parts = train(tmp_path / "parts", config, data)
    for file in FILES:
        assert (whole / file).read_bytes() == (parts / file).read_bytes(), file


def test_a_step_that_cannot_be_recorded_is_taken_eagerly_and_so_are_all_others(data, tmp_path, recorded, monkeypatch):
    def record(function):
        recorded.recordings += 1
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    monkeypatch.setattr(recorded, "record", record)
    config = config_of(epochs=2)
    refused = run(tmp_path / "refused", config, data, execution=Execution(engine="compiled"))
    assert recorded.recordings == 1 and facts_of(refused)["engine"] == "eager"
    line = "steps run eagerly from here: no CUDA graph (operation not permitted when stream is capturing)"
    assert [text.partition(": ")[2] for text in (tmp_path / "refused" / "run.log").read_text().splitlines()] == [line]
    monkeypatch.undo()
    plain = train(tmp_path / "plain", config, data)
    for file in FILES:
        assert (plain / file).read_bytes() == (refused.result / file).read_bytes(), file


def test_what_reads_the_device_on_the_host_cannot_be_recorded():
    """What the stand-in refuses, so that the teachers above are known to do none of it."""
    steps, said = Steps(RecordedGraphs(), (lines := []).append), torch.ones(3)
    for _ in range(WARM_UP + 1):
        assert steps(lambda x: x * x.sum().item(), (said,), None).tolist() == [3.0] * 3
    assert len(lines) == 1 and "_local_scalar_dense" in lines[0] and steps.engine == "eager"


def test_a_recording_that_fails_leaves_the_stream_as_it_was(monkeypatch):
    """With what stands in for CUDA: a recording takes another stream, and where it fails does not give it back."""
    now = ["the run's"]

    @contextmanager
    def on(stream):
        before, now[0] = now[0], stream
        try:
            yield
        finally:
            now[0] = before

    @contextmanager
    def recording(graph, pool, stream, capture_error_mode):
        now[0] = stream
        yield

    stand_ins = {"Stream": lambda device: "the graphs'", "stream": on, "graph": recording, "CUDAGraph": object}
    stand_ins |= {"current_stream": lambda: now[0], "graph_pool_handle": object}
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    lines, x = [], torch.ones(2)
    steps = Steps(graphs := CudaGraphs(torch.device("cuda")), lines.append)
    monkeypatch.setattr(graphs, "eagerly", lambda function: function())

    def step(x):
        if now[0] != "the run's":
            raise RuntimeError("operation not permitted")
        return 2 * x

    for _ in range(WARM_UP + 2):
        assert steps(step, (x,), None).tolist() == [2.0, 2.0]
    assert now == ["the run's"] and len(lines) == 1 and steps.engine == "eager"


def test_numbers_and_shapes_each_have_their_recording():
    graphs = RecordedGraphs()
    steps, x = Steps(graphs, print), torch.arange(4.0)
    for call in range(WARM_UP + 2):
        assert torch.equal(steps(lambda x: 2 * x, (x + call,), 2), 2 * (x + call))
    assert torch.equal(steps(lambda x: 3 * x, (x,), 3), 3 * x)  # kernels are known: recorded at once
    assert (graphs.eager, graphs.recordings, graphs.replays) == (WARM_UP, 2, 3)
    assert torch.equal(steps(lambda x: 3 * x, (x[:2],), 3), 3 * x[:2])
    assert (graphs.eager, graphs.recordings) == (WARM_UP + 1, 2)
    assert torch.equal(steps(lambda x: 3 * x, (x + 1,), 3), 3 * (x + 1)) and graphs.recordings == 2


def test_compiled_on_a_cpu_is_eager_and_says_so(data, tmp_path):
    ws = run(tmp_path, config_of(epochs=1), data, execution=Execution("bf16", "compiled"))
    assert facts_of(ws)["precision"] == "bf16" and facts_of(ws)["engine"] == "eager"
    assert "a teacher's steps run eagerly on device cpu" in (tmp_path / "run.log").read_text()


def test_float16_is_refused(data, tmp_path):
    with pytest.raises(UserError, match="precision fp16: teachers take fp32 or bf16"):
        run(tmp_path, config_of(), data, execution=Execution("fp16"))


# ---- on a GPU


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TEACHERS)
def test_graphs_are_the_eager_steps_on_cuda(data, tmp_path, monkeypatch, name, precision):
    """Two epochs, so that what rounding moves, should a kernel sum in another order, has not grown."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    config, device = config_of(epochs=2, **TEACHERS[name]), torch.device("cuda")
    weights, rows = {}, {}
    for engine in ("eager", "compiled"):
        ws = run(tmp_path / engine, config, data, device=device, execution=Execution(precision, engine))
        assert facts_of(ws)["engine"] == engine, (tmp_path / engine / "run.log").read_text()
        weights[engine], rows[engine] = load_file(ws.result / "model.safetensors"), history_of(ws.result)
    tolerance = {"fp32": 1e-3, "bf16": 2e-2}[precision]
    for key, value in weights["eager"].items():
        torch.testing.assert_close(weights["compiled"][key], value, rtol=tolerance, atol=tolerance, msg=key)
    for ours, theirs in zip(rows["compiled"], rows["eager"], strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=tolerance)


class NoWaiting(Remembering):
    """In the fifth and the sixth step of a run whatever waits for the GPU raises."""

    def tick(self, state):
        self.ticks = getattr(self, "ticks", 0) + 1
        torch.cuda.set_sync_debug_mode("error" if self.ticks in (4, 5) else "default")
        super().tick(state)


@needs_cuda
@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("name", ["ldam_drw_sam", "balanced_softmax", "paco_sam", "ride"])
def test_the_host_never_waits_within_a_step(data, tmp_path, name, engine):
    """A graph is recorded in the fourth step."""
    config = config_of(**TEACHERS[name] | {"epochs": 1, "milestones": [], "factors": []})
    try:
        ws = run(tmp_path, config, data, NoWaiting, torch.device("cuda"), execution=Execution("bf16", engine))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert facts_of(ws)["engine"] == engine
