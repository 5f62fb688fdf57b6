"""One seed's result folder of a trained student, read and checked, and a run that starts from it.

Where a run starts from another's end: seed k from the weights of seed k (cRT, METHODS 3.10).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from longtail.base import intact, yaml_file
from longtail.base.errors import UserError
from longtail.base.files import file_digest
from longtail.data.long_tail import LongTail, check_class_order

WEIGHTS = "model.safetensors"
TRAIN = "train the entry first (stages/train_student.py)"


@dataclass(frozen=True)
class StudentRun:
    """What stages/train_student.py left of one seed."""

    folder: Path
    config: dict[str, Any]  # config.yaml: the experiment, fully resolved
    state: dict[str, Tensor]  # weights of the last epoch, on the CPU

    def put_into(self, network: nn.Module) -> None:
        """Load the weights. Raises UserError where they are another network's."""
        fill(network, self.state, f"{self.folder / WEIGHTS}: weights do not fit config.yaml")


def fill(network: nn.Module, state: dict[str, Tensor], wrong: str) -> None:
    """Put all weights into a network. Raises UserError, which begins with `wrong`, where names or shapes differ."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{wrong}: {str(error).splitlines()[-1].strip()}") from None


def read_run(folder: Path, data: LongTail) -> StudentRun:
    """Raises UserError where a file is missing or cut short, or the run is of another dataset or class order."""
    intact.check(folder, WEIGHTS)
    config, facts = yaml_file.mapping(folder / "config.yaml", TRAIN), _facts(folder / "identity.json")
    try:
        order, digest = facts["class_order"], facts["dataset_digest"]
    except KeyError as error:
        raise UserError(f"{folder}: identity.json lacks {error}; train the entry again") from None
    check_class_order(data, order, facts.get("class_names"), str(folder))
    if digest != data.digest:
        raise UserError(
            f"{folder}: trained on dataset {digest[:12]}, but {data.name} is {data.digest[:12]}; train again"
        )
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path}: no such file; {TRAIN}")
    try:
        return StudentRun(folder, config, load_file(path))
    except SafetensorError as error:
        raise intact.damaged(folder, f"{path.name}: damaged or cut short ({error})") from None


def _facts(path: Path) -> dict:
    if not path.is_file():
        raise UserError(f"{path}: no such file; {TRAIN}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: cut short or damaged ({' '.join(str(error).split())}); train again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: cut short or damaged; train the entry again")
    return values


HEAD = "head."  # of the parameters that read the CLS token (models/vit.py) or the pooled features (models/build.py)


def start_folder(run: Path, seed: int) -> Path:
    """<run>/seed<k> of this very seed. Raises UserError where it is missing."""
    folder = run / f"seed{seed}"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run to start from; train it first (stages/train_student.py {run.name})")
    return folder


def start_digest(run: Path, seed: int) -> str:
    """sha256 (hex) of the weights that seed k starts from. Raises UserError where they are missing or damaged."""
    intact.check(start_folder(run, seed))
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
