"""One seed's result folder of a trained student, read and checked against the dataset that it is to be used on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from longtail.base import yaml_file
from longtail.base.errors import UserError
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
        raise UserError(f"{path}: damaged or cut short ({error}); train the entry again") from None


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
