"""Steps by graph against the plain loop. On a CPU a recording stands in for the graph, and bytes must be equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recorded_graphs import RecordedGraphs
from test_teacher import CPU, DIGITS, FILES, PACO_TEACHER, Interrupted, Interrupting, config_of, train

from longtail import params, teacher_training
from longtail.data import LongTail
from longtail.errors import UserError
from longtail.execution import Execution
from longtail.sources import DatasetConfig, make_longtail
from longtail.step_graph import WARM_UP, Steps, steps_of
from longtail.teacher_training import train_teacher
from longtail.workspace import Workspace

pytestmark = pytest.mark.usefixtures("one_thread")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

SAM = {"sam_rho": [[2, 0.05], [None, 0.1]], "milestones": [3], "factors": [0.1]}  # in epochs 0, 1, 2, 3 another lr or rho
TEACHERS = {  # 7 steps an epoch, the last of 8 images; PaCo: 6 of 32
    "ldam_drw_sam": SAM | {"drw_epoch": 3},
    "sgd": SAM | {"sam_rho": None, "drw_epoch": 4},
    "balanced_softmax": SAM | {"loss": "balanced_softmax", "max_margin": None, "scale": None, "drw_epoch": 3},
    "paco_sam": PACO_TEACHER | SAM,
}
NUMBERS = {"ldam_drw_sam": 4, "sgd": 4, "balanced_softmax": 4, "paco_sam": 4}  # of sets of lr, rho and weights


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


def momentum_of(ws: Remembering) -> list[torch.Tensor]:
    return [state["momentum_buffer"] for state in ws.last()["optimizer"]["state"].values()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TEACHERS)
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
    assert graphs.forgets == NUMBERS[name]


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


def test_a_graph_that_cannot_be_recorded_leaves_an_eager_run_and_one_line(data, tmp_path, recorded, monkeypatch):
    def record(function):
        with RecordedGraphs.refusing():
            function()

    monkeypatch.setattr(recorded, "record", record)
    ws = run(tmp_path / "refused", config_of(epochs=2), data, execution=Execution(engine="compiled"))
    plain = train(tmp_path / "plain", config_of(epochs=2), data)
