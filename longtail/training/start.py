"""Where a run starts from another's end: seed k from the weights of seed k (cRT, METHODS 3.10)."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from longtail.base.errors import UserError
from longtail.base.files import file_digest
from longtail.data.long_tail import LongTail
from longtail.training.student_run import WEIGHTS, StudentRun, fill, read_run

HEAD = "head."  # of the parameters that read the CLS token (models/vit.py) or the pooled features (models/cnn.py)


def start_folder(run: Path, seed: int) -> Path:
    """<run>/seed<k> of this very seed. Raises UserError where it is missing."""
    folder = run / f"seed{seed}"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run to start from; train it first (stages/train_student.py {run.name})")
    return folder


def start_digest(run: Path, seed: int) -> str:
    """sha256 (hex) of the weights that seed k starts from. Raises UserError where they are missing."""
    return file_digest(start_folder(run, seed) / WEIGHTS)


def read_start(run: Path, seed: int, experiment: str, data: LongTail) -> StudentRun:
    """The run that seed k starts from, checked. Raises UserError where it is missing or of another experiment, dataset
    or class order."""
    start = read_run(start_folder(run, seed), data)
    if (found := start.config.get("experiment")) != experiment:
        raise UserError(f"{start.folder}: is a run of {found}, the experiment starts from {experiment}")
    return start


def begin(network: nn.Module, start: StudentRun, head_only: bool) -> None:
    """Put the run's weights into a fresh network. head_only: the head stays as it was initialised, and it alone is
    trained from here on. Raises UserError where the weights are another network's."""
    own = {name: value for name, value in network.state_dict().items() if head_only and name.startswith(HEAD)}
    wrong = f"{start.folder / WEIGHTS}: weights do not fit the model of the experiment that starts from them"
    fill(network, start.state | own, wrong)
    if head_only:
        freeze(network)


def freeze(network: nn.Module) -> None:
    """All but the head."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(HEAD))
