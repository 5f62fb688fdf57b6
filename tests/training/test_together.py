"""A student trained by several processes is the student that one process trains, but for the order of float sums.

Weights are float64 here, so that the order is all that is left: in float32 a gradient that is zero but for rounding,
such as that of the keys' bias, is as large as AdamW makes it.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from longtail.models.build import build_network
from longtail.models.vit import special_tokens
from longtail.runs import workspace
from longtail.runs.execution import Execution
from longtail.runs.parallel import ALONE, Team
from longtail.runs.workspace import Workspace
from longtail.training import student, student_evaluation, student_step
from longtail.views.student_views import Views
from tests.helpers.small import Teacher, digits
from tests.helpers.teams import CPU, end_of, together
from tests.training.test_student import SEED, config_of

POSITIONS = 44  # views of an epoch, in three micro-batches of two ranks: 8, 8, 6


def config(**views):
    return config_of(
        *((f"views.v.{key}", value) for key, value in views.items()),
        train={"eval_every": 1},
        model={"drop_path": 0.5},
    )


def train(team: Team, folder: Path, config, micro_batch: int = 0, stop_after: int = 0, build=build_network) -> list:
    """Train, to the end or to so many ticks. Returns the views this process made: (epoch, position) of each."""
    made = []

    class Seen(Views):
        def step(self, epoch, step, digest=False, groups=slice(None)):
            batch = super().step(epoch, step, digest, groups)
            made.extend((epoch, position) for position in batch.positions.tolist())
            return batch

    class Stopped(Workspace):
        def tick(self, state):
            self.left = getattr(self, "left", stop_after) - 1
            if not self.left and team.rank == team.size - 1:  # a signal to one process
                workspace.request_stop()
            if stop_after:
                super().tick(state)

    exact = {
        student: {"build_network": lambda *shape: build(*shape).double(), "Views": Seen},
        student_step: {"special_tokens": lambda model, x: special_tokens(model, x.double())},
        student_evaluation: {"special_tokens": lambda model, x: special_tokens(model, x.double()), "EVAL_BATCH": 7},
    }
    space = Stopped(folder, "e", "f" * 64, CPU, quiet=True, team=team)
    with ExitStack() as patched:
        for module, values in exact.items():
            patched.enter_context(mock.patch.multiple(module, **values))
        patched.enter_context(mock.patch.object(workspace, "AGREE_EVERY_S", 0.0))
        student.train_student(config, digits(), SEED, Teacher(), space, CPU, Execution(micro_batch=micro_batch))
    return made


def same_student(a: Path, b: Path) -> None:
    histories = [pd.read_csv(result / "history.csv") for result in (a, b)]
    pd.testing.assert_frame_equal(*histories, rtol=1e-7, atol=0)
    weights = [load_file(result / "model.safetensors") for result in (a, b)]
    assert weights[0].keys() == weights[1].keys()
    for name, w in weights[0].items():
        assert w.dtype == torch.float64
        torch.testing.assert_close(weights[1][name], w, rtol=0, atol=1e-7, msg=name)
    predictions = [np.load(result / "predictions.npz") for result in (a, b)]
    assert predictions[0].files == predictions[1].files
    for name in predictions[0].files:
        if name.startswith("logits_"):
            np.testing.assert_allclose(predictions[1][name], predictions[0][name], rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(predictions[1][name], predictions[0][name])


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """One process; a step is the two groups of one micro-batch."""
    folder = tmp_path_factory.mktemp("alone")
    made = train(ALONE, folder, config())
    assert made == [(epoch, position) for epoch in range(3) for position in range(POSITIONS)]
    return folder / "result"


@pytest.mark.parametrize(
    ("size", "accumulate", "micro_batch"),
    [(2, 2, 8), (3, 1, 0)],
    ids=["two, of four groups a step and then of two", "three, one of which has nothing to do"],
)
def test_processes_train_the_student_of_one(size, accumulate, micro_batch, alone, tmp_path):
    if accumulate > 1:
        train(ALONE, tmp_path / "alone", config(accumulate=accumulate))
        alone = tmp_path / "alone/result"
    parts = together(size, tmp_path, train, tmp_path / "team", config(accumulate=accumulate), micro_batch)
    same_student(alone, tmp_path / "team/result")
    assert sorted(view for part in parts for view in part) == [
        (epoch, position) for epoch in range(3) for position in range(POSITIONS)
    ]
    assert [len(part) for part in parts] == {2: [66, 66], 3: [0, 66, 66]}[size]
    facts = json.loads((tmp_path / "team/result/identity.json").read_text())
    assert (facts["processes"], facts["backend"]) == (size, "gloo")
    facts = json.loads((alone / "identity.json").read_text())
    assert (facts["processes"], facts["backend"]) == (1, None)


def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path):
    """Stopped within an epoch; the sums of the epoch and the best so far are kept."""
    for size, ticks in ((2, 2), (3, 3)):  # after steps 2 and 5 of nine
        members = end_of(size, tmp_path, train, tmp_path / "team", config(), 0, ticks)
        assert [member.code for member in members] == [workspace.STOPPED] * size, members
        assert list((tmp_path / "team/result").iterdir()) == []
        saved = torch.load(tmp_path / "team/checkpoint.pt", weights_only=False)["state"]
        assert (saved["epoch"], saved["step"]) == {2: (0, 2), 3: (1, 2)}[size]
        assert saved["sums"][2] == 32  # views since the epoch began
    train(ALONE, tmp_path / "team", config())
    same_student(alone, tmp_path / "team/result")


def with_batch_statistics(*shape) -> nn.Module:
    model = build_network(*shape)
    model.extra = nn.BatchNorm1d(2)
    return model


def test_batch_statistics_are_of_one_process(tmp_path):
    members = end_of(2, tmp_path, train, tmp_path / "team", config(), 0, 0, with_batch_statistics)
    assert [member.code for member in members] == [2, 2]
    told = "".join(member.err for member in members)
    assert told == "error: e: batch statistics are of one process; train it without torchrun\n"
