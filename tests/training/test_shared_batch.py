"""A CNN that several processes train is the one that a process alone trains, but for the order of float sums.

All is float64 here, cosines and losses too, so that the order is all that is left; a float32 run on CUDA is below.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from longtail.base import params
from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail
from longtail.data.sources import DatasetConfig, make_longtail
from longtail.losses import losses
from longtail.losses.losses import drw_weights
from longtail.models.build import build_cnn
from longtail.models.paco import PaCo
from longtail.runs import workspace
from longtail.runs.execution import Execution
from longtail.runs.parallel import ALONE, Team
from longtail.runs.workspace import Workspace
from longtail.training import supervised, teacher, teacher_tasks
from longtail.training.shared_batch import batch_statistics, check_share, share_statistics, whole
from longtail.training.sources_config import NONE
from longtail.training.teacher_training import train_teacher
from longtail.views.normalize import normalize
from tests.helpers.teams import CPU, end_of, together
from tests.training.test_cbd import CRT, ENS, FINETUNE, NCM
from tests.training.test_cbd import PLAIN as COSINE
from tests.training.test_distilled import DIVE
from tests.training.test_experts import RIDE, ROUTED
from tests.training.test_experts import TAUGHT as RIDE_DIVE
from tests.training.test_teacher import DIGITS, LARGE, PACO_TEACHER, config_of

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES = 193  # 7 batches of 32, the last of a single image: one process of several has none


def small() -> LongTail:
    data = make_longtail("tiny", params.build(DatasetConfig, DIGITS, "datasets.tiny"))
    keep = np.sort(np.random.default_rng(0).permutation(len(data.train_labels))[:IMAGES])
    counts = np.bincount(data.train_labels[keep], minlength=data.num_classes)
    assert counts.min() > 0
    return replace(data, train_images=data.train_images[keep], train_labels=data.train_labels[keep])


# ---- what is exchanged, against PyTorch's own


def parts_of(team: Team) -> dict:
    """Of a batch of 5 values of (2, 3, 4), one process's share through a layer; as many processes have a share."""
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3, 4, dtype=torch.float64) + 100
    factor, own = torch.randn(5, 2, 3, 4, dtype=torch.float64), team.share(5)
    layer = nn.BatchNorm2d(2, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([2.0, -3.0]))
    share_statistics(layer, team)
    given = x[own].clone().requires_grad_()
    made = whole(layer(given), 5, team)
    (made * factor).pow(2).sum().backward()
    sums = [team.sum_(p.grad.clone()) for p in (layer.weight, layer.bias)]
    few = batch_statistics(x[:1][team.share(1)], team)  # one image, which one process alone has
    layer.eval()
    return {
        "made": made.detach(),
        "dx": given.grad,
        "sums": sums,
        "state": layer.state_dict(),
        "few": [value.tolist() for value in few],
        "as at test": layer(x),
    }


@pytest.mark.parametrize("size", [1, 3])
def test_statistics_are_of_the_whole_batch(size, of_three):
    """PyTorch's BatchNorm2d of all images, in float64: outputs, gradients, running statistics."""
    seen = [parts for parts, _ in of_three[1]] if size > 1 else [parts_of(ALONE)]
    torch.manual_seed(0)
    x = (torch.randn(5, 2, 3, 4, dtype=torch.float64) + 100).requires_grad_()
    factor, layer = torch.randn(5, 2, 3, 4, dtype=torch.float64), nn.BatchNorm2d(2, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([2.0, -3.0]))
    made = layer(x)
    (made * factor).pow(2).sum().backward()
    one, close = x[0].detach().flatten(1), {"rtol": 1e-9, "atol": 1e-9}
    for found in seen:
        torch.testing.assert_close(found["made"], made, **close)
        for ours, p in zip(found["sums"], (layer.weight, layer.bias), strict=True):
            torch.testing.assert_close(ours, p.grad, **close)
        for name, value in layer.state_dict().items():
            torch.testing.assert_close(found["state"][name], value, msg=name, **close)
        mean, var, count = found["few"]
        assert count == 12 and mean == pytest.approx(one.mean(1).tolist(), rel=1e-12)
        assert var == pytest.approx(one.var(1, correction=0).tolist(), rel=1e-9)
        torch.testing.assert_close(found["as at test"], layer.eval()(x), **close)
    torch.testing.assert_close(torch.cat([found["dx"] for found in seen]), x.grad, **close)


def test_a_process_alone_has_the_layers_and_the_batch_as_they_are():
    layer, rows = nn.BatchNorm1d(2), torch.ones(3, 2)
    share_statistics(layer, ALONE)
    assert "forward" not in vars(layer) and whole(rows, 3, ALONE) is rows


# ---- whole runs


def train(team: Team, folder: Path, config, taught=(), stop_after: int = 0) -> list:
    """Train, to the end or to so many ticks. Returns the images of each batch that this process showed."""
    shown = []

    class Stopped(Workspace):
        def tick(self, state):
            self.left = getattr(self, "left", stop_after) - 1
            if not self.left and team.rank == team.size - 1:  # a signal to one process
                workspace.request_stop()
            if stop_after:
                super().tick(state)

    def exact(pixels, *constants):
        shown.append(len(pixels))
        return normalize(pixels, *constants).double()

    values = {
        teacher: {"build_cnn": lambda *parts: build_cnn(*parts).double(), "SMALL_BATCH": 33, "normalize": exact},
        supervised: {"normalize": exact},
        teacher_tasks: {"normalize": exact, "PaCo": lambda *parts: PaCo(*parts).double()},
        losses: {"drw_weights": lambda *of: drw_weights(*of).double()},
    }
    space = Stopped(folder, "e", "f" * 64, CPU, quiet=True, team=team)
    with ExitStack() as patched:
        for module, those in values.items():
            patched.enter_context(mock.patch.multiple(module, **those))
        patched.enter_context(mock.patch.object(torch.Tensor, "float", torch.Tensor.double))
        patched.enter_context(mock.patch.object(workspace, "AGREE_EVERY_S", 0.0))
        train_teacher(config, small(), 0, space, taught_by=taught)
    return shown


def same_result(a: Path, b: Path, tolerance: float = 1e-8) -> None:
    histories = [pd.read_csv(result / "history.csv") for result in (a, b)]
    pd.testing.assert_frame_equal(*histories, rtol=max(1e-7, tolerance), atol=0)  # it has eight digits
    for file in ("model.safetensors", "model_best.safetensors"):
        ours, theirs = load_file(a / file), load_file(b / file)
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=tolerance, atol=tolerance, msg=name)
    ours, theirs = (np.load(result / "predictions.npz") for result in (a, b))
    assert ours.files == theirs.files
    for name in theirs.files:
        if name.startswith("logits_"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, atol=10 * tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> list[Path]:
    """Two teachers with cosines, one by balanced softmax, and one of three experts; of one seed and one epoch each."""
    found = []
    plain = {**DIVE, "sources": NONE, "distil": None, "milestones": [], "factors": []}
    for name, block in (("a", COSINE), ("b", COSINE | {"family": 1}), ("plain", plain), ("experts", RIDE)):
        folder = tmp_path_factory.mktemp("taught") / name
        train(ALONE, folder / "run", config_of(**block | {"epochs": 1}))
        shutil.copytree(folder / "run/result", folder / "seed0")
        found.append(folder)
    return found


SAM = {"epochs": 2, "milestones": [1], "factors": [0.1], "drw_epoch": 1, "sam_rho": [[1, 0.05], [None, 0.1]]}
VIEWS = LARGE["views"] | {"size": 16}
UNEVEN = "LDAM, DRW and SAM"
RUNS = {  # an epoch of each kind of task: what it is, which of `taught`
    UNEVEN: (SAM, []),
    "PaCo and SAM": (PACO_TEACHER | {"sam_rho": 0.1}, []),
    "views of large images": (DIVE | {"sources": NONE, "distil": None} | LARGE | {"views": VIEWS}, []),
    "DiVE": (DIVE, [2]),
    "CBD, two teachers": (ENS, [0, 1]),
    "fine-tuned": (FINETUNE, [0]),
    "classifier anew": (CRT, [0]),
    "class means, untrained": (NCM, [0]),
    "RIDE": (RIDE | {"diversity": RIDE["diversity"] | {"reweight_epoch": 0}}, []),
    "RIDE-DiVE": (RIDE_DIVE, [3]),
    "its router": (ROUTED, [3]),
}


def recipe_of(name: str, taught: list[Path]):
    block, of = RUNS[name]
    once = {"epochs": min(block.get("epochs", 1), 1), "milestones": [], "factors": []}
    return config_of(**(block if name == UNEVEN else block | once)), [taught[number] for number in of]


def three(team: Team, folder: Path, config) -> tuple[dict, list]:
    """What needs uneven shares."""
    return parts_of(team), train(team, folder, config)


def two(team: Team, folder: Path, runs: dict) -> dict[str, list]:
    """All other runs, and one in bf16 that is asked for recorded steps."""
    shown = {name: train(team, folder / name, *of) for name, of in runs.items()}
    space = Workspace(folder / "bf16", "e", "f" * 64, CPU, quiet=True, team=team)
    train_teacher(config_of(epochs=1), small(), 0, space, execution=Execution("bf16", "compiled"))
    return shown


@pytest.fixture(scope="module")
def of_three(tmp_path_factory) -> tuple[Path, list]:
    folder = tmp_path_factory.mktemp("three")
    return folder, together(3, folder, three, folder / UNEVEN, recipe_of(UNEVEN, [])[0])


@pytest.fixture(scope="module")
def of_two(taught, tmp_path_factory) -> tuple[Path, list]:
    folder = tmp_path_factory.mktemp("two")
    return folder, together(2, folder, two, folder, {name: recipe_of(name, taught) for name in RUNS if name != UNEVEN})


@pytest.mark.parametrize("name", RUNS)
def test_processes_train_the_cnn_of_one(name, taught, of_three, of_two, tmp_path):
    """Weighted means, pairs of a batch, a queue, teachers, SAM's two passes; the last batch has one image or is left
    out."""
    config, by = recipe_of(name, taught)
    alone = train(ALONE, tmp_path, config, by)
    folder, parts = of_three if name == UNEVEN else of_two
    parts = [shown for _, shown in parts] if name == UNEVEN else [shown[name] for shown in parts]
    same_result(folder / name / "result", tmp_path / "result")
    assert sum(map(sum, parts)) == sum(alone) or not config.epochs  # no view is made twice
    facts = json.loads((folder / name / "result/identity.json").read_text())
    assert (facts["processes"], facts["backend"]) == (len(parts), "gloo")


def test_a_run_goes_on_with_another_number_of_processes(taught, tmp_path):
    """Stopped within an epoch by a signal to one process; queue, momentum and sums of the epoch are kept."""
    config, _ = recipe_of("PaCo and SAM", taught)
    members = end_of(2, tmp_path, train, tmp_path / "team", config, [], 2)
    assert [member.code for member in members] == [workspace.STOPPED] * 2, members
    saved = torch.load(tmp_path / "team/checkpoint.pt", weights_only=False)["state"]
    assert (saved["epoch"], saved["step"]) == (0, 2) and saved["sums"][1] <= 64
    for folder in ("team", "alone"):
        train(ALONE, tmp_path / folder, config)
    same_result(tmp_path / "team/result", tmp_path / "alone/result")


def test_steps_of_several_processes_are_not_recorded_and_bf16_is_that_of_one(of_two, tmp_path):
    folder = of_two[0] / "bf16"
    said = (folder / "run.log").read_text()
    assert said.count("\n") == 1 and said.endswith("steps run eagerly, as several processes exchange sums in them\n")
    facts = json.loads((folder / "result/identity.json").read_text())
    assert (facts["engine"], facts["precision"]) == ("eager", "bf16")
    space = Workspace(tmp_path, "e", "f" * 64, CPU, quiet=True)
    train_teacher(config_of(epochs=1), small(), 0, space, execution=Execution("bf16"))
    losses_of = [pd.read_csv(result / "history.csv")["train_loss"] for result in (folder / "result", space.result)]
    pd.testing.assert_series_equal(*losses_of, rtol=2e-2)


def test_more_processes_than_images_in_a_batch_are_refused():
    config, message = config_of(batch_size=2), "batch_size 2: 3 processes share out .* start at most 2"
    with pytest.raises(UserError, match=message):
        check_share(config, Team(0, 3, "gloo"))
    check_share(config, Team(0, 2, "gloo"))
    check_share(recipe_of("class means, untrained", [Path()])[0], Team(0, 64, "gloo"))  # it has no batches


# ---- on a GPU


def on_cuda(team: Team, folder: Path, config, precision: str, own: bool) -> None:
    """Train in float32 or bf16. own: a GPU for each process, over NCCL; else all on the first one, over gloo."""
    device = torch.device("cuda", team.rank if own else 0)
    torch.cuda.set_device(device)
    torch.backends.cudnn.deterministic = True
    if own:
        team = replace(team, backend="nccl", devices=torch.distributed.new_group(backend="nccl"))
    space = Workspace(folder, "e", "f" * 64, device, quiet=True, team=team)
    execution = Execution(precision)
    train_teacher(config, small(), 0, space, device=device, execution=execution)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("own", [False, True], ids=["one GPU", "two GPUs"])
@pytest.mark.parametrize("name", ["SAM", "RIDE"])
def test_processes_on_cuda_train_the_cnn_of_one(name, precision, own, tmp_path):
    """As near as the precision comes in an epoch of seven steps."""
    if own and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    config = recipe_of("RIDE", [])[0] if name == "RIDE" else config_of(epochs=1, drw_epoch=0)
    alone = end_of(1, tmp_path, on_cuda, tmp_path / "alone", config, precision, False)
    assert [member.code for member in alone] == [0]
    together(2, tmp_path, on_cuda, tmp_path / "team", config, precision, own)
    same_result(tmp_path / "team/result", tmp_path / "alone/result", {"fp32": 1e-2, "bf16": 1e-1}[precision])
