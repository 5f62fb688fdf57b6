"""One seed's result folder of a trained student, read and checked, and a run that starts from it.

Where a run starts from another's end: seed k from the weights of seed k (cRT, METHODS 3.10; LiVT, 5.1).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from longtail.base import intact, yaml_file
from longtail.base.errors import UserError
from longtail.base.files import file_digest
from longtail.data.long_tail import LongTail, check_class_order
from longtail.models.transformer import resized_positions
from longtail.training.experiment import Pretrained

WEIGHTS = "model.safetensors"
TRAIN = "train the entry first (stages/train_student.py)"
PRETRAIN = "pretrain the entry first (stages/pretrain.py)"


@dataclass(frozen=True)
class StudentRun:
    """What stages/train_student.py left of one seed; or stages/pretrain.py, of an encoder without head."""

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


def read_run(folder: Path, data: LongTail | None, stage: str = TRAIN) -> StudentRun:
    """Raises UserError where a file is missing or cut short, or the run is of another dataset or class order than
    `data` (None: any). stage: what to do about it."""
    intact.check(folder, WEIGHTS)
    config, facts = yaml_file.mapping(folder / "config.yaml", stage), _facts(folder / "identity.json", stage)
    try:
        order, digest = facts["class_order"], facts["dataset_digest"]
    except KeyError as error:
        raise UserError(f"{folder}: identity.json lacks {error}; train the entry again") from None
    if data is not None:
        check_class_order(data, order, facts.get("class_names"), str(folder))
    if data is not None and digest != data.digest:
        raise UserError(
            f"{folder}: trained on dataset {digest[:12]}, but {data.name} is {data.digest[:12]}; train again"
        )
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path}: no such file; {stage}")
    try:
        return StudentRun(folder, config, load_file(path))
    except SafetensorError as error:
        raise intact.damaged(folder, f"{path.name}: damaged or cut short ({error})") from None


def _facts(path: Path, stage: str = TRAIN) -> dict:
    if not path.is_file():
        raise UserError(f"{path}: no such file; {stage}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: cut short or damaged ({' '.join(str(error).split())}); train again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: cut short or damaged; train the entry again")
    return values


HEAD = "head."  # of the parameters that read the CLS token (models/vit.py) or the pooled features (models/build.py)


def start_folder(run: Path, seed: int, stage: str = "train_student") -> Path:
    """<run>/seed<k> of this very seed. Raises UserError where it is missing; stage: the script that makes it."""
    folder = run / f"seed{seed}"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run to start from; train it first (stages/{stage}.py {run.name})")
    return folder


def start_digest(run: Path, seed: int, stage: str = "train_student") -> str:
    """sha256 (hex) of the weights that seed k starts from. Raises UserError where they are missing or damaged."""
    intact.check(start_folder(run, seed, stage))
    return file_digest(start_folder(run, seed, stage) / WEIGHTS)


def read_start(run: Path, seed: int, experiment: str, data: LongTail) -> StudentRun:
    """The run that seed k starts from, checked. Raises UserError where it is missing or of another experiment, dataset
    or class order."""
    start = read_run(start_folder(run, seed), data)
    if (found := start.config.get("experiment")) != experiment:
        raise UserError(f"{start.folder}: is a run of {found}, the experiment starts from {experiment}")
    return start


OTHER = {  # of a pretraining that is meant to differ: what the entry then says
    "dataset": "start_dataset: {}",
    "image_size": "start_size: {}, and its positions are interpolated",
}


def read_pretraining(run: Path, seed: int, name: str, wanted: Pretrained, data: LongTail) -> StudentRun:
    """The pretraining's run that seed k starts from, checked. Raises UserError where it is missing, is of another entry
    or of another dataset, image size or shape than the experiment's entry says."""
    folder = start_folder(run, seed, "pretrain")
    start = read_run(folder, None, PRETRAIN)
    if (found := start.config.get("pretraining")) != name:
        raise UserError(f"{folder}: is no run of pretraining {name}, but of {found or start.config.get('experiment')}")
    made = {**(start.config.get("model") or {}), "dataset": start.config.get("dataset")}
    for field in fields(Pretrained):
        mine, theirs = getattr(wanted, field.name), made.get(field.name)
        if mine != theirs:
            say = OTHER.get(field.name, "").format(theirs)
            right = f"; if that is meant, say {say}" if say else "; they must be equal"
            raise UserError(f"{folder}: was pretrained with {field.name} {theirs}, the experiment has {mine}{right}")
    return read_run(folder, data, PRETRAIN) if wanted.dataset == data.name else start


def begin(network: nn.Module, start: StudentRun, head_only: bool) -> None:
    """Put the run's weights into a fresh network. head_only: the head stays as it was initialised, and it alone is
    trained from here on. Of a pretraining, the head and `fc_norm` stay as they were initialised, its own last LayerNorm
    is left out where the network pools, and its positions are interpolated to the network's grid.
    Raises UserError where the weights are another network's."""
    wrong = f"{start.folder / WEIGHTS}: weights do not fit the model of the experiment that starts from them"
    mine, given = network.state_dict(), start.state
    if "pretraining" in start.config:
        given = _encoder(given, mine, f"{start.folder / WEIGHTS}")
        kept = {name: value for name, value in mine.items() if name.startswith((HEAD, "fc_norm."))}
    else:
        kept = {name: value for name, value in mine.items() if head_only and name.startswith(HEAD)}
    fill(network, given | kept, wrong)
    if head_only:
        freeze(network)


def _encoder(given: dict[str, Tensor], mine: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """A pretraining's weights as the network of a student wants them."""
    if "pos_embed" not in given or given["pos_embed"].ndim != 3:
        raise UserError(f"{where}: has no table of positions (pos_embed); {PRETRAIN}")
    grid = math.isqrt(mine["pos_embed"].shape[1] - 1)
    try:
        positions = resized_positions(given["pos_embed"], grid, special=1)
    except ValueError as error:
        raise UserError(f"{where}: pos_embed: {error} to interpolate to {grid} x {grid}; {PRETRAIN}") from None
    left_out = ("norm.",) if "fc_norm.weight" in mine else ()
    return {name: value for name, value in given.items() if not name.startswith(left_out)} | {"pos_embed": positions}


def freeze(network: nn.Module) -> None:
    """All but the head."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(HEAD))
